"""Reads of stock levels by warehouse."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, Text, func, select

from app.database.parameters import as_json, in_key_array, rows_from
from app.database.snapshot import Snapshot
from app.database.tables import sku_count, stock_level
from app.domain.quantities import Status
from app.domain.records import LevelRecord, WarehouseRecord
from app.reads.conditions import conditions_of, parameter_names, shaped
from app.reads.paging import pages_of_parents
from app.reads.skus import COUNT_CONDITIONS, SKU_CONDITIONS, STOCK_COLUMNS, archived_parameters


async def list_levels_of_warehouses(
    snapshot: Snapshot,
    tenant: str,
    *,
    warehouses: Sequence[WarehouseRecord],
    status: Status | None,
    archived: bool | None = False,
    after: str | None,
    limit: int,
) -> dict[str, list[LevelRecord]]:
    """Return for each warehouse a page of its levels by SKU code, from after a code on."""
    parameters = {
        "tenant_id": tenant,
        "status": status,
        "after": after,
        **archived_parameters(archived),
    }
    statement = _levels_of_warehouses(snapshot.dialect, parameter_names(parameters))
    parents = as_json({"warehouse_id": place.id} for place in warehouses)
    places = {place.id: place for place in warehouses}
    pages: dict[str, list[LevelRecord]] = {id_: [] for id_ in places}
    rows = await snapshot.rows(statement, {**parameters, "parents": parents, "limit": limit})
    for id_, code, on_hand, reserved, safety_stock, version, adjusted_at, synced_at in rows:
        figures = (on_hand, reserved, safety_stock)
        level = LevelRecord(*figures, version, adjusted_at, synced_at, id_)
        level.sku, level.warehouse = code, places[id_]
        pages[id_].append(level)
    return pages


async def count_levels_of_warehouses(
    snapshot: Snapshot,
    tenant: str,
    *,
    ids: Sequence[str],
    status: Status | None,
    archived: bool | None = False,
) -> dict[str, int]:
    """Return for each warehouse how many levels it has, from counts that every write keeps."""
    parameters = {"tenant_id": tenant, "status": status, **archived_parameters(archived)}
    statement = _levels_count(snapshot.dialect, parameter_names(parameters))
    rows = await snapshot.rows(statement, {**parameters, "ids": ids})
    return dict.fromkeys(ids, 0) | {row.warehouse_id: int(row.skus) for row in rows}


@shaped
def _levels_count(dialect: str, asked: frozenset[str]) -> Select[Any]:
    return (
        select(sku_count.c.warehouse_id, func.sum(sku_count.c.skus).label("skus"))
        .where(
            *conditions_of(COUNT_CONDITIONS, asked, sku_count.c),
            in_key_array(dialect, sku_count.c.warehouse_id, "ids"),
        )
        .group_by(sku_count.c.warehouse_id)
    )


@shaped
def _levels_of_warehouses(dialect: str, asked: frozenset[str]) -> Select[Any]:
    parents = rows_from(dialect, "parents", {"warehouse_id": Text()})
    return pages_of_parents(
        dialect,
        parents,
        stock_level,
        (stock_level.c.warehouse_id, stock_level.c.sku, *STOCK_COLUMNS),
        where=lambda columns: [
            *conditions_of(SKU_CONDITIONS, asked, columns),
            columns.warehouse_id == parents.c.warehouse_id,
        ],
        order=lambda columns: [columns.warehouse_id, columns.sku],
    )
