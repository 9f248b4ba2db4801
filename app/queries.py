"""Every SELECT of the service.

Each function takes a snapshot and a tenant, and returns records. Statements are built once per
shape; lists are keyset pages, so the last page costs what the first does; the nested lists of many
parents are one statement.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    ScalarSelect,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app.database import Key, Snapshot, as_json, rows_from, texts_in
from app.models import (
    LINKS,
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
from app.stock import ARCHIVED, Status, WarehouseType

# One stock level as (SKU, warehouse id), or all levels of a SKU as (SKU, None).
LevelKey = tuple[str, str | None]
# Where an adjustment stands in a list: when, sequence, id.
AdjustmentPosition = tuple[datetime, int, str]
Columns = ReadOnlyColumnCollection[str, Any]
Conditions = Mapping[str, Callable[[Columns], ColumnElement[bool]]]

LIMIT: Final = bindparam("limit", type_=BigInteger)
# PostgreSQL plans once for all values of a parameter, and takes a limit that it does not know for
# a tenth of the table: a constant one tells it that a page is short.
LONGEST: Final = literal_column("201", BigInteger)

SKU_COLUMNS: Final = (sku.c.sku, sku.c.title, sku.c.version, sku.c.archived_at)
WAREHOUSE_COLUMNS: Final = (
    warehouse.c.id,
    warehouse.c.name,
    warehouse.c.type,
    warehouse.c.address,
    warehouse.c.marketplace,
    warehouse.c.is_active,
)
STOCK_COLUMNS: Final = (
    stock_level.c.on_hand,
    stock_level.c.reserved,
    stock_level.c.safety_stock,
    stock_level.c.version,
    stock_level.c.adjusted_at,
    stock_level.c.synced_at,
)
# Stock is hardly ever asked for without its warehouse, and a join costs less than a statement.
LEVEL_COLUMNS: Final = (*STOCK_COLUMNS, *WAREHOUSE_COLUMNS)
SAME_WAREHOUSE: Final = and_(
    warehouse.c.tenant_id == stock_level.c.tenant_id,
    warehouse.c.id == stock_level.c.warehouse_id,
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
    adjustment.c.bulk_id,
    adjustment.c.transfer_id,
    adjustment.c.reservation_id,
    adjustment.c.reversal_of,
    adjustment.c.reference,
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
    "listed": lambda columns: columns.archived_at.is_(None),
    "archived": lambda columns: columns.archived_at.is_not(None),
}
# Archived SKUs are counted apart, under a prefix of their status.
IS_ARCHIVED: Final = sku_count.c.status.startswith(ARCHIVED, autoescape=True)
COUNT_CONDITIONS: Final[Conditions] = {
    **{name: SKU_CONDITIONS[name] for name in ("tenant_id", "warehouse_id")},
    "status": lambda columns: (
        func.replace(columns.status, ARCHIVED, "") == bindparam("status", type_=Key)
    ),
    "listed": lambda _: ~IS_ARCHIVED,
    "archived": lambda _: IS_ARCHIVED,
}
ADJUSTMENT_CONDITIONS: Final[Conditions] = {
    "tenant_id": _equals("tenant_id"),
    "sku": _equals("sku"),
    "warehouse_id": _equals("warehouse_id"),
    "reason": _equals("reason"),
    **{name: _equals(name) for name in ("created_by", *LINKS)},
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

# What no write keeps a total of.
COUNTED: Final = {"reason", "start", "end", "created_by", *LINKS}


@dataclass(frozen=True, slots=True)
class SkuPage:
    """A page of SKUs, and how many the whole list has."""

    records: Sequence[SkuRecord]
    total: int


async def list_skus(
    snapshot: Snapshot,
    tenant: str,
    *,
    where: SkuFilter,
    after: str | None = None,
    order: Order = Order.ASCENDING,
    limit: int,
) -> SkuPage:
    """Return a page of SKUs by code, each with its levels, from after a code on, and the total."""
    parameters = {
        "tenant_id": tenant,
        "warehouse_id": where.warehouse_id,
        "status": where.status,
        "sku": where.sku,
        **_archived(where.archived),
        "after" if order is Order.ASCENDING else "before": after,
    }
    statement = _skus_page(_asked(parameters), order)
    rows = await snapshot.rows(statement, {**parameters, "limit": limit})
    # The total is in every row; where there is no SKU, it is in the only one.
    total = int(rows[0].total)
    found = rows if rows[0].sku is not None else []
    return SkuPage(sku_records(found, where.warehouse_id), total)


async def get_skus(
    snapshot: Snapshot, tenant: str, *, codes: Sequence[str], warehouse_id: str | None = None
) -> dict[str, SkuRecord]:
    """Return SKUs by code, each with its levels: all of them, or the one in a warehouse."""
    parameters = {"tenant_id": tenant, "warehouse_id": warehouse_id, "codes": codes}
    statement = skus_by_code(snapshot.dialect, narrowed=warehouse_id is not None)
    records = sku_records(await snapshot.rows(statement, parameters), warehouse_id)
    return {record.sku: record for record in records}


async def list_warehouses(snapshot: Snapshot, tenant: str) -> list[WarehouseRecord]:
    """Return all warehouses by id, inactive ones too."""
    rows = await snapshot.rows(_all_warehouses(), {"tenant_id": tenant})
    return [warehouse_record(row) for row in rows]


async def get_warehouses(
    snapshot: Snapshot, tenant: str, *, ids: Sequence[str]
) -> dict[str, WarehouseRecord]:
    """Return warehouses by id."""
    statement = warehouses_by_id(snapshot.dialect)
    rows = await snapshot.rows(statement, {"tenant_id": tenant, "ids": ids})
    return {row.id: warehouse_record(row) for row in rows}


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
        **_archived(archived),
    }
    statement = _levels_of_warehouses(snapshot.dialect, _asked(parameters))
    parents = as_json({"warehouse_id": place.id} for place in warehouses)
    places = {place.id: place for place in warehouses}
    pages: dict[str, list[LevelRecord]] = {id_: [] for id_ in places}
    rows = await snapshot.rows(statement, {**parameters, "parents": parents, "limit": limit})
    for id_, code, on_hand, reserved, safety_stock, version, adjusted_at, synced_at in rows:
        figures = (on_hand, reserved, safety_stock)
        level = LevelRecord(*figures, code, places[id_], version, adjusted_at, synced_at)
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
    parameters = {"tenant_id": tenant, "status": status, **_archived(archived)}
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
    statement = _adjustments_page(snapshot.dialect, _asked(parameters))
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


async def get_stock_as_of(
    snapshot: Snapshot, tenant: str, *, skus: Sequence[LevelKey], end: datetime
) -> dict[LevelKey, list[AdjustmentRecord]]:
    """Return for each SKU, as seen in one warehouse or in all, what made its stock before an end.

    That is the last adjustment before it of every level that had one, by warehouse id.
    """
    found: dict[LevelKey, list[AdjustmentRecord]] = {each: [] for each in skus}
    for view in dict.fromkeys(view for _, view in skus):
        codes = [code for code, seen in skus if seen == view]
        parameters = {"tenant_id": tenant, "warehouse_id": view, "codes": codes, "end": end}
        statement = _stock_as_of(snapshot.dialect, narrowed=view is not None)
        for row in await snapshot.rows(statement, {**parameters, "limit": 1}):
            found[row.sku, view].append(adjustment_record(row))
    return found


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
            for name, value in zip(statement.selected_columns.keys(), row, strict=True)
        }
        for row in rows
    ]


def warehouse_record(row: Sequence[Any]) -> WarehouseRecord:
    """Return a row of WAREHOUSE_COLUMNS as a record."""
    id_, name, type_, address, marketplace, is_active = row
    return WarehouseRecord(id_, name, WarehouseType(type_), address, marketplace, is_active)


def adjustment_record(row: Row[Any]) -> AdjustmentRecord:
    """Return a row of ADJUSTMENT_COLUMNS as a record."""
    return AdjustmentRecord(*tuple(row))


def sku_records(rows: Iterable[Sequence[Any]], warehouse_id: str | None) -> list[SkuRecord]:
    """Return rows of SKU_COLUMNS and LEVEL_COLUMNS, or nulls for no level, as records.

    The rows of a SKU stand together; the records share their warehouses.
    """
    places: dict[str, WarehouseRecord] = {}
    skus: list[tuple[str, str, int, list[LevelRecord], str | None, datetime | None]] = []
    code = ""
    levels: list[LevelRecord] = []
    for row in rows:
        if row[0] != code:
            levels = []
            code, title, version, archived_at = row[:4]
            skus.append((code, title, version, levels, warehouse_id, archived_at))
        on_hand, reserved, safety_stock, level_version, adjusted_at, synced_at, id_ = row[4:11]
        if id_ is None:
            continue
        place = places.get(id_)
        if place is None:
            place = places[id_] = warehouse_record(row[10:16])
        levels.append(
            LevelRecord(
                on_hand,
                reserved,
                safety_stock,
                code,
                place,
                level_version,
                adjusted_at,
                synced_at,
            )
        )
    return [SkuRecord(*each) for each in skus]


def _adjustment_parameters(
    tenant: str, where: AdjustmentFilter, after: AdjustmentPosition | None
) -> dict[str, object]:
    instant, sequence, id_ = after or (None, None, None)
    return {
        "tenant_id": tenant,
        "sku": where.sku,
        "warehouse_id": where.warehouse_id,
        "reason": where.reason,
        "created_by": where.created_by,
        "bulk_id": where.bulk_id,
        "transfer_id": where.transfer_id,
        "reservation_id": where.reservation_id,
        "reference": where.reference,
        "start": where.start,
        "end": where.end,
        "after": instant,
        "after_sequence": sequence,
        "after_id": id_,
    }


def _levels_json(parents: Iterable[LevelKey]) -> str:
    return as_json({"sku": code, "warehouse_id": id_} for code, id_ in parents)


def _archived(archived: bool | None) -> dict[str, object]:  # noqa: FBT001 - what a filter says
    """Return the condition on archived SKUs, if there is one."""
    return {} if archived is None else {"archived" if archived else "listed": True}


def _asked(parameters: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the parameters that have a value: the shape of a statement."""
    return frozenset(name for name, value in parameters.items() if value is not None)


def _all_of(
    conditions: Conditions, asked: frozenset[str], columns: Columns
) -> list[ColumnElement[bool]]:
    return [condition(columns) for name, condition in conditions.items() if name in asked]


@cache
def _skus_page(asked: frozenset[str], order: Order) -> Select[Any]:
    source = _source(asked)
    columns = SKU_COLUMNS if source is sku else (source.c.sku,)
    longest = (
        select(source.c.tenant_id, *columns)
        .where(*_all_of(SKU_CONDITIONS, asked, source.c))
        .order_by(_in_order(source.c.sku, order))
        .limit(LONGEST)
        .subquery("longest")
    )
    page = select(longest).order_by(_in_order(longest.c.sku, order)).limit(LIMIT).subquery("page")
    if source is not sku:
        # Joined before the limit, it may be joined to the whole table.
        found = page.join(sku, _same_sku(page.c, sku.c))
        page = select(sku.c.tenant_id, *SKU_COLUMNS).select_from(found).subquery("skus")
    total = select(_skus_count(asked - {"after", "before"}).label("total")).subquery("whole")
    skus = _with_levels(page, narrowed="warehouse_id" in asked)
    return (
        select(*(page.c[it.name] for it in SKU_COLUMNS), *LEVEL_COLUMNS, total.c.total)
        .select_from(total.join(skus, true(), isouter=True))
        .order_by(_in_order(page.c.sku, order), stock_level.c.warehouse_id)
    )


def _source(asked: frozenset[str]) -> FromClause:
    """Return where a list of SKUs is found: by their levels if it is that of a warehouse."""
    return stock_level if "warehouse_id" in asked else sku


@cache
def skus_by_code(dialect: str, *, narrowed: bool) -> Select[Any]:
    """Return what finds SKUs of `codes` with all their levels, or that of `warehouse_id`."""
    return (
        select(*SKU_COLUMNS, *LEVEL_COLUMNS)
        .select_from(_with_levels(sku, narrowed=narrowed))
        .where(SKU_CONDITIONS["tenant_id"](sku.c), texts_in(dialect, sku.c.sku, "codes"))
        .order_by(sku.c.sku, stock_level.c.warehouse_id)
    )


def _with_levels(skus: FromClause, *, narrowed: bool) -> FromClause:
    """Return SKUs with all their levels, or only with that of a warehouse."""
    on_level = _same_sku(skus.c, stock_level.c)
    if narrowed:
        on_level &= SKU_CONDITIONS["warehouse_id"](stock_level.c)
    # One join after the other: SQLite reads the whole of a join that stands in brackets.
    levels = skus.join(stock_level, on_level, isouter=not narrowed)
    return levels.join(warehouse, SAME_WAREHOUSE, isouter=not narrowed)


def _same_sku(left: Columns, right: Columns) -> ColumnElement[bool]:
    return and_(left.tenant_id == right.tenant_id, left.sku == right.sku)


def _in_order(code: ColumnElement[str], order: Order) -> ColumnElement[str]:
    return code if order is Order.ASCENDING else code.desc()


def _skus_count(asked: frozenset[str]) -> ScalarSelect[int]:
    """Return how many SKUs match: from counts that every write keeps, unless it is about one."""
    if "sku" in asked:
        source = _source(asked)
        conditions = _all_of(SKU_CONDITIONS, asked, source.c)
        return select(func.count()).select_from(source).where(*conditions).scalar_subquery()
    conditions = _all_of(COUNT_CONDITIONS, asked, sku_count.c)
    if "warehouse_id" not in asked:
        conditions.append(sku_count.c.warehouse_id == "")
    skus = cast(func.coalesce(func.sum(sku_count.c.skus), 0), BigInteger)
    return select(skus).where(*conditions).scalar_subquery()


@cache
def _levels_count(dialect: str, asked: frozenset[str]) -> Select[Any]:
    return (
        select(sku_count.c.warehouse_id, func.sum(sku_count.c.skus).label("skus"))
        .where(
            *_all_of(COUNT_CONDITIONS, asked, sku_count.c),
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
def warehouses_by_id(dialect: str) -> Select[Any]:
    """Return what finds warehouses of `ids`."""
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
        (stock_level.c.warehouse_id, stock_level.c.sku, *STOCK_COLUMNS),
        where=lambda columns: [
            *_all_of(SKU_CONDITIONS, asked, columns),
            columns.warehouse_id == parents.c.warehouse_id,
        ],
        order=lambda columns: [columns.warehouse_id, columns.sku],
    )


@cache
def _adjustments_page(dialect: str, asked: frozenset[str]) -> Select[Any]:
    by_level = {"sku", "warehouse_id"} <= asked and not _is_period(asked)
    if _is_by_reason_alone(asked):
        places = _places()
        return _pages_of(
            dialect,
            places,
            adjustment,
            ADJUSTMENT_COLUMNS,
            where=lambda columns: [
                *_adjustment_conditions(asked, columns, by_level=False),
                columns.warehouse_id == places.c.id,
            ],
            order=lambda columns: _newest_first(columns, by_level=False),
        ).limit(LIMIT)
    return (
        select(*ADJUSTMENT_COLUMNS)
        .where(*_adjustment_conditions(asked, adjustment.c, by_level=by_level))
        .order_by(*_newest_first(adjustment.c, by_level=by_level))
        .limit(LIMIT)
    )


@cache
def _adjustments_count(asked: frozenset[str]) -> Select[Any]:
    if not asked & COUNTED:
        # A level's version counts its adjustments.
        return select(func.coalesce(func.sum(stock_level.c.version), 0)).where(
            *_all_of(ADJUSTMENT_CONDITIONS, asked, stock_level.c)
        )
    conditions = _all_of(ADJUSTMENT_CONDITIONS, asked, adjustment.c)
    number = select(func.count()).select_from(adjustment)
    if not _is_by_reason_alone(asked):
        return number.where(*conditions)
    places = _places()
    of_place = number.where(*conditions, adjustment.c.warehouse_id == places.c.id).scalar_subquery()
    return select(func.coalesce(func.sum(of_place), 0)).select_from(places)


def _is_by_reason_alone(asked: frozenset[str]) -> bool:
    """Tell whether the index by warehouse and reason serves, warehouse by warehouse."""
    return "reason" in asked and asked.isdisjoint({"sku", "warehouse_id", "created_by", *LINKS})


def _places() -> Subquery:
    return select(warehouse.c.id).where(_equals("tenant_id")(warehouse.c)).subquery("places")


@cache
def _adjustments_of(dialect: str, asked: frozenset[str], *, by_level: bool) -> Select[Any]:
    parents = rows_from(dialect, "parents", {"sku": Text(), "warehouse_id": Text()})
    by_level_here = (by_level or "warehouse_id" in asked) and not _is_period(asked)
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
    counted = bool(asked & COUNTED)
    source = adjustment if counted else stock_level
    number: ColumnElement[int] = func.count() if counted else func.sum(stock_level.c.version)
    # A number per parent, and not one of all in groups: that might read the ledger of all SKUs.
    of_parent = (
        select(number)
        .select_from(source)
        .where(
            *_all_of(ADJUSTMENT_CONDITIONS, asked, source.c),
            *_of_parent(source.c, parents, by_level=by_level),
        )
        .correlate(parents)
        .scalar_subquery()
    )
    adjustments = func.coalesce(of_parent, 0).label("adjustments")
    return select(parents.c.sku, parents.c.warehouse_id, adjustments)


@cache
def _stock_as_of(dialect: str, *, narrowed: bool) -> Select[Any]:
    asked = frozenset({"tenant_id", "warehouse_id"} if narrowed else {"tenant_id"})
    levels = (
        select(stock_level.c.sku, stock_level.c.warehouse_id)
        .where(
            *_all_of(SKU_CONDITIONS, asked, stock_level.c),
            texts_in(dialect, stock_level.c.sku, "codes"),
        )
        .subquery("levels")
    )
    return _pages_of(
        dialect,
        levels,
        adjustment,
        ADJUSTMENT_COLUMNS,
        where=lambda columns: [
            *_all_of(ADJUSTMENT_CONDITIONS, frozenset({"tenant_id", "end"}), columns),
            *_of_parent(columns, levels, by_level=True),
        ],
        # The last of several in one millisecond is the one of the highest sequence.
        order=lambda columns: [
            columns.sku,
            columns.warehouse_id,
            columns.created_at.desc(),
            columns.sequence.desc(),
        ],
    )


@cache
def _adjustment_by_id() -> Select[Any]:
    return select(*ADJUSTMENT_COLUMNS).where(
        _equals("tenant_id")(adjustment.c), _equals("id")(adjustment.c)
    )


def _is_period(asked: frozenset[str]) -> bool:
    """Tell whether a list has a first or last instant, which an index by time finds."""
    return not asked.isdisjoint({"start", "end"})


def _adjustment_conditions(
    asked: frozenset[str], columns: Columns, *, by_level: bool
) -> list[ColumnElement[bool]]:
    if "after" not in asked:
        return _all_of(ADJUSTMENT_CONDITIONS, asked, columns)
    if by_level:
        # Within a level the sequence alone is the order, and its index serves it.
        before = columns.sequence < bindparam("after_sequence", type_=BigInteger)
        return [*_all_of(ADJUSTMENT_CONDITIONS, asked - {"after"}, columns), before]
    # A position of the list is before its end. Told both, an index is read from the end on.
    return _all_of(ADJUSTMENT_CONDITIONS, asked - {"end"}, columns)


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
