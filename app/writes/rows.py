"""Rows of the tables, made from records."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import orjson
from msgspec import json

from app.database.columns import UtcDateTime
from app.domain.changes import ChangeEvent
from app.domain.hash_chain import chain_hash
from app.domain.instants import format_instant
from app.domain.object_details import ExternalIdRecord, MetadataRecord, ObjectKey, ObjectKind
from app.domain.records import AdjustmentRecord, LevelRecord, ReservationRecord, SkuRecord
from app.domain.stock import LevelKey
from app.writes.idempotency_keys import KeyId, StoredRow
from app.writes.statements import (
    ADJUSTMENT_TYPES,
    LEVEL_TYPES,
    LINE_TYPES,
    RESERVATION_TYPES,
    WAREHOUSE_COLUMN_TYPES,
    ColumnTypes,
)

TableRow = Mapping[str, object]


def adjustment_rows(
    tenant_id: str,
    entries: Sequence[AdjustmentRecord],
    last_hash: str | None,
    persons: Mapping[str, str],
) -> list[TableRow]:
    """Return the rows of ledger entries, which continue the chain of the tenant.

    `persons` has the ids of the authors by e-mail address.
    """
    rows: list[TableRow] = []
    for entry in entries:
        row = _adjustment_row(entry)
        row["created_by"] = persons[entry.created_by]
        row["hash"] = last_hash = chain_hash(last_hash, tenant_id, row)
        rows.append(row)
    return rows


def sku_row(record: SkuRecord, now: datetime) -> TableRow:
    """Return the row of a SKU; a new one is created now."""
    written_at = format_instant(now)
    figures = record.figures
    return {
        "sku": record.sku,
        "title": record.title,
        "status": figures.status,
        "available": figures.available,
        "version": record.version,
        "created_at": written_at,
        "updated_at": written_at,
        "archived_at": record.archived_at and format_instant(record.archived_at),
    }


def word_rows(code: str, words: Iterable[str]) -> list[TableRow]:
    """Return the rows of some words of a SKU."""
    return [{"word": word, "sku": code} for word in sorted(words)]


def external_id_row(key: ObjectKey, id_: ExternalIdRecord) -> TableRow:
    """Return the row of an external id of an object."""
    kind, object_id = key
    return {
        "kind": kind,
        "namespace": id_.namespace,
        "value": id_.value,
        "sku": object_id if kind is ObjectKind.SKU else None,
        "warehouse_id": object_id if kind is ObjectKind.WAREHOUSE else None,
    }


def metadata_text(entries: Sequence[MetadataRecord]) -> str | None:
    """Return the stored JSON of metadata; None without any."""
    return json.encode(entries).decode() if entries else None


def level_row(level: LevelRecord, record: SkuRecord, holds: Mapping[LevelKey, int]) -> TableRow:
    """Return the row of a level of a SKU; `holds` is a change, and is added to the stored one."""
    row = _level_row(level)
    row["archived_at"] = record.archived_at and format_instant(record.archived_at)
    row["holds"] = holds.get((level.sku, level.warehouse_id), 0)
    return row


def reservation_row(record: ReservationRecord, persons: Mapping[str, str]) -> TableRow:
    """Return the row of a reservation; only a new one stores its author."""
    row = _reservation_row(record)
    row["created_by"] = persons.get(record.created_by, "")
    return row


def change_rows(events: Iterable[ChangeEvent], last_position: int) -> list[TableRow]:
    """Return the rows of changes, which follow the last position of the feed."""
    return [
        {
            "position": position,
            "type": event.type,
            "sku": event.sku,
            "warehouse_id": event.warehouse_id,
            # A part of the JSON text of all rows; as a text in it, each quote would be escaped.
            "body": orjson.Fragment(json.encode(event.body)),
            "created_at": format_instant(event.created_at),
        }
        for position, event in enumerate(events, start=last_position + 1)
    ]


def key_row(id_: KeyId, stored: StoredRow) -> TableRow:
    """Return the row of an idempotency key."""
    subject, key = id_
    return {
        "subject": subject,
        "key": key,
        "fingerprint": stored.fingerprint,
        "outcome": stored.outcome,
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
_level_row: Final = row_function(LEVEL_TYPES, without=["archived_at", "holds"])
warehouse_row: Final = row_function(WAREHOUSE_COLUMN_TYPES)
_reservation_row: Final = row_function(RESERVATION_TYPES)
line_row: Final = row_function(LINE_TYPES)
