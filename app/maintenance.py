"""Background jobs of a running service; no external scheduler is needed.

A job asks for the tenants that have due work, by one statement for all tenants. Every worker runs
every job: each gets the tenants in an order of its own, and finds nothing to do for a tenant that
another worker was faster with.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from app.auth.tokens import Authenticator
from app.database.due_work import (
    DUE_CHANGES,
    DUE_KEYS,
    DUE_RESERVATIONS,
    DUE_ROLLUPS,
    TenantSearch,
)
from app.database.engine import Database
from app.deliveries.worker import WebhookWorker
from app.errors import Unavailable
from app.ledger import rollup
from app.ledger.rollup import roll_up_ledger
from app.reads.due_work import MAX_DUE_TENANTS, list_due_tenants
from app.runtime.deadlines import Limit, Watch, current_limit
from app.runtime.metrics import FAILED_JOBS
from app.writes.changes import DAY_SECONDS, delete_old_changes
from app.writes.expiry import expire_reservations
from app.writes.idempotency_keys import KEY_LIFETIME, delete_expired_keys
from app.writes.tenants import store_token_uses

log = structlog.get_logger()
PURGE_SECONDS: Final = 600
ROLLUP_SECONDS: Final = 600
TOKEN_USES_SECONDS: Final = 60
EXPIRY_SECONDS: Final = 1
# The tenants that a job works for at once: one that waits for a lock does not hold up the others.
TENANTS_AT_ONCE: Final = 4
# Many due reservations of a tenant do not hold up others: the next search finds the rest.
TURN_SECONDS: Final = 1
# After the work for a tenant, so that the work for many of them does not keep the database busy.
PAUSE_SECONDS: Final = 0.01


async def run_jobs(database: Database, authenticator: Authenticator, *, seconds: float) -> None:
    """Run every job periodically until cancelled.

    Each step has `seconds` of database time, so that a job does not keep a connection for a server
    that never answers.
    """
    # The limit is set, not entered: it never ends, and each step counts its own time.
    current_limit.set(Limit(Watch(), seconds))
    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(_repeat(PURGE_SECONDS, lambda: purge_idempotency_keys(database)))
        jobs.create_task(_repeat(PURGE_SECONDS, lambda: purge_changes(database)))
        jobs.create_task(_repeat(EXPIRY_SECONDS, lambda: end_due_reservations(database)))
        jobs.create_task(_repeat(ROLLUP_SECONDS, lambda: roll_up_ledgers(database)))
        jobs.create_task(WebhookWorker(database).run())
        jobs.create_task(
            _repeat(TOKEN_USES_SECONDS, lambda: record_token_uses(database, authenticator))
        )


async def purge_idempotency_keys(database: Database) -> None:
    """Delete the expired idempotency keys of every tenant."""

    async def purge(tenant_id: str) -> None:
        if deleted := await delete_expired_keys(database, tenant_id):
            log.info("idempotency_keys_deleted", tenant=tenant_id, keys=deleted)

    lifetime = int(KEY_LIFETIME.total_seconds())
    await _for_due_tenants(database, purge, DUE_KEYS, due_before=-lifetime)


async def purge_changes(database: Database) -> None:
    """Delete the changes of every tenant that are older than the feed keeps them."""

    async def purge(tenant_id: str) -> None:
        if deleted := await delete_old_changes(database, tenant_id):
            log.info("changes_deleted", tenant=tenant_id, changes=deleted)

    kept = database.settings.changes_kept_days * DAY_SECONDS
    await _for_due_tenants(database, purge, DUE_CHANGES, due_before=-kept)


async def end_due_reservations(database: Database) -> None:
    """End the due reservations of every tenant."""

    async def expire(tenant_id: str) -> None:
        if expired := await expire_reservations(database, tenant_id, seconds=TURN_SECONDS):
            log.info("reservations_expired", tenant=tenant_id, reservations=expired)

    await _for_due_tenants(database, expire, DUE_RESERVATIONS, due_before=0)


async def roll_up_ledgers(database: Database) -> None:
    """Store the next rollups of the ledger of every tenant."""

    async def roll_up(tenant_id: str) -> None:
        steps = 0
        while await roll_up_ledger(database, tenant_id):
            steps += 1
            await asyncio.sleep(PAUSE_SECONDS)
        if steps:
            log.info("ledger_rolled_up", tenant=tenant_id, steps=steps)

    thresholds = {"min_entries": rollup.MIN_ENTRIES, "per_row": rollup.ENTRIES_PER_ROW}
    await _for_due_tenants(database, roll_up, DUE_ROLLUPS, **thresholds)


async def record_token_uses(database: Database, authenticator: Authenticator) -> None:
    """Store when the tokens that this process has looked up were last used."""
    await store_token_uses(database, authenticator.take_last_uses())


async def _repeat(seconds: float, job: Callable[[], Awaitable[None]]) -> NoReturn:
    """Run a job periodically; a failed run is logged, and the next one tries again."""
    while True:
        # The jitter keeps the workers apart.
        await asyncio.sleep(seconds * random.uniform(1, 1.5))  # noqa: S311 - jitter
        await _logged(job())


async def _for_due_tenants(
    database: Database,
    step: Callable[[str], Awaitable[None]],
    search: TenantSearch,
    **arguments: int,
) -> None:
    """Run a step of a job once for each tenant with due work.

    The failure of one tenant does not keep the step from the others.
    """
    turns = asyncio.Semaphore(TENANTS_AT_ONCE)

    async def take_turn(tenant_id: str) -> None:
        async with turns:
            await _logged(step(tenant_id), tenant=tenant_id)
            await asyncio.sleep(PAUSE_SECONDS)

    seen: set[str] = set()
    is_last = False
    while not is_last:
        async with database.snapshot(single=True) as snapshot:
            due = await list_due_tenants(snapshot, search, **arguments)
        unseen = {*due} - seen
        seen |= unseen
        async with asyncio.TaskGroup() as tasks:
            for tenant_id in unseen:
                tasks.create_task(take_turn(tenant_id))
        is_last = len(due) < MAX_DUE_TENANTS or not unseen


async def _logged(work: Awaitable[None], **facts: str) -> None:
    try:
        await work
    except Unavailable as error:
        FAILED_JOBS.inc()
        log.warning("job_postponed", message=error.message, cause=error.cause, **facts)
    except Exception:
        FAILED_JOBS.inc()
        log.exception("job_failed", **facts)
