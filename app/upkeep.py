"""What a running service does by itself, without anybody's cron job."""

import asyncio
import random
from typing import Final, NoReturn

import structlog

from app.commands.idempotency import reap_idempotency_keys
from app.database import Database
from app.errors import Unavailable
from app.queries import list_tenants

log = structlog.get_logger()

# Each worker does it, so that one is enough; jitter keeps them from doing it together.
EVERY_SECONDS: Final = 600


async def keep_up(database: Database) -> NoReturn:
    """Do the upkeep again and again; what fails is tried again the next time."""
    while True:
        await asyncio.sleep(EVERY_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        try:
            await do_upkeep(database)
        except Unavailable as error:
            log.warning("upkeep_postponed", message=error.message)
        except Exception:
            log.exception("upkeep_failed")


async def do_upkeep(database: Database) -> None:
    """Delete what is past its time, of every tenant."""
    async with database.snapshot() as snapshot:
        tenants = await list_tenants(snapshot)
    for tenant in tenants:
        if reaped := await reap_idempotency_keys(database, tenant):
            log.info("idempotency_keys_reaped", tenant=tenant, keys=reaped)
