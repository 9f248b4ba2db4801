"""Exports of stock, ledger, SKUs or warehouses as CSV or JSON Lines: one snapshot, streamed."""

import codecs
import csv
import io
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final

import orjson
from sqlalchemy import Select, case, select

from app.database.engine import Database
from app.database.external_id_table import external_id
from app.database.parameters import TENANT
from app.database.tables import adjustment, sku, stock_level, warehouse
from app.domain.instants import format_instant
from app.files.cell_values import marked_text
from app.files.columns import ExportSubject
from app.files.details_cells import external_ids_cell, metadata_cell
from app.files.problems import ReportRows
from app.files.sources import FileFormat
from app.reads.json_rows import json_rows_of
from app.reads.persons import author_of

EXPORT_BATCH_ROWS: Final = 2_000
Cells = Sequence[object]
EncodeRows = Callable[[Sequence[Cells]], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFilter:
    """Conditions on the rows: the warehouse, and for the ledger `since` <= time < `until`."""

    warehouse_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def export(
    database: Database,
    tenant_id: str,
    subject: ExportSubject,
    where: ExportFilter,
    *,
    form: FileFormat,
    target: BinaryIO,
    progress: ReportRows,
    bom: bool = True,
) -> int:
    """Write all rows to a target; return their number.

    CSV starts with a byte order mark, without which Excel misreads letters; `bom=False` omits it.
    """
    statement = _STATEMENTS[subject](where, database.dialect)
    names = [_COLUMN_NAMES.get(each.name, each.name) for each in statement.selected_columns]
    encode = _csv if form is FileFormat.CSV else json_lines(names)
    if form is FileFormat.CSV:
        target.write((codecs.BOM_UTF8 if bom else b"") + _csv([names]))
    written = 0
    async for rows in exported_rows(database, statement, tenant_id):
        target.write(encode(_with_details(rows) if subject is ExportSubject.SKUS else rows))
        written += len(rows)
        progress("rows written", written)
    target.flush()
    return written


async def exported_rows(
    database: Database, statement: Select[Any], tenant_id: str
) -> AsyncIterator[Sequence[Cells]]:
    """Yield the rows of a statement with TENANT in batches, in one snapshot."""
    async with database.reading() as session:
        # The reader of a pipe may be slow.
        await session.lift_time_limits()
        parameters = {"tenant_id": tenant_id}
        async for rows in session.stream(statement, parameters, size=EXPORT_BATCH_ROWS):
            yield rows


def _stock(where: ExportFilter, _dialect: str) -> Select[Any]:
    level = stock_level.c
    same_sku = (sku.c.tenant_id == TENANT) & (sku.c.sku == level.sku)
    same_place = (warehouse.c.tenant_id == TENANT) & (warehouse.c.id == level.warehouse_id)
    is_for_sale = warehouse.c.is_active & warehouse.c.is_sellable
    available = level.on_hand - level.reserved - level.safety_stock
    statement = (
        select(
            *(level.sku, sku.c.title, level.warehouse_id, level.on_hand, level.reserved),
            case((is_for_sale, available), else_=0).label("available"),
            *(
                level.safety_stock,
                level.reorder_point,
                level.status,
                level.version,
                level.adjusted_at,
            ),
        )
        .select_from(stock_level.join(sku, same_sku).join(warehouse, same_place))
        .where(level.tenant_id == TENANT)
        .order_by(level.sku, level.warehouse_id)
    )
    if where.warehouse_id is not None:
        statement = statement.where(level.warehouse_id == where.warehouse_id)
    return statement


def _ledger(where: ExportFilter, _dialect: str) -> Select[Any]:
    entry = adjustment.c
    statement = (
        select(
            *(
                author_of(adjustment) if column.name == "created_by" else column
                for column in entry
                if column.name != "tenant_id"
            )
        )
        .where(entry.tenant_id == TENANT)
        .order_by(entry.created_at, entry.position)
    )
    if where.warehouse_id is not None:
        statement = statement.where(entry.warehouse_id == where.warehouse_id)
    if where.since is not None:
        statement = statement.where(entry.created_at >= where.since)
    if where.until is not None:
        statement = statement.where(entry.created_at < where.until)
    return statement


def _skus(_where: ExportFilter, dialect: str) -> Select[Any]:
    code = sku.c.sku
    ids = (
        select(external_id.c.namespace, external_id.c.value)
        .where(external_id.c.tenant_id == TENANT, external_id.c.sku == code)
        .order_by(external_id.c.namespace, external_id.c.value)
        .correlate(sku)
    )
    details = json_rows_of(dialect, ids).label("external_ids"), sku.c.metadata_entries
    return select(code, sku.c.title, *details).where(sku.c.tenant_id == TENANT).order_by(code)


def _warehouses(_where: ExportFilter, _dialect: str) -> Select[Any]:
    place = warehouse.c
    return (
        select(*(place.id, place.name, place.type, place.address, place.marketplace))
        .add_columns(
            *(
                case((place[name], "true"), else_="false").label(name)
                for name in ("is_active", "is_sellable")
            )
        )
        .where(place.tenant_id == TENANT)
        .order_by(place.id)
    )


_STATEMENTS: Final[Mapping[ExportSubject, Callable[[ExportFilter, str], Select[Any]]]] = {
    ExportSubject.STOCK: _stock,
    ExportSubject.LEDGER: _ledger,
    ExportSubject.SKUS: _skus,
    ExportSubject.WAREHOUSES: _warehouses,
}


# The names of columns of an export that have another name in the database.
_COLUMN_NAMES: Final = {sku.c.metadata_entries.name: "metadata"}


def _with_details(rows: Sequence[Cells]) -> list[Cells]:
    """Return SKUs with their external ids and metadata as the JSON that an import reads."""
    return [
        (
            *row[:-2],
            external_ids_cell(orjson.loads(str(row[-2] or "[]"))),
            metadata_cell(orjson.loads(str(row[-1] or "[]"))),
        )
        for row in rows
    ]


def _csv(rows: Sequence[Cells]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return format_instant(value)
    return marked_text(value) if isinstance(value, str) else value


def json_lines(names: Sequence[str]) -> EncodeRows:
    """Create the function that encodes rows with these columns as JSON Lines."""

    def encode(rows: Sequence[Cells]) -> bytes:
        lines: list[Mapping[str, object]] = [
            {name: _json_value(value) for name, value in zip(names, row, strict=True)}
            for row in rows
        ]
        return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)

    return encode


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return format_instant(value)
    return b64encode(value).decode() if isinstance(value, bytes) else value
