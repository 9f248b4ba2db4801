"""Memory, start and streaming: python -m benchmarks.footprint."""

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
from benchmarks.report import ROOT, as_columns, bullet_list, markdown_table
from benchmarks.running import progress, run
from benchmarks.servers import HEADERS, serving
from tests.databases import create_database, migrated

STARTS: Final = 5
# Repetitions of a measurement that takes seconds; the median counts.
ROUNDS: Final = 3
CHUNK: Final = 256 * 1024
MEBIBYTE: Final = 2**20
ID: Final = re.compile(rb'"id":"(adj_[^"]+)"')
CURSOR: Final = re.compile(rb'"(?:nextCursor|endCursor)":"([^"]+)"')
HISTORY: Final = """
SELECT id, sku, warehouse_id, before_quantity, after_quantity, delta, reason, note, created_by,
  created_at
FROM adjustment WHERE tenant_id = $1 ORDER BY position DESC
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
Memory is resident memory (RSS). A worker is idle after its first responses. The first response is
a list over HTTP, timed from the start of the process on a migrated database; median of {starts}.

One client reads a whole history, newest first: as one stream of REST, or in pages of 200, each
requested with the cursor of the previous page. Every id and the order are checked. The bare loop is
a hand-written script: a cursor of asyncpg with 1,000 rows at a time on uvloop, and orjson for each
row, without HTTP. The peak is the greatest RSS during the read minus the RSS before it.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Read:
    """Speed of reading a history, and the memory that the service needed for it."""

    rows_per_second: float
    peak_bytes: int


class Ids:
    """Digest of ids in their order, from bodies in chunks of any size."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._rest = b""
        self.number = 0

    def add(self, chunk: bytes) -> None:
        """Add the ids of the next chunk."""
        text = self._rest + chunk
        end = 0
        for match in ID.finditer(text):
            self.take(match[1])
            end = match.end()
        self._rest = text[end:]

    def take(self, id_: bytes) -> None:
        """Add one id."""
        self._hash.update(id_)
        self.number += 1

    def digest(self) -> tuple[int, str]:
        """Return the number of ids and their digest."""
        return self.number, self._hash.hexdigest()


@app.command()
def footprint(
    adjustments: Annotated[
        int, typer.Option(min=1_000, help="Length of the streamed history.")
    ] = 1_000_000,
) -> None:
    """Measure the memory and start of a worker, and the streaming of a long history.

    The results are printed and written to benchmarks/FOOTPRINT.md.
    """
    size = Size(1, busy=adjustments // 2)
    with TemporaryDirectory() as directory, postgresql() as server:
        small = empty_sqlite(Path(directory), "footprint")
        filled(small, Size(1_000), progress)
        url = filled(migrated(create_database(server.url, "footprint")), size, progress)
        lines = [
            ["", "PostgreSQL", "SQLite"],
            ["first answer after start", *(f"{first_answer(each):.2f} s" for each in (url, small))],
            ["idle, one process", *(mebibytes(max(idle(each, 1))) for each in (url, small))],
            [
                "idle, each of two workers",
                *(mebibytes(max(idle(each, 2))) for each in (url, small)),
            ],
        ]
        reads = [["", "rows a second", "times the bare loop", "peak above idle"]]
        reads += streams(url, size)
    notes = {
        **facts(),
        "data": f"{size.adjustments:,} adjustments of one SKU on PostgreSQL; 1,000 SKUs on SQLite",
        "command": f"`python -m benchmarks.footprint --adjustments {adjustments}`",
    }
    parts = [
        *("# Footprint", bullet_list(notes), "## Start and memory", markdown_table(lines)),
        *("## A history, read whole", markdown_table(reads)),
        *("## Method", NOTES.format(starts=STARTS).rstrip()),
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
    """Return the RSS in bytes of each worker, after some requests."""
    with serving(REST, database_url, workers=workers) as (port, process):
        for _ in range(20 * workers):
            get(port, "/api/inventory?limit=50")
        family = process.children() if workers > 1 else [process]
        # Beside its workers, a parent process has a resource tracker.
        sizes = sorted((member.memory_info().rss for member in family), reverse=True)[:workers]
    progress(f"idle with {workers}: {', '.join(map(mebibytes, sizes))}")
    return sizes


def streams(database_url: str, size: Size) -> list[list[str]]:
    """Return a line for each way of reading the history, with its speed and memory."""
    expected, bare = uvloop.run(bare_loop(database_url))
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
            reads = [read(process, way(port), expected) for _ in range(ROUNDS)]
            speed = statistics.median(each.rows_per_second for each in reads)
            peak = max(each.peak_bytes for each in reads)
            lines.append([name, f"{speed:,.0f}", f"{speed / bare:.2f}", mebibytes(peak)])
            progress("  ".join(lines[-1]))
    return lines


async def bare_loop(database_url: str) -> tuple[tuple[int, str], float]:
    """Return the digest of the ids of the history, and the rows per second of the bare loop."""
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


def read(process: psutil.Process, bodies: Iterable[bytes], expected: tuple[int, str]) -> Read:
    """Read a whole history from a service.

    Raises:
        WrongAnswer: the history differs from that of the database.

    """
    before = process.memory_info().rss
    reset_peak(process)
    ids = Ids()
    start = time.monotonic()
    for body in bodies:
        ids.add(body)
    seconds = time.monotonic() - start
    if ids.digest() != expected:
        message = f"a history of {ids.number} rows differs from the {expected[0]} of the database"
        raise WrongAnswer(message)
    return Read(ids.number / seconds, peak(process) - before)


def streamed(port: int, *, path: str) -> Iterator[bytes]:
    """Yield the chunks of one streamed response."""
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
        match = CURSOR.search(page)
        if match is None or b'"hasNextPage":false' in page:
            break
        cursor = match[1].decode()
    connection.close()


def get(port: int, path: str) -> Any:
    """Send a GET request on a new connection, and return the JSON of its response."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=HEADERS)
    answer = orjson.loads(connection.getresponse().read())
    connection.close()
    return answer


def reset_peak(process: psutil.Process) -> None:
    """Reset the peak RSS of a process in Linux."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")


def peak(process: psutil.Process) -> int:
    """Return the peak RSS of a process since its reset, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def mebibytes(number: float) -> str:
    """Return a number of bytes in MiB."""
    return f"{number / MEBIBYTE:.0f} MiB"


if __name__ == "__main__":
    run(app)
