"""The SQL statements of writes.

Each takes its rows as the JSON text `rows`: one parameter, whatever their number.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Table,
    Text,
    bindparam,
    delete,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import TypeEngine

from app.database.clocks import Present
from app.database.external_id_table import external_id
from app.database.parameters import column_types, rows_from
from app.database.tables import (
    LEVEL_KEY,
    adjustment,
    change,
    idempotency_key,
    person,
    reservation,
    reservation_count,
    reservation_line,
    sku,
    sku_count,
    sku_word,
    stock_level,
    warehouse,
)
from app.domain.object_details import ObjectKind

ColumnTypes = Mapping[str, TypeEngine[Any]]


# Not named like the column: SQLAlchemy would assign it to the column in every INSERT and UPDATE.
TENANT_PARAMETER: Final = bindparam("tenant", type_=Text)
# ON CONFLICT is not in standard SQL. SQLite's INSERT has the same methods.
INSERTS: Final[Mapping[str, Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
SKU_TYPES: Final = column_types(sku, without=["tenant_id", "metadata_entries"])
SKU_CHANGES: Final = ("title", "status", "available", "version", "updated_at", "archived_at")
WORD_TYPES: Final = column_types(sku_word, without=["tenant_id"])
LEVEL_TYPES: Final = column_types(stock_level, without=["tenant_id"])
ADJUSTMENT_TYPES: Final = column_types(adjustment, without=["tenant_id"])
RESERVATION_TYPES: Final = column_types(reservation, without=["tenant_id"])
LINE_TYPES: Final = column_types(reservation_line, without=["tenant_id"])
LINE_KEY_TYPES: Final = {
    name: LINE_TYPES[name] for name in ("reservation_id", "sku", "warehouse_id")
}
WAREHOUSE_COLUMN_TYPES: Final = column_types(
    warehouse, without=["tenant_id", "created_at", "metadata_entries", "reserved"]
)
EXTERNAL_ID_COLUMN_TYPES: Final = column_types(external_id, without=["tenant_id"])
EXTERNAL_ID_KEY_TYPES: Final = {
    name: EXTERNAL_ID_COLUMN_TYPES[name] for name in ("kind", "namespace", "value")
}
METADATA_TYPES: Final = {"id": Text(), "metadata_entries": Text()}
RESERVED_TYPES: Final = {"id": Text(), "reserved": warehouse.c.reserved.type}
WAREHOUSE_CHANGES: Final = ("name", "address", "marketplace", "is_active", "is_sellable")
PERSON_TYPES: Final = column_types(person, without=["tenant_id"])
CHANGE_COLUMN_TYPES: Final = column_types(change, without=["tenant_id"])
KEY_TYPES: Final = column_types(idempotency_key, without=["tenant_id", "created_at"])


@cache
def write_skus(dialect: str, *, has_new: bool) -> Executable:
    """Return the UPDATE of SKUs or, if some are new, their upsert, which takes longer."""
    if has_new:
        return _upsert(dialect, sku, SKU_TYPES, changes=SKU_CHANGES)
    rows = rows_from(dialect, "rows", SKU_TYPES)
    return (
        update(sku)
        .where(sku.c.tenant_id == TENANT_PARAMETER, sku.c.sku == rows.c.sku)
        .values({name: rows.c[name] for name in SKU_CHANGES})
    )


@cache
def insert_words(dialect: str) -> Executable:
    """Return the INSERT of words of SKUs.

    A SKU may have a word that an earlier version of Unicode's tables found in its old title.
    """
    insert: Executable = _insert(dialect, sku_word, WORD_TYPES).on_conflict_do_nothing()
    return insert


@cache
def delete_words(dialect: str) -> Executable:
    """Return the DELETE of words of SKUs."""
    rows = rows_from(dialect, "rows", WORD_TYPES)
    is_row = tuple_(sku_word.c.word, sku_word.c.sku).in_(select(rows.c.word, rows.c.sku))
    return delete(sku_word).where(sku_word.c.tenant_id == TENANT_PARAMETER, is_row)


@cache
def write_levels(dialect: str, *, has_new: bool) -> Executable:
    """Return the UPDATE of levels or, if some are new, their upsert, which takes longer."""
    if has_new:
        insert = _insert(dialect, stock_level, LEVEL_TYPES)
        upsert: Insert = insert.on_conflict_do_update(
            index_elements=LEVEL_KEY, set_=_level_changes(insert.excluded)
        )
        return upsert
    rows = rows_from(dialect, "rows", LEVEL_TYPES)
    is_level = [
        stock_level.c.tenant_id == TENANT_PARAMETER,
        stock_level.c.sku == rows.c.sku,
        stock_level.c.warehouse_id == rows.c.warehouse_id,
    ]
    return update(stock_level).where(*is_level).values(_level_changes(rows.c))


@cache
def insert_persons(dialect: str) -> Executable:
    """Return the INSERT of persons."""
    insert: Executable = _insert(dialect, person, PERSON_TYPES)
    return insert


@cache
def insert_adjustments(dialect: str) -> Executable:
    """Return the INSERT of adjustments."""
    insert: Executable = _insert(dialect, adjustment, ADJUSTMENT_TYPES)
    return insert


@cache
def upsert_warehouses(dialect: str) -> Executable:
    """Return the upsert of warehouses, whose types never change."""
    return _upsert(
        dialect, warehouse, WAREHOUSE_COLUMN_TYPES, changes=WAREHOUSE_CHANGES, dated=True
    )


@cache
def delete_external_ids(dialect: str) -> Executable:
    """Return the DELETE of external ids."""
    rows = rows_from(dialect, "rows", EXTERNAL_ID_KEY_TYPES)
    key = tuple_(*(external_id.c[name] for name in EXTERNAL_ID_KEY_TYPES))
    is_tenant = external_id.c.tenant_id == TENANT_PARAMETER
    return delete(external_id).where(is_tenant, key.in_(select(*rows.c)))


@cache
def insert_external_ids(dialect: str) -> Executable:
    """Return the INSERT of external ids."""
    insert: Executable = _insert(dialect, external_id, EXTERNAL_ID_COLUMN_TYPES)
    return insert


@cache
def set_metadata(dialect: str, kind: ObjectKind) -> Executable:
    """Return the UPDATE of the metadata of SKUs or of warehouses."""
    rows = rows_from(dialect, "rows", METADATA_TYPES)
    table = sku if kind is ObjectKind.SKU else warehouse
    key = sku.c.sku if kind is ObjectKind.SKU else warehouse.c.id
    return (
        update(table)
        .where(table.c.tenant_id == TENANT_PARAMETER, key == rows.c.id)
        .values(metadata_entries=rows.c.metadata_entries)
    )


@cache
def add_reserved(dialect: str) -> Executable:
    """Return the UPDATE that adds to the reserved quantities of warehouses."""
    rows = rows_from(dialect, "rows", RESERVED_TYPES)
    return (
        update(warehouse)
        .where(warehouse.c.tenant_id == TENANT_PARAMETER, warehouse.c.id == rows.c.id)
        .values(reserved=warehouse.c.reserved + rows.c.reserved)
    )


@cache
def upsert_reservations(dialect: str) -> Executable:
    """Return the upsert of reservations."""
    changes = ("status", "expires_at", "ended_at", "version")
    return _upsert(dialect, reservation, RESERVATION_TYPES, changes=changes)


@cache
def upsert_lines(dialect: str) -> Executable:
    """Return the upsert of the lines of reservations."""
    return _upsert(dialect, reservation_line, LINE_TYPES, changes=("quantity", "held", "committed"))


@cache
def delete_lines(dialect: str) -> Executable:
    """Return the DELETE of lines of reservations."""
    rows = rows_from(dialect, "rows", LINE_KEY_TYPES)
    key = tuple_(*(reservation_line.c[name] for name in LINE_KEY_TYPES))
    of_tenant = reservation_line.c.tenant_id == TENANT_PARAMETER
    return delete(reservation_line).where(of_tenant, key.in_(select(*rows.c)))


@cache
def insert_changes(dialect: str) -> Executable:
    """Return the INSERT of changes of the feed."""
    insert: Executable = _insert(dialect, change, CHANGE_COLUMN_TYPES)
    return insert


@cache
def upsert_keys(dialect: str) -> Executable:
    """Return the upsert of idempotency keys; an existing one has expired."""
    changes = ("fingerprint", "outcome", "created_at")
    return _upsert(dialect, idempotency_key, KEY_TYPES, changes=changes, dated=True)


@cache
def add_sku_counts(dialect: str) -> Executable:
    """Return the upsert that adds to the counts of SKUs."""
    return _add_counts(dialect, sku_count)


@cache
def add_reservation_counts(dialect: str) -> Executable:
    """Return the upsert that adds to the counts of reservations."""
    return _add_counts(dialect, reservation_count)


def _insert(dialect: str, table: Table, types: ColumnTypes, *, dated: bool = False) -> Any:  # noqa: ANN401 - of a dialect
    """Return the INSERT of rows; `dated` ones get the current time as `created_at`."""
    created_at = {"created_at": Present()} if dated else {}
    # SQLite needs a condition between SELECT and ON CONFLICT.
    source = select(
        TENANT_PARAMETER, *rows_from(dialect, "rows", types).c, *created_at.values()
    ).where(true())
    return INSERTS[dialect](table).from_select(["tenant_id", *types, *created_at], source)


def _upsert(
    dialect: str,
    table: Table,
    types: ColumnTypes,
    *,
    changes: Sequence[str],
    dated: bool = False,
) -> Insert:
    insert = _insert(dialect, table, types, dated=dated)
    upsert: Insert = insert.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={column: insert.excluded[column] for column in changes},
    )
    return upsert


def _add_counts(dialect: str, counts: Table) -> Insert:
    """Return the upsert that adds to the last column of a table of counts."""
    types = column_types(counts, without=["tenant_id"])
    *keys, number = types
    insert = _insert(dialect, counts, types)
    upsert: Insert = insert.on_conflict_do_update(
        index_elements=["tenant_id", *keys],
        set_={number: counts.c[number] + insert.excluded[number]},
    )
    return upsert


def _level_changes(new: ReadOnlyColumnCollection[str, Any]) -> dict[str, ColumnElement[Any]]:
    changed = {name: new[name] for name in LEVEL_TYPES if name not in LEVEL_KEY}
    return {**changed, "holds": stock_level.c.holds + new.holds}
