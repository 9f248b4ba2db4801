"""Reads of stock levels by warehouse."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, Text, func, literal_column, select

from app.database.parameters import TENANT, as_json, in_key_array, rows_from
from app.database.snapshot import Snapshot
from app.database.tables import sku_count, stock_level
from app.domain.quantities import Status
from app.domain.records import LevelRecord, WarehouseRecord
from app.reads.conditions import Filters, conditions_of, equals, filters_of, shaped
from app.reads.paging import pages_of_parents
from app.reads.skus import COUNT_CONDITIONS, SKU_CONDITIONS, archived_parameters
from app.reads.stock_json import LEVEL_COLUMNS


async def list_levels_of_warehouses(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    warehouses: Sequence[WarehouseRecord],
    status: Status | None,
    archived: bool | None = False,
    after: str | None,
    limit: int,
) -> dict[str, list[LevelRecord]]:
    """Read a page of stock levels by SKU code for each warehouse id, starting after a code."""
    parameters = {
        "tenant_id": tenant_id,
        "status": status,
        "after": after,
        **archived_parameters(archived),
    }
    statement = _levels_of_warehouses(snapshot.dialect, filters_of(parameters))
    parents = as_json({"warehouse_id": warehouse.id} for warehouse in warehouses)
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
    status: Status | None,
    archived: bool | None = False,
) -> dict[str, int]:
    """Count the stock levels of each warehouse id, from counts that every write maintains."""
    parameters = {"tenant_id": tenant_id, "status": status, **archived_parameters(archived)}
    statement = _level_counts(snapshot.dialect, filters_of(parameters))
    rows = await snapshot.rows(statement, {**parameters, "ids": ids})
    return dict.fromkeys(ids, 0) | {row.warehouse_id: int(row.skus) for row in rows}


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


@shaped
def _levels_of_warehouses(dialect: str, filters: Filters) -> Select[Any]:
    parents = rows_from(dialect, "parents", {"warehouse_id": Text()})
    return pages_of_parents(
        dialect,
        parents,
        stock_level,
        (stock_level.c.sku, *LEVEL_COLUMNS),
        where=lambda columns: [
            *conditions_of(SKU_CONDITIONS, filters, columns),
            columns.warehouse_id == parents.c.warehouse_id,
        ],
        order=lambda columns: [columns.warehouse_id, columns.sku],
    )


@shaped
def _level_counts(dialect: str, filters: Filters) -> Select[Any]:
    return (
        select(sku_count.c.warehouse_id, func.sum(sku_count.c.skus).label("skus"))
        .where(
            *conditions_of(COUNT_CONDITIONS, filters, sku_count.c),
            in_key_array(dialect, sku_count.c.warehouse_id, "ids"),
        )
        .group_by(sku_count.c.warehouse_id)
    )
