"""Seeding: inserts a catalogue with stock and history into an empty tenant.

Only the demo, the benchmarks and the tests use it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from operator import attrgetter

from msgspec import structs
from sqlalchemy import Table
from ulid import ULID

from app.database.session import DriverSession
from app.database.tables import (
    adjustment,
    person,
    reservation,
    reservation_line,
    sku,
    sku_word,
    stock_level,
    warehouse,
)
from app.domain.persons import new_person
from app.domain.quantities import total_figures
from app.domain.records import (
    AdjustmentRecord,
    LevelRecord,
    ReservationStatus,
    WarehouseRecord,
    empty_level,
)
from app.domain.stock import Stock
from app.domain.validation import check_code
from app.domain.words import stored_words
from app.ledger.derived_figures import replace_counts
from app.reads.warehouses import get_warehouses
from app.writes.rows import adjustment_rows, warehouse_row, word_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedCount:
    """One ledger entry of a level: the new quantity, its time, author and reason."""

    quantity: int
    reason: str
    created_by: str
    created_at: datetime
    note: str | None = None
    id: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedLevel:
    """A stock level with its history, oldest first; the last count is its `on_hand`.

    `reserved` becomes one reservation without an expiry.
    """

    warehouse_id: str
    reserved: int = 0
    safety_stock: int = 0
    reorder_point: int | None = None
    history: Sequence[LoadedCount] = ()
    # By default a new id.
    reservation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSku:
    """A SKU with its levels."""

    sku: str
    title: str
    levels: Sequence[LoadedLevel] = field(default=())


async def load_warehouses(
    session: DriverSession, tenant_id: str, warehouses: Iterable[WarehouseRecord]
) -> None:
    """Insert warehouses."""
    now = datetime.now(UTC)
    rows = [
        {"tenant_id": tenant_id, **warehouse_row(record), "created_at": now}
        for record in warehouses
    ]
    await session.insert(warehouse, rows)


async def load_skus(session: DriverSession, tenant_id: str, skus: Iterable[LoadedSku]) -> None:
    """Insert SKUs with their levels, ledger, reservations and counts, once per tenant.

    Raises:
        ValidationFailed: a code is malformed, or a route shadows it.

    """
    now = datetime.now(UTC)
    rows: dict[Table, list[dict[str, object]]] = {
        table: [] for table in (sku, sku_word, stock_level, reservation, reservation_line)
    }
    entries: list[AdjustmentRecord] = []
    warehouses = await get_warehouses(session, tenant_id)
    for item in skus:
        check_code(item.sku)
        levels = [_level(item.sku, level, warehouses[level.warehouse_id]) for level in item.levels]
        figures = total_figures(levels)
        rows[sku].append(
            {
                "tenant_id": tenant_id,
                "sku": item.sku,
                "title": item.title,
                "status": figures.status,
                "available": figures.available,
                "version": 1 + sum(len(level.history) for level in item.levels),
                "created_at": now,
                "updated_at": now,
            }
        )
        rows[sku_word] += [
            {"tenant_id": tenant_id, **row}
            for row in word_rows(item.sku, stored_words(item.sku, item.title))
        ]
        rows[stock_level] += [_level_row(tenant_id, level) for level in levels]
        for level in item.levels:
            entries += _entries(item.sku, level)
            if level.reserved:
                held, line = _reservation_rows(tenant_id, item.sku, level, now)
                rows[reservation].append(held)
                rows[reservation_line].append(line)
    # The sort keeps the order of the entries of a level that have the same time.
    entries.sort(key=attrgetter("created_at"))
    Stock(now=now).number(entries)
    emails = {entry.created_by for entry in entries}
    emails |= {str(row["created_by"]) for row in rows[reservation]}
    new = [new_person(email) for email in sorted(emails)]
    await session.insert(person, [{"tenant_id": tenant_id, **asdict(each)} for each in new])
    persons = {each.email: each.id for each in new}
    ledger = adjustment_rows(tenant_id, entries, None, persons)
    rows[reservation] = [
        {**row, "created_by": persons[str(row["created_by"])]} for row in rows[reservation]
    ]
    rows[adjustment] = [{"tenant_id": tenant_id, **row} for row in ledger]
    for table, table_rows in rows.items():
        await session.insert(table, table_rows)
    await replace_counts(session, tenant_id)


def _level(code: str, level: LoadedLevel, warehouse: WarehouseRecord) -> LevelRecord:
    """Return the record of a level after its history."""
    last = level.history[-1] if level.history else None
    return structs.replace(
        empty_level(code, warehouse),
        on_hand=last.quantity if last else 0,
        reserved=level.reserved,
        safety_stock=level.safety_stock,
        reorder_point=level.reorder_point,
        version=len(level.history),
        adjusted_at=last.created_at if last else None,
        occurred_until=max((entry.created_at for entry in level.history), default=None),
    )


def _level_row(tenant_id: str, level: LevelRecord) -> dict[str, object]:
    return {
        "tenant_id": tenant_id,
        "sku": level.sku,
        "warehouse_id": level.warehouse_id,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "safety_stock": level.safety_stock,
        "reorder_point": level.reorder_point,
        "status": level.status,
        "version": level.version,
        "adjusted_at": level.adjusted_at,
        "occurred_until": level.occurred_until,
        "holds": 1 if level.reserved else 0,
    }


def _reservation_rows(
    tenant_id: str, code: str, level: LoadedLevel, now: datetime
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the reservation of the reserved quantity of a level, and its line."""
    last = level.history[-1] if level.history else None
    id_ = level.reservation_id or f"rsv_{ULID()}"
    held = {
        "tenant_id": tenant_id,
        "id": id_,
        "status": ReservationStatus.OPEN.value,
        "note": "Reserved before it was loaded.",
        "created_by": last.created_by if last else "loading",
        "created_at": last.created_at if last else now,
        "version": 1,
    }
    line = {
        "tenant_id": tenant_id,
        "reservation_id": id_,
        "sku": code,
        "warehouse_id": level.warehouse_id,
        "quantity": level.reserved,
        "held": level.reserved,
        "committed": 0,
    }
    return held, line


def _entries(code: str, level: LoadedLevel) -> Iterable[AdjustmentRecord]:
    before = 0
    for sequence, entry in enumerate(level.history, start=1):
        yield AdjustmentRecord(
            id=entry.id or f"adj_{ULID.from_datetime(entry.created_at)}",
            sku=code,
            warehouse_id=level.warehouse_id,
            sequence=sequence,
            before_quantity=before,
            after_quantity=entry.quantity,
            reason=entry.reason,
            note=entry.note,
            created_by=entry.created_by,
            created_at=entry.created_at,
            reference=entry.reference,
        )
        before = entry.quantity
