"""Background jobs of a running service; no external scheduler is needed."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from app.auth.tokens import Authenticator
from app.database.engine import Database
from app.deliveries.worker import WebhookWorker
from app.errors import Unavailable
from app.ledger.rollup import roll_up_ledger
from app.reads.tenants import list_tenants
from app.runtime.deadlines import Limit, Watch, current_limit
from app.runtime.metrics import FAILED_JOBS
from app.writes.changes import delete_old_changes
from app.writes.idempotency_keys import delete_expired_keys
from app.writes.reservations import expire_reservations
from app.writes.tenants import store_token_uses

log = structlog.get_logger()
PURGE_SECONDS: Final = 600
ROLLUP_SECONDS: Final = 600
TOKEN_USES_SECONDS: Final = 60
EXPIRY_SECONDS: Final = 1
# Between two tenants, so that ten thousand of them do not keep the database busy.
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

    await _for_each_tenant(database, purge)


async def purge_changes(database: Database) -> None:
    """Delete the changes of every tenant that are older than the feed keeps them."""

    async def purge(tenant_id: str) -> None:
        if deleted := await delete_old_changes(database, tenant_id):
            log.info("changes_deleted", tenant=tenant_id, changes=deleted)

    await _for_each_tenant(database, purge)


async def end_due_reservations(database: Database) -> None:
    """End the due reservations of every tenant."""

    async def expire(tenant_id: str) -> None:
        if expired := await expire_reservations(database, tenant_id):
            log.info("reservations_expired", tenant=tenant_id, reservations=expired)

    await _for_each_tenant(database, expire)


async def roll_up_ledgers(database: Database) -> None:
    """Store the next rollups of the ledger of every tenant."""

    async def roll_up(tenant_id: str) -> None:
        steps = 0
        while await roll_up_ledger(database, tenant_id):
            steps += 1
            await asyncio.sleep(PAUSE_SECONDS)
        if steps:
            log.info("ledger_rolled_up", tenant=tenant_id, steps=steps)

    await _for_each_tenant(database, roll_up)


async def record_token_uses(database: Database, authenticator: Authenticator) -> None:
    """Store when the tokens that this process has looked up were last used."""
    await store_token_uses(database, authenticator.take_last_uses())


async def _repeat(seconds: float, job: Callable[[], Awaitable[None]]) -> NoReturn:
    """Run a job periodically; a failed run is logged, and the next one tries again."""
    while True:
        # Every worker runs every job, though one would do; jitter keeps the workers apart.
        await asyncio.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        await _logged(job())


async def _for_each_tenant(database: Database, step: Callable[[str], Awaitable[None]]) -> None:
    """Run a step of a job for every tenant; the failure of one does not keep it from the others."""
    async with database.snapshot() as snapshot:
        tenant_ids = await list_tenants(snapshot)
    for tenant_id in tenant_ids:
        await asyncio.sleep(PAUSE_SECONDS)
        await _logged(step(tenant_id), tenant=tenant_id)


async def _logged(work: Awaitable[None], **facts: str) -> None:
    try:
        await work
    except Unavailable as error:
        FAILED_JOBS.inc()
        log.warning("job_postponed", message=error.message, cause=error.cause, **facts)
    except Exception:
        FAILED_JOBS.inc()
        log.exception("job_failed", **facts)
