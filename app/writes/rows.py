"""Rows of the tables, made from records."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from app.database.columns import UtcDateTime
from app.domain.hash_chain import chain_hash
from app.domain.instants import format_instant
from app.domain.records import AdjustmentRecord, LevelRecord, SkuRecord
from app.domain.stock import LevelKey, Stock
from app.writes.statements import (
    ADJUSTMENT_TYPES,
    LEVEL_TYPES,
    LINE_TYPES,
    RESERVATION_TYPES,
    ColumnTypes,
)

TableRow = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SkuRows:
    """The rows that a write has for one SKU."""

    sku: TableRow
    levels: Sequence[TableRow]
    adjustments: Sequence[TableRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """The changes of a write: SKUs after it, by code, and its ledger entries."""

    after: Mapping[str, SkuRecord]
    entries: Sequence[AdjustmentRecord]
    at: datetime
    # Change of the number of reservations that hold a level.
    holds: Mapping[LevelKey, int] = field(default_factory=dict)
    # Rows of some of the SKUs that were prepared before the locks were taken.
    prepared: Mapping[str, SkuRows] = field(default_factory=dict)


ChangedLevel = tuple[LevelRecord | None, LevelRecord]


def changed_levels(
    before: Mapping[str, SkuRecord], after: Mapping[str, SkuRecord]
) -> list[ChangedLevel]:
    """Return the levels that a write changes, before (None: new) and after."""
    return [
        (old, new)
        for code, record in after.items()
        for new in record.levels
        if (old := before[code].level_in(new.warehouse_id)) is not new
        or record.archived_at != before[code].archived_at
    ]


def rows_by_sku(tenant_id: str, before: Stock, posting: Posting) -> dict[str, SkuRows]:
    """Return the rows of a posting by SKU; each ledger entry continues the chain of its level."""
    after = {code: sku for code, sku in posting.after.items() if code not in posting.prepared}
    entries: dict[str, list[TableRow]] = {code: [] for code in after}
    last = {**before.hashes}
    for entry in posting.entries:
        if entry.sku in after:
            row = _adjustment_row(entry)
            level = entry.sku, entry.warehouse_id
            row["hash"] = last[level] = chain_hash(last.get(level), tenant_id, row)
            entries[entry.sku].append(row)
    levels: dict[str, list[TableRow]] = {code: [] for code in after}
    for _, new in changed_levels(before.skus, after):
        level = new.sku, new.warehouse_id
        archived_at = after[new.sku].archived_at
        row = _level_row(new)
        row["archived_at"] = archived_at and format_instant(archived_at)
        row["last_hash"] = last.get(level)
        row["holds"] = posting.holds.get(level, 0)
        levels[new.sku].append(row)
    return {code: rows for code, rows in posting.prepared.items() if code in posting.after} | {
        code: SkuRows(_sku_row(record, before.skus[code], posting.at), levels[code], entries[code])
        for code, record in after.items()
    }


def row_function(
    types: ColumnTypes, *, without: Collection[str] = ()
) -> Callable[[object], dict[str, object]]:
    """Return the function from a record to its row: the columns by name, instants as text."""
    cells = [
        f"{name!r}: record.{name} and format_instant(record.{name})"
        if isinstance(types[name], UtcDateTime)
        else f"{name!r}: record.{name}"
        for name in types
        if name not in without
    ]
    # Generated once: a bulk makes a thousand rows, and reading the attributes by name is half as
    # fast as a dict display.
    source = f"lambda record: {{{', '.join(cells)}}}"
    names = {"format_instant": format_instant}
    row: Callable[[object], dict[str, object]] = eval(source, names)  # noqa: S307 - column names
    return row


_adjustment_row: Final = row_function(ADJUSTMENT_TYPES, without=["hash"])
_level_row: Final = row_function(LEVEL_TYPES, without=["archived_at", "last_hash", "holds"])
reservation_row: Final = row_function(RESERVATION_TYPES)
line_row: Final = row_function(LINE_TYPES)


def _sku_row(record: SkuRecord, before: SkuRecord, at: datetime) -> TableRow:
    return {
        "sku": record.sku,
        "title": record.title,
        "status": record.figures.status,
        "version": record.version,
        "updated_at": format_instant(at),
        "archived_at": record.archived_at and format_instant(record.archived_at),
        "version_before": before.version,
    }
