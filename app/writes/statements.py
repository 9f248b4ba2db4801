"""The SQL statements of stock writes.

Each takes its rows as JSON text: one parameter for each table, whatever the number of rows.
"""

from collections.abc import Mapping, Sequence
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
from app.writes.idempotency_keys import KEY_LOCK, store_key_statement

ColumnTypes = Mapping[str, TypeEngine[Any]]


def column_types(table: Table, *, without: Sequence[str] = ()) -> ColumnTypes:
    """Return the types of the columns of a table by name, without the tenant id."""
    return {
        # JSON knows no collation; the column that a text is compared with has one.
        column.name: Text() if isinstance(column.type, Text) else column.type
        for column in table.c
        if column.name not in {"tenant_id", *without}
    }


ONE: Final = literal_column("1", BigInteger)
EMPTY_CTE: Final = select(ONE.label("one")).cte("nothing")
# Not named like the column: SQLAlchemy would assign it to the column in every INSERT and UPDATE.
TENANT_PARAMETER: Final = bindparam("tenant", type_=Text)
# ON CONFLICT is not in standard SQL.
INSERTS: Final = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
SKU_TYPES: Final[ColumnTypes] = {
    **column_types(sku, without=["created_at"]),
    "version_before": BigInteger(),
}
LEVEL_TYPES: Final = column_types(stock_level)
ADJUSTMENT_TYPES: Final = column_types(adjustment)
RESERVATION_TYPES: Final = column_types(reservation)
LINE_TYPES: Final = column_types(reservation_line)
WAREHOUSE_CHANGES: Final = ("name", "address", "marketplace", "is_active")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingShape:
    """The parts of a posting that its statements depend on."""

    has_key: bool
    has_counts: bool
    # Whether on_hand or reserved increases at a level: only active warehouses allow that.
    has_increases: bool
    has_new_levels: bool


@cache
def single_posting_statement(shape: PostingShape) -> Select[Any]:
    """Return PostgreSQL's statement that locks the SKUs and writes everything or nothing.

    Its result is one row if it has written, else none. It writes only if every SKU still has the
    version that was read, every warehouse that gains stock is active, and the key is new.
    """
    rows = rows_from("postgresql", "skus", SKU_TYPES)
    as_read = and_(sku.c.sku == rows.c.sku, sku.c.version == rows.c.version_before)
    locked = (
        select(sku.c.sku)
        .select_from(sku.join(rows, as_read))
        .where(sku.c.tenant_id == TENANT_PARAMETER)
        .order_by(sku.c.sku)
        .with_for_update(key_share=True, of=sku)
    )
    if shape.has_key:
        locked = locked.where(row_count(select(KEY_LOCK.label("held")).cte("key_lock")) == ONE)
    is_unchanged = row_count(locked.cte("locked")) == bindparam("number_of_skus", type_=BigInteger)
    if shape.has_increases:
        is_unchanged = and_(is_unchanged, gaining_warehouses_are_active())
    ready = (
        store_key_statement("postgresql", is_unchanged).cte("claimed")
        if shape.has_key
        else select(ONE.label("ready")).where(is_unchanged).cte("ready")
    )
    is_ready = row_count(ready) == ONE
    return _in_order(ready, _writes("postgresql", is_ready, shape))


@cache
def posting_statements(
    dialect: str, shape: PostingShape
) -> tuple[Executable, Sequence[Executable]]:
    """Return the statement that writes the levels, and those that write the rest and the key.

    The SKUs are locked already. On PostgreSQL the last statement has one row if the key is new and
    every warehouse that gains stock is active; the caller rolls back otherwise.
    """
    skus, levels, adjustments, *counts = _writes(dialect, true(), shape)
    if dialect == "sqlite":
        keys = [store_key_statement(dialect, true())] if shape.has_key else []
        return levels, [skus, adjustments, *keys, *counts]
    are_active = gaining_warehouses_are_active() if shape.has_increases else true()
    ready = (
        store_key_statement(dialect, are_active).cte("claimed")
        if shape.has_key
        else select(ONE.label("ready")).where(are_active).cte("ready")
    )
    return levels, [_in_order(ready, [skus, adjustments, *counts])]


@cache
def write_reservations_statements(dialect: str) -> Sequence[Insert | Select[Any]]:
    """Return the upserts of reservations, their lines and last the counts, which are shared."""
    writes = [
        _upsert(
            *(dialect, reservation, "reservations", RESERVATION_TYPES),
            changes=["status", "expires_at", "ended_at", "version"],
        ),
        _upsert(
            *(dialect, reservation_line, "lines", LINE_TYPES),
            changes=["held", "committed"],
        ),
        _add_counts(reservation_count, dialect, true()),
    ]
    return writes if dialect == "sqlite" else [_in_order(EMPTY_CTE, writes)]


@cache
def insert_sku_statement(dialect: str) -> Insert:
    """Return the INSERT of a SKU; its result is one row, or none if the code exists."""
    insert = cast("postgresql.Insert", INSERTS[dialect](sku))
    return insert.on_conflict_do_nothing().returning(sku.c.sku)


@cache
def write_warehouse_statement(dialect: str) -> Insert:
    """Return the upsert of one warehouse, whose type never changes."""
    columns = [column for column in warehouse.c if column.name != "created_at"]
    values = {column.name: bindparam(column.name, type_=column.type) for column in columns}
    insert = cast("postgresql.Insert", INSERTS[dialect](warehouse))
    insert = insert.values({**values, "created_at": Present()})
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", "id"],
        set_={name: insert.excluded[name] for name in WAREHOUSE_CHANGES},
    )


@cache
def add_sku_counts_statement(dialect: str) -> Insert:
    """Return the statement that adds `counts` to the SKU counts of a `tenant`."""
    return _add_counts(sku_count, dialect, true())


def gaining_warehouses_are_active() -> ColumnElement[bool]:
    """Return PostgreSQL's condition that the warehouses that gain stock are active.

    Their rows stay locked until the transaction ends. Writers share the lock;
    `wait_for_warehouse_writes` waits for it after a deactivation.
    """
    active = (
        select(warehouse.c.id)
        .where(
            warehouse.c.tenant_id == TENANT_PARAMETER,
            in_key_array("postgresql", warehouse.c.id, "gaining"),
            warehouse.c.is_active,
        )
        .order_by(warehouse.c.id)
        .with_for_update(read=True, key_share=True)
    )
    return row_count(active.cte("active")) == bindparam("number_of_gaining", type_=BigInteger)


def row_count(rows: CTE) -> ColumnElement[int]:
    """Return the number of rows of a CTE, as a scalar."""
    return select(func.count()).select_from(rows).scalar_subquery()


def _in_order(result: CTE, writes: Sequence[Insert | Update]) -> Select[Any]:
    """Return PostgreSQL's statement that writes in this order and selects `result`."""
    # PostgreSQL carries out CTEs that nothing refers to from the last to the first.
    ctes = (write.cte(f"written_{n}") for n, write in enumerate(reversed(writes)))
    return select(result).add_cte(*ctes)


def _writes(
    dialect: str, condition: ColumnElement[bool], shape: PostingShape
) -> list[Insert | Update]:
    """Return the writes of a posting; the counts, which all writers share, come last."""
    write_levels = _write_new_levels if shape.has_new_levels else _write_levels
    return [
        _write_skus(dialect, condition),
        write_levels(dialect, condition),
        _write_adjustments(dialect, condition),
        *([_add_counts(sku_count, dialect, condition)] if shape.has_counts else []),
    ]


def _write_skus(dialect: str, condition: ColumnElement[bool]) -> Update:
    rows = rows_from(dialect, "skus", SKU_TYPES)
    return (
        update(sku)
        .where(sku.c.tenant_id == TENANT_PARAMETER, sku.c.sku == rows.c.sku, condition)
        .values({name: rows.c[name] for name in SKU_TYPES if name not in ("sku", "version_before")})
    )


def _write_levels(dialect: str, condition: ColumnElement[bool]) -> Update:
    rows = rows_from(dialect, "levels", LEVEL_TYPES)
    is_level = [
        stock_level.c.tenant_id == TENANT_PARAMETER,
        stock_level.c.sku == rows.c.sku,
        stock_level.c.warehouse_id == rows.c.warehouse_id,
    ]
    return update(stock_level).where(*is_level, condition).values(_level_changes(rows.c))


def _write_new_levels(dialect: str, condition: ColumnElement[bool]) -> Insert:
    """Return the upsert of levels, slower than an UPDATE, for postings with new levels."""
    rows = rows_from(dialect, "levels", LEVEL_TYPES)
    source = select(TENANT_PARAMETER, *rows.c).where(condition)
    names = ["tenant_id", *LEVEL_TYPES]
    # SQLite's INSERT has the same methods.
    insert = cast("postgresql.Insert", INSERTS[dialect](stock_level).from_select(names, source))
    return insert.on_conflict_do_update(
        index_elements=LEVEL_KEY,
        set_=_level_changes(insert.excluded),
    )


def _level_changes(new: ReadOnlyColumnCollection[str, Any]) -> dict[str, ColumnElement[Any]]:
    # A marketplace report without a difference raises no version, so a concurrent write may not
    # have seen its `synced_at`.
    kept, reported = stock_level.c.synced_at, new.synced_at
    latest = case((reported > kept, reported), else_=func.coalesce(kept, reported))
    derived = {"synced_at": latest, "holds": stock_level.c.holds + new.holds}
    return {name: new[name] for name in LEVEL_TYPES if name not in LEVEL_KEY} | derived


def _write_adjustments(dialect: str, condition: ColumnElement[bool]) -> Insert:
    rows = rows_from(dialect, "adjustments", ADJUSTMENT_TYPES)
    source = select(TENANT_PARAMETER, *rows.c).where(condition)
    return adjustment.insert().from_select(["tenant_id", *ADJUSTMENT_TYPES], source)


def _upsert(
    dialect: str, table: Table, name: str, types: ColumnTypes, *, changes: Sequence[str]
) -> Insert:
    source = select(TENANT_PARAMETER, *rows_from(dialect, name, types).c).where(true())
    insert = cast(
        "postgresql.Insert", INSERTS[dialect](table).from_select(["tenant_id", *types], source)
    )
    return insert.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={column: insert.excluded[column] for column in changes},
    )


def _add_counts(counts: Table, dialect: str, condition: ColumnElement[bool]) -> Insert:
    """Return the upsert that adds the rows of `counts` to a table whose last column is a number."""
    types = column_types(counts)
    rows = rows_from(dialect, "counts", types)
    *keys, number = types
    # Rows are inserted, and so locked, in this order.
    source = (
        select(TENANT_PARAMETER, *rows.c)
        .where(condition)
        .order_by(*(rows.c[name] for name in keys))
    )
    insert = cast(
        "postgresql.Insert", INSERTS[dialect](counts).from_select(["tenant_id", *types], source)
    )
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", *keys],
        set_={number: counts.c[number] + insert.excluded[number]},
    )
