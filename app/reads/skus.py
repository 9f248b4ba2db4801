"""Reads of SKUs with their stock levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from msgspec.json import Decoder
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSON, aggregate_order_by

from app.database.parameters import KeyValue, in_key_array
from app.database.snapshot import Snapshot
from app.database.tables import sku, sku_count, stock_level, warehouse
from app.domain.filters import Order, SkuFilter
from app.domain.quantities import ARCHIVED_PREFIX
from app.domain.records import SkuRecord
from app.errors import QueryTooComplex
from app.ledger.totals import Columns
from app.reads.conditions import Conditions, conditions_of, equals, parameter_names, shaped
from app.reads.json_rows import json_agg, json_array, json_rows_of
from app.reads.paging import LARGEST_PAGE, MOST_LEVELS, PAGE_LIMIT, in_sku_order
from app.reads.warehouses import WAREHOUSE_COLUMNS, WAREHOUSE_DECODER

SKU_DECODER: Final = Decoder(list[SkuRecord])

# No id of a warehouse has one.
SPACE: Final = literal_column("' '", Text)

SKU_COLUMNS: Final = (sku.c.sku, sku.c.title, sku.c.version, sku.c.archived_at)

STOCK_COLUMNS: Final = (
    stock_level.c.on_hand,
    stock_level.c.reserved,
    stock_level.c.safety_stock,
    stock_level.c.version,
    stock_level.c.adjusted_at,
    stock_level.c.synced_at,
)

SKU_CONDITIONS: Final[Conditions] = {
    "tenant_id": equals("tenant_id"),
    "warehouse_id": equals("warehouse_id"),
    "status": equals("status"),
    "sku": equals("sku"),
    "after": lambda columns: columns.sku > bindparam("after", type_=Text),
    "before": lambda columns: columns.sku < bindparam("before", type_=Text),
    "listed": lambda columns: columns.archived_at.is_(None),
    "archived": lambda columns: columns.archived_at.is_not(None),
}
# Archived SKUs are counted apart, under a prefix of their status.
IS_ARCHIVED: Final = sku_count.c.status.startswith(ARCHIVED_PREFIX, autoescape=True)
COUNT_CONDITIONS: Final[Conditions] = {
    **{name: SKU_CONDITIONS[name] for name in ("tenant_id", "warehouse_id")},
    "status": lambda columns: (
        func.replace(columns.status, ARCHIVED_PREFIX, "") == bindparam("status", type_=KeyValue)
    ),
    "listed": lambda _: ~IS_ARCHIVED,
    "archived": lambda _: IS_ARCHIVED,
}


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
    most_levels: int = MOST_LEVELS,
) -> SkuPage:
    """Return a page of SKUs by code, each with its levels, from after a code on, and the total.

    Raises:
        QueryTooComplex: the page has more levels than that; none was read.

    """
    parameters = {
        "tenant_id": tenant,
        "warehouse_id": where.warehouse_id,
        "status": where.status,
        "sku": where.sku,
        **archived_parameters(where.archived),
        "after" if order is Order.ASCENDING else "before": after,
    }
    statement = _skus_page(snapshot.dialect, parameter_names(parameters), order)
    parameters |= {"limit": limit, "most_levels": most_levels}
    [row] = await snapshot.rows(statement, parameters)
    if row.is_wide:
        raise _too_wide(most_levels)
    return SkuPage(sku_records(row, warehouse_id=where.warehouse_id), int(row.total))


async def get_skus(
    snapshot: Snapshot,
    tenant: str,
    *,
    codes: Sequence[str],
    warehouse_id: str | None = None,
    most_levels: int = MOST_LEVELS,
) -> dict[str, SkuRecord]:
    """Return SKUs by code, each with its levels: all of them, or the one in a warehouse.

    Raises:
        QueryTooComplex: several SKUs have more levels than that; none was read.

    """
    parameters: dict[str, object] = {
        "tenant_id": tenant,
        "warehouse_id": warehouse_id,
        "codes": codes,
    }
    has_few_levels = warehouse_id is not None or len(codes) == 1
    if has_few_levels:
        statement = skus_by_code(snapshot.dialect, narrowed=warehouse_id is not None)
    else:
        statement = _narrow_skus_by_code(snapshot.dialect)
        parameters |= {"limit": len(codes), "most_levels": most_levels}
    [row] = await snapshot.rows(statement, parameters)
    if not has_few_levels and row.is_wide:
        raise _too_wide(most_levels)
    records = sku_records(row, warehouse_id=warehouse_id)
    return {record.sku: record for record in records}


def sku_records(row: Sequence[Any], *, warehouse_id: str | None = None) -> list[SkuRecord]:
    """Return a row of `with_stock` as records.

    Of SKUs that are seen in one warehouse alone, those without a level there are left out.
    """
    skus, warehouses = row[:2]
    # PostgreSQL says null of no rows.
    places = {place.id: place for place in WAREHOUSE_DECODER.decode(warehouses or "[]")}
    records = SKU_DECODER.decode(skus or "[]")
    for record in records:
        code = record.sku
        record.warehouse_id = warehouse_id
        for level in record.levels:
            level.sku = code
            level.warehouse = places[level.warehouse_id]
            level.view = warehouse_id
    if warehouse_id is None:
        return records
    return [record for record in records if record.levels]


def _too_wide(most_levels: int) -> QueryTooComplex:
    return QueryTooComplex(
        f"The SKUs have more than {most_levels} stock levels. Ask for a smaller page.",
        details=[{"limit": "levels", "most": most_levels}],
    )


def archived_parameters(archived: bool | None) -> dict[str, object]:  # noqa: FBT001 - what a filter says
    """Return the condition on archived SKUs, if there is one."""
    return {} if archived is None else {"archived" if archived else "listed": True}


@shaped
def _skus_page(dialect: str, asked: frozenset[str], order: Order) -> Select[Any]:
    source = _source(asked)
    columns = SKU_COLUMNS if source is sku else (source.c.sku,)
    longest = (
        select(source.c.tenant_id, *columns)
        .where(*conditions_of(SKU_CONDITIONS, asked, source.c))
        .order_by(in_sku_order(source.c.sku, order))
        .limit(LARGEST_PAGE)
        .subquery("longest")
    )
    page_of = select(longest).order_by(in_sku_order(longest.c.sku, order))
    narrowed = "warehouse_id" in asked
    is_wide = literal_column("0") if narrowed else _is_wide(page_of.limit(PAGE_LIMIT))
    page = page_of.limit(PAGE_LIMIT if narrowed else _unless(is_wide)).subquery("page")
    if source is not sku:
        # Joined before the limit, it may be joined to the whole table.
        found = page.join(sku, _same_sku(page.c, sku.c))
        page = select(sku.c.tenant_id, *SKU_COLUMNS).select_from(found).subquery("skus")
    total = _skus_count(asked - {"after", "before"}).label("total")
    statement = with_stock(dialect, page, narrowed=narrowed, order=order)
    return statement.add_columns(total, is_wide.label("is_wide"))


def _is_wide(skus: Select[Any]) -> ColumnElement[int]:
    """1 if up to `limit` SKUs have more than `most_levels` levels, else 0.

    Levels are counted only where there are enough warehouses for so many.
    """
    most: ColumnElement[int] = bindparam("most_levels", type_=BigInteger)
    mine = equals("tenant_id")(warehouse.c)
    each = select(literal_column("1")).select_from(warehouse).where(mine).limit(most).subquery()
    warehouses = select(func.count()).select_from(each).scalar_subquery()
    of_page = skus.subquery("counted")
    level = (
        select(literal_column("1"))
        .select_from(of_page.join(stock_level, _same_sku(of_page.c, stock_level.c)))
        .limit(most + literal_column("1"))
        .subquery()
    )
    levels = select(func.count()).select_from(level).scalar_subquery()
    zero, one = literal_column("0", BigInteger), literal_column("1", BigInteger)
    return case((PAGE_LIMIT * warehouses <= most, zero), (levels > most, one), else_=zero)


def _unless(is_wide: ColumnElement[int]) -> ColumnElement[int]:
    return case((is_wide > literal_column("0"), literal_column("0", BigInteger)), else_=PAGE_LIMIT)


@cache
def _narrow_skus_by_code(dialect: str) -> Select[Any]:
    """SKUs of `codes` with all their levels, unless there are too many levels."""
    found = select(sku.c.tenant_id, *SKU_COLUMNS).where(
        SKU_CONDITIONS["tenant_id"](sku.c), in_key_array(dialect, sku.c.sku, "codes")
    )
    is_wide = _is_wide(found)
    skus = found.limit(_unless(is_wide)).subquery("skus")
    return with_stock(dialect, skus, narrowed=False).add_columns(is_wide.label("is_wide"))


def _source(asked: frozenset[str]) -> FromClause:
    """Return where a list of SKUs is found: by their levels if it is that of a warehouse."""
    return stock_level if "warehouse_id" in asked else sku


@cache
def skus_by_code(
    dialect: str, *, narrowed: bool, more: tuple[ColumnElement[Any], ...] = ()
) -> Select[Any]:
    """Return what finds SKUs of `codes` with all their levels, or that of `warehouse_id`."""
    skus = (
        select(sku.c.tenant_id, *SKU_COLUMNS)
        .where(SKU_CONDITIONS["tenant_id"](sku.c), in_key_array(dialect, sku.c.sku, "codes"))
        .subquery("skus")
    )
    return with_stock(dialect, skus, narrowed=narrowed, more=more)


def with_stock(
    dialect: str,
    skus: FromClause,
    *,
    narrowed: bool,
    order: Order = Order.ASCENDING,
    more: tuple[ColumnElement[Any], ...] = (),
) -> Select[Any]:
    """Return what tells SKUs with all their levels, or the one in a warehouse, in a single row.

    That is the warehouses that there are levels in, and the SKUs: JSON arrays of the values of
    their columns, because hundreds of rows cost several times as much to take in as one of text.
    `more` columns stand last in each level.
    """
    values = (*STOCK_COLUMNS, stock_level.c.warehouse_id, *more)

    def is_level_of(columns: Columns) -> ColumnElement[bool]:
        same = _same_sku(columns, stock_level.c)
        return same & SKU_CONDITIONS["warehouse_id"](stock_level.c) if narrowed else same

    def in_order(found: FromClause, *more: ColumnElement[Any]) -> Select[Any]:
        columns = [found.c[it.name] for it in SKU_COLUMNS]
        return select(*columns, found.c.levels, *more).order_by(in_sku_order(found.c.sku, order))

    own: Any
    found: Any
    if dialect == "postgresql":
        # In one pass: to keep what is found, and to read it twice, takes a tenth longer.
        by_place = aggregate_order_by(json_array(dialect, *values), stock_level.c.warehouse_id)
        levels = func.coalesce(func.json_agg(by_place), literal_column("'[]'", JSON))
        ids = func.string_agg(stock_level.c.warehouse_id, SPACE)
        own = select(levels.label("levels"), ids.label("ids")).where(is_level_of(skus.c))
        each = own.lateral("each")
        joined = select(skus, each).select_from(skus.join(each, true())).subquery("joined")
        rows = in_order(joined, joined.c.ids).subquery("rows")
        *columns, ids_of_sku = rows.c
        all_ids = func.string_agg(ids_of_sku, SPACE).label("ids")
        found = select(json_agg(*columns).label("skus"), all_ids).subquery("found")
        told = found.c.skus
        has_level = warehouse.c.id == any_(func.string_to_array(found.c.ids, SPACE))
    else:
        own = select(*values).where(is_level_of(skus.c)).order_by(stock_level.c.warehouse_id)
        found = select(skus, json_rows_of(dialect, own.correlate(skus)).label("levels")).cte(
            "found"
        )
        told = json_rows_of(dialect, in_order(found), nested="levels").label("skus")
        places = select(stock_level.c.warehouse_id).where(is_level_of(found.c))
        has_level = warehouse.c.id.in_(places)
    of_places = (
        select(*WAREHOUSE_COLUMNS)
        .where(
            equals("tenant_id")(warehouse.c),
            warehouse.c.id == bindparam("warehouse_id", type_=KeyValue) if narrowed else has_level,
        )
        .correlate(found)
    )
    statement: Select[Any] = select(told, json_rows_of(dialect, of_places).label("warehouses"))
    return statement


def _same_sku(left: Columns, right: Columns) -> ColumnElement[bool]:
    return and_(left.tenant_id == right.tenant_id, left.sku == right.sku)


def _skus_count(asked: frozenset[str]) -> ScalarSelect[int]:
    """Return how many SKUs match: from counts that every write keeps, unless it is about one."""
    if "sku" in asked:
        source = _source(asked)
        conditions = conditions_of(SKU_CONDITIONS, asked, source.c)
        return select(func.count()).select_from(source).where(*conditions).scalar_subquery()
    conditions = conditions_of(COUNT_CONDITIONS, asked, sku_count.c)
    if "warehouse_id" not in asked:
        conditions.append(sku_count.c.warehouse_id == "")
    skus = cast(func.coalesce(func.sum(sku_count.c.skus), 0), BigInteger)
    return select(skus).where(*conditions).scalar_subquery()
