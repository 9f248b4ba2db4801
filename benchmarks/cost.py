"""Processor time per request: python -m benchmarks.cost.

Requests per second depend on the other load of the machine; processor time per request hardly
does. For a worker that is never idle, the floor's time divided by the service's is the ratio of
their speeds.
"""

import random
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import psutil
import typer

from benchmarks.contenders import FLOOR, GRAPHQL, GRAPHQL_ON_SQLITE, REST, REST_ON_SQLITE
from benchmarks.data import Size
from benchmarks.databases import (
    copy_postgresql,
    copy_sqlite,
    empty_sqlite,
    filled,
    postgresql,
)
from benchmarks.ledger import Ledger
from benchmarks.load import measure
from benchmarks.peers.contender import Contender
from benchmarks.running import progress, run
from benchmarks.servers import cpu_seconds, serving, settle
from benchmarks.table import WORKS, Running, compare
from tests.databases import create_database, migrated

WARM_UP_SECONDS: Final = 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of processor time per request, of the server and of its database."""

    server: float
    database: float


@app.command()
def cost(
    rounds: Annotated[int, typer.Option(min=1, help="How often each sample is taken.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="How long each sample takes.")] = 1,
    skus: Annotated[int, typer.Option(min=1000, help="SKUs, each in two warehouses.")] = 10_000,
    against: Annotated[
        Path | None, typer.Option(help="Another checkout of the service, beside this one.")
    ] = None,
    sqlite: Annotated[bool, typer.Option("--sqlite", help="Measure SQLite, too.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print the cost of each work for the floor and one worker of the service.

    The rounds alternate. In brackets stands the floor's time divided by the service's.
    """
    size = Size(skus)
    with contenders(size, against, sqlite=sqlite) as (running, database):
        compare(running, size)
        dice = random.Random("cost")
        for work in WORKS:
            tries = [(server, work.load(server, size, dice)) for server in running]
            loads = [(server, load) for server, load in tries if load is not None]
            costs: list[list[Cost]] = [[] for _ in loads]
            for number in range(rounds + 1):
                for (server, load), own in zip(loads, costs, strict=True):
                    before = cpu_seconds(server.process), cpu_seconds(database)
                    sample = measure(
                        server.port, load, connections=work.connections, seconds=seconds
                    )
                    after = cpu_seconds(server.process), cpu_seconds(database)
                    settle(server.process, is_idle=server.ledger.is_idle)
                    spent = [
                        1e6 * (b - a) / sample.requests for a, b in zip(before, after, strict=True)
                    ]
                    # The first round warms up.
                    if number:
                        own.append(Cost(*spent))
            typer.echo(f"\n{work.name:44}{'server, us':>12}{'':8}{'database, us':>14}")
            print_costs([server.contender for server, _ in loads], costs)


def print_costs(contenders: Sequence[Contender], costs: Sequence[Sequence[Cost]]) -> None:
    """Print the medians of one work."""
    floor = statistics.median(cost.server for cost in costs[0])
    for contender, own in zip(contenders, costs, strict=True):
        server = statistics.median(cost.server for cost in own)
        database = statistics.median(cost.database for cost in own)
        typer.echo(f"  {contender.name:42}{server:12.0f} ({floor / server:4.2f}) {database:14.0f}")


@contextmanager
def contenders(
    size: Size, against: Path | None, *, sqlite: bool
) -> Iterator[tuple[list[Running], psutil.Process]]:
    """Start the floor and the service on one PostgreSQL; yield them and its process."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(postgresql())
        filled(migrated(create_database(server.url, "cost")), size, progress)
        groups = [[FLOOR], [GRAPHQL, REST]]
        if sqlite:
            filled(empty_sqlite(directory, "cost"), size, progress)
            groups.append([GRAPHQL_ON_SQLITE, REST_ON_SQLITE])
        if against is not None:
            groups += [[_of(against, contender) for contender in group] for group in groups[1:]]
        running = []
        for number, group in enumerate(groups):
            name = f"cost_{number}"
            database_url = (
                copy_sqlite(directory, source="cost", name=name)
                if "SQLite" in group[0].name
                else copy_postgresql(server.url, source="cost", name=name)
            )
            port, process = stack.enter_context(serving(group[0], database_url, workers=1))
            ledger = Ledger(database_url)
            running += [Running(contender, port, process, ledger) for contender in group]
        yield running, server.process


def _of(checkout: Path, contender: Contender) -> Contender:
    words = ["env", f"--chdir={checkout}", f"PYTHONPATH={checkout}", *contender.command()]
    name = contender.name.replace("this service", "the other")
    return replace(contender, name=name, command=lambda: words)


if __name__ == "__main__":
    run(app)
