"""Longest callbacks of the event loop: python -m benchmarks.loop.

A worker sends no other response during a callback. The time is the processor time of the thread of
the loop, so that other processes on the machine do not count. It depends on the speed of the
machine, so it is a benchmark and not a test.
"""

import asyncio
import time
from asyncio import events
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import httpx
import orjson
import typer

from benchmarks.data import TOKEN, WAREHOUSES, Size, code
from benchmarks.databases import empty_sqlite, filled, postgresql
from tests.databases import create_database, migrated
from tests.service import running

LIMIT_MS: Final = 50.0
SIZE: Final = Size(2_000, adjustments_per_level=3)
NESTED: Final = """
{
  skus(first: 200) {
    totalCount
    pageInfo { hasNextPage endCursor }
    edges {
      cursor
      node {
        id sku title totalOnHand totalReserved totalAvailable safetyStock status version
        stock {
          id onHand reserved safetyStock available status version adjustedAt
          warehouse { id name type address marketplace isActive isReadonly }
          sku { title }
        }
        adjustments(first: 5) {
          totalCount
          nodes { id delta reason note createdBy createdAt warehouse { name } sku { title } }
        }
      }
    }
  }
}
"""
BULK: Final = """
mutation ($input: BulkSetStockInput!) {
  bulkSetStock(input: $input) {
    total succeeded failed replayed
    results {
      index sku warehouseId status error { code message }
      adjustment {
        id beforeQuantity afterQuantity delta reason createdAt
        sku { title totalOnHand }
        warehouse { name }
      }
    }
    skus { sku version totalOnHand totalAvailable status stock { onHand warehouse { name } } }
  }
}
"""


@dataclass(frozen=True)
class Request:
    """A request with its body as a JSON value."""

    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


def requests(turn: int) -> dict[str, Request]:
    """Return the largest possible requests by name; the quantities depend on the turn."""
    updates = [
        {
            "sku": code(number),
            "warehouse_id": WAREHOUSES[0].id,
            "quantity": (7 * number + turn) % 40,
            "reason": "cycle_count",
        }
        for number in range(500)
    ]
    bulk = "/api/inventory/bulk"
    refused = [{**update, "sku": f"NO-{update['sku']}"} for update in updates]
    return {
        "GraphQL list of 200, everything nested": graphql(NESTED),
        "REST list of 200": Request("GET", "/api/inventory?limit=200"),
        "GraphQL bulk of 500": graphql(BULK, camel(updates)),
        "the same with a key": graphql(BULK, camel(updates) | {"idempotencyKey": f"g{turn}"}),
        "REST bulk of 500": Request("POST", bulk, {"updates": updates}),
        "with a key": Request("POST", bulk, {"updates": updates}, {"Idempotency-Key": f"r{turn}"}),
        "refused, all 500": Request("POST", bulk, {"updates": refused}),
    }


def graphql(query: str, content: Mapping[str, object] | None = None) -> Request:
    """Return a GraphQL request."""
    variables = {"input": content} if content else None
    return Request("POST", "/graphql", {"query": query, "variables": variables})


def camel(updates: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return a bulk with the names of GraphQL."""
    return {
        "updates": [
            {
                "sku": update["sku"],
                "warehouseId": update["warehouse_id"],
                "change": {"quantity": update["quantity"]},
                "reason": update["reason"],
            }
            for update in updates
        ]
    }


@contextmanager
def timed() -> Iterator[list[float]]:
    """Time every callback of the asyncio loop, in seconds of its thread."""
    taken: list[float] = []
    run = events.Handle._run  # noqa: SLF001 - no public hook sees a single callback

    def timed_run(handle: events.Handle) -> None:
        start = time.thread_time()
        run(handle)
        taken.append(time.thread_time() - start)

    events.Handle._run = timed_run  # type: ignore[assignment,method-assign]  # noqa: SLF001
    try:
        yield taken
    finally:
        events.Handle._run = run  # type: ignore[method-assign]  # noqa: SLF001


async def measure(database_url: str, turns: int) -> dict[str, list[float]]:
    """Return the longest callback of every request by turn, in milliseconds."""
    longest: dict[str, list[float]] = {}
    async with running(database_url) as (app, client), app.router.lifespan_context(app):
        for turn in range(turns):
            for name, request in requests(turn).items():
                with timed() as taken:
                    await send(client, request)
                longest.setdefault(name, []).append(1000 * max(taken))
    return longest


async def send(client: httpx.AsyncClient, request: Request) -> None:
    """Send a request; a refusal by the rules is a valid response.

    Raises:
        RuntimeError: the response is a fault.

    """
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    body = None if request.body is None else orjson.dumps(request.body)
    response = await client.request(
        request.method, request.path, content=body, headers={**headers, **request.headers}
    )
    if response.is_server_error or b'"errors":' in response.content:
        raise RuntimeError(response.text[:1_000])


def loop(
    turns: Annotated[int, typer.Option(min=2, help="How often each request is sent.")] = 10,
) -> None:
    """Print the longest callbacks of the largest requests, on both engines."""
    with TemporaryDirectory() as directory, postgresql() as server:
        urls = {
            "SQLite": empty_sqlite(Path(directory), "loop.db"),
            "PostgreSQL": migrated(create_database(server.url, "loop")),
        }
        for engine, url in urls.items():
            filled(url, SIZE, lambda _: None)
            typer.echo(f"{engine + ', ms':40}{'first':>8}{'median':>8}{'longest':>9}")
            for name, (first, *rest) in asyncio.run(measure(url, turns)).items():
                mark = "  above the limit" if median(rest) > LIMIT_MS else ""
                typer.echo(f"{name:40}{first:8.1f}{median(rest):8.1f}{max(rest):9.1f}{mark}")


if __name__ == "__main__":
    typer.run(loop)
