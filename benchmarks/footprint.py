"""Memory, start and streams: python -m benchmarks.footprint."""

import hashlib
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import asyncpg
import orjson
import psutil
import typer
import uvloop

from benchmarks.contenders import REST
from benchmarks.data import TENANT, Size, code
from benchmarks.databases import empty_sqlite, filled, postgresql
from benchmarks.load import WrongAnswer
from benchmarks.machine import facts
from benchmarks.report import ROOT, as_columns, markdown_table, told
from benchmarks.running import progress, run
from benchmarks.servers import HEADERS, serving
from tests.databases import create_database, migrated

STARTS: Final = 5
# How often what takes seconds is done; the median counts.
ROUNDS: Final = 3
CHUNK: Final = 256 * 1024
MEBIBYTE: Final = 2**20
ID: Final = re.compile(rb'"id":"(adj_[^"]+)"')
CURSOR: Final = re.compile(rb'"(?:nextCursor|endCursor)":"([^"]+)"')
HISTORY: Final = """
SELECT id, sku, warehouse_id, before_quantity, after_quantity, delta, reason, note, created_by,
  created_at
FROM adjustment WHERE tenant_id = $1 ORDER BY created_at DESC, sequence DESC, id DESC
"""
PAGES: Final = """
query ($after: String) {
  adjustments(first: 200, after: $after) {
    nodes {
      id beforeQuantity afterQuantity delta reason note createdBy createdAt
      sku { sku } warehouse { id }
    }
    pageInfo { endCursor hasNextPage }
  }
}
"""
NOTES: Final = """\
Memory is resident memory (RSS). A worker is idle after its first answers. The first answer is that
of a list, over HTTP, counted from the start of the process on a database that is migrated; median
of {starts}.

A history is read whole, newest first, by one client: the one stream of REST, or page by page of
200, each asked for with the cursor of the one before. Every id is checked, in its order. The bare
loop is what a script by hand would do: a cursor of asyncpg, 1,000 rows at a time on uvloop, and
orjson, row by row, without HTTP and for nobody. The peak is the greatest RSS at any instant of the
read, above what it was before.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Read:
    """How fast a history was read, and how much memory the service took for it."""

    rows_per_second: float
    peak_bytes: int


class Ids:
    """A digest of ids in their order, from bodies that may be cut anywhere."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._rest = b""
        self.number = 0

    def add(self, chunk: bytes) -> None:
        """Take what came next."""
        text = self._rest + chunk
        end = 0
        for found in ID.finditer(text):
            self.take(found[1])
            end = found.end()
        self._rest = text[end:]

    def take(self, id_: bytes) -> None:
        """Take one id."""
        self._hash.update(id_)
        self.number += 1

    def digest(self) -> tuple[int, str]:
        """Return how many there were, and what they come to."""
        return self.number, self._hash.hexdigest()


@app.command()
def footprint(
    adjustments: Annotated[
        int, typer.Option(min=1_000, help="How many the streamed history has.")
    ] = 1_000_000,
) -> None:
    """Measure the memory of a worker, its start, and what it takes to stream a long history.

    What was found is printed, and written to benchmarks/FOOTPRINT.md.
    """
    size = Size(1, busy=adjustments // 2)
    with TemporaryDirectory() as directory, postgresql() as server:
        small = empty_sqlite(Path(directory), "footprint")
        filled(small, Size(1_000), progress)
        url = filled(migrated(create_database(server.url, "footprint")), size, progress)
        lines = [
            ["", "PostgreSQL", "SQLite"],
            ["first answer after start", *(f"{first_answer(it):.2f} s" for it in (url, small))],
            ["idle, one process", *(mebibytes(max(idle(it, 1))) for it in (url, small))],
            ["idle, each of two workers", *(mebibytes(max(idle(it, 2))) for it in (url, small))],
        ]
        reads = [["", "rows a second", "times the bare loop", "peak above idle"]]
        reads += streams(url, size)
    told_ = {
        **facts(),
        "data": f"{size.adjustments:,} adjustments of one SKU on PostgreSQL; 1,000 SKUs on SQLite",
        "command": f"`python -m benchmarks.footprint --adjustments {adjustments}`",
    }
    parts = [
        *("# Footprint", told(told_), "## Start and memory", markdown_table(lines)),
        *("## A history, read whole", markdown_table(reads)),
        *("## What it says", NOTES.format(starts=STARTS).rstrip()),
    ]
    page = ROOT / "benchmarks" / "FOOTPRINT.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    typer.echo(f"{as_columns(lines)}\n\n{as_columns(reads)}")


def first_answer(database_url: str) -> float:
    """Return the seconds from the start of a process to its first answer."""
    taken = []
    for number in range(STARTS):
        start = time.monotonic()
        with serving(REST, database_url, workers=1):
            taken.append(time.monotonic() - start)
        progress(f"start {number + 1}/{STARTS}: {taken[-1]:.2f} s")
    return statistics.median(taken)


def idle(database_url: str, workers: int) -> list[int]:
    """Return the RSS in bytes of each worker, after some answers."""
    with serving(REST, database_url, workers=workers) as (port, process):
        for _ in range(20 * workers):
            get(port, "/api/inventory?limit=50")
        family = process.children() if workers > 1 else [process]
        # Beside its workers, a parent has a process that looks after what they share.
        found = sorted((it.memory_info().rss for it in family), reverse=True)[:workers]
    progress(f"idle with {workers}: {', '.join(map(mebibytes, found))}")
    return found


def streams(database_url: str, size: Size) -> list[list[str]]:
    """Return lines on how fast the history is read in each way, and what memory it takes."""
    wanted, bare = uvloop.run(bare_loop(database_url))
    path = f"/api/inventory/{code(size.skus - 1)}/adjustments"
    ways: dict[str, Callable[[int], Iterable[bytes]]] = {
        "REST, one stream": partial(streamed, path=path),
        "REST, pages of 200": partial(pages, path=path),
        "GraphQL, pages of 200": graphql_pages,
    }
    lines = [["bare asyncpg cursor + orjson", f"{bare:,.0f}", "1.00", ""]]
    with serving(REST, database_url, workers=1) as (port, process):
        for _ in range(20):
            get(port, f"{path}?limit=200")
        for name, way in ways.items():
            found = [read(process, way(port), wanted) for _ in range(ROUNDS)]
            speed = statistics.median(it.rows_per_second for it in found)
            peak = max(it.peak_bytes for it in found)
            lines.append([name, f"{speed:,.0f}", f"{speed / bare:.2f}", mebibytes(peak)])
            progress("  ".join(lines[-1]))
    return lines


async def bare_loop(database_url: str) -> tuple[tuple[int, str], float]:
    """Return the digest of the history's ids, and how many rows a second are read by hand."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    ids = Ids()
    async with connection.transaction():
        async for row in connection.cursor(HISTORY, TENANT, prefetch=1_000):
            ids.take(row["id"].encode())
    speeds = []
    for _ in range(ROUNDS):
        start = time.monotonic()
        async with connection.transaction():
            async for row in connection.cursor(HISTORY, TENANT, prefetch=1_000):
                orjson.dumps(dict(row))
        speeds.append(ids.number / (time.monotonic() - start))
        progress(f"bare loop: {speeds[-1]:,.0f} rows a second")
    await connection.close()
    return ids.digest(), statistics.median(speeds)


def read(process: psutil.Process, bodies: Iterable[bytes], wanted: tuple[int, str]) -> Read:
    """Read a history from a service to its end.

    Raises:
        WrongAnswer: it is not what the database has.

    """
    before = process.memory_info().rss
    reset_peak(process)
    ids = Ids()
    start = time.monotonic()
    for body in bodies:
        ids.add(body)
    seconds = time.monotonic() - start
    if ids.digest() != wanted:
        message = f"a history of {ids.number} rows differs from the {wanted[0]} of the database"
        raise WrongAnswer(message)
    return Read(ids.number / seconds, peak(process) - before)


def streamed(port: int, *, path: str) -> Iterator[bytes]:
    """Yield the parts of one long answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=HEADERS)
    response = connection.getresponse()
    while chunk := response.read1(CHUNK):
        yield chunk
    connection.close()


def pages(port: int, *, path: str) -> Iterator[bytes]:
    """Yield the pages of REST."""

    def request(cursor: str | None) -> tuple[str, str, bytes]:
        return "GET", f"{path}?limit=200" + (f"&cursor={cursor}" if cursor else ""), b""

    return _walk(port, request)


def graphql_pages(port: int) -> Iterator[bytes]:
    """Yield the pages of GraphQL."""

    def request(cursor: str | None) -> tuple[str, str, bytes]:
        return "POST", "/graphql", orjson.dumps({"query": PAGES, "variables": {"after": cursor}})

    return _walk(port, request)


def _walk(port: int, request: Callable[[str | None], tuple[str, str, bytes]]) -> Iterator[bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    cursor: str | None = None
    while True:
        method, path, body = request(cursor)
        connection.request(method, path, body=body or None, headers=HEADERS)
        page = connection.getresponse().read()
        yield page
        found = CURSOR.search(page)
        if found is None or b'"hasNextPage":false' in page:
            break
        cursor = found[1].decode()
    connection.close()


def get(port: int, path: str) -> Any:
    """Ask for something by a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=HEADERS)
    answer = orjson.loads(connection.getresponse().read())
    connection.close()
    return answer


def reset_peak(process: psutil.Process) -> None:
    """Have Linux forget the greatest RSS that a process ever had."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")


def peak(process: psutil.Process) -> int:
    """Return the greatest RSS in bytes since then."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def mebibytes(number: float) -> str:
    """Return a number of bytes for people."""
    return f"{number / MEBIBYTE:.0f} MiB"


if __name__ == "__main__":
    run(app)
