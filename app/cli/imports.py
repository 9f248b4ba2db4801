"""The command `inventory import`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from app.cli.database import require_tenant, run_with_database, settings_for
from app.cli.ledger import print_proof, proof_as_json
from app.cli.options import (
    BadOption,
    DatabaseOption,
    JsonOption,
    require_only,
    with_examples,
)
from app.cli.output import clear_progress, print_json, printable, show_progress
from app.domain.stock import OnError
from app.files.columns import FileKind
from app.files.sources import FileFormat
from app.files.staging import Duplicates, Staging

if TYPE_CHECKING:
    from datetime import datetime

    from app.database.engine import Database
    from app.domain.records import WarehouseRecord
    from app.files.import_runs import ImportResult
    from app.files.layouts import Layout
    from app.files.reading import FileReading, ReadOptions
    from app.files.warehouse_names import WarehouseNames
    from app.ledger.verification import Proof
    from app.settings import Settings

import_commands = typer.Typer()
REPEATED: Final = (
    "The same rows were imported before, and are imported again. An import with a name, by "
    "--run NAME, is written only once."
)
ALREADY_IMPORTED: Final = (
    "Already imported: an earlier start of this import has written these rows."
)


class DecimalSeparator(StrEnum):
    """The character before the decimals of a number."""

    POINT = "."
    COMMA = ","


@import_commands.command(
    "import",
    epilog=with_examples(
        "inventory import counts.csv --tenant acme --dry-run",
        "inventory import skus.jsonl --tenant acme --kind skus --report problems.csv",
        'inventory import shop.xlsx --tenant acme --column sku="Variant SKU" --warehouse wh_main',
        "inventory import acme-export",
    ),
)
def import_command(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            help="A file, - for standard input, or the directory of `inventory export --all`."
        ),
    ],
    *,
    tenant_id: Annotated[
        str | None,
        typer.Option("--tenant", help="The id of the tenant. A directory has its own tenant."),
    ] = None,
    kind: Annotated[
        FileKind | None,
        typer.Option(help="The kind of the rows.", show_default="that of the layout, else counts"),
    ] = None,
    form: Annotated[
        FileFormat | None,
        typer.Option("--format", help="The format of a text.", show_default="by its content"),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="The encoding of the text, such as utf-16 or cp1252.",
            show_default="UTF-8, UTF-16 or Windows-1252, by its content",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help='The file\'s name of a column: --column sku="Variant SKU". Repeatable.'),
    ] = None,
    layout: Annotated[
        Path | None, typer.Option(help="A TOML file with the layout of the file.")
    ] = None,
    warehouse: Annotated[
        list[str] | None,
        typer.Option(
            help="The warehouse, by id or name, of rows that name none; or the warehouse of a name "
            'in the file: --warehouse "WH/Stock=wh_main". Repeatable.'
        ),
    ] = None,
    sku_namespace: Annotated[
        str | None,
        typer.Option(
            "--sku-id",
            metavar="NAMESPACE",
            help="The column of SKU codes has external ids of this namespace, such as gtin.",
        ),
    ] = None,
    decimal: Annotated[
        DecimalSeparator | None, typer.Option(help="The character before decimals.")
    ] = None,
    duplicates: Annotated[
        Duplicates, typer.Option(help="What to do with rows for the same SKU and warehouse.")
    ] = Duplicates.REFUSE,
    on_error: Annotated[
        OnError, typer.Option(help="Whether bad rows prevent the import of the good ones.")
    ] = OnError.ABORT,
    strict: Annotated[
        bool, typer.Option("--strict", help="Treat warnings about rows as errors.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the whole file without changing anything.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            help="A file for the list of all problems: JSON Lines if it ends with .jsonl or "
            ".ndjson, else CSV."
        ),
    ] = None,
    create_skus: Annotated[
        bool, typer.Option("--create-skus", help="Create the unknown SKUs of a file of stock.")
    ] = False,
    create_warehouses: Annotated[
        bool,
        typer.Option(
            "--create-warehouses", help="Create the unknown warehouses of a file of stock, as own."
        ),
    ] = False,
    reported_at: Annotated[
        str | None,
        typer.Option(
            help="The time of the report of a marketplace or a third party, such as "
            "2026-03-12T14:00Z; in UTC unless it has an offset.",
            show_default="now",
        ),
    ] = None,
    run: Annotated[
        str,
        typer.Option(
            help="A name; counts of an import with the same name and rows are written once."
        ),
    ] = "",
    by: Annotated[
        str, typer.Option(help="The author in the ledger (created_by).")
    ] = "inventory import",
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """Import SKUs, warehouses or stock from CSV, Excel (.xlsx) or JSON, or a whole tenant.

    Columns: skus: sku, title, external_ids, metadata. warehouses: id, name, type, address,
    marketplace, is_active, is_sellable. levels: sku, warehouse_id, on_hand, safety_stock,
    reorder_point. counts: sku, warehouse_id, quantity, reason, note, occurred_at. reports of
    marketplaces and third parties: sku, warehouse_id, quantity.

    The exports of Shopify, Amazon, Magento, Square, WooCommerce, Odoo, ERPNext, Linnworks and JTL,
    and of `inventory export stock`, are recognised by their header.

    The whole file is checked first: if a row is bad, nothing is changed. To resume an interrupted
    import, start it again.

    The tenant of a directory is imported as it was, with its history, into a new or empty tenant of
    the same id. The import is one transaction and ends with a verification.
    """
    from app.files import imports
    from app.files.external_ids import resolve_external_ids
    from app.files.reading import FileReading, ReadOptions, read_file
    from app.reads.warehouses import list_warehouses

    settings = settings_for(database_url)
    if Path(file).is_dir():
        require_only(context, {"file", "json", "database_url"}, "The import of a directory")
        _import_tenant(Path(file), settings, json=json)
        return
    if file != "-" and not Path(file).exists():
        message = f"There is no file or directory {file}."
        raise BadOption(printable(message))
    if tenant_id is None:
        raise typer.BadParameter("--tenant is missing: name the tenant of the file's rows")
    options = ReadOptions(
        kind=kind,
        form=form,
        encoding=encoding,
        layout=_layout_of(layout),
        columns=_columns_of(column or []),
        decimal=decimal,
        duplicates=duplicates,
        create_skus=create_skus,
        sku_namespace=sku_namespace,
    )
    _check_namespace(options)
    instant = _instant(reported_at)
    staging = Staging(strict=strict)
    reading = FileReading(FileKind.COUNTS)

    async def work(database: "Database") -> "ImportResult":
        nonlocal reading
        await require_tenant(database, tenant_id)
        async with database.snapshot() as snapshot:
            stored = await list_warehouses(snapshot, tenant_id)
        names = _warehouse_names(tenant_id, stored, warehouse or [], creates=create_warehouses)
        with _open_source(file) as source:
            reading = read_file(source, staging, options, names, show_progress)

        first = replace(
            imports.run_of(staging, tenant_id, name=run, created_by=by),
            creates_skus=create_skus,
            new_warehouses=names.created,
            reported_at=instant,
            labels=reading.labels,
            warehouse_labels=reading.warehouse_labels,
        )
        if sku_namespace is not None:
            await resolve_external_ids(
                database,
                first,
                staging,
                show_progress,
                namespace=sku_namespace,
                duplicates=duplicates,
            )
        chosen = await imports.validate_next_run(
            database, staging, first, show_progress, on_error=on_error
        )
        if chosen.is_repetition:
            reading.notes.append(REPEATED)
        if dry_run:
            return chosen.result
        return await imports.write(database, staging, chosen.run, show_progress, on_error=on_error)

    try:
        result = run_with_database(work, settings)
        refused = staging.number_of_bad_rows
    finally:
        clear_progress()
        _print_problems(file, reading, staging, report)
        staging.close()
    _print_result(reading, result, refused=refused, dry_run=dry_run, json=json)
    if result.tally.already_imported and not json:
        again = ("choose another name" if run else "give the import a name") + ": --run NAME"
        remedy = f" To write them again, {again}." if reading.kind is FileKind.COUNTS else ""
        typer.echo(f"{ALREADY_IMPORTED}{remedy}")


def _import_tenant(directory: Path, settings: "Settings", *, json: bool) -> None:
    from app.database.migration import require_full_access
    from app.files.tenant_imports import import_tenant

    async def work(database: "Database") -> "Proof":
        await require_full_access(database)
        return await import_tenant(database, directory, show_progress)

    try:
        proof = run_with_database(work, settings)
    finally:
        clear_progress()
    if json:
        print_json(proof_as_json(proof))
    else:
        print_proof(proof)


def _print_problems(
    file: str, reading: "FileReading", staging: Staging, report: Path | None
) -> None:
    from app.files.problems import problem_lines, write_report

    name = file if file.isprintable() else repr(file)
    for note in reading.notes:
        typer.echo(printable(f"{name}: {note}"), err=True)
    for line in problem_lines(name, staging.causes()):
        typer.echo(printable(line), err=True)
    if report is not None:
        write_report(report, staging.problems())


def _print_result(
    reading: "FileReading", result: "ImportResult", *, refused: int, dry_run: bool, json: bool
) -> None:
    from app.files.problems import listed

    others = {
        "left_alone": reading.left_alone,
        "passed_over": reading.passed_over,
        "refused": refused,
    }
    numbers = asdict(result.tally) | others
    if json:
        created = {"new_skus": result.new_skus, "new_warehouses": result.new_warehouses}
        form = {"kind": reading.kind, "layout": reading.layout, "dry_run": dry_run}
        print_json(form | numbers | created)
        return
    always = ("created", "updated", "unchanged")
    listing = ", ".join(
        f"{number:,} {key.replace('_', ' ')}"
        for key, number in numbers.items()
        if number or key in always
    )
    typer.echo(f"{reading.kind}{' (dry run, nothing is changed)' if dry_run else ''}: {listing}.")
    if result.new_skus:
        more = " and others" if result.new_skus > len(result.sku_examples) else ""
        typer.echo(f"New SKUs: {result.new_skus:,}: {listed(result.sku_examples)}{more}.")
    if result.new_warehouses:
        number = len(result.new_warehouses)
        typer.echo(f"New warehouses: {number:,}: {listed(result.new_warehouses.values())}.")


def _layout_of(path: Path | None) -> "Layout | None":
    from app.files.layouts import BadLayout, read_layouts

    if path is None:
        return None
    layouts = read_layouts(path)
    if len(layouts) != 1:
        message = f"{path.name} must have one layout, and has {len(layouts)}."
        raise BadLayout(message)
    return layouts[0]


def _columns_of(options: list[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    for target, separator, name in pairs:
        if not separator or not name.strip():
            message = f'--column {target} lacks =NAME, such as sku="Variant SKU".'
            raise BadOption(message)
    return {target.strip(): name for target, _, name in pairs}


def _check_namespace(options: "ReadOptions") -> None:
    from app.domain.object_details import ExternalIdRecord, external_id_problem
    from app.files.columns import FileKind

    namespace = options.sku_namespace
    if namespace is None:
        return
    field, problem = external_id_problem(ExternalIdRecord(namespace, "1")) or ("", "")
    if field == "namespace":
        message = f"--sku-id {problem}."
        raise BadOption(message)
    if options.create_skus or options.kind in (FileKind.SKUS, FileKind.WAREHOUSES):
        message = "--sku-id needs a file of stock, and SKUs that exist."
        raise BadOption(message)


def _warehouse_names(
    tenant_id: str, stored: "list[WarehouseRecord]", options: list[str], *, creates: bool
) -> "WarehouseNames":
    from app.files.cell_values import BadCell
    from app.files.warehouse_names import WarehouseNames

    try:
        return WarehouseNames(tenant_id, stored, options, creates=creates)
    except BadCell as error:
        message = f"--warehouse: {error.reason}. {error.remedy}"
        raise BadOption(message) from error


def _instant(text: str | None) -> "datetime | None":
    from datetime import UTC, datetime

    from app.files.problems import shown

    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"--reported-at {shown(text)} is not an ISO date and time."
        raise BadOption(message) from error
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


@contextmanager
def _open_source(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as source:
        yield source
