"""The command `inventory export`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from app.cli.database import require_tenant, run_with_database, settings_for
from app.cli.options import DatabaseOption, TenantOption, require_only, with_examples
from app.cli.output import clear_progress, show_progress
from app.files.columns import ExportSubject
from app.files.sources import FileFormat

if TYPE_CHECKING:
    from app.database.engine import Database
    from app.files.tenant_files import TenantManifest

export_commands = typer.Typer()


@export_commands.command(
    "export",
    epilog=with_examples(
        "inventory export stock --tenant acme --output stock.csv",
        "inventory export ledger --tenant acme --since 2026-03-01 --format jsonl",
        "inventory export --all acme-export --tenant acme",
    ),
)
def export_command(
    context: typer.Context,
    subject: Annotated[
        ExportSubject | None, typer.Argument(help="The data to export.", show_default=False)
    ] = None,
    *,
    tenant_id: TenantOption,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--all",
            metavar="DIR",
            help="Instead of a subject: export the whole tenant to a new directory, which "
            "`inventory import DIR` moves into another database.",
        ),
    ] = None,
    form: Annotated[
        FileFormat | None,
        typer.Option("--format", help="By default jsonl for .jsonl and .ndjson files, else csv."),
    ] = None,
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
    bom: Annotated[
        bool,
        typer.Option(
            "--bom/--no-bom",
            help="Whether CSV starts with a byte order mark, by which Excel knows UTF-8.",
        ),
    ] = True,
    database_url: DatabaseOption = None,
) -> None:
    """Export the stock, the ledger, SKUs or warehouses of one instant as CSV or JSON Lines.

    With --all, export the whole tenant but its tokens and the outcomes that are stored for repeated
    requests. The directory appears when it is complete.
    """
    from app.files.exports import ExportFilter, export

    if directory is not None:
        require_only(context, {"directory", "tenant_id", "database_url"}, "An export with --all")
        _export_tenant(tenant_id, directory, database_url)
        return
    if subject is None:
        raise typer.BadParameter("name the data to export, or --all DIR for the whole tenant")
    if subject is not ExportSubject.LEDGER and (since or until):
        raise typer.BadParameter("--since and --until are options of the ledger export")
    filter_ = ExportFilter(
        warehouse_id=warehouse_id,
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
    )
    if warehouse_id and subject in (ExportSubject.SKUS, ExportSubject.WAREHOUSES):
        raise typer.BadParameter("--warehouse is an option of the stock and the ledger export")
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
                bom=bom,
            )

    try:
        run_with_database(work, settings_for(database_url))
    except BrokenPipeError:
        # The reader closed the pipe. Python must not flush the rest at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        clear_progress()


def _export_tenant(tenant_id: str, directory: Path, database_url: str | None) -> None:
    from app.files.tenant_exports import export_tenant

    async def work(database: "Database") -> "TenantManifest":
        await require_tenant(database, tenant_id)
        return await export_tenant(database, tenant_id, directory, show_progress)

    try:
        manifest = run_with_database(work, settings_for(database_url))
    finally:
        clear_progress()
    rows = sum(file.rows for file in manifest.files.values())
    typer.echo(f"{tenant_id}: exported {rows:,} rows to {directory}.")
    typer.echo(manifest.head)


def _format_of(file: str) -> FileFormat:
    return FileFormat.JSONL if file.endswith((".jsonl", ".ndjson")) else FileFormat.CSV


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
