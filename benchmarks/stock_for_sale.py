"""Time to withdraw a warehouse from sale and to return it: python -m benchmarks.stock_for_sale.

The warehouse has 100,000 stock levels with stock, each of its own SKU. The write changes all
levels, SKUs and counts, and writes the changes of the feed. No request limits its time.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from ulid import ULID

from app.database.tables import change
from app.domain.caller import Caller
from app.ledger.verification import verify_tenant
from app.writes.catalogue import update_warehouse
from app.writes.pipeline import WriteContext
from benchmarks.running import progress
from tests.databases import create_database, migrated, own_postgresql
from tests.service import Service, level, new_tenant, running, sku, warehouse

LEVELS: Final = 100_000


async def measure(url: str, levels: int) -> None:
    """Print the figures on a database."""
    async with running(url) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await turn_twice(service, levels)


async def turn_twice(service: Service, levels: int) -> None:
    """Withdraw a warehouse from sale and return it, and verify the tenant."""
    database, tenant_id = service.database, service.tenant_id
    store = warehouse("Store")
    skus = [sku(f"SKU-{number:07}", level(store, 5, safety_stock=1)) for number in range(levels)]
    await service.load([store], skus)
    del skus
    caller = Caller(tenant_id, "benchmark", "benchmark@example.com")
    context = WriteContext(database=database, caller=caller)
    for is_sellable in (False, True):
        began = time.perf_counter()
        await update_warehouse(context, store.id, {"is_sellable": is_sellable})
        seconds = time.perf_counter() - began
        progress(
            f"{database.dialect}: {levels:,} levels {'returned' if is_sellable else 'withdrawn'} "
            f"in {seconds:.1f} s"
        )
    async with database.snapshot() as snapshot:
        numbers = select(func.count()).where(change.c.tenant_id == tenant_id)
        [(changes,)] = await snapshot.rows(numbers, {})
    proof = await verify_tenant(database, tenant_id)
    progress(f"{database.dialect}: {changes:,} changes, {proof.stock_levels:,} levels verified")


def main() -> None:
    """Measure on both engines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, default=LEVELS)
    levels = parser.parse_args().levels
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "inventory.db"
        asyncio.run(measure(migrated(f"sqlite+aiosqlite:///{path}"), levels))
    with own_postgresql() as server:
        url = create_database(server.url, f"sale_{ULID()}".lower())
        asyncio.run(measure(migrated(url), levels))


if __name__ == "__main__":
    main()
