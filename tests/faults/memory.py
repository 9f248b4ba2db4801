"""Measures the resident memory of a worker under many varied requests.

`python -m tests.faults.memory --requests 200000` starts a service on a new database, lets its
memory settle, sends requests that vary in filters, documents, cursors, tokens and keys, and fails
if the memory grows by more than the bound.
"""

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from app.database.engine import Database
from app.settings import Settings
from tests.databases import create_database, migrated, postgresql_server
from tests.processes import started
from tests.service import Service, level, new_tenant, sku, warehouse

BOUND_BYTES: Final = 64 * 1024 * 1024
# Number of requests after which every cache is full.
SETTLED_AFTER: Final = 20_000
CLIENTS: Final = 8
FILTERS: Final = {
    "reason": "loss",
    "startDate": "2026-01-01",
    "endDate": "2027-01-01",
    "createdBy": "a@b.example",
    "bulkId": "blk_1",
    "transferId": "trf_1",
    "reservationId": "rsv_1",
    "reference": "order-1",
    "sign": "INCREASE",
}


def varied(number: int, choice: random.Random) -> dict[str, Any]:
    """Options of a request that differs from the others."""
    kind = number % 5
    if kind == 0:
        names = [name for name in FILTERS if choice.random() < 0.5]
        given = {name: FILTERS[name] for name in names}
        document = (
            "query($filter: AdjustmentFilter) { adjustments(first: 1, filter: $filter) "
            f"{{ totalCount }} a{number}: __typename }}"
        )
        return {"path": "/graphql", "json": {"query": document, "variables": {"filter": given}}}
    if kind == 1:
        status = choice.choice(["normal", "low", "critical", "out_of_stock"])
        return {"path": "/api/inventory", "params": {"sku": f"S{number}", "status": status}}
    if kind == 2:
        return {"path": "/api/inventory", "token": f"inv_acme{number}-{'x' * 30}{number}"}
    if kind == 3:
        cursor = f"cursor_{choice.randbytes(20).hex()}"
        return {"path": "/api/inventory", "params": {"cursor": cursor, "limit": number % 200 + 1}}
    return {"path": f"/api/inventory/S{number % 50}", "quantity": number, "key": f"k{number}"}


@contextmanager
def new_database(engine: str) -> Iterator[str]:
    """Yield the address of a migrated database."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            yield migrated(f"sqlite+aiosqlite:///{Path(directory)}/inventory.db")
        return
    with postgresql_server() as server:
        yield migrated(create_database(server, "memory"))


async def measure(url: str, requests: int) -> int:
    """Growth of the resident memory in bytes after it settled."""
    database = Database(Settings(database_url=url))
    main = warehouse()
    with started("serve", database_url=url) as (process, address):
        worker = psutil.Process(process.pid)
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            service = Service(None, client, database, await new_tenant(database))  # type: ignore[arg-type]
            await service.load([main], [sku(f"S{i}", level(main, 5)) for i in range(50)])
            numbers = itertools.count()
            settled = 0
            statuses: dict[int, int] = {}

            async def one(number: int) -> None:
                request = varied(number, random.Random(number))
                options: dict[str, Any] = {"token": request.get("token", "write")}
                method = "POST" if "json" in request else "GET"
                if "quantity" in request:
                    method = "PUT"
                    options["headers"] = {"Idempotency-Key": request["key"]}
                    options["json"] = {
                        "warehouse_id": main.id,
                        "quantity": request["quantity"],
                        "reason": "loss",
                    }
                options |= {name: request[name] for name in ("json", "params") if name in request}
                response = await service.rest(method, request["path"], **options)
                statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
                if response.status_code >= 500:
                    raise AssertionError(response.text)

            async def send() -> None:
                nonlocal settled
                while (number := next(numbers)) < requests:
                    await one(number)
                    if number == min(SETTLED_AFTER, requests // 2):
                        settled = worker.memory_info().rss
                    if number % 10_000 == 0:
                        memory = worker.memory_info().rss / 2**20
                        print(f"{number:>9,} requests {memory:7.1f} MiB", flush=True)

            await asyncio.gather(*(send() for _ in range(CLIENTS)))
            grown = worker.memory_info().rss - settled
    await database.dispose()
    print(f"statuses {statuses}; grown by {grown / 2**20:.1f} MiB since it settled")
    return grown


def main() -> None:
    """Measure, and fail if the memory grew too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], default="postgresql")
    options = parser.parse_args()
    with new_database(options.engine) as url:
        grown = asyncio.run(measure(url, options.requests))
    sys.exit(grown > BOUND_BYTES)


if __name__ == "__main__":
    main()
