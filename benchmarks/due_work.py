"""The background jobs of two workers with 10,000 tenants: python -m benchmarks.due_work.

It counts the searches of idle workers for due work on PostgreSQL, and tells how late the
reservations of many tenants expire.
"""

import asyncio
import statistics
import time
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import func, select, text
from ulid import ULID

from app.database.tables import reservation
from benchmarks.running import progress
from tests.databases import create_database, migrated, own_postgresql
from tests.engines import reader_of, transact
from tests.ledger.reservations import line, reserve, stocked
from tests.ledger.test_due_work import TENANTS, add_idle_tenants
from tests.processes import started
from tests.service import Service, new_tenant, running

WORKERS: Final = 2
IDLE_SECONDS: Final = 30
RESERVING: Final = 200
HOLD_SECONDS: Final = 10
CALLS: Final = text("SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions")


async def searches(service: Service) -> int:
    """Return the number of searches for due work."""
    async with reader_of(service.database).connect() as connection:
        return int(await connection.scalar(CALLS) or 0)


async def measure(url: str) -> None:
    """Print the figures of a server on a database."""
    async with running(url) as (app, client):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        database = service.database
        tenants = [replace(service, tenant_id=await new_tenant(database)) for _ in range(RESERVING)]
        for each in tenants:
            await stocked(each)
        await transact(service.database, partial(add_idle_tenants, TENANTS - RESERVING - 1))
        await asyncio.sleep(2)
        before, began = await searches(service), time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        rate = (await searches(service) - before) / (time.monotonic() - began)
        progress(f"{WORKERS} idle workers, {TENANTS:,} tenants: {rate:.1f} searches a second")
        for each in tenants:
            await reserve(each, line("A", 1), expiresIn=HOLD_SECONDS)
        late = await lateness(service)
        progress(
            f"{len(late)} reservations of {RESERVING} tenants expired after a median of "
            f"{statistics.median(late):.1f} s, at most {max(late):.1f} s"
        )


async def lateness(service: Service) -> list[float]:
    """Wait until all reservations have ended, and return how late each did, in seconds."""
    open_ones = select(func.count()).where(reservation.c.status == "open")
    times: Any = select(reservation.c.ended_at, reservation.c.expires_at)
    while True:
        async with reader_of(service.database).connect() as connection:
            if not await connection.scalar(open_ones):
                rows = await connection.execute(times)
                return [(ended - expires).total_seconds() for ended, expires in rows]
        await asyncio.sleep(1)


def main() -> None:
    """Start PostgreSQL and the workers, and measure."""
    with own_postgresql("track_functions = 'all'", "fsync = off") as server:
        url = migrated(create_database(server.url, f"due_{ULID()}".lower()))
        with started("serve", "--workers", str(WORKERS), database_url=url):
            asyncio.run(measure(url))


if __name__ == "__main__":
    main()
