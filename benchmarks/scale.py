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
from benchmarks.pages import IN_TURN, Target
from benchmarks.questions import questions, size_of
from benchmarks.report import ROOT, as_columns, bullet_list, markdown_table
from benchmarks.running import progress, run
from benchmarks.servers import serving
from tests.databases import create_database, migrated

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS: Final = 5
SECONDS: Final = 1
# Ratios to the smallest size above this are printed in bold.
MOST: Final = 1.5
NOTES: Final = """\
Each SKU has two to four stock levels and ten adjustments on average. A tenth of all adjustments
belong to one busy SKU in two warehouses; the histories are those of this SKU. A cell is the median
latency in ms of one connection to one worker over HTTP, and in brackets its ratio to the smallest
size: the median of {rounds} rounds in which the sizes alternate. Every page has 50 rows; middle
pages are {pages} different ones. Every body is checked: its rows and total against the database
once, and then the bytes.

Lists are requested by REST, which runs the operations of the GraphQL schema, and have their exact
total and all their stock. Every write stores the totals of SKUs. The totals of the ledger, of a SKU
and of a reference are rolled up before, as in a running service.
"""

Latencies = Mapping[str, Mapping[int, Sequence[float]]]


class Engine(StrEnum):
    """The database engine."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def scale(
    engine: Annotated[Engine, typer.Option(help="The database engine.")] = Engine.POSTGRESQL,
    largest: Annotated[
        int,
        typer.Option(
            min=SIZES[1], help="The largest number of SKUs; sizes start at 1,000 and grow tenfold."
        ),
    ] = SIZES[-1],
) -> None:
    """Measure how latency grows with the data: up to 1,000,000 SKUs, 10,000,000 adjustments.

    It needs `wrk`, the extra `benchmark`, and for the largest size some 20 GB of disk. The results
    are printed and written to benchmarks/SCALE.md and docs/scale.svg (on SQLite, to
    SCALE_ON_SQLITE.md and scale_on_sqlite.svg).
    """
    sizes = [size_of(skus) for skus in SIZES if skus <= largest]
    with targets(engine, sizes) as running:
        results = latencies(running)
    lines = table(results)
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
    parts = [
        "# Scale",
        bullet_list(facts_),
        notes,
        markdown_table(lines),
        f"![](../docs/{picture})",
    ]
    page = ROOT / "benchmarks" / f"SCALE{suffix}.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    pictures.curves(
        {name: {skus: ratio(by, skus) for skus in by} for name, by in results.items()},
        ROOT / "docs" / picture,
        ylabel="median latency, times that of 1,000 SKUs",
        caption=f"{engine.value}, {facts_['date']}, {facts_['machine']}",
    )
    typer.echo(as_columns(lines))


@contextmanager
def targets(engine: Engine, sizes: Sequence[Size]) -> Iterator[list[tuple[Size, Target]]]:
    """Run the service once for each size, on databases of an engine."""
    with ExitStack() as stack:
        if engine is Engine.SQLITE:
            directory = Path(stack.enter_context(TemporaryDirectory()))
            urls = [empty_sqlite(directory, f"scale_{size.skus}") for size in sizes]
        else:
            server = stack.enter_context(postgresql())
            urls = [migrated(create_database(server.url, f"scale_{size.skus}")) for size in sizes]
        running = []
        for size, url in zip(sizes, urls, strict=True):
            filled(url, size, progress)
            port, _ = stack.enter_context(serving(REST, url, workers=1))
            running.append((size, Target(port, url)))
        yield running


def latencies(running: Sequence[tuple[Size, Target]]) -> Latencies:
    """Return the p50 in ms of every question by the number of SKUs, one for each round."""
    dice = random.Random("rounds")
    found: dict[str, dict[int, list[float]]] = {}
    for name, question in questions().items():
        loads = {size.skus: (target, question(target, size)) for size, target in running}
        found[name] = {skus: [] for skus in loads}
        for _ in range(ROUNDS):
            for skus in dice.sample(list(loads), len(loads)):
                target, load = loads[skus]
                sample = measure(target.port, load, connections=1, seconds=SECONDS)
                found[name][skus].append(sample.p50_ms)
        medians = "  ".join(
            f"{statistics.median(samples):8.2f} ms at {skus:,}"
            for skus, samples in found[name].items()
        )
        progress(f"{name:45}{medians}")
    return found


def ratio(by: Mapping[int, Sequence[float]], skus: int) -> float:
    """Return the ratio of the latency of a size to that of the smallest size."""
    smallest = by[min(by)]
    return statistics.median(own / least for own, least in zip(by[skus], smallest, strict=True))


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
