"""Posting: writes the changes of a batch, each table by one statement."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from sqlalchemy.sql import Executable

from app.database.parameters import as_json
from app.database.session import Session
from app.domain.changes import ChangedLevel
from app.domain.object_details import NO_DETAILS, ObjectKind
from app.domain.persons import new_person
from app.domain.quantities import ARCHIVED_PREFIX, Figures, Totals
from app.domain.records import SkuRecord
from app.domain.stock import Stock
from app.domain.words import stored_words
from app.writes.batch_changes import BatchChanges
from app.writes.rows import (
    TableRow,
    adjustment_rows,
    change_rows,
    external_id_row,
    key_row,
    level_row,
    line_row,
    metadata_text,
    reservation_row,
    sku_row,
    warehouse_row,
    word_rows,
)
from app.writes.statements import (
    add_reservation_counts,
    add_reserved,
    add_sku_counts,
    delete_external_ids,
    delete_lines,
    delete_words,
    insert_adjustments,
    insert_changes,
    insert_external_ids,
    insert_persons,
    insert_words,
    set_metadata,
    upsert_keys,
    upsert_lines,
    upsert_reservations,
    upsert_warehouses,
    write_levels,
    write_skus,
)

# Other requests get a turn of the event loop before the rows of a larger table.
PAUSE_ROWS: Final = 50


async def post(session: Session, tenant_id: str, stock: Stock, changes: BatchChanges) -> None:
    """Write the changes and the idempotency keys of a batch, in a transaction."""
    dialect = session.dialect
    reservations = changes.reservations.values()

    async def write(statement: Executable, rows: Sequence[TableRow]) -> None:
        if len(rows) > PAUSE_ROWS:
            await asyncio.sleep(0)
        if rows:
            await session.rows(statement, {"tenant": tenant_id, "rows": as_json(rows)})

    new = [new_person(email) for email in sorted(changes.authors - stock.persons.keys())]
    persons = {**stock.persons, **{person.email: person.id for person in new}}
    await write(insert_persons(dialect), [*map(asdict, new)])
    await write(upsert_warehouses(dialect), [*map(warehouse_row, changes.warehouses.values())])
    skus = _changed_skus(changes)
    has_new_skus = any(record.sku not in changes.before for record in skus)
    await write(
        write_skus(dialect, has_new=has_new_skus),
        [sku_row(record, stock.now) for record in skus],
    )
    new_words, old_words = _changed_words(changes)
    await write(insert_words(dialect), new_words)
    await write(delete_words(dialect), old_words)
    levels = _changed_levels(changes)
    entries = adjustment_rows(tenant_id, changes.entries, stock.last_hash, persons)
    has_new_levels = any(old is None for old, _ in levels)
    await write(
        write_levels(dialect, has_new=has_new_levels),
        [level_row(new, changes.skus[new.sku], changes.holds) for _, new in levels],
    )
    gone_ids, new_ids = _changed_external_ids(changes)
    await write(delete_external_ids(dialect), gone_ids)
    await write(insert_external_ids(dialect), new_ids)
    for kind in ObjectKind:
        await write(set_metadata(dialect, kind), _changed_metadata(changes, kind))
    await write(add_reserved(dialect), _reserved_of_warehouses(levels))
    await write(insert_adjustments(dialect), entries)
    await write(
        upsert_reservations(dialect), [reservation_row(each, persons) for each in reservations]
    )
    lines = [line_row(line) for reservation in reservations for line in reservation.lines]
    await write(upsert_lines(dialect), lines)
    await write(delete_lines(dialect), _removed_lines(changes))
    await write(add_sku_counts(dialect), _sku_counts(changes, levels))
    await write(add_reservation_counts(dialect), _reservation_counts(changes))
    await write(insert_changes(dialect), change_rows(changes.events, stock.last_change))
    await write(upsert_keys(dialect), [key_row(id_, kept) for id_, kept in changes.keys.items()])


def _changed_skus(changes: BatchChanges) -> list[SkuRecord]:
    """Return the new SKUs and those of a new version.

    A report without a difference changes only the `synced_at` of levels.
    """
    return [
        record
        for code, record in sorted(changes.skus.items())
        if code not in changes.before or record.version != changes.before[code].version
    ]


def _changed_words(changes: BatchChanges) -> tuple[list[TableRow], list[TableRow]]:
    """Return the words that SKUs get by a new title or code, and those that they lose."""
    gained: list[TableRow] = []
    lost: list[TableRow] = []
    for code, record in sorted(changes.skus.items()):
        before = changes.before.get(code)
        if before is not None and before.title == record.title:
            continue
        new = stored_words(code, record.title)
        old = stored_words(code, before.title) if before else set()
        gained += word_rows(code, new - old)
        lost += word_rows(code, old - new)
    return gained, lost


def _changed_levels(changes: BatchChanges) -> list[ChangedLevel]:
    """Return the levels that a batch changes, before and after."""
    levels: list[ChangedLevel] = []
    for code, record in sorted(changes.skus.items()):
        before = changes.before.get(code)
        is_whole = before is not None and record.archived_at != before.archived_at
        old_levels = {level.warehouse_id: level for level in before.levels} if before else {}
        for new in record.levels:
            old = old_levels.get(new.warehouse_id)
            if old is not new or is_whole:
                levels.append((old, new))
    return levels


def _reserved_of_warehouses(levels: Sequence[ChangedLevel]) -> list[TableRow]:
    """Return the changes of the reserved quantities of warehouses."""
    reserved: Counter[str] = Counter()
    for old, new in levels:
        reserved[new.warehouse_id] += new.reserved - (old.reserved if old else 0)
    return [{"id": id_, "reserved": change} for id_, change in sorted(reserved.items()) if change]


def _changed_external_ids(changes: BatchChanges) -> tuple[list[TableRow], list[TableRow]]:
    """Return the keys of the external ids that objects lose, and the rows of those they get."""
    gone: list[TableRow] = []
    new: list[TableRow] = []
    for key, after in changes.details.items():
        before = changes.details_before.get(key, NO_DETAILS)
        old_ids, new_ids = set(before.external_ids), set(after.external_ids)
        gone += [external_id_row(key, id_) for id_ in sorted(old_ids - new_ids)]
        new += [external_id_row(key, id_) for id_ in sorted(new_ids - old_ids)]
    return gone, new


def _changed_metadata(changes: BatchChanges, kind: ObjectKind) -> list[TableRow]:
    """Return the new metadata of the objects of a kind."""
    return [
        {"id": key[1], "metadata_entries": metadata_text(after.metadata)}
        for key, after in sorted(changes.details.items())
        if key[0] is kind and after.metadata != changes.details_before.get(key, NO_DETAILS).metadata
    ]


def _removed_lines(changes: BatchChanges) -> list[TableRow]:
    """Return the keys of the stored lines that reservations no longer have."""
    removed: list[TableRow] = []
    for id_, reservation in changes.reservations.items():
        if before := changes.reservations_before.get(id_):
            levels = {(line.sku, line.warehouse_id) for line in reservation.lines}
            removed += [
                {"reservation_id": id_, "sku": line.sku, "warehouse_id": line.warehouse_id}
                for line in before.lines
                if (line.sku, line.warehouse_id) not in levels
            ]
    return removed


def _sku_counts(changes: BatchChanges, levels: Sequence[ChangedLevel]) -> list[TableRow]:
    """Return the changes of the SKU counts by warehouse and status.

    An empty warehouse id stands for all warehouses.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for code, record in changes.skus.items():
        if before := changes.before.get(code):
            counts["", _counted_status(before, before.figures)] -= 1
        counts["", _counted_status(record, record.figures)] += 1
    for old, new in levels:
        if old is not None:
            counts[old.warehouse_id, _counted_status(changes.before[old.sku], old)] -= 1
        counts[new.warehouse_id, _counted_status(changes.skus[new.sku], new)] += 1
    return [
        {"warehouse_id": warehouse_id, "status": status, "skus": number}
        for (warehouse_id, status), number in sorted(counts.items())
        if number
    ]


def _reservation_counts(changes: BatchChanges) -> list[TableRow]:
    return [
        {"reference": reference, "status": status, "reservations": number}
        for (reference, status), number in sorted(changes.reservation_counts.items())
        if number
    ]


def _counted_status(record: SkuRecord, figures: Figures | Totals) -> str:
    """Return the status under which a SKU or a level is counted; archived ones are separate."""
    return (ARCHIVED_PREFIX if record.archived_at else "") + figures.status
