"""SQL of SKUs with their stock levels as one row of JSON.

Reading one text takes a fraction of the time of reading hundreds of rows.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    any_,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSON, aggregate_order_by

from app.database.parameters import TENANT, TenantOf
from app.database.tables import sku, stock_level, warehouse
from app.domain.filters import Order
from app.domain.records import LevelRecord, SkuRecord
from app.ledger.totals import Columns
from app.reads.json_rows import json_agg, json_array, json_rows_of
from app.reads.paging import in_sku_order
from app.reads.warehouses import WAREHOUSE_COLUMNS

SKU_COLUMNS: Final = tuple(
    sku.c[name] for name in SkuRecord.__struct_fields__ if name in sku.c and name != "updated_at"
)
# The fields of a level without a default. The others are not read here.
LEVEL_COLUMNS: Final = tuple(
    stock_level.c[name]
    for name in LevelRecord.__struct_fields__[: -len(LevelRecord.__struct_defaults__)]
)
# Separates warehouse ids, which contain no space.
SPACE: Final = literal_column("' '", Text)


class _SkusWithLevels(NamedTuple):
    """A relation of SKUs, their JSON text, and the condition that a warehouse has a level."""

    relation: FromClause
    skus_json: ColumnElement[Any]
    has_level: ColumnElement[bool]


def with_stock(
    dialect: str,
    skus: FromClause,
    *,
    order: Order = Order.CODE_ASCENDING,
) -> Select[Any]:
    """Select a single row of two JSON texts: the SKUs with their levels, and the warehouses.

    The warehouses are the ones that have a level. Each row is an array: SKU_COLUMNS and levels,
    LEVEL_COLUMNS, WAREHOUSE_COLUMNS.
    """
    build = _on_postgresql if dialect == "postgresql" else _on_sqlite
    found = build(skus, order)
    warehouses = (
        select(*WAREHOUSE_COLUMNS)
        .where(warehouse.c.tenant_id == TENANT, found.has_level)
        .correlate(found.relation)
    )
    texts = found.skus_json, json_rows_of(dialect, warehouses).label("warehouses")
    return select(*texts)


def _on_postgresql(skus: FromClause, order: Order) -> _SkusWithLevels:
    """Aggregate levels, their warehouse ids and SKUs in one pass: 10 % faster than a CTE."""
    by_warehouse = aggregate_order_by(
        json_array("postgresql", *LEVEL_COLUMNS), stock_level.c.warehouse_id
    )
    levels: ColumnElement[Any] = func.coalesce(
        func.json_agg(by_warehouse), literal_column("'[]'", JSON)
    )
    ids = func.string_agg(stock_level.c.warehouse_id, SPACE)
    each = (
        select(levels.label("levels"), ids.label("ids"))
        .where(same_sku(skus.c, stock_level.c))
        .lateral("each")
    )
    joined = select(skus, each).select_from(skus.join(each, true())).subquery("joined")
    rows = _in_order(joined, order, joined.c.ids).subquery("rows")
    *row, ids_of_sku = rows.c
    all_ids = func.string_agg(ids_of_sku, SPACE).label("ids")
    found = select(json_agg(*row).label("skus"), all_ids).subquery("found")
    has_level = warehouse.c.id == any_(func.string_to_array(found.c.ids, SPACE))
    return _SkusWithLevels(found, found.c.skus, has_level)


def _on_sqlite(skus: FromClause, order: Order) -> _SkusWithLevels:
    levels = (
        select(*LEVEL_COLUMNS)
        .where(same_sku(skus.c, stock_level.c))
        .order_by(stock_level.c.warehouse_id)
        .correlate(skus)
    )
    found = select(skus, json_rows_of("sqlite", levels).label("levels")).cte("found")
    skus_json = json_rows_of("sqlite", _in_order(found, order), nested="levels").label("skus")
    ids = select(stock_level.c.warehouse_id).where(same_sku(found.c, stock_level.c))
    return _SkusWithLevels(found, skus_json, warehouse.c.id.in_(ids))


def _in_order(skus: FromClause, order: Order, *more: ColumnElement[Any]) -> Select[Any]:
    columns = [skus.c[column.name] for column in SKU_COLUMNS]
    # The fields of a record in their order: `updated_at` is the last one, and optional.
    last = [skus.c.updated_at] if order.subject == "updated" else []
    return select(*columns, skus.c.levels, *last, *more).order_by(*in_sku_order(skus.c, order))


def same_sku(left: Columns, right: Columns) -> ColumnElement[bool]:
    """Condition that a row of a table, the right one, belongs to the SKU of another row."""
    return and_(right.tenant_id == TenantOf(left.tenant_id), left.sku == right.sku)
