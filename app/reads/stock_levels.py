"""Reads of stock levels by warehouse."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Select, Text, func, literal_column, select

from app.database.parameters import TENANT, as_json, rows_from
from app.database.snapshot import Snapshot
from app.database.tables import sku_count, stock_level
from app.domain.filters import SkuFilter
from app.domain.records import LevelRecord, WarehouseRecord
from app.ledger.totals import ZERO
from app.reads.conditions import Filters, conditions_of, equals, filters_of, shaped
from app.reads.paging import COUNT_LIMIT, pages_of_parents
from app.reads.skus import COUNT_CONDITIONS, SKU_CONDITIONS, archived_parameters
from app.reads.stock_json import LEVEL_COLUMNS

# The filters of levels by which writes maintain counts.
COUNTED_FILTERS: Final = frozenset({"tenant_id", "status", "listed", "archived"})


async def list_levels_of_warehouses(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    warehouses: Sequence[WarehouseRecord],
    where: SkuFilter,
    after: str | None,
    limit: int,
) -> dict[str, list[LevelRecord]]:
    """Read a page of stock levels by SKU code for each warehouse id, starting after a code.

    The status of `where` is the status of the level.
    """
    parameters = {**_level_parameters(tenant_id, where), "after": after}
    statement = _levels_of_warehouses(snapshot.dialect, filters_of(parameters))
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
    snapshot: Snapshot, tenant_id: str, *, ids: Sequence[str], where: SkuFilter
) -> dict[str, int]:
    """Count the stock levels of each warehouse id.

    Without a filter by SKU, the numbers come from counts that every write maintains.
    """
    parameters = _level_parameters(tenant_id, where)
    filters = filters_of(parameters)
    counts = _level_counts if filters <= COUNTED_FILTERS else _counted_levels
    rows = await snapshot.rows(
        counts(snapshot.dialect, filters), {**parameters, "parents": _warehouses_json(ids)}
    )
    return {row.warehouse_id: int(row.skus) for row in rows}


def _level_parameters(tenant_id: str, where: SkuFilter) -> dict[str, object]:
    return {
        "tenant_id": tenant_id,
        "status": where.status,
        "sku": where.sku,
        **archived_parameters(where.archived),
    }


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
    """Sum the counts that writes maintain, by warehouse."""
    parents = rows_from(dialect, "parents", {"warehouse_id": Text()})
    number = select(func.coalesce(func.sum(sku_count.c.skus), ZERO)).where(
        *conditions_of(COUNT_CONDITIONS, filters, sku_count.c),
        sku_count.c.warehouse_id == parents.c.warehouse_id,
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
            *conditions_of(SKU_CONDITIONS, filters, stock_level.c),
            stock_level.c.warehouse_id == parents.c.warehouse_id,
        )
        .limit(COUNT_LIMIT)
        .correlate(parents)
        .subquery("some")
    )
    skus = select(func.count()).select_from(some).correlate(parents).scalar_subquery()
    return select(parents.c.warehouse_id, skus.label("skus"))
