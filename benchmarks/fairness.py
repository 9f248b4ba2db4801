"""The slowdown of one tenant by another: python -m benchmarks.fairness.

A quiet tenant repeatedly reads one SKU, lists 50 and sets one on one worker: alone, and beside a
greedy tenant that sends one kind of large request on many connections.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import orjson
import typer

from app.database.engine import Database
from app.settings import Settings
from benchmarks.contenders import GRAPHQL
from benchmarks.data import EMAIL, RECOUNT, TENANT, TOKEN, WAREHOUSES, Size, code, fill
from benchmarks.databases import empty_sqlite, postgresql
from benchmarks.loop import NESTED, Request, graphql
from benchmarks.running import progress, run
from benchmarks.servers import serving
from tests.databases import create_database, migrated

QUIET: Final = "quiet"
QUIET_SIZE: Final = Size(1_000)
GREEDY_SIZE: Final = Size(4_000, adjustments_per_level=20, busy=20_000)
# Between two requests of the quiet tenant.
PAUSE_SECONDS: Final = 0.01
# From the first request of the greedy tenant to the first of the quiet one.
HEAD_START_SECONDS: Final = 1.0
LIMIT: Final = 3.0
TOTALS: Final = "totals { entries }"
SLOW: Final = (
    "query($f: LedgerFilterInput) {"
    + " ".join(f"a{i}: adjustments(first: 1 filter: $f) {{{TOTALS}}}" for i in range(50))
    + "}"
)
# The cost of NESTED with pages of this length is just below the limit.
LARGE: Final = NESTED.replace("adjustments(first: 5)", "adjustments(first: 70)")


@dataclass(frozen=True, slots=True)
class Greed:
    """A load of the greedy tenant: the requests that each of its connections repeats."""

    name: str
    connections: int
    requests: Sequence[Request]


def loads() -> list[Greed]:
    """Return the loads of the greedy tenant."""
    variables = {"f": {"createdBy": EMAIL, "reference": RECOUNT}}
    slow = Request("POST", "/graphql", {"query": SLOW, "variables": variables})
    bulks = [_bulk(number) for number in range(8)]
    history = Request("GET", f"/api/inventory/{code(GREEDY_SIZE.skus - 1)}/adjustments")
    return [
        Greed("12 slow reads", 12, [slow]),
        Greed("64 slow reads", 64, [slow]),
        Greed("8 largest queries", 8, [graphql(LARGE)]),
        Greed("8 bulks of 500", 8, bulks),
        Greed("8 long histories", 8, [history]),
    ]


def _bulk(number: int) -> Request:
    updates = [
        {
            "sku": code(500 * number + row),
            "warehouse_id": WAREHOUSES[0].id,
            "quantity": row % 40,
            "reason": "cycle_count",
        }
        for row in range(500)
    ]
    return Request("POST", "/api/inventory/bulk", {"updates": updates})


@contextmanager
def greedy(port: int, greed: Greed | None) -> Iterator[None]:
    """Run a load in its own process; its responses are ignored."""
    if greed is None:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_send, args=(port, greed))
    process.start()
    try:
        time.sleep(HEAD_START_SECONDS)
        yield
    finally:
        process.kill()
        process.join()


def _send(port: int, greed: Greed) -> None:
    async def connection(number: int) -> None:
        turn = number
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_raw(greed.requests[turn % len(greed.requests)]))
            while await reader.read(2**20):
                pass
            writer.close()
            turn += 1

    async def all_connections() -> None:
        await asyncio.gather(*map(connection, range(greed.connections)))

    asyncio.run(all_connections())


def _raw(request: Request) -> bytes:
    body = b"" if request.body is None else orjson.dumps(request.body)
    head = (
        f"{request.method} {request.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class Sample:
    """Latencies and failures of one kind of request of the quiet tenant."""

    milliseconds: list[float]
    failed: int = 0

    def p(self, part: float) -> float:
        """Return a percentile."""
        if len(self.milliseconds) < 2:
            return max(self.milliseconds, default=0.0)
        return statistics.quantiles(self.milliseconds, n=1_000)[round(part * 1_000) - 1]


def quiet(port: int, seconds: float) -> dict[str, Sample]:
    """Send the requests of the quiet tenant in turn, and time them."""
    requests: dict[str, Request] = {
        "one SKU": Request("GET", "/api/inventory/{code}"),
        "list of 50": Request("GET", "/api/inventory?limit=50"),
        "set": Request(
            "PUT",
            "/api/inventory/{code}",
            {"warehouse_id": WAREHOUSES[0].id, "quantity": 7, "reason": "cycle_count"},
        ),
    }
    headers = {"Authorization": f"Bearer {QUIET}-write", "Content-Type": "application/json"}
    samples = {name: Sample([]) for name in requests}
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        for name, request in requests.items():
            number += 1
            path = request.path.format(code=code(number % QUIET_SIZE.skus))
            body = None if request.body is None else orjson.dumps(request.body)
            time.sleep(PAUSE_SECONDS)
            start = time.perf_counter()
            connection.request(request.method, path, body, headers)
            response = connection.getresponse()
            response.read()
            samples[name].milliseconds.append(1_000 * (time.perf_counter() - start))
            samples[name].failed += response.status != 200
    return samples


def fill_both(url: str) -> None:
    """Fill a database with both tenants."""

    async def work() -> None:
        database = Database(Settings(database_url=url))
        for tenant_id, size in ((TENANT, GREEDY_SIZE), (QUIET, QUIET_SIZE)):
            async for skus in fill(database, size, tenant_id=tenant_id):
                progress(f"filled {skus:,} SKUs of {tenant_id} ({database.dialect})")
        await database.dispose()

    asyncio.run(work())


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def fairness(
    seconds: Annotated[float, typer.Option(min=1, help="How long each load takes.")] = 15,
    engine: Annotated[str | None, typer.Option(help="One engine alone.")] = None,
    only: Annotated[str | None, typer.Option(help="One load alone, by a part of its name.")] = None,
) -> None:
    """Print the latencies of the quiet tenant alone and beside each load, and their ratios."""
    with TemporaryDirectory() as directory, postgresql() as server:
        engines: dict[str, Callable[[], str]] = {
            "SQLite": partial(empty_sqlite, Path(directory), "fairness.db"),
            "PostgreSQL": lambda: migrated(create_database(server.url, "fairness")),
        }
        for name, empty in engines.items():
            if engine is None or engine.lower() == name.lower():
                url = empty()
                fill_both(url)
                report(name, url, seconds, only)


def report(engine: str, url: str, seconds: float, only: str | None) -> None:
    """Print the table of one engine."""
    chosen = [greed for greed in loads() if only is None or only in greed.name]
    with serving(GRAPHQL, url, workers=1) as (port, _):
        quiet(port, 2)
        alone = quiet(port, seconds)
        print_samples(engine, "alone", alone, alone)
    for greed in chosen:
        with serving(GRAPHQL, url, workers=1) as (port, _):
            quiet(port, 2)
            with greedy(port, greed):
                print_samples(engine, greed.name, quiet(port, seconds), alone)


def print_samples(
    engine: str, load: str, samples: Mapping[str, Sample], alone: Mapping[str, Sample]
) -> None:
    """Print the latencies of the quiet tenant beside one load."""
    for name, sample in samples.items():
        ratio = sample.p(0.99) / alone[name].p(0.99)
        mark = " *" if ratio > LIMIT or sample.failed else ""
        typer.echo(
            f"{engine:11}{load:18}{name:11}{len(sample.milliseconds):6}{sample.failed:5}"
            f"{sample.p(0.5):9.1f}{sample.p(0.99):9.1f}{ratio:7.1f}{mark}"
        )


if __name__ == "__main__":
    run(app)
