"""The benchmark: python -m benchmarks."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from sqlalchemy import URL

from benchmarks import pictures, report
from benchmarks.contenders import FLOOR, GRAPHQL, GRAPHQL_ON_SQLITE, PEERS, REST, REST_ON_SQLITE
from benchmarks.data import Size
from benchmarks.databases import (
    copy_postgresql,
    copy_sqlite,
    empty_sqlite,
    filled,
    postgresql,
    run_script,
    settings_of,
)
from benchmarks.ledger import Ledger
from benchmarks.machine import facts, wrk_version
from benchmarks.running import progress, run
from benchmarks.servers import serving
from benchmarks.table import Row, Running, compare, rows
from tests.databases import create_database, migrated

WORKERS: Final = (1, 2)
# Every pass runs on a copy of this database.
MASTER: Final = "master"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def benchmark(
    rounds: Annotated[int, typer.Option(min=1, help="How often each sample is taken.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="How long each sample takes.")] = 10,
    skus: Annotated[int, typer.Option(min=1000, help="SKUs, each in two warehouses.")] = 100_000,
) -> None:
    """Compare this service with hand-written SQL and its peers, side by side on the same data.

    It needs `wrk` and the extra `benchmark`. It prints the results and writes them to
    benchmarks/RESULTS.md and docs/benchmark.svg.
    """
    size = Size(skus)
    command = f"python -m benchmarks --rounds {rounds} --seconds {seconds} --skus {skus}"
    for peer in PEERS:
        progress(f"preparing {peer.name}")
        peer.prepare()
    passes: dict[int, list[Row]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        filled(empty_sqlite(directory, MASTER), size, progress)
        server = stack.enter_context(postgresql())
        master = filled(migrated(create_database(server.url, MASTER)), size, progress)
        for script in filter(None, (peer.setup_sql for peer in PEERS)):
            run_script(master, script)
        settings = settings_of(server.url)
        for workers in WORKERS:
            with contenders(server.url, directory, workers) as running:
                progress(f"{report.title(workers)}: comparing answers")
                compare(running, size)
                passes[workers] = rows(
                    running, size, rounds=rounds, seconds=seconds, progress=progress
                )
            progress("auditing the ledgers")
            for ledger in {server.ledger for server in running}:
                ledger.audit()
    notes = {
        **facts(),
        "PostgreSQL": ", ".join(
            f"{name} = {value}" if name != "server_version" else value
            for name, value in settings.items()
        ),
        "load": f"wrk {wrk_version()}, {rounds} rounds of {seconds} s",
        "data": f"{skus:,} SKUs in two warehouses, {size.adjustments:,} adjustments",
        "command": f"`{command}`",
    }
    report.RESULTS.write_text(report.as_markdown(passes, notes), encoding="utf-8")
    caption = f"{notes['date']}, {notes['machine']}; medians of {rounds} rounds, with their spread"
    pictures.bars(passes, report.PICTURE, caption=caption)
    for workers, table in passes.items():
        typer.echo(f"{report.title(workers)}\n{report.as_text(table)}\n")


@contextmanager
def contenders(server: URL, directory: Path, workers: int) -> Iterator[list[Running]]:
    """Start all contenders, the floor first, each on its own copy of the data."""
    file = copy_sqlite(directory, source=MASTER, name=f"with_{workers}")
    # GraphQL and REST of this service share a server.
    on_postgresql = [[FLOOR], [GRAPHQL, REST], *([peer] for peer in PEERS)]
    with ExitStack() as stack:
        running = []
        for number, group in enumerate([*on_postgresql, [GRAPHQL_ON_SQLITE, REST_ON_SQLITE]]):
            progress(f"starting {group[0].name}")
            database_url = file
            if group in on_postgresql:
                name = f"with_{workers}_{number}"
                database_url = copy_postgresql(server, source=MASTER, name=name)
            port, process = stack.enter_context(serving(group[0], database_url, workers=workers))
            ledger = Ledger(database_url)
            running += [Running(contender, port, process, ledger) for contender in group]
        yield running


if __name__ == "__main__":
    run(app)
