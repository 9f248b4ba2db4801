"""What a running service does by itself, without anybody's cron job."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from app.auth.tokens import Authenticator
from app.database.engine import Database
from app.errors import Unavailable
from app.ledger import rollup as summing
from app.reads.tenants import list_tenants
from app.runtime.deadlines import Limit, Watch, current_limit
from app.writes.idempotency_keys import reap_idempotency_keys
from app.writes.reservations import expire_reservations
from app.writes.tenants import note_uses

log = structlog.get_logger()
REAP_SECONDS: Final = 600
SUM_SECONDS: Final = 600
NOTE_SECONDS: Final = 60
EXPIRE_SECONDS: Final = 1
# Between one tenant and the next: ten thousand of them must not keep the database busy.
PAUSE_SECONDS: Final = 0.01


async def keep_up(database: Database, authenticator: Authenticator, *, seconds: float) -> None:
    """Do every chore again and again, until cancelled.

    The database has so many `seconds` for each step: a chore that waits for a server that does not
    answer would keep its connection for good.
    """
    # Not entered, it does not end; each step counts its own time.
    current_limit.set(Limit(Watch(), seconds))
    async with asyncio.TaskGroup() as chores:
        chores.create_task(_again(REAP_SECONDS, lambda: reap(database)))
        chores.create_task(_again(EXPIRE_SECONDS, lambda: expire(database)))
        chores.create_task(_again(SUM_SECONDS, lambda: sum_up(database)))
        chores.create_task(_again(NOTE_SECONDS, lambda: note_used(database, authenticator)))


async def _again(seconds: float, chore: Callable[[], Awaitable[None]]) -> NoReturn:
    """Do a chore again and again; what fails is tried again the next time."""
    while True:
        # Each worker does it, so that one is enough; jitter keeps them from doing it together.
        await asyncio.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        try:
            await chore()
        except Unavailable as error:
            log.warning("upkeep_postponed", message=error.message, cause=error.cause)
        except Exception:
            log.exception("upkeep_failed")


async def reap(database: Database) -> None:
    """Delete what is past its time, of every tenant."""
    async with database.snapshot() as snapshot:
        tenants = await list_tenants(snapshot)
    for tenant in tenants:
        if reaped := await reap_idempotency_keys(database, tenant):
            log.info("idempotency_keys_reaped", tenant=tenant, keys=reaped)


async def expire(database: Database) -> None:
    """End what is past its time, of every tenant."""
    async with database.snapshot() as snapshot:
        tenants = await list_tenants(snapshot)
    for tenant in tenants:
        await asyncio.sleep(PAUSE_SECONDS)
        if expired := await expire_reservations(database, tenant):
            log.info("reservations_expired", tenant=tenant, reservations=expired)


async def sum_up(database: Database) -> None:
    """Sum up what nothing comes to any more, of the ledger of every tenant."""
    async with database.snapshot() as snapshot:
        tenants = await list_tenants(snapshot)
    for tenant in tenants:
        steps = 0
        await asyncio.sleep(PAUSE_SECONDS)
        while await summing.sum_up(database, tenant):
            steps += 1
            await asyncio.sleep(PAUSE_SECONDS)
        if steps:
            log.info("ledger_summed_up", tenant=tenant, steps=steps)


async def note_used(database: Database, authenticator: Authenticator) -> None:
    """Keep when the tokens that this process has looked up were last used."""
    await note_uses(database, authenticator.take_last_uses())
