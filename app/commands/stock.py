"""Changes of stock: the one write path.

Every change goes through `_write`, whatever asked for it:

1. lock the SKU rows, sorted, so that two writers never wait for each other in a circle;
2. read their levels in a statement of its own, which sees what the lock waited for;
3. decide by the rules of `app.stock`, without writing;
4. write levels, ledger, SKUs and counts, one statement each, counts last because they are shared.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final, cast

from pydantic import TypeAdapter
from sqlalchemy import (
    BigInteger,
    Executable,
    Select,
    Text,
    bindparam,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine
from ulid import ULID

from app.commands.idempotency import Caller, Done, Request, write_once
from app.database import Database, as_json, rows_from, texts_in
from app.errors import (
    InventoryError,
    InventoryNotFound,
    StaleVersion,
    invalid_field,
    invalid_fields,
)
from app.models import UtcDateTime, adjustment, as_text, sku, sku_count, stock_level, warehouse
from app.queries import LEVEL_COLUMNS, WAREHOUSE_COLUMNS, level_record, warehouse_record
from app.records import AdjustmentRecord, LevelRecord, SkuRecord, WarehouseRecord
from app.stock import (
    MAX_BULK_UPDATES,
    check_new_on_hand,
    note_problem,
    quantity_problem,
    reason_problem,
)

LevelKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockUpdate:
    """What a level's `on_hand` shall be, and why."""

    sku: str
    warehouse_id: str
    quantity: int
    reason: str
    note: str | None = None
    expected_quantity: int | None = None
    expected_version: int | None = None
    # None: any. Any of several: a conditional request may name more than one.
    expected_sku_versions: tuple[int, ...] | None = None


class OnError(StrEnum):
    """What a bulk does when some of its updates are refused."""

    ABORT = "abort"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class StockChange:
    """An update that was made: its ledger entry, and the SKU with all its levels after it."""

    adjustment: AdjustmentRecord
    sku: SkuRecord


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an update of a bulk was refused."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What became of one update of a bulk: a change or a refusal."""

    change: StockChange | None
    refusal: Refusal | None


Outcome = StockChange | InventoryError
Columns = dict[str, TypeEngine[Any]]

SET_RESULT: Final = TypeAdapter(StockChange)
BULK_RESULT: Final = TypeAdapter(list[BulkOutcome])


async def set_stock(
    database: Database, caller: Caller, change: StockUpdate, *, key: str | None = None
) -> Done[StockChange]:
    """Set the `on_hand` of one stock level; under an idempotency key, once.

    Raises:
        ValidationFailed, InventoryNotFound, WarehouseNotFound, ReadonlyWarehouse,
        NegativeQuantity, WarehouseInactive, StaleVersion: checked in this order; nothing is
        written. And what `write_once` raises.

    """
    if problems := _problems(change):
        raise invalid_fields(problems)

    async def work(connection: AsyncConnection) -> Outcome:
        [outcome] = await _write(connection, caller, [change], OnError.CONTINUE)
        return outcome

    request = Request("setStock", change, SET_RESULT)
    return await write_once(database, caller, key, request, work)


async def bulk_set_stock(
    database: Database,
    caller: Caller,
    updates: Sequence[StockUpdate],
    *,
    on_error: OnError,
    key: str | None = None,
) -> Done[list[BulkOutcome]]:
    """Set many stock levels in one transaction; outcomes stand in the order of the updates.

    Raises:
        ValidationFailed: not 1 to 500 updates, one is malformed, or two are for the same level.
        InventoryError: with ABORT, the first refusal, with every refusal in its details. And what
            `write_once` raises.

    """
    _check_bulk(updates)

    async def work(connection: AsyncConnection) -> list[BulkOutcome] | InventoryError:
        outcomes = await _write(connection, caller, updates, on_error)
        if on_error is OnError.ABORT and (refusal := _refusal_of_all(updates, outcomes)):
            return refusal
        return [
            BulkOutcome(outcome, None)
            if isinstance(outcome, StockChange)
            else BulkOutcome(None, Refusal(outcome.code, outcome.message))
            for outcome in outcomes
        ]

    request = Request("bulkSetStock", [on_error, list(updates)], BULK_RESULT)
    return await write_once(database, caller, key, request, work)


def _check_bulk(updates: Sequence[StockUpdate]) -> None:
    if not 1 <= len(updates) <= MAX_BULK_UPDATES:
        message = f"must hold 1 to {MAX_BULK_UPDATES} updates, and holds {len(updates)}"
        raise invalid_field("updates", message)
    problems = [
        (f"updates.{index}.{field}", message)
        for index, change in enumerate(updates)
        for field, message in _problems(change)
    ]
    first_index: dict[LevelKey, int] = {}
    for index, change in enumerate(updates):
        first = first_index.setdefault((change.sku, change.warehouse_id), index)
        if first != index:
            problems.append((f"updates.{index}", f"is for the same level as updates.{first}"))
    if problems:
        raise invalid_fields(problems)


def _problems(change: StockUpdate) -> list[tuple[str, str]]:
    """Return what is wrong with the shape of an update, as (field, what it must be)."""
    checks = {
        "quantity": quantity_problem(change.quantity),
        "reason": reason_problem(change.reason),
        "note": note_problem(change.note),
    }
    return [(field, problem) for field, problem in checks.items() if problem]


async def _write(
    connection: AsyncConnection, caller: Caller, updates: Sequence[StockUpdate], on_error: OnError
) -> list[Outcome]:
    before = await _lock_and_read(connection, caller.tenant, updates)
    outcomes = _decide(caller, updates, before)
    changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
    if changes and (on_error is OnError.CONTINUE or len(changes) == len(outcomes)):
        await _save(connection, caller.tenant, changes, before)
    return outcomes


@dataclass(frozen=True, slots=True)
class _Stock:
    """What the database holds of the SKUs that a write is about."""

    skus: dict[str, SkuRecord]
    warehouses: dict[str, WarehouseRecord]


async def _lock_and_read(
    connection: AsyncConnection, tenant: str, updates: Sequence[StockUpdate]
) -> _Stock:
    dialect = connection.dialect.name
    codes = sorted({change.sku for change in updates})
    ids = sorted({change.warehouse_id for change in updates})
    asked = {"tenant": tenant, "codes": codes, "ids": ids}
    locked = (await connection.execute(_lock_skus(dialect), asked)).all()
    levels: dict[str, list[LevelRecord]] = {row.sku: [] for row in locked}
    for row in await connection.execute(_levels_of_skus(dialect), asked):
        levels[row.sku].append(level_record(row))
    skus = {
        row.sku: SkuRecord(row.sku, row.title, row.version, tuple(levels[row.sku]))
        for row in locked
    }
    found = await connection.execute(_warehouses(dialect), asked)
    return _Stock(skus, {row.id: warehouse_record(row) for row in found})


def _decide(caller: Caller, updates: Sequence[StockUpdate], before: _Stock) -> list[Outcome]:
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    after = dict(before.skus)
    outcomes: list[Outcome] = []
    for change in updates:
        outcome = _decide_one(caller, change, after.get(change.sku), before.warehouses, now)
        if isinstance(outcome, StockChange):
            after[change.sku] = outcome.sku
        outcomes.append(outcome)
    return [
        replace(outcome, sku=after[outcome.sku.sku])
        if isinstance(outcome, StockChange)
        else outcome
        for outcome in outcomes
    ]


def _decide_one(
    caller: Caller,
    change: StockUpdate,
    record: SkuRecord | None,
    warehouses: Mapping[str, WarehouseRecord],
    now: datetime,
) -> Outcome:
    if record is None:
        return inventory_not_found(change.sku)
    place = warehouses.get(change.warehouse_id)
    old = record.level_in(change.warehouse_id)
    refusal = check_new_on_hand(
        change.quantity,
        on_hand=old.figures.on_hand,
        warehouse_id=change.warehouse_id,
        warehouse_type=place.type if place else None,
        is_active=place is not None and place.is_active,
    )
    if refusal or (refusal := _stale(change, record, old)):
        return refusal
    # A clock that is set back must not let the ledger of a level run backwards.
    created_at = max(now, old.adjusted_at) if old.adjusted_at else now
    new = replace(
        old,
        figures=replace(old.figures, on_hand=change.quantity),
        version=old.version + 1,
        adjusted_at=created_at,
    )
    entry = AdjustmentRecord(
        id=f"adj_{ULID()}",
        sku=change.sku,
        warehouse_id=change.warehouse_id,
        sequence=new.version,
        before_quantity=old.figures.on_hand,
        after_quantity=change.quantity,
        reason=change.reason,
        note=change.note,
        created_by=caller.email,
        created_at=created_at,
    )
    return StockChange(entry, record.with_level(new))


def _stale(change: StockUpdate, record: SkuRecord, level: LevelRecord) -> StaleVersion | None:
    """Return the refusal of an update that expected other stock than there is."""
    present = {
        "on_hand": level.figures.on_hand,
        "version": level.version,
        "sku_version": record.version,
    }
    skus = change.expected_sku_versions
    stale = {
        "expectedQuantity": change.expected_quantity not in (None, present["on_hand"]),
        "expectedVersion": change.expected_version not in (None, present["version"]),
        "expectedSkuVersions": skus is not None and present["sku_version"] not in skus,
    }
    details = [
        {"field": field, "message": "is not what there is", **present}
        for field, is_stale in stale.items()
        if is_stale
    ]
    if not details:
        return None
    return StaleVersion(
        f"SKU {change.sku!r} is not as expected: warehouse {change.warehouse_id} holds "
        f"{present['on_hand']} at version {present['version']}, and the record's version is "
        f"{present['sku_version']}. Read it again, and decide anew.",
        details=details,
    )


def _refusal_of_all(
    updates: Sequence[StockUpdate], outcomes: Sequence[Outcome]
) -> InventoryError | None:
    """Return the first refusal of a bulk with every refusal in its details, if there is one."""
    refusals = [
        (index, change, outcome)
        for index, (change, outcome) in enumerate(zip(updates, outcomes, strict=True))
        if isinstance(outcome, InventoryError)
    ]
    if not refusals:
        return None
    index, _, first = refusals[0]
    return type(first)(
        f"Nothing was changed: {len(refusals)} of {len(updates)} updates are refused, "
        f"the first of them updates[{index}]: {first.message}",
        details=[
            {
                "index": index,
                "sku": change.sku,
                "warehouse_id": change.warehouse_id,
                "status": "failed",
                "error": {"code": refusal.code, "message": refusal.message},
            }
            for index, change, refusal in refusals
        ],
    )


async def _save(
    connection: AsyncConnection, tenant: str, changes: Sequence[StockChange], before: _Stock
) -> None:
    dialect = connection.dialect.name
    after = {change.sku.sku: change.sku for change in changes}
    entries = [change.adjustment for change in changes]
    levels = [after[entry.sku].level_in(entry.warehouse_id) for entry in entries]
    written = [
        (_write_levels(dialect), [_level_row(level) for level in levels]),
        (_write_adjustments(dialect), [_adjustment_row(entry) for entry in entries]),
        (_write_skus(dialect), [_sku_row(record) for record in after.values()]),
    ]
    if moved := _moved_counts(before.skus, after):
        written.append((_write_counts(dialect), moved))
    for statement, rows in written:
        await connection.execute(statement, {"tenant": tenant, "rows": as_json(rows)})


def _moved_counts(
    before: Mapping[str, SkuRecord], after: Mapping[str, SkuRecord]
) -> list[dict[str, object]]:
    """Return by how much the counts per warehouse and status change, sorted."""
    moved: Counter[tuple[str, str]] = Counter()
    for code, new in after.items():
        old = before[code]
        moved["", old.figures.status] -= 1
        moved["", new.figures.status] += 1
        for level in old.levels:
            moved[level.warehouse_id, level.figures.status] -= 1
        for level in new.levels:
            moved[level.warehouse_id, level.figures.status] += 1
    return [
        {"warehouse_id": warehouse_id, "status": status, "skus": skus}
        for (warehouse_id, status), skus in sorted(moved.items())
        if skus
    ]


def _level_row(level: LevelRecord) -> dict[str, object]:
    return {
        "sku": level.sku,
        "warehouse_id": level.warehouse_id,
        "on_hand": level.figures.on_hand,
        "status": level.figures.status,
        "version": level.version,
        "adjusted_at": level.adjusted_at and as_text(level.adjusted_at),
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
        "created_at": as_text(entry.created_at),
    }


def _sku_row(record: SkuRecord) -> dict[str, object]:
    adjusted = [level.adjusted_at for level in record.levels if level.adjusted_at]
    return {
        "sku": record.sku,
        "status": record.figures.status,
        "version": record.version,
        "updated_at": as_text(max(adjusted)),
    }


def inventory_not_found(code: str) -> InventoryNotFound:
    """Return the refusal of a SKU code that the tenant does not have."""
    return InventoryNotFound(f"SKU {code!r} has no inventory record.", details=[{"sku": code}])


TENANT: Final = bindparam("tenant", type_=Text)
# ON CONFLICT is no part of standard SQL.
INSERTS: Final = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


@cache
def _lock_skus(dialect: str) -> Select[Any]:
    return (
        select(sku.c.sku, sku.c.title, sku.c.version)
        .where(sku.c.tenant_id == TENANT, texts_in(dialect, sku.c.sku, "codes"))
        .order_by(sku.c.sku)
        .with_for_update(key_share=True)
    )


@cache
def _levels_of_skus(dialect: str) -> Select[Any]:
    return (
        select(stock_level.c.sku, *LEVEL_COLUMNS)
        .where(stock_level.c.tenant_id == TENANT, texts_in(dialect, stock_level.c.sku, "codes"))
        .order_by(stock_level.c.sku, stock_level.c.warehouse_id)
    )


@cache
def _warehouses(dialect: str) -> Select[Any]:
    return select(*WAREHOUSE_COLUMNS).where(
        warehouse.c.tenant_id == TENANT, texts_in(dialect, warehouse.c.id, "ids")
    )


@cache
def _write_levels(dialect: str) -> Executable:
    columns: Columns = {
        "sku": Text(),
        "warehouse_id": Text(),
        "on_hand": BigInteger(),
        "status": Text(),
        "version": BigInteger(),
        "adjusted_at": UtcDateTime(),
    }
    rows = rows_from(dialect, "rows", columns)
    # Without WHERE, SQLite takes ON CONFLICT for a join condition.
    source = select(TENANT, *rows.c, literal(0), literal(0)).where(true())
    names = ["tenant_id", *columns, "reserved", "safety_stock"]
    # SQLite's INSERT has the same methods.
    insert = cast("postgresql.Insert", INSERTS[dialect](stock_level).from_select(names, source))
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", "sku", "warehouse_id"],
        set_={name: insert.excluded[name] for name in (*columns,)[2:]},
    )


@cache
def _write_adjustments(dialect: str) -> Executable:
    columns: Columns = {
        "id": Text(),
        "sku": Text(),
        "warehouse_id": Text(),
        "sequence": BigInteger(),
        "before_quantity": BigInteger(),
        "after_quantity": BigInteger(),
        "delta": BigInteger(),
        "reason": Text(),
        "note": Text(),
        "created_by": Text(),
        "created_at": UtcDateTime(),
    }
    rows = rows_from(dialect, "rows", columns)
    source = select(TENANT, *rows.c)
    return adjustment.insert().from_select(["tenant_id", *columns], source)


@cache
def _write_skus(dialect: str) -> Executable:
    columns: Columns = {
        "sku": Text(),
        "status": Text(),
        "version": BigInteger(),
        "updated_at": UtcDateTime(),
    }
    rows = rows_from(dialect, "rows", columns)
    return (
        update(sku)
        .where(sku.c.tenant_id == TENANT, sku.c.sku == rows.c.sku)
        .values({name: rows.c[name] for name in (*columns,)[1:]})
    )


@cache
def _write_counts(dialect: str) -> Executable:
    columns: Columns = {"warehouse_id": Text(), "status": Text(), "skus": BigInteger()}
    rows = rows_from(dialect, "rows", columns)
    # Rows are inserted, and so locked, in this order.
    source = select(TENANT, *rows.c).where(true()).order_by(rows.c.warehouse_id, rows.c.status)
    insert = cast(
        "postgresql.Insert",
        INSERTS[dialect](sku_count).from_select(["tenant_id", *columns], source),
    )
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", "warehouse_id", "status"],
        set_={"skus": sku_count.c.skus + insert.excluded.skus},
    )
