"""Posting changes of stock: how what was read becomes levels, ledger, SKUs and counts.

SQLite has one writer at a time: its transaction begins by keeping all others out, and each table
is written by a statement.

PostgreSQL reads without a lock and posts in a single statement, which commits by itself: it locks
the SKU rows, sorted, so that two writers never wait for each other in a circle; it goes on only if
it got all of them in the versions that were read, and if the idempotency key is new; then it
writes, counts last because they are shared. If stock has moved in between, nothing is written,
and the same is done over in a transaction that locks first and reads then. There, what is about
many SKUs is posted in two statements; the outcome is encoded while the first is carried out.

Every change of a level raises the version of its SKU, so the version stands for all its levels.
That includes the hash of its last entry, to which `post` chains the ones that it writes.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from msgspec import structs

from app.database.clocks import uptime
from app.database.parameters import as_json
from app.database.session import Session
from app.database.tables import RESERVATION_COUNT_PARTS
from app.domain.hash_chain import POSTED_WITHIN, chain_hash
from app.domain.instants import format_instant
from app.domain.quantities import ARCHIVED_PREFIX, Figures
from app.domain.records import (
    AdjustmentRecord,
    LevelRecord,
    ReservationRecord,
    ReservationStatus,
    SkuRecord,
    WarehouseRecord,
)
from app.domain.stock import LevelKey, Stock
from app.writes.idempotency_keys import FEW, KeyClaim, post_claim
from app.writes.statements import (
    Shape,
    counting,
    insert_sku_statement,
    post_at_once_statement,
    post_in_turn_statements,
    write_reservations_statements,
    write_warehouse_statement,
)

TableRow = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SkuRows:
    """What the tables are told of a SKU that is written."""

    sku: TableRow
    levels: Sequence[TableRow]
    adjustments: Sequence[TableRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What a write comes to: SKUs as they are after it, by code, and its ledger entries."""

    after: Mapping[str, SkuRecord]
    entries: Sequence[AdjustmentRecord]
    at: datetime
    # By how many more reservations each level is held.
    holds: Mapping[LevelKey, int] = field(default_factory=dict)
    # Of the SKUs whose rows were made up ahead.
    rows: Mapping[str, SkuRows] = field(default_factory=dict)


async def post(
    session: Session, claim: KeyClaim | None, *, tenant: str, before: Stock, posting: Posting
) -> bool:
    """Write changes and claim their key; False if that cannot be.

    Nor what was decided so long ago that a head may have been taken of the ledger of that time.
    Nothing is written then, or what is must not be committed.
    """
    if posting.entries and uptime() - before.read_at > POSTED_WITHIN.total_seconds():
        return False
    after = posting.after
    changed = _changed_levels(before.skus, after)
    moved = _moved_counts(before.skus, after, changed)
    filled = _filled(changed)
    shape = Shape(
        is_claimed=claim is not None,
        is_counted=bool(moved),
        is_filling=bool(filled),
        is_of_new_levels=any(old is None for old, _ in changed),
    )
    if len(posting.entries) > FEW:
        # Other tasks have their turns between the parts of long work.
        await asyncio.sleep(0)
    # In the order of most indexes.
    rows = [it for _, it in sorted(rows_of(tenant, before, posting).items())]
    parameters = {
        "tenant": tenant,
        "number_of_skus": len(rows),
        "skus": as_json(each.sku for each in rows),
        "levels": as_json(level for each in rows for level in each.levels),
        "adjustments": as_json(entry for each in rows for entry in each.adjustments),
        "counts": as_json(moved),
        "filled": filled,
        "number_of_filled": len(filled),
    }
    if session.dialect == "postgresql" and not (before.is_locked and len(rows) > FEW):
        parameters |= claim.parameters if claim else {}
        return bool(await session.rows(post_at_once_statement(shape), parameters))
    levels, others = post_in_turn_statements(session.dialect, shape)
    writing = asyncio.create_task(session.rows(levels, parameters))
    try:
        # It sets out, and meanwhile the outcome is encoded.
        await asyncio.sleep(0)
        parameters = parameters | (claim.parameters if claim else {})
    finally:
        await writing
    told = [row for statement in others for row in await session.rows(statement, parameters)]
    # SQLite returns no row where no key is claimed.
    return bool(told) or (claim is None and session.dialect == "sqlite")


def rows_of(tenant: str, before: Stock, posting: Posting) -> dict[str, SkuRows]:
    """Return what the tables are told, by SKU; of what was made up ahead, that."""
    after = {code: it for code, it in posting.after.items() if code not in posting.rows}
    entries: dict[str, list[TableRow]] = {code: [] for code in after}
    last = {**before.hashes}
    for entry in posting.entries:
        if entry.sku in after:
            row = _adjustment_row(entry)
            level = entry.sku, entry.warehouse_id
            row["hash"] = last[level] = chain_hash(last.get(level), tenant, row)
            entries[entry.sku].append(row)
    levels: dict[str, list[TableRow]] = {code: [] for code in after}
    for _, new in _changed_levels(before.skus, after):
        level = new.sku, new.warehouse_id
        row = _level_row(new, after[new.sku], last.get(level), posting.holds.get(level, 0))
        levels[new.sku].append(row)
    return {code: it for code, it in posting.rows.items() if code in posting.after} | {
        code: SkuRows(_sku_row(record, before.skus[code], posting.at), levels[code], entries[code])
        for code, record in after.items()
    }


async def post_reservations(
    session: Session,
    claim: KeyClaim | None,
    *,
    tenant: str,
    before: Stock,
    posting: Posting,
    reservations: Sequence[ReservationRecord],
) -> bool:
    """Write reservations with what they change, and claim the key, within a transaction.

    False, and the transaction must not be committed, if that cannot be.
    """
    if posting.after:
        posting = replace(posting, holds=_moved_holds(reservations))
        is_posted = await post(session, claim, tenant=tenant, before=before, posting=posting)
    else:
        is_posted = claim is None or await post_claim(session, claim)
    if not is_posted:
        return False
    parameters = {
        "tenant": tenant,
        "reservations": as_json(map(_reservation_row, reservations)),
        "lines": as_json(asdict(line) for each in reservations for line in each.lines),
        "counts": as_json(_moved_reservations(reservations)),
    }
    for statement in write_reservations_statements(session.dialect):
        await session.rows(statement, parameters)
    return True


async def insert_sku(
    session: Session, claim: KeyClaim | None, *, tenant: str, row: TableRow
) -> bool:
    """Write a SKU without stock and claim its key, within a transaction; False if it exists."""
    if not await session.rows(insert_sku_statement(session.dialect), row):
        return False
    if claim is not None and not await post_claim(session, claim):
        return False
    counts = as_json([{"warehouse_id": "", "status": row["status"], "skus": 1}])
    await session.rows(counting(session.dialect), {"tenant": tenant, "counts": counts})
    return True


async def write_warehouse(session: Session, tenant: str, place: WarehouseRecord) -> None:
    """Write a warehouse, a new one or one that is changed."""
    row = {**structs.asdict(place), "type": place.type.value, "tenant_id": tenant}
    await session.rows(write_warehouse_statement(session.dialect), row)


def _changed_levels(
    before: Mapping[str, SkuRecord], after: Mapping[str, SkuRecord]
) -> list[tuple[LevelRecord | None, LevelRecord]]:
    """Return what became of the levels that changed; the others are what they were."""
    return [
        (old, new)
        for code, record in after.items()
        for new in record.levels
        if (old := before[code].level_in(new.warehouse_id)) is not new
        or record.archived_at != before[code].archived_at
    ]


def _filled(changed: Iterable[tuple[LevelRecord | None, LevelRecord]]) -> list[str]:
    """Ids of the warehouses where on_hand or reserved increases: only active ones allow that."""
    return sorted(
        {
            new.warehouse_id
            for old, new in changed
            if new.on_hand > (old.on_hand if old else 0)
            or new.reserved > (old.reserved if old else 0)
        }
    )


def _moved_counts(
    before: Mapping[str, SkuRecord],
    after: Mapping[str, SkuRecord],
    changed: Iterable[tuple[LevelRecord | None, LevelRecord]],
) -> list[dict[str, object]]:
    """Return by how much the counts per warehouse and status change, sorted."""
    moved: Counter[tuple[str, str]] = Counter()
    for code, record in after.items():
        moved["", _counted_as(before[code], before[code].figures)] -= 1
        moved["", _counted_as(record, record.figures)] += 1
    for old, new in changed:
        if old is not None:
            moved[old.warehouse_id, _counted_as(before[old.sku], old)] -= 1
        moved[new.warehouse_id, _counted_as(after[new.sku], new)] += 1
    return [
        {"warehouse_id": warehouse_id, "status": status, "skus": skus}
        for (warehouse_id, status), skus in sorted(moved.items())
        if skus
    ]


def _moved_holds(reservations: Iterable[ReservationRecord]) -> Mapping[LevelKey, int]:
    """Return by how much the holds of levels change."""
    moved: Counter[LevelKey] = Counter()
    for each in reservations:
        for line in each.lines:
            moved[line.sku, line.warehouse_id] += _more_open(each)
    return moved


def _moved_reservations(reservations: Sequence[ReservationRecord]) -> list[dict[str, object]]:
    """Return by how much the counts of reservations change, in one of their parts."""
    moved: Counter[tuple[str, str]] = Counter()
    for each in reservations:
        # Over all, and those that have its reference.
        for reference in {"", each.reference or ""}:
            moved[reference, ReservationStatus.OPEN] += _more_open(each)
            if each.status is not ReservationStatus.OPEN:
                moved[reference, each.status] += 1
    part = hash(reservations[0].id) % RESERVATION_COUNT_PARTS
    return [
        {"reference": reference, "status": status, "part": part, "reservations": number}
        for (reference, status), number in moved.items()
        if number
    ]


def _more_open(written: ReservationRecord) -> int:
    """Return 1 for a reservation that begins, -1 for one that ends, 0 for one that goes on."""
    if written.status is not ReservationStatus.OPEN:
        return -1
    return 1 if written.version == 1 else 0


def _counted_as(record: SkuRecord, figures: Figures) -> str:
    """Return the name under which a SKU, or one of its levels, is counted."""
    return (ARCHIVED_PREFIX if record.archived_at else "") + figures.status


def _level_row(
    level: LevelRecord, record: SkuRecord, last_hash: str | None, holds: int
) -> dict[str, object]:
    return {
        "sku": level.sku,
        "warehouse_id": level.warehouse_id,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "safety_stock": level.safety_stock,
        "status": level.status,
        "version": level.version,
        "adjusted_at": level.adjusted_at and format_instant(level.adjusted_at),
        "synced_at": level.synced_at and format_instant(level.synced_at),
        "archived_at": record.archived_at and format_instant(record.archived_at),
        "last_hash": last_hash,
        "holds": holds,
    }


def _adjustment_row(entry: AdjustmentRecord) -> dict[str, object]:
    return {
        "id": entry.id,
        "sku": entry.sku,
        "warehouse_id": entry.warehouse_id,
        "sequence": entry.sequence,
        "before_quantity": entry.before_quantity,
        "after_quantity": entry.after_quantity,
        "delta": entry.delta,
        "reason": entry.reason,
        "note": entry.note,
        "created_by": entry.created_by,
        "created_at": format_instant(entry.created_at),
        "bulk_id": entry.bulk_id,
        "transfer_id": entry.transfer_id,
        "reservation_id": entry.reservation_id,
        "reversal_of": entry.reversal_of,
        "reference": entry.reference,
    }


def _reservation_row(record: ReservationRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "status": record.status,
        "reference": record.reference,
        "note": record.note,
        "created_by": record.created_by,
        "created_at": format_instant(record.created_at),
        "expires_at": record.expires_at and format_instant(record.expires_at),
        "ended_at": record.ended_at and format_instant(record.ended_at),
        "version": record.version,
    }


def _sku_row(record: SkuRecord, before: SkuRecord, at: datetime) -> dict[str, object]:
    return {
        "sku": record.sku,
        "status": record.figures.status,
        "version": record.version,
        "updated_at": format_instant(at),
        "title": record.title,
        "archived_at": record.archived_at and format_instant(record.archived_at),
        "version_before": before.version,
    }
