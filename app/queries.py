"""Every SELECT of the service.

Each function takes a snapshot and a tenant, and returns records. Statements are built once per
shape; lists are keyset pages, so the last page costs what the first does; the nested lists of many
parents are one statement.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    Select,
    Text,
    bindparam,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app.database import Key, Snapshot, as_json, rows_from, texts_in
from app.models import (
    UtcDateTime,
    adjustment,
    api_token,
    as_text,
    sku,
    sku_count,
    stock_level,
    warehouse,
)
from app.models import tenant as tenant_table
from app.records import (
    AdjustmentFilter,
    AdjustmentRecord,
    LevelRecord,
    Order,
    SkuFilter,
    SkuRecord,
    WarehouseRecord,
)
from app.stock import Figures, Status, WarehouseType

# One stock level as (SKU, warehouse id), or all levels of a SKU as (SKU, None).
LevelKey = tuple[str, str | None]
# Where an adjustment stands in a list: when, sequence, id.
AdjustmentPosition = tuple[datetime, int, str]
Columns = ReadOnlyColumnCollection[str, Any]
Conditions = Mapping[str, Callable[[Columns], ColumnElement[bool]]]

LIMIT: Final = bindparam("limit", type_=BigInteger)

SKU_COLUMNS: Final = (sku.c.sku, sku.c.title, sku.c.version.label("sku_version"))
LEVEL_COLUMNS: Final = (
    stock_level.c.warehouse_id,
    stock_level.c.on_hand,
    stock_level.c.reserved,
    stock_level.c.safety_stock,
    stock_level.c.version,
    stock_level.c.adjusted_at,
)
WAREHOUSE_COLUMNS: Final = (
    warehouse.c.id,
    warehouse.c.name,
    warehouse.c.type,
    warehouse.c.address,
    warehouse.c.marketplace,
    warehouse.c.is_active,
)
ADJUSTMENT_COLUMNS: Final = (
    adjustment.c.id,
    adjustment.c.sku,
    adjustment.c.warehouse_id,
    adjustment.c.sequence,
    adjustment.c.before_quantity,
    adjustment.c.after_quantity,
    adjustment.c.reason,
    adjustment.c.note,
    adjustment.c.created_by,
    adjustment.c.created_at,
)


def _equals(name: str) -> Callable[[Columns], ColumnElement[bool]]:
    return lambda columns: columns[name] == bindparam(name, type_=Key)


SKU_CONDITIONS: Final[Conditions] = {
    "tenant_id": _equals("tenant_id"),
    "warehouse_id": _equals("warehouse_id"),
    "status": _equals("status"),
    "sku": _equals("sku"),
    "after": lambda columns: columns.sku > bindparam("after", type_=Text),
    "before": lambda columns: columns.sku < bindparam("before", type_=Text),
}
ADJUSTMENT_CONDITIONS: Final[Conditions] = {
    "tenant_id": _equals("tenant_id"),
    "sku": _equals("sku"),
    "warehouse_id": _equals("warehouse_id"),
    "reason": _equals("reason"),
    "start": lambda columns: columns.created_at >= bindparam("start", type_=UtcDateTime),
    "end": lambda columns: columns.created_at < bindparam("end", type_=UtcDateTime),
    "after": lambda columns: (
        tuple_(columns.created_at, columns.sequence, columns.id)
        < tuple_(
            bindparam("after", type_=UtcDateTime),
            bindparam("after_sequence", type_=BigInteger),
            bindparam("after_id", type_=Text),
        )
    ),
}


async def list_skus(
    snapshot: Snapshot,
    tenant: str,
    *,
    where: SkuFilter,
    after: str | None = None,
    order: Order = Order.ASCENDING,
    limit: int,
) -> list[SkuRecord]:
    """Return a page of SKUs by code, each with its levels, from after a code on."""
    parameters = {
        "tenant_id": tenant,
        "warehouse_id": where.warehouse_id,
        "status": where.status,
        "sku": where.sku,
        "after" if order is Order.ASCENDING else "before": after,
    }
    statement = _skus_page(_asked(parameters), order)
    rows = await snapshot.rows(statement, {**parameters, "limit": limit})
    return _sku_records(rows, where.warehouse_id)


async def count_skus(snapshot: Snapshot, tenant: str, *, where: SkuFilter) -> int:
    """Return how many SKUs match, from counts that every write keeps."""
    if where.sku is not None:
        return len(await list_skus(snapshot, tenant, where=where, limit=1))
    parameters = {
        "tenant_id": tenant,
        "warehouse_id": where.warehouse_id or "",
        "status": where.status,
    }
    [row] = await snapshot.rows(_skus_count(_asked(parameters)), parameters)
    return int(row[0])


async def get_skus(
    snapshot: Snapshot, tenant: str, *, codes: Sequence[str], warehouse_id: str | None = None
) -> dict[str, SkuRecord]:
    """Return SKUs by code, each with its levels: all of them, or the one in a warehouse."""
    parameters = {"tenant_id": tenant, "warehouse_id": warehouse_id, "codes": codes}
    statement = _skus_by_code(snapshot.dialect, narrowed=warehouse_id is not None)
    records = _sku_records(await snapshot.rows(statement, parameters), warehouse_id)
    return {record.sku: record for record in records}


async def list_warehouses(snapshot: Snapshot, tenant: str) -> list[WarehouseRecord]:
    """Return all warehouses by id, inactive ones too."""
    rows = await snapshot.rows(_all_warehouses(), {"tenant_id": tenant})
    return [warehouse_record(row) for row in rows]


async def get_warehouses(
    snapshot: Snapshot, tenant: str, *, ids: Sequence[str]
) -> dict[str, WarehouseRecord]:
    """Return warehouses by id."""
    statement = _warehouses_by_id(snapshot.dialect)
    rows = await snapshot.rows(statement, {"tenant_id": tenant, "ids": ids})
    return {row.id: warehouse_record(row) for row in rows}


async def list_levels_of_warehouses(
    snapshot: Snapshot,
    tenant: str,
    *,
    ids: Sequence[str],
    status: Status | None,
    after: str | None,
    limit: int,
) -> dict[str, list[LevelRecord]]:
    """Return for each warehouse a page of its levels by SKU code, from after a code on."""
    parameters = {"tenant_id": tenant, "status": status, "after": after}
    statement = _levels_of_warehouses(snapshot.dialect, _asked(parameters))
    parents = as_json({"warehouse_id": id_} for id_ in ids)
    pages: dict[str, list[LevelRecord]] = {id_: [] for id_ in ids}
    rows = await snapshot.rows(statement, {**parameters, "parents": parents, "limit": limit})
    for row in rows:
        pages[row.warehouse_id].append(level_record(row))
    return pages


async def count_levels_of_warehouses(
    snapshot: Snapshot, tenant: str, *, ids: Sequence[str], status: Status | None
) -> dict[str, int]:
    """Return for each warehouse how many levels it has, from counts that every write keeps."""
    parameters = {"tenant_id": tenant, "status": status}
    statement = _levels_count(snapshot.dialect, _asked(parameters))
    rows = await snapshot.rows(statement, {**parameters, "ids": ids})
    return dict.fromkeys(ids, 0) | {row.warehouse_id: int(row.skus) for row in rows}


async def list_adjustments(
    snapshot: Snapshot,
    tenant: str,
    *,
    where: AdjustmentFilter,
    after: AdjustmentPosition | None = None,
    limit: int,
) -> list[AdjustmentRecord]:
    """Return a page of the ledger, newest first, from after a position on."""
    parameters = _adjustment_parameters(tenant, where, after)
    statement = _adjustments_page(_asked(parameters))
    rows = await snapshot.rows(statement, {**parameters, "limit": limit})
    return [adjustment_record(row) for row in rows]


async def count_adjustments(snapshot: Snapshot, tenant: str, *, where: AdjustmentFilter) -> int:
    """Return how many adjustments match."""
    parameters = _adjustment_parameters(tenant, where, None)
    [row] = await snapshot.rows(_adjustments_count(_asked(parameters)), parameters)
    return int(row[0])


async def list_adjustments_of(
    snapshot: Snapshot,
    tenant: str,
    *,
    parents: Sequence[LevelKey],
    where: AdjustmentFilter,
    after: AdjustmentPosition | None = None,
    limit: int,
) -> dict[LevelKey, list[AdjustmentRecord]]:
    """Return for each parent (all of them SKUs, or levels) a page of its ledger, newest first."""
    by_level = parents[0][1] is not None
    parameters = _adjustment_parameters(tenant, where, after)
    statement = _adjustments_of(snapshot.dialect, _asked(parameters), by_level=by_level)
    parameters |= {"parents": _levels_json(parents), "limit": limit}
    pages: dict[LevelKey, list[AdjustmentRecord]] = {parent: [] for parent in parents}
    for row in await snapshot.rows(statement, parameters):
        pages[row.sku, row.warehouse_id if by_level else None].append(adjustment_record(row))
    return pages


async def count_adjustments_of(
    snapshot: Snapshot, tenant: str, *, parents: Sequence[LevelKey], where: AdjustmentFilter
) -> dict[LevelKey, int]:
    """Return for each parent (all of them SKUs, or levels) how many of its adjustments match."""
    by_level = parents[0][1] is not None
    parameters = _adjustment_parameters(tenant, where, None)
    statement = _adjustments_count_of(snapshot.dialect, _asked(parameters), by_level=by_level)
    parameters |= {"parents": _levels_json(parents)}
    counts = dict.fromkeys(parents, 0)
    for row in await snapshot.rows(statement, parameters):
        counts[row.sku, row.warehouse_id if by_level else None] = int(row.adjustments)
    return counts


async def get_adjustment(snapshot: Snapshot, tenant: str, *, id_: str) -> AdjustmentRecord | None:
    """Return the adjustment of an id."""
    rows = await snapshot.rows(_adjustment_by_id(), {"tenant_id": tenant, "id": id_})
    return adjustment_record(rows[0]) if rows else None


async def list_tenants(snapshot: Snapshot) -> list[str]:
    """Return the ids of all tenants: for operators, never for a tenant."""
    rows = await snapshot.rows(
        select(tenant_table.c.tenant_id).order_by(tenant_table.c.tenant_id), {}
    )
    return [row.tenant_id for row in rows]


async def list_tokens(snapshot: Snapshot, tenant_id: str) -> list[dict[str, object]]:
    """Return what is kept of a tenant's tokens, oldest first."""
    statement = (
        select(
            api_token.c.id,
            api_token.c.name,
            api_token.c.email,
            api_token.c.scopes,
            api_token.c.created_at,
            api_token.c.expires_at,
            api_token.c.revoked_at,
            api_token.c.last_used_at,
        )
        .where(_equals("tenant_id")(api_token.c))
        .order_by(api_token.c.created_at, api_token.c.id)
    )
    rows = await snapshot.rows(statement, {"tenant_id": tenant_id})
    return [
        {
            name: as_text(value) if isinstance(value, datetime) else value
            for name, value in row._mapping.items()  # noqa: SLF001 - SQLAlchemy's public name
        }
        for row in rows
    ]


def warehouse_record(row: Row[Any]) -> WarehouseRecord:
    """Return a row of WAREHOUSE_COLUMNS as a record."""
    id_, name, type_, address, marketplace, is_active = tuple(row)
    return WarehouseRecord(id_, name, WarehouseType(type_), address, marketplace, is_active)


def level_record(row: Row[Any]) -> LevelRecord:
    """Return a row that has a SKU and the LEVEL_COLUMNS as a record."""
    figures = Figures(row.on_hand, row.reserved, row.safety_stock)
    return LevelRecord(row.sku, row.warehouse_id, figures, row.version, row.adjusted_at)


def adjustment_record(row: Row[Any]) -> AdjustmentRecord:
    """Return a row of ADJUSTMENT_COLUMNS as a record."""
    return AdjustmentRecord(*tuple(row))


def _sku_records(rows: Iterable[Row[Any]], warehouse_id: str | None) -> list[SkuRecord]:
    """Return rows of SKUs with one level each, or none, as records."""
    records = []
    for _, group in groupby(rows, key=lambda row: row.sku):
        same = list(group)
        levels = tuple(level_record(row) for row in same if row.warehouse_id is not None)
        first = same[0]
        records.append(SkuRecord(first.sku, first.title, first.sku_version, levels, warehouse_id))
    return records


def _adjustment_parameters(
    tenant: str, where: AdjustmentFilter, after: AdjustmentPosition | None
) -> dict[str, object]:
    instant, sequence, id_ = after or (None, None, None)
    return {
        "tenant_id": tenant,
        "sku": where.sku,
        "warehouse_id": where.warehouse_id,
        "reason": where.reason,
        "start": where.start,
        "end": where.end,
        "after": instant,
        "after_sequence": sequence,
        "after_id": id_,
    }


def _levels_json(parents: Iterable[LevelKey]) -> str:
    return as_json({"sku": code, "warehouse_id": id_} for code, id_ in parents)


def _asked(parameters: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the parameters that have a value: the shape of a statement."""
    return frozenset(name for name, value in parameters.items() if value is not None)


def _all_of(
    conditions: Conditions, asked: frozenset[str], columns: Columns
) -> list[ColumnElement[bool]]:
    return [condition(columns) for name, condition in conditions.items() if name in asked]


@cache
def _skus_page(asked: frozenset[str], order: Order) -> Select[Any]:
    source = stock_level if "warehouse_id" in asked else sku
    page = (
        select(source.c.tenant_id, source.c.sku)
        .where(*_all_of(SKU_CONDITIONS, asked, source.c))
        .order_by(_in_order(source.c.sku, order))
        .limit(LIMIT)
        .cte("page")
    )
    return _with_levels(page, narrowed="warehouse_id" in asked, order=order)


@cache
def _skus_by_code(dialect: str, *, narrowed: bool) -> Select[Any]:
    page = (
        select(sku.c.tenant_id, sku.c.sku)
        .where(SKU_CONDITIONS["tenant_id"](sku.c), texts_in(dialect, sku.c.sku, "codes"))
        .cte("page")
    )
    return _with_levels(page, narrowed=narrowed, order=Order.ASCENDING)


def _with_levels(page: FromClause, *, narrowed: bool, order: Order) -> Select[Any]:
    on_level = (stock_level.c.tenant_id == page.c.tenant_id) & (stock_level.c.sku == page.c.sku)
    if narrowed:
        on_level &= SKU_CONDITIONS["warehouse_id"](stock_level.c)
    on_sku = (sku.c.tenant_id == page.c.tenant_id) & (sku.c.sku == page.c.sku)
    return (
        select(*SKU_COLUMNS, *LEVEL_COLUMNS)
        .select_from(page.join(sku, on_sku).join(stock_level, on_level, isouter=not narrowed))
        .order_by(
            page.c.sku if order is Order.ASCENDING else page.c.sku.desc(),
            stock_level.c.warehouse_id,
        )
    )


def _in_order(code: ColumnElement[str], order: Order) -> ColumnElement[str]:
    return code if order is Order.ASCENDING else code.desc()


@cache
def _skus_count(asked: frozenset[str]) -> Select[Any]:
    return select(func.coalesce(func.sum(sku_count.c.skus), 0)).where(
        *_all_of(SKU_CONDITIONS, asked, sku_count.c)
    )


@cache
def _levels_count(dialect: str, asked: frozenset[str]) -> Select[Any]:
    return (
        select(sku_count.c.warehouse_id, func.sum(sku_count.c.skus).label("skus"))
        .where(
            *_all_of(SKU_CONDITIONS, asked, sku_count.c),
            texts_in(dialect, sku_count.c.warehouse_id, "ids"),
        )
        .group_by(sku_count.c.warehouse_id)
    )


@cache
def _all_warehouses() -> Select[Any]:
    return (
        select(*WAREHOUSE_COLUMNS).where(_equals("tenant_id")(warehouse.c)).order_by(warehouse.c.id)
    )


@cache
def _warehouses_by_id(dialect: str) -> Select[Any]:
    return select(*WAREHOUSE_COLUMNS).where(
        _equals("tenant_id")(warehouse.c), texts_in(dialect, warehouse.c.id, "ids")
    )


@cache
def _levels_of_warehouses(dialect: str, asked: frozenset[str]) -> Select[Any]:
    parents = rows_from(dialect, "parents", {"warehouse_id": Text()})
    return _pages_of(
        dialect,
        parents,
        stock_level,
        (stock_level.c.sku, *LEVEL_COLUMNS),
        where=lambda columns: [
            *_all_of(SKU_CONDITIONS, asked, columns),
            columns.warehouse_id == parents.c.warehouse_id,
        ],
        order=lambda columns: [columns.warehouse_id, columns.sku],
    )


@cache
def _adjustments_page(asked: frozenset[str]) -> Select[Any]:
    by_level = {"sku", "warehouse_id"} <= asked
    return (
        select(*ADJUSTMENT_COLUMNS)
        .where(*_adjustment_conditions(asked, adjustment.c, by_level=by_level))
        .order_by(*_newest_first(adjustment.c, by_level=by_level))
        .limit(LIMIT)
    )


@cache
def _adjustments_count(asked: frozenset[str]) -> Select[Any]:
    if asked & {"reason", "start", "end"}:
        return (
            select(func.count())
            .select_from(adjustment)
            .where(*_all_of(ADJUSTMENT_CONDITIONS, asked, adjustment.c))
        )
    # A level's version counts its adjustments.
    return select(func.coalesce(func.sum(stock_level.c.version), 0)).where(
        *_all_of(ADJUSTMENT_CONDITIONS, asked, stock_level.c)
    )


@cache
def _adjustments_of(dialect: str, asked: frozenset[str], *, by_level: bool) -> Select[Any]:
    parents = rows_from(dialect, "parents", {"sku": Text(), "warehouse_id": Text()})
    by_level_here = by_level or "warehouse_id" in asked
    return _pages_of(
        dialect,
        parents,
        adjustment,
        ADJUSTMENT_COLUMNS,
        where=lambda columns: [
            *_adjustment_conditions(asked, columns, by_level=by_level_here),
            *_of_parent(columns, parents, by_level=by_level),
        ],
        order=lambda columns: _newest_first(columns, by_level=by_level_here),
    )


@cache
def _adjustments_count_of(dialect: str, asked: frozenset[str], *, by_level: bool) -> Select[Any]:
    parents = rows_from(dialect, "parents", {"sku": Text(), "warehouse_id": Text()})
    counted = bool(asked & {"reason", "start", "end"})
    source = adjustment if counted else stock_level
    number: ColumnElement[int] = func.count() if counted else func.sum(stock_level.c.version)
    return (
        select(parents.c.sku, parents.c.warehouse_id, number.label("adjustments"))
        .select_from(parents.join(source, _and(_of_parent(source.c, parents, by_level=by_level))))
        .where(*_all_of(ADJUSTMENT_CONDITIONS, asked, source.c))
        .group_by(parents.c.sku, parents.c.warehouse_id)
    )


@cache
def _adjustment_by_id() -> Select[Any]:
    return select(*ADJUSTMENT_COLUMNS).where(
        _equals("tenant_id")(adjustment.c), _equals("id")(adjustment.c)
    )


def _adjustment_conditions(
    asked: frozenset[str], columns: Columns, *, by_level: bool
) -> list[ColumnElement[bool]]:
    if by_level and "after" in asked:
        # Within a level the sequence alone is the order, and its index serves it.
        before = columns.sequence < bindparam("after_sequence", type_=BigInteger)
        return [*_all_of(ADJUSTMENT_CONDITIONS, asked - {"after"}, columns), before]
    return _all_of(ADJUSTMENT_CONDITIONS, asked, columns)


def _newest_first(columns: Columns, *, by_level: bool) -> list[ColumnElement[Any]]:
    if by_level:
        return [columns.sequence.desc()]
    return [columns.created_at.desc(), columns.sequence.desc(), columns.id.desc()]


def _of_parent(
    columns: Columns, parents: FromClause, *, by_level: bool
) -> list[ColumnElement[bool]]:
    conditions = [columns.sku == parents.c.sku]
    if by_level:
        conditions.append(columns.warehouse_id == parents.c.warehouse_id)
    return conditions


def _and(conditions: Iterable[ColumnElement[bool]]) -> ColumnElement[bool]:
    whole: ColumnElement[bool] = true()
    for condition in conditions:
        whole &= condition
    return whole


def _pages_of(
    dialect: str,
    parents: FromClause,
    table: FromClause,
    columns: Sequence[ColumnElement[Any]],
    *,
    where: Callable[[Columns], list[ColumnElement[bool]]],
    order: Callable[[Columns], list[ColumnElement[Any]]],
) -> Select[Any]:
    """Return the first rows of a table for every parent, each found by an index seek."""
    if dialect == "postgresql":
        page = (
            select(*columns).where(*where(table.c)).order_by(*order(table.c)).limit(LIMIT).lateral()
        )
        return select(*page.c).select_from(parents.join(page, true())).order_by(*order(page.c))
    inner = table.alias("page")
    page_rows: Select[Any] = (
        select(literal_column("page.rowid"))
        .select_from(inner)
        .where(*where(inner.c))
        .order_by(*order(inner.c))
        .limit(LIMIT)
        .correlate(parents)
    )
    found = literal_column(f"{table.description}.rowid").in_(page_rows)
    return select(*columns).select_from(parents.join(table, found)).order_by(*order(table.c))
