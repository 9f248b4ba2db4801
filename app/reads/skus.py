"""Reads of SKUs with their stock levels."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any, Final

from msgspec.json import Decoder
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    Text,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from app.database.columns import UtcDateTime
from app.database.parameters import TENANT, in_key_array
from app.database.snapshot import Snapshot
from app.database.tables import sku, sku_count, stock_level, warehouse
from app.domain.filters import Order, SkuFilter
from app.domain.quantities import ARCHIVED_PREFIX, Status
from app.domain.records import SkuRecord
from app.errors import QueryTooComplex
from app.ledger.totals import ZERO, Columns
from app.reads.conditions import (
    Conditions,
    Filters,
    conditions_of,
    equals,
    filters_of,
    of_tenant,
    shaped,
)
from app.reads.paging import (
    COUNT_LIMIT,
    LARGEST_PAGE,
    MOST_LEVELS,
    ORDER_COLUMNS,
    PAGE_LIMIT,
    after_position,
    in_sku_order,
)
from app.reads.stock_json import SKU_COLUMNS, same_sku, with_stock
from app.reads.warehouses import WAREHOUSE_DECODER

# The range of UTF-16 surrogates, which texts do not contain.
FIRST_SURROGATE: Final = 0xD800
FIRST_AFTER_SURROGATES: Final = 0xE000
SKU_DECODER: Final = Decoder(list[SkuRecord])

SKU_CONDITIONS: Final[Conditions] = {
    "tenant_id": of_tenant,
    "warehouse_id": equals("warehouse_id"),
    "sku": equals("sku"),
    "prefix": lambda columns: columns.sku >= bindparam("prefix", type_=Text),
    "prefix_end": lambda columns: columns.sku < bindparam("prefix_end", type_=Text),
    "listed": lambda columns: columns.archived_at.is_(None),
    "archived": lambda columns: columns.archived_at.is_not(None),
    "nothing": lambda _: false(),
}
UPDATED_SINCE: Final = bindparam("updated_since", type_=UtcDateTime)
STATUS_FILTERS: Final = frozenset(status.value for status in Status)
# Archived SKUs have counts of their own, under a prefixed status.
IS_ARCHIVED: Final = sku_count.c.status.startswith(ARCHIVED_PREFIX, autoescape=True)
COUNT_CONDITIONS: Final[Conditions] = {
    **{name: SKU_CONDITIONS[name] for name in ("tenant_id", "warehouse_id", "nothing")},
    "listed": lambda _: ~IS_ARCHIVED,
    "archived": lambda _: IS_ARCHIVED,
}
# The filters by which writes maintain counts. Those of a warehouse have the statuses of its levels.
COUNTED_FILTERS: Final = STATUS_FILTERS | {"tenant_id", "listed", "archived", "nothing"}
COUNTED_OF_WAREHOUSE: Final = COUNTED_FILTERS - STATUS_FILTERS | {"warehouse_id"}


@dataclass(frozen=True, slots=True)
class SkuPage:
    """A page of SKUs with the number of SKUs in the whole list; None if it must be counted."""

    records: Sequence[SkuRecord]
    total: int | None


async def list_skus(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    where: SkuFilter,
    found: Sequence[str] | None = None,
    after: Sequence[object] | None = None,
    order: Order = Order.CODE_ASCENDING,
    limit: int,
    most_levels: int = MOST_LEVELS,
) -> SkuPage:
    """Read a page of SKUs with their levels, starting after a position, and the total.

    `found` are the codes of the SKUs that have the words of `where`.

    Raises:
        QueryTooComplex: the page has more than `most_levels` levels; none is read.

    """
    parameters = {
        **sku_parameters(tenant_id, where),
        "warehouse_id": where.warehouse_id,
        "found": found,
        "after": after and True,
    }
    statement = page_of_skus(snapshot.dialect, filters_of(parameters), order)
    parameters |= {"limit": limit, "most_levels": most_levels}
    for name, value in zip(ORDER_COLUMNS[order.subject], after or (), strict=False):
        parameters[f"after_{name}"] = value
    [row] = await snapshot.rows(statement, parameters)
    if row.is_wide:
        raise _too_wide(most_levels)
    return SkuPage(sku_records(row), None if row.total is None else int(row.total))


async def count_skus(
    snapshot: Snapshot, tenant_id: str, *, where: SkuFilter, found: Sequence[str] | None = None
) -> int:
    """Count the matching SKUs, up to MAX_COUNT; `found` as for `list_skus`."""
    parameters = {
        **sku_parameters(tenant_id, where),
        "warehouse_id": where.warehouse_id,
        "found": found,
    }
    [row] = await snapshot.rows(_counted_skus(snapshot.dialect, filters_of(parameters)), parameters)
    return int(row[0])


def sku_parameters(tenant_id: str, where: SkuFilter) -> dict[str, object]:
    """Convert a filter to its parameters, except the warehouse."""
    prefix = where.code_prefix or None
    return {
        "tenant_id": tenant_id,
        "sku": where.sku,
        "prefix": prefix,
        "prefix_end": prefix and text_after_prefix(prefix),
        "updated_since": where.updated_since,
        **dict.fromkeys(where.statuses or (), True),
        "nothing": True if where.statuses == () or "\x00" in (prefix or "") else None,
        **archived_parameters(where.archived),
    }


def text_after_prefix(prefix: str) -> str | None:
    """First text by code point after all texts with a prefix; None if there is none."""
    kept = prefix.rstrip(chr(sys.maxunicode))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(FIRST_AFTER_SURROGATES if following == FIRST_SURROGATE else following)


async def get_skus(
    snapshot: Snapshot, tenant_id: str, *, codes: Sequence[str], most_levels: int = MOST_LEVELS
) -> dict[str, SkuRecord]:
    """Read SKUs by code with their levels; missing codes are absent.

    Raises:
        QueryTooComplex: several SKUs have more than `most_levels` levels; none is read.

    """
    if len(codes) == 1 and snapshot.may_join:
        read = partial(_get_joined, tenant_id)
        record = await snapshot.join("sku", codes[0], read)
        return {codes[0]: record} if record else {}
    parameters: dict[str, object] = {"tenant_id": tenant_id, "codes": codes}
    if len(codes) == 1:
        [row] = await snapshot.rows(skus_by_code(snapshot.dialect), parameters)
    else:
        parameters |= {"limit": len(codes), "most_levels": most_levels}
        [row] = await snapshot.rows(_skus_by_code_within_limit(snapshot.dialect), parameters)
        if row.is_wide:
            raise _too_wide(most_levels)
    return {record.sku: record for record in sku_records(row)}


async def get_titles(snapshot: Snapshot, tenant_id: str, *, codes: Sequence[str]) -> dict[str, str]:
    """Read the titles of SKUs by code; missing codes are absent."""
    parameters = {"tenant_id": tenant_id, "codes": codes}
    rows = await snapshot.rows(_titles(snapshot.dialect), parameters)
    return {row.sku: row.title for row in rows}


async def get_update_times(
    snapshot: Snapshot, tenant_id: str, *, codes: Sequence[str]
) -> dict[str, datetime]:
    """Read the times of the last changes of SKUs by code; missing codes are absent."""
    parameters = {"tenant_id": tenant_id, "codes": codes}
    rows = await snapshot.rows(_update_times(snapshot.dialect), parameters)
    return {row.sku: row.updated_at for row in rows}


async def _get_joined(
    tenant_id: str, snapshot: Snapshot, codes: Sequence[str]
) -> list[SkuRecord | None]:
    """Read SKUs by code for several requests."""
    parameters = {"tenant_id": tenant_id, "codes": sorted(set(codes))}
    [row] = await snapshot.rows(skus_by_code(snapshot.dialect), parameters)
    by_code = {record.sku: record for record in sku_records(row)}
    return [by_code.get(code) for code in codes]


def sku_records(row: Sequence[Any]) -> list[SkuRecord]:
    """Convert a row of `with_stock`."""
    skus_json, warehouses_json = row[:2]
    # PostgreSQL aggregates no rows to null.
    warehouses = WAREHOUSE_DECODER.decode(warehouses_json or "[]")
    by_id = {warehouse.id: warehouse for warehouse in warehouses}
    records = SKU_DECODER.decode(skus_json or "[]")
    for record in records:
        code = record.sku
        for level in record.levels:
            level.sku = code
            level.warehouse = by_id[level.warehouse_id]
    return records


def archived_parameters(archived: bool | None) -> dict[str, object]:  # noqa: FBT001 - a filter's value
    """Convert a filter by archived SKUs to its parameter; empty without that filter."""
    return {} if archived is None else {"archived" if archived else "listed": True}


def _too_wide(most_levels: int) -> QueryTooComplex:
    return QueryTooComplex(
        f"The SKUs have more than {most_levels} stock levels. Ask for a smaller page.",
        details=[{"limit": "levels", "most": most_levels}],
    )


@shaped
def page_of_skus(dialect: str, filters: Filters, order: Order) -> Select[Any]:
    """Select a page of SKUs in the row of `with_stock`, with `total` and `is_wide`.

    A wide page has more than `most_levels` levels; its SKUs are left out.
    """
    if "found" in filters:
        longest = _page_of_found(dialect, filters, order)
    else:
        longest = _longest_page(filters, order)
    page = select(longest).order_by(*in_sku_order(longest.c, order))
    is_wide = _is_wide(page.limit(PAGE_LIMIT))
    skus = page.limit(_zero_if(is_wide)).subquery("page")
    total = null() if "found" in filters else _stored_number(filters - {"after"})
    return with_stock(dialect, skus, order=order).add_columns(
        total.label("total"), is_wide.label("is_wide")
    )


def _longest_page(filters: Filters, order: Order) -> FromClause:
    """SKUs of the longest page."""
    ordered = (sku.c[name] for name in ("available", "updated_at"))
    rows = select(sku.c.tenant_id, *SKU_COLUMNS, *ordered)
    if order.subject == "code" and _source(filters) is stock_level:
        # Joined after the limit: before it, the planner may join the whole table.
        codes = select(stock_level.c.tenant_id, stock_level.c.sku)
        found = _page_in_order(codes, stock_level, filters, order).subquery("codes")
        joined = found.join(sku, same_sku(found.c, sku.c))
        return rows.select_from(joined).subquery("longest")
    if order.subject != "code":
        return _page_in_order(rows, sku, filters, order).subquery("longest")
    # One range of the index per status.
    statuses = sorted(STATUS_FILTERS & filters)
    shapes = [filters - STATUS_FILTERS | {status} for status in statuses] or [filters]
    pages = [select(_page_in_order(rows, sku, shape, order).subquery()) for shape in shapes]
    return union_all(*pages).subquery("longest")


def _page_of_found(dialect: str, filters: Filters, order: Order) -> FromClause:
    ordered = (sku.c[name] for name in ("available", "updated_at"))
    rows = select(sku.c.tenant_id, *SKU_COLUMNS, *ordered)
    is_found = in_key_array(dialect, sku.c.sku, "found")
    return _page_in_order(rows.where(is_found), sku, filters, order).subquery("longest")


def _source(filters: Filters) -> FromClause:
    """Table whose index finds the SKUs: that of a warehouse, unless a status is more selective."""
    return stock_level if "warehouse_id" in filters and not STATUS_FILTERS & filters else sku


def _page_in_order(
    rows: Select[Any], table: FromClause, filters: Filters, order: Order
) -> Select[Any]:
    """Select the first rows of `sku` or `stock_level` in an order, as many as the longest page."""
    conditions = _conditions_of_skus(filters, table)
    if "after" in filters:
        conditions.append(after_position(table.c, order))
    return rows.where(*conditions).order_by(*in_sku_order(table.c, order)).limit(LARGEST_PAGE)


def _conditions_of_skus(filters: Filters, table: FromClause) -> list[ColumnElement[bool]]:
    """Conditions on SKUs as rows of `sku`, or of `stock_level` in a warehouse.

    A scalar subquery looks for a level, because the planner may join the whole table for an EXISTS.
    """
    if table is stock_level:
        return level_conditions(filters, stock_level.c)
    conditions = conditions_of(SKU_CONDITIONS, filters - {"warehouse_id"}, sku.c)
    if statuses := STATUS_FILTERS & filters:
        conditions.append(has_status(sku.c.status, statuses))
    if "updated_since" in filters:
        conditions.append(sku.c.updated_at >= UPDATED_SINCE)
    if "warehouse_id" in filters:
        is_level = same_sku(sku.c, stock_level.c), equals("warehouse_id")(stock_level.c)
        level = select(stock_level.c.sku).where(*is_level).scalar_subquery()
        conditions.append(level.is_not(None))
    return conditions


def level_conditions(filters: Filters, columns: Columns) -> list[ColumnElement[bool]]:
    """Conditions on stock levels by their own status and by the last change of their SKU."""
    conditions = conditions_of(SKU_CONDITIONS, filters, columns)
    if statuses := STATUS_FILTERS & filters:
        conditions.append(has_status(columns.status, statuses))
    if "updated_since" in filters:
        conditions.append(of_sku(sku.c.updated_at, columns) >= UPDATED_SINCE)
    return conditions


def of_sku(column: ColumnElement[Any], level: Columns) -> ColumnElement[Any]:
    """Select a column of the SKU of a stock level."""
    return select(column).where(same_sku(level, sku.c)).scalar_subquery()


def has_status(column: ColumnElement[str], statuses: Filters) -> ColumnElement[bool]:
    """Condition that a status is one of some; literals, so that the planner knows their number."""
    literals = [literal_column(f"'{status}'", Text) for status in sorted(statuses)]
    return column == literals[0] if len(literals) == 1 else column.in_(literals)


def _stored_number(filters: Filters) -> ColumnElement[Any]:
    """Sum the counts of matching SKUs that every write maintains; null without such counts.

    Counts do not distinguish SKUs: with a filter by SKU, its row is counted.
    """
    if not filters <= COUNTED_FILTERS and not filters <= COUNTED_OF_WAREHOUSE:
        return _bounded_count(filters) if "sku" in filters else null()
    conditions = count_conditions(filters)
    if "warehouse_id" not in filters:
        conditions.append(sku_count.c.warehouse_id == "")
    number = cast(func.coalesce(func.sum(sku_count.c.skus), 0), BigInteger)
    return select(number).where(*conditions).scalar_subquery()


def count_conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """Conditions on the counts that writes maintain."""
    conditions = conditions_of(COUNT_CONDITIONS, filters, sku_count.c)
    if statuses := STATUS_FILTERS & filters:
        plain = func.replace(sku_count.c.status, ARCHIVED_PREFIX, "")
        conditions.append(has_status(plain, statuses))
    return conditions


@shaped
def _counted_skus(dialect: str, filters: Filters) -> Select[Any]:
    if "found" not in filters:
        return select(_bounded_count(filters))
    is_found = in_key_array(dialect, sku.c.sku, "found")
    return select(func.count()).where(*_conditions_of_skus(filters, sku), is_found)


def _bounded_count(filters: Filters) -> ScalarSelect[int]:
    """Count matching SKUs up to COUNT_LIMIT."""
    table = _source(filters)
    rows = select(table.c.sku).where(*_conditions_of_skus(filters, table)).limit(COUNT_LIMIT)
    return select(func.count()).select_from(rows.subquery("some")).scalar_subquery()


@cache
def skus_by_code(dialect: str) -> Select[Any]:
    """Select the SKUs of `codes` in the row of `with_stock`."""
    return with_stock(dialect, _with_codes(dialect).subquery("skus"))


@cache
def _skus_by_code_within_limit(dialect: str) -> Select[Any]:
    """Select the SKUs of `codes` with all their levels, or none if `is_wide`."""
    skus = _with_codes(dialect)
    is_wide = _is_wide(skus)
    limited = skus.limit(_zero_if(is_wide)).subquery("skus")
    return with_stock(dialect, limited).add_columns(is_wide.label("is_wide"))


@cache
def _titles(dialect: str) -> Select[Any]:
    return _with_codes(dialect).with_only_columns(sku.c.sku, sku.c.title)


@cache
def _update_times(dialect: str) -> Select[Any]:
    return _with_codes(dialect).with_only_columns(sku.c.sku, sku.c.updated_at)


def _with_codes(dialect: str) -> Select[Any]:
    return select(sku.c.tenant_id, *SKU_COLUMNS).where(
        sku.c.tenant_id == TENANT, in_key_array(dialect, sku.c.sku, "codes")
    )


def _is_wide(skus: Select[Any]) -> ColumnElement[int]:
    """1 if the first `limit` SKUs have more than `most_levels` levels, else 0.

    If the tenant has too few warehouses for that, no levels are counted.
    """
    most: ColumnElement[int] = bindparam("most_levels", type_=BigInteger)
    some_warehouses = (
        select(literal_column("1"))
        .select_from(warehouse)
        .where(warehouse.c.tenant_id == TENANT)
        .limit(most)
        .subquery()
    )
    warehouses = select(func.count()).select_from(some_warehouses).scalar_subquery()
    counted = skus.subquery("counted")
    some_levels = (
        select(literal_column("1"))
        .select_from(counted.join(stock_level, same_sku(counted.c, stock_level.c)))
        .limit(most + literal_column("1"))
        .subquery()
    )
    levels = select(func.count()).select_from(some_levels).scalar_subquery()
    one = literal_column("1", BigInteger)
    return case((PAGE_LIMIT * warehouses <= most, ZERO), (levels > most, one), else_=ZERO)


def _zero_if(is_wide: ColumnElement[int]) -> ColumnElement[int]:
    """Limit of a page: 0 if it is wide."""
    return case((is_wide > literal_column("0"), ZERO), else_=PAGE_LIMIT)
