"""The SQL statements of stock writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.types import TypeEngine

from app.database.clocks import Present
from app.database.columns import UtcDateTime
from app.database.parameters import in_key_array, rows_from
from app.database.tables import (
    LEVEL_KEY,
    adjustment,
    reservation,
    reservation_count,
    reservation_line,
    sku,
    sku_count,
    stock_level,
    warehouse,
)
from app.writes.idempotency_keys import KEY_LOCK, claiming

ColumnTypes = dict[str, TypeEngine[Any]]

ONE: Final = literal_column("1", BigInteger)
EMPTY_CTE: Final = select(ONE.label("one")).cte("nothing")
TENANT_PARAMETER: Final = bindparam("tenant", type_=Text)
# ON CONFLICT is no part of standard SQL.
INSERTS: Final = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
SKUS: Final[ColumnTypes] = {
    "sku": Text(),
    "status": Text(),
    "version": BigInteger(),
    "updated_at": UtcDateTime(),
    "title": Text(),
    "archived_at": UtcDateTime(),
    "version_before": BigInteger(),
}
LEVELS: Final[ColumnTypes] = {
    "sku": Text(),
    "warehouse_id": Text(),
    "on_hand": BigInteger(),
    "reserved": BigInteger(),
    "safety_stock": BigInteger(),
    "status": Text(),
    "version": BigInteger(),
    "adjusted_at": UtcDateTime(),
    "synced_at": UtcDateTime(),
    "archived_at": UtcDateTime(),
    "last_hash": Text(),
    "holds": BigInteger(),
}
ADJUSTMENTS: Final[ColumnTypes] = {
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
    "bulk_id": Text(),
    "transfer_id": Text(),
    "reservation_id": Text(),
    "reversal_of": Text(),
    "reference": Text(),
    "hash": Text(),
}
RESERVATIONS: Final[ColumnTypes] = {
    "id": Text(),
    "status": Text(),
    "reference": Text(),
    "note": Text(),
    "created_by": Text(),
    "created_at": UtcDateTime(),
    "expires_at": UtcDateTime(),
    "ended_at": UtcDateTime(),
    "version": BigInteger(),
}
LINES: Final[ColumnTypes] = {
    "reservation_id": Text(),
    "sku": Text(),
    "warehouse_id": Text(),
    "quantity": BigInteger(),
    "held": BigInteger(),
    "committed": BigInteger(),
}
RESERVATION_COUNTS: Final[ColumnTypes] = {
    "reference": Text(),
    "status": Text(),
    "part": BigInteger(),
    "reservations": BigInteger(),
}
COUNTS: Final[ColumnTypes] = {"warehouse_id": Text(), "status": Text(), "skus": BigInteger()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a write has to do."""

    is_claimed: bool
    is_counted: bool
    is_filling: bool
    is_of_new_levels: bool


@cache
def insert_sku_statement(dialect: str) -> Insert:
    insert = cast("postgresql.Insert", INSERTS[dialect](sku))
    return insert.on_conflict_do_nothing().returning(sku.c.sku)


@cache
def write_warehouse_statement(dialect: str) -> Insert:
    given = [column for column in warehouse.c if column.name != "created_at"]
    values = {it.name: bindparam(it.name, type_=it.type) for it in given}
    insert = cast("postgresql.Insert", INSERTS[dialect](warehouse))
    insert = insert.values({**values, "created_at": Present()})
    changed = ("name", "address", "marketplace", "is_active")
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", "id"],
        set_={name: insert.excluded[name] for name in changed},
    )


@cache
def counting(dialect: str) -> Insert:
    """Return what adds `counts` to those of a `tenant`."""
    return _add_to(sku_count, dialect, COUNTS, true())


@cache
def write_reservations_statements(dialect: str) -> Sequence[Insert | Select[Any]]:
    """Return what writes reservations and their lines, new ones or ones that are changed.

    And their counts last, which are shared.
    """
    writes: list[Insert] = []
    for table, name, columns, keys, changed in (
        (
            *(reservation, "reservations", RESERVATIONS, ["tenant_id", "id"]),
            ["status", "expires_at", "ended_at", "version"],
        ),
        (
            *(reservation_line, "lines", LINES),
            ["tenant_id", "reservation_id", "sku", "warehouse_id"],
            ["held", "committed"],
        ),
    ):
        source = select(TENANT_PARAMETER, *rows_from(dialect, name, columns).c).where(true())
        insert = cast(
            "postgresql.Insert",
            INSERTS[dialect](table).from_select(["tenant_id", *columns], source),
        )
        set_ = {each: insert.excluded[each] for each in changed}
        writes.append(insert.on_conflict_do_update(index_elements=keys, set_=set_))
    writes.append(_add_to(reservation_count, dialect, RESERVATION_COUNTS, true()))
    if dialect == "sqlite":
        return writes
    return [_together(EMPTY_CTE, writes)]


@cache
def post_at_once_statement(shape: Shape) -> Select[Any]:
    """Return the statement of PostgreSQL that writes all or nothing, and tells which."""
    rows = rows_from("postgresql", "skus", SKUS)
    as_read = and_(sku.c.sku == rows.c.sku, sku.c.version == rows.c.version_before)
    locked = (
        select(sku.c.sku)
        .select_from(sku.join(rows, as_read))
        .where(sku.c.tenant_id == TENANT_PARAMETER)
        .order_by(sku.c.sku)
        .with_for_update(key_share=True, of=sku)
    )
    if shape.is_claimed:
        locked = locked.where(row_count(select(KEY_LOCK.label("held")).cte("key_lock")) == ONE)
    are_all = row_count(locked.cte("locked")) == bindparam("number_of_skus", type_=BigInteger)
    if shape.is_filling:
        are_all = and_(are_all, warehouses_are_active())
    ready = (
        claiming("postgresql", are_all).cte("claimed")
        if shape.is_claimed
        else select(ONE.label("ready")).where(are_all).cte("ready")
    )
    is_ready = row_count(ready) == ONE
    writes = [*_writes("postgresql", is_ready, shape), *_counts("postgresql", is_ready, shape)]
    return _together(ready, writes)


@cache
def post_in_turn_statements(dialect: str, shape: Shape) -> tuple[Executable, Sequence[Executable]]:
    """Return what writes levels, and what writes the rest and claims the key."""
    skus, levels, adjustments = _writes(dialect, true(), shape)
    claims = [claiming(dialect, true())] if shape.is_claimed else []
    counts = _counts(dialect, true(), shape)
    if dialect == "sqlite":
        return levels, [skus, adjustments, *claims, *counts]
    are_active = warehouses_are_active() if shape.is_filling else true()
    told = (
        claiming(dialect, are_active).cte("claimed")
        if shape.is_claimed
        else select(ONE.label("ready")).where(are_active).cte("ready")
    )
    return levels, [_together(told, [skus, adjustments, *counts])]


def warehouses_are_active() -> ColumnElement[bool]:
    """Condition of PostgreSQL that the filled warehouses are active until the transaction ends.

    Writers share the lock. `await_writes_into` waits for it after a warehouse was deactivated.
    """
    active = (
        select(warehouse.c.id)
        .where(
            warehouse.c.tenant_id == TENANT_PARAMETER,
            in_key_array("postgresql", warehouse.c.id, "filled"),
            warehouse.c.is_active,
        )
        .order_by(warehouse.c.id)
        .with_for_update(read=True, key_share=True)
    )
    return row_count(active.cte("active")) == bindparam("number_of_filled", type_=BigInteger)


def _together(told: CTE, writes: Sequence[Insert | Update]) -> Select[Any]:
    """Return the statement of PostgreSQL that writes in this order, and returns what it is told."""
    # PostgreSQL begins with the last of those that nothing refers to.
    return select(told).add_cte(*(it.cte(f"written_{n}") for n, it in enumerate(reversed(writes))))


def row_count(rows: CTE) -> ColumnElement[int]:
    return select(func.count()).select_from(rows).scalar_subquery()


def _writes(dialect: str, condition: ColumnElement[bool], shape: Shape) -> list[Insert | Update]:
    write_levels = _write_new_levels if shape.is_of_new_levels else _write_levels
    return [
        _write_skus(dialect, condition),
        write_levels(dialect, condition),
        _write_adjustments(dialect, condition),
    ]


def _counts(dialect: str, condition: ColumnElement[bool], shape: Shape) -> list[Insert]:
    return [_add_to(sku_count, dialect, COUNTS, condition)] if shape.is_counted else []


def _write_levels(dialect: str, condition: ColumnElement[bool]) -> Update:
    rows = rows_from(dialect, "levels", LEVELS)
    is_same = [
        stock_level.c.tenant_id == TENANT_PARAMETER,
        stock_level.c.sku == rows.c.sku,
        stock_level.c.warehouse_id == rows.c.warehouse_id,
    ]
    return update(stock_level).where(*is_same, condition).values(_changed_of_level(rows.c))


def _write_new_levels(dialect: str, condition: ColumnElement[bool]) -> Insert:
    """Return what writes levels of which some may not be there yet: that takes longer."""
    rows = rows_from(dialect, "levels", LEVELS)
    source = select(TENANT_PARAMETER, *rows.c).where(condition)
    names = ["tenant_id", *LEVELS]
    # SQLite's INSERT has the same methods.
    insert = cast("postgresql.Insert", INSERTS[dialect](stock_level).from_select(names, source))
    return insert.on_conflict_do_update(
        index_elements=LEVEL_KEY,
        set_=_changed_of_level(insert.excluded),
    )


def _changed_of_level(new: ReadOnlyColumnCollection[str, Any]) -> dict[str, ColumnElement[Any]]:
    # A report that changes nothing raises no version, so a write may not know of it yet.
    kept, reported = stock_level.c.synced_at, new.synced_at
    latest = case((reported > kept, reported), else_=func.coalesce(kept, reported))
    more = {"synced_at": latest, "holds": stock_level.c.holds + new.holds}
    return {name: new[name] for name in (*LEVELS,)[2:]} | more


def _write_adjustments(dialect: str, condition: ColumnElement[bool]) -> Insert:
    rows = rows_from(dialect, "adjustments", ADJUSTMENTS)
    source = select(TENANT_PARAMETER, *rows.c).where(condition)
    return adjustment.insert().from_select(["tenant_id", *ADJUSTMENTS], source)


def _write_skus(dialect: str, condition: ColumnElement[bool]) -> Update:
    rows = rows_from(dialect, "skus", SKUS)
    return (
        update(sku)
        .where(sku.c.tenant_id == TENANT_PARAMETER, sku.c.sku == rows.c.sku, condition)
        .values({name: rows.c[name] for name in (*SKUS,)[1:-1]})
    )


def _add_to(
    counts: Table, dialect: str, columns: ColumnTypes, condition: ColumnElement[bool]
) -> Insert:
    """Return what adds to kept counts: the last of their columns, by the others."""
    rows = rows_from(dialect, "counts", columns)
    *keys, number = columns
    # Rows are inserted, and so locked, in this order.
    source = (
        select(TENANT_PARAMETER, *rows.c)
        .where(condition)
        .order_by(*(rows.c[name] for name in keys))
    )
    insert = cast(
        "postgresql.Insert",
        INSERTS[dialect](counts).from_select(["tenant_id", *columns], source),
    )
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", *keys],
        set_={number: counts.c[number] + insert.excluded[number]},
    )
