"""The commands `inventory import` and `inventory export`."""

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from app.cli.database import require_tenant, run_with_database, settings_for
from app.cli.options import DatabaseOption, JsonOption, with_examples
from app.cli.output import clear_progress, print_json, show_progress
from app.files.columns import ExportSubject, FileKind
from app.files.parsing import FileFormat

if TYPE_CHECKING:
    from app.database.engine import Database
    from app.files.import_runs import ImportTally
    from app.files.staging import Staging

file_commands = typer.Typer()
TenantOption = Annotated[str, typer.Option("--tenant", help="The id of the tenant.")]
FormatOption = Annotated[
    FileFormat | None,
    typer.Option("--format", help="By default jsonl for .jsonl and .ndjson files, else csv."),
]


@file_commands.command(
    "import",
    epilog=with_examples(
        "inventory import counts.csv --tenant acme --dry-run",
        "inventory import skus.jsonl --tenant acme --kind skus --errors bad.csv",
    ),
)
def import_command(
    file: Annotated[str, typer.Argument(help="A file in UTF-8, or - for standard input.")],
    *,
    tenant_id: TenantOption,
    kind: Annotated[FileKind, typer.Option(help="The kind of the rows.")] = FileKind.COUNTS,
    form: FormatOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the whole file without changing anything.")
    ] = False,
    errors: Annotated[
        Path | None,
        typer.Option(
            help="A file for the list of bad rows: JSON Lines if it ends with .jsonl or .ndjson, "
            "else CSV."
        ),
    ] = None,
    run: Annotated[str, typer.Option(help="A name; needed to import the same counts again.")] = "",
    by: Annotated[
        str, typer.Option(help="The author in the ledger (created_by).")
    ] = "inventory import",
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """Import SKUs, warehouses, stock levels or counts from CSV or JSON Lines.

    Columns: skus: sku, title. warehouses: id, name, type, address, marketplace, is_active. levels:
    sku, warehouse_id, on_hand, safety_stock. counts: sku, warehouse_id, quantity, reason, note.

    The whole file is checked first: if a row is bad, nothing is changed. To resume an interrupted
    import, start it again.
    """
    from app.files import imports
    from app.files.staging import Staging

    settings = settings_for(database_url)
    form = form or _format_of(file)

    async def work(database: "Database") -> "ImportTally":
        await require_tenant(database, tenant_id)
        import_run = imports.run_of(staging, tenant_id, name=run, created_by=by)
        tally = await imports.validate(database, staging, import_run, show_progress)
        if dry_run:
            return tally
        return await imports.write(database, staging, import_run, show_progress)

    staging = Staging(kind)
    try:
        with _open_source(file) as source:
            staging.read(source, form, show_progress)
        tally = asdict(run_with_database(work, settings))
    finally:
        clear_progress()
        _list_problems(staging, errors)
        staging.close()
    if json:
        print_json({"kind": kind, "dry_run": dry_run, **tally})
    else:
        numbers = ", ".join(
            f"{number:,} {name.replace('_', ' ')}" for name, number in tally.items()
        )
        typer.echo(f"{kind}{' (dry run, nothing is changed)' if dry_run else ''}: {numbers}.")


@file_commands.command(
    "export",
    epilog=with_examples(
        "inventory export stock --tenant acme --output stock.csv",
        "inventory export ledger --tenant acme --since 2026-03-01 --format jsonl",
    ),
)
def export_command(
    subject: Annotated[ExportSubject, typer.Argument(help="The data to export.")],
    *,
    tenant_id: TenantOption,
    form: FormatOption = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A file, or - for standard output.")
    ] = "-",
    warehouse_id: Annotated[
        str | None, typer.Option("--warehouse", help="Only one warehouse, by id.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Ledger: the first instant, in UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Ledger: the end, in UTC, exclusive.")
    ] = None,
    database_url: DatabaseOption = None,
) -> None:
    """Export the stock or the ledger of one instant as CSV or JSON Lines."""
    from app.files.exports import ExportFilter, export

    if subject is ExportSubject.STOCK and (since or until):
        raise typer.BadParameter("--since and --until are options of the ledger export")
    filter_ = ExportFilter(
        warehouse_id=warehouse_id,
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
    )
    form = form or _format_of(output)

    async def work(database: "Database") -> None:
        await require_tenant(database, tenant_id)
        with open_target(output) as target:
            await export(
                database,
                tenant_id,
                subject,
                filter_,
                form=form,
                target=target,
                progress=show_progress,
            )

    try:
        run_with_database(work, settings_for(database_url))
    except BrokenPipeError:
        # The reader closed the pipe. Python must not flush the rest at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        clear_progress()


def _format_of(file: str) -> FileFormat:
    return FileFormat.JSONL if file.endswith((".jsonl", ".ndjson")) else FileFormat.CSV


@contextmanager
def _open_source(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as source:
        yield source


@contextmanager
def open_target(file: str) -> Iterator[BinaryIO]:
    """Open a file to write, or standard output for "-". The file appears when it is complete."""
    if file == "-":
        yield sys.stdout.buffer
        return
    path = Path(file)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _list_problems(staging: "Staging", errors: Path | None) -> None:
    """List the bad rows in a file, or on standard error."""
    if errors is None:
        for line, reason in staging.problems():
            typer.echo(f"line {line}: {reason}", err=True)
        return
    with errors.open("w", encoding="utf-8", newline="") as file:
        if _format_of(errors.name) is FileFormat.JSONL:
            import orjson

            for line, reason in staging.problems():
                file.write(orjson.dumps({"line": line, "reason": reason}).decode() + "\n")
            return
        writer = csv.writer(file)
        writer.writerow(["line", "reason"])
        writer.writerows(staging.problems())
