"""The scale curve: python -m benchmarks.scale."""

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from benchmarks import pictures
from benchmarks.contenders import REST
from benchmarks.data import Size
from benchmarks.databases import empty_sqlite, filled, postgresql
from benchmarks.load import measure
from benchmarks.machine import facts, wrk_version
from benchmarks.pages import IN_TURN, Place
from benchmarks.questions import questions, size_of
from benchmarks.report import ROOT, as_columns, markdown_table, told
from benchmarks.running import progress, run
from benchmarks.servers import serving
from tests.databases import create_database, migrated

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS: Final = 5
SECONDS: Final = 1
# What a ratio to the smallest size is bold above.
MOST: Final = 1.5
NOTES: Final = """\
Each SKU has two to four stock levels and ten adjustments for each SKU on average; a tenth of all
adjustments are those of one busy SKU, in two warehouses, whose history it is that is paged through.
A cell is the median latency in ms of one connection to one worker, over HTTP, and in brackets how
many times that of the smallest size it is: each the median of {rounds} rounds, in which the sizes
take turns. Every page has 50 rows; middle pages are {pages} different ones. Every body is checked:
first against the database, for the right rows and the right total, then for being that body.

Lists are asked for by REST, which runs the operations of the GraphQL schema, and have their exact
total and all their stock. The totals of SKUs are kept by every write. Those of the ledger, of a SKU
and of a reference are summed up ahead, as a running service has done.
"""

Latencies = Mapping[str, Mapping[int, Sequence[float]]]


class Engine(StrEnum):
    """Where the data is."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def scale(
    engine: Annotated[Engine, typer.Option(help="Where the data is.")] = Engine.POSTGRESQL,
    largest: Annotated[
        int, typer.Option(min=SIZES[1], help="SKUs at most, from 1,000 on by tens.")
    ] = SIZES[-1],
) -> None:
    """Measure how latency grows with the data: up to 1,000,000 SKUs, 10,000,000 adjustments.

    It needs `wrk`, the extra `benchmark`, and for the largest size some 20 GB of disk. What was
    found is printed, and written to benchmarks/SCALE.md and docs/scale.svg (on SQLite, to
    SCALE_ON_SQLITE.md and scale_on_sqlite.svg).
    """
    sizes = [size_of(skus) for skus in SIZES if skus <= largest]
    with places(engine, sizes) as running:
        found = latencies(running)
    lines = table(found)
    suffix = "" if engine is Engine.POSTGRESQL else "_ON_SQLITE"
    facts_ = {
        **facts(),
        "engine": engine.value,
        "load": f"wrk {wrk_version()}, {ROUNDS} rounds of {SECONDS} s",
        "data": "; ".join(
            f"{size.skus:,} SKUs, {size.levels:,} levels, {size.adjustments:,} adjustments"
            for size in sizes
        ),
        "command": f"`python -m benchmarks.scale --engine {engine.value} --largest {largest}`",
    }
    picture = f"scale{suffix.lower()}.svg"
    notes = NOTES.format(rounds=ROUNDS, pages=IN_TURN).rstrip()
    parts = ["# Scale", told(facts_), notes, markdown_table(lines), f"![](../docs/{picture})"]
    page = ROOT / "benchmarks" / f"SCALE{suffix}.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    pictures.curves(
        {name: {skus: ratio(by, skus) for skus in by} for name, by in found.items()},
        ROOT / "docs" / picture,
        ylabel="median latency, times that of 1,000 SKUs",
        caption=f"{engine.value}, {facts_['date']}, {facts_['machine']}",
    )
    typer.echo(as_columns(lines))


@contextmanager
def places(engine: Engine, sizes: Sequence[Size]) -> Iterator[list[tuple[Size, Place]]]:
    """Run the service once for each size, on databases of an engine."""
    with ExitStack() as stack:
        if engine is Engine.SQLITE:
            directory = Path(stack.enter_context(TemporaryDirectory()))
            urls = [empty_sqlite(directory, f"scale_{size.skus}") for size in sizes]
        else:
            server = stack.enter_context(postgresql())
            urls = [migrated(create_database(server.url, f"scale_{it.skus}")) for it in sizes]
        running = []
        for size, url in zip(sizes, urls, strict=True):
            filled(url, size, progress)
            port, _ = stack.enter_context(serving(REST, url, workers=1))
            running.append((size, Place(port, url)))
        yield running


def latencies(running: Sequence[tuple[Size, Place]]) -> Latencies:
    """Return the p50 in ms of every question by SKUs, round by round."""
    dice = random.Random("rounds")
    found: dict[str, dict[int, list[float]]] = {}
    for name, question in questions().items():
        loads = {size.skus: (place, question(place, size)) for size, place in running}
        found[name] = {skus: [] for skus in loads}
        for _ in range(ROUNDS):
            for skus in dice.sample(list(loads), len(loads)):
                place, load = loads[skus]
                sample = measure(place.port, load, connections=1, seconds=SECONDS)
                found[name][skus].append(sample.p50_ms)
        medians = "  ".join(
            f"{statistics.median(samples):8.2f} ms at {skus:,}"
            for skus, samples in found[name].items()
        )
        progress(f"{name:45}{medians}")
    return found


def ratio(by: Mapping[int, Sequence[float]], skus: int) -> float:
    """Return how many times the latency of the smallest size that of a size is."""
    smallest = by[min(by)]
    return statistics.median(mine / least for mine, least in zip(by[skus], smallest, strict=True))


def table(found: Latencies) -> list[list[str]]:
    """Return the lines of a table, the heading first."""
    sizes = list(next(iter(found.values())))
    return [
        ["", *(f"{skus:,} SKUs" for skus in sizes)],
        *([name, *(cell(by, skus) for skus in sizes)] for name, by in found.items()),
    ]


def cell(by: Mapping[int, Sequence[float]], skus: int) -> str:
    """Return a latency and its ratio."""
    times = ratio(by, skus)
    mark = "**" if times > MOST else ""
    return f"{statistics.median(by[skus]):.2f} ({mark}{times:.2f}{mark})"


if __name__ == "__main__":
    run(app)
