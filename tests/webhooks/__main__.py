"""Measure the delivery to 1,000 endpoints of 20 tenants, of which 100 hang.

`python -m tests.webhooks --engine postgresql` prints when the others have their message.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.databases import create_database, migrated, own_postgresql
from tests.service import Service, new_tenant, running, sku, warehouse
from tests.webhooks.receiver import Received, receiving, response
from tests.webhooks.stock import hook, set_stock

TENANTS: Final = 20
WEBHOOKS: Final = 50


async def measure(database_url: str, *, hanging: int) -> list[float]:
    """Return the seconds from the start of the worker until each answering endpoint has it."""
    arrived: dict[str, float] = {}

    def answer(request: Received) -> bytes:
        arrived[request.path] = time.monotonic()
        return response(204)

    async with (
        running(database_url, webhooks_to_loopback=True) as (app, client),
        receiving(lambda _: None) as silent,
        receiving(answer) as receiver,
    ):
        database = app.state.database
        tenants = [
            Service(app, client, database, await new_tenant(database)) for _ in range(TENANTS)
        ]
        for tenant in tenants:
            place = warehouse()
            await tenant.load([place], [sku("A")])
            for number in range(WEBHOOKS):
                is_silent = number < hanging // TENANTS
                base = silent.url if is_silent else receiver.url
                await hook(tenant, f"{base}/{tenant.tenant_id}/{number}")
            await set_stock(tenant, 5, where=place.id)
        expected = TENANTS * WEBHOOKS - hanging
        start = time.monotonic()
        async with app.router.lifespan_context(app):
            while len(arrived) < expected:
                await asyncio.sleep(0.01)
        return sorted(at - start for at in arrived.values())


def report(name: str, seconds: list[float]) -> None:
    """Print the figures of a run."""
    middle, last = statistics.median(seconds), seconds[-1]
    print(f"{name}: {len(seconds)} endpoints, median {middle:.1f} s, last {last:.1f} s")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    engine = parser.parse_args().engine
    with tempfile.TemporaryDirectory() as directory, own_postgresql() as server:
        for hanging in (0, 100):
            url = f"sqlite+aiosqlite:///{Path(directory)}/{hanging}.db"
            if engine == "postgresql":
                url = create_database(server.url, f"webhooks_{hanging}")
            seconds = asyncio.run(measure(migrated(url), hanging=hanging))
            report(f"{engine}, {hanging} hang", seconds)


if __name__ == "__main__":
    main()
