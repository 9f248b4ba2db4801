"""Reads of stock levels by warehouse."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, func, literal_column, select

from app.database.parameters import TENANT, as_json, in_key_array, rows_from
from app.database.snapshot import Snapshot
from app.database.tables import sku, sku_count, stock_level
from app.domain.filters import Order, SkuFilter
from app.domain.records import LevelRecord, WarehouseRecord
from app.ledger.totals import ZERO, Columns
from app.reads.conditions import Filters, equals, filters_of, shaped
from app.reads.paging import COUNT_LIMIT, MAX_COUNT, after_position, in_sku_order, pages_of_parents
from app.reads.skus import (
    COUNTED_FILTERS,
    UPDATED_SINCE,
    count_conditions,
    level_conditions,
    sku_parameters,
)
from app.reads.stock_json import LEVEL_COLUMNS


async def list_levels_of_warehouses(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    warehouses: Sequence[WarehouseRecord],
    where: SkuFilter,
    changed: Sequence[str] | None = None,
    after: str | None,
    order: Order = Order.CODE_ASCENDING,
    limit: int,
) -> dict[str, list[LevelRecord]]:
    """Read a page of stock levels by SKU code for each warehouse id, starting after a code.

    The status of `where` is the status of the level. `changed` are the codes of the SKUs that
    changed at or after `updated_since`, if they are known.
    """
    parameters = {
        **_parameters(tenant_id, where, changed),
        "after": after and True,
        "after_sku": after,
    }
    statement = _levels_of_warehouses(snapshot.dialect, filters_of(parameters), order)
    parents = _warehouses_json(warehouse.id for warehouse in warehouses)
    by_id = {warehouse.id: warehouse for warehouse in warehouses}
    pages: dict[str, list[LevelRecord]] = {id_: [] for id_ in by_id}
    rows = await snapshot.rows(statement, {**parameters, "parents": parents, "limit": limit})
    for code, *values in rows:
        level = LevelRecord(*values)
        level.sku, level.warehouse = code, by_id[level.warehouse_id]
        pages[level.warehouse_id].append(level)
    return pages


async def count_levels_of_warehouses(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    ids: Sequence[str],
    where: SkuFilter,
    changed: Sequence[str] | None = None,
) -> dict[str, int]:
    """Count the stock levels of each warehouse id.

    Some numbers come from counts that every write maintains. Others end at MAX_COUNT.
    """
    parameters = _parameters(tenant_id, where, changed)
    filters = filters_of(parameters)
    counts = _level_counts if filters <= COUNTED_FILTERS else _counted_levels
    rows = await snapshot.rows(
        counts(snapshot.dialect, filters), {**parameters, "parents": _warehouses_json(ids)}
    )
    return {row.warehouse_id: int(row.skus) for row in rows}


async def list_changed_codes(
    snapshot: Snapshot, tenant_id: str, *, since: datetime
) -> list[str] | None:
    """Read the codes of the SKUs that changed at or after a time; None if MAX_COUNT or more did."""
    rows = await snapshot.rows(_changed_codes(), {"tenant_id": tenant_id, "updated_since": since})
    return None if len(rows) == MAX_COUNT else [row.sku for row in rows]


def reads_levels_to_count(where: SkuFilter) -> bool:
    """Whether many levels of a warehouse must be read to count the matching ones."""
    return where.sku is None and not filters_of(sku_parameters("", where)) <= COUNTED_FILTERS


def _parameters(
    tenant_id: str, where: SkuFilter, changed: Sequence[str] | None
) -> dict[str, object]:
    if changed is not None:
        where = replace(where, updated_since=None)
    return {**sku_parameters(tenant_id, where), "changed": changed}


def _warehouses_json(ids: Iterable[str]) -> str:
    return as_json({"warehouse_id": id_} for id_ in ids)


async def count_stocked_levels(
    snapshot: Snapshot, tenant_id: str, *, warehouse_id: str
) -> tuple[int, int]:
    """Count the stock levels of a warehouse with stock on hand, and those with reserved stock."""
    parameters = {"tenant_id": tenant_id, "warehouse_id": warehouse_id}
    [row] = await snapshot.rows(_stocked_counts(), parameters)
    return int(row.stocked), int(row.reserved)


@cache
def _stocked_counts() -> Select[int, int]:
    level = stock_level.c
    counts = (
        func.count().filter(level.on_hand > literal_column("0")).label("stocked"),
        func.count().filter(level.reserved > literal_column("0")).label("reserved"),
    )
    return select(*counts).where(level.tenant_id == TENANT, equals("warehouse_id")(level))


@cache
def _changed_codes() -> Select[str]:
    return (
        select(sku.c.sku)
        .where(sku.c.tenant_id == TENANT, sku.c.updated_at >= UPDATED_SINCE)
        .order_by(sku.c.updated_at, sku.c.sku)
        .limit(COUNT_LIMIT)
    )


def _conditions(dialect: str, filters: Filters, columns: Columns) -> list[ColumnElement[bool]]:
    found = level_conditions(filters, columns)
    if "changed" in filters:
        found.append(in_key_array(dialect, columns.sku, "changed"))
    return found


@shaped
def _levels_of_warehouses(dialect: str, filters: Filters, order: Order) -> Select[Any]:
    parents = rows_from(dialect, "parents", {"warehouse_id": Text()})

    def conditions(columns: Columns) -> list[ColumnElement[bool]]:
        found = _conditions(dialect, filters, columns)
        found.append(columns.warehouse_id == parents.c.warehouse_id)
        return [*found, after_position(columns, order)] if "after" in filters else found

    return pages_of_parents(
        dialect,
        parents,
        stock_level,
        (stock_level.c.sku, *LEVEL_COLUMNS),
        where=conditions,
        order=lambda columns: [columns.warehouse_id, *in_sku_order(columns, order)],
    )


@shaped
def _level_counts(dialect: str, filters: Filters) -> Select[Any]:
    """Sum the counts that writes maintain, by warehouse."""
    parents = rows_from(dialect, "parents", {"warehouse_id": Text()})
    number = select(func.coalesce(func.sum(sku_count.c.skus), ZERO)).where(
        *count_conditions(filters), sku_count.c.warehouse_id == parents.c.warehouse_id
    )
    skus = number.correlate(parents).scalar_subquery().label("skus")
    return select(parents.c.warehouse_id, skus)


@shaped
def _counted_levels(dialect: str, filters: Filters) -> Select[Any]:
    """Count the levels of each warehouse, up to COUNT_LIMIT."""
    parents = rows_from(dialect, "parents", {"warehouse_id": Text()})
    some = (
        select(stock_level.c.sku)
        .where(
            *_conditions(dialect, filters, stock_level.c),
            stock_level.c.warehouse_id == parents.c.warehouse_id,
        )
        .limit(COUNT_LIMIT)
        .correlate(parents)
        .subquery("some")
    )
    skus = select(func.count()).select_from(some).correlate(parents).scalar_subquery()
    return select(parents.c.warehouse_id, skus.label("skus"))
