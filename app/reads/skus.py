"""Reads of SKUs with their stock levels."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    func,
    literal_column,
    select,
)

from app.database.parameters import TENANT, KeyValue, in_key_array
from app.database.snapshot import Snapshot
from app.database.tables import sku, sku_count, stock_level, warehouse
from app.domain.filters import Order, SkuFilter
from app.domain.quantities import ARCHIVED_PREFIX
from app.domain.records import SkuRecord
from app.errors import QueryTooComplex
from app.ledger.totals import ZERO
from app.reads.conditions import (
    Conditions,
    Filters,
    conditions_of,
    equals,
    filters_of,
    of_tenant,
    shaped,
)
from app.reads.paging import COUNT_LIMIT, LARGEST_PAGE, MOST_LEVELS, PAGE_LIMIT, in_sku_order
from app.reads.stock_json import SKU_COLUMNS, same_sku, with_stock
from app.reads.warehouses import WAREHOUSE_DECODER

SKU_DECODER: Final = Decoder(list[SkuRecord])

SKU_CONDITIONS: Final[Conditions] = {
    "tenant_id": of_tenant,
    "warehouse_id": equals("warehouse_id"),
    "status": equals("status"),
    "sku": equals("sku"),
    "after": lambda columns: columns.sku > bindparam("after", type_=Text),
    "before": lambda columns: columns.sku < bindparam("before", type_=Text),
    "listed": lambda columns: columns.archived_at.is_(None),
    "archived": lambda columns: columns.archived_at.is_not(None),
}
# Archived SKUs have counts of their own, under a prefixed status.
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
    """A page of SKUs with the number of SKUs in the whole list."""

    records: Sequence[SkuRecord]
    total: int


async def list_skus(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    where: SkuFilter,
    after: str | None = None,
    order: Order = Order.ASCENDING,
    limit: int,
    most_levels: int = MOST_LEVELS,
) -> SkuPage:
    """Read a page of SKUs by code with their levels, starting after a code, and the total.

    Raises:
        QueryTooComplex: the page has more than `most_levels` levels; none is read.

    """
    parameters = {
        "tenant_id": tenant_id,
        "warehouse_id": where.warehouse_id,
        "status": where.status,
        "sku": where.sku,
        **archived_parameters(where.archived),
        "after" if order is Order.ASCENDING else "before": after,
    }
    statement = page_of_skus(snapshot.dialect, filters_of(parameters), order)
    parameters |= {"limit": limit, "most_levels": most_levels}
    [row] = await snapshot.rows(statement, parameters)
    if row.is_wide:
        raise _too_wide(most_levels)
    return SkuPage(sku_records(row), int(row.total))


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
    longest = _longest_page(filters, order)
    page = select(longest).order_by(in_sku_order(longest.c.sku, order))
    is_wide = _is_wide(page.limit(PAGE_LIMIT))
    skus = page.limit(_zero_if(is_wide)).subquery("page")
    total = _number_of_skus(filters - {"after", "before"})
    return with_stock(dialect, skus, order=order).add_columns(
        total.label("total"), is_wide.label("is_wide")
    )


def _longest_page(filters: Filters, order: Order) -> FromClause:
    """SKUs of the longest page."""
    if "warehouse_id" not in filters:
        return (
            select(sku.c.tenant_id, *SKU_COLUMNS)
            .where(*conditions_of(SKU_CONDITIONS, filters, sku.c))
            .order_by(in_sku_order(sku.c.sku, order))
            .limit(LARGEST_PAGE)
            .subquery("longest")
        )
    # Joined after the limit: before it, the planner may join the whole table.
    codes = (
        select(stock_level.c.tenant_id, stock_level.c.sku)
        .where(*_in_warehouse(filters))
        .order_by(in_sku_order(stock_level.c.sku, order))
        .limit(LARGEST_PAGE)
        .subquery("codes")
    )
    of_codes = codes.join(sku, same_sku(codes.c, sku.c))
    return select(sku.c.tenant_id, *SKU_COLUMNS).select_from(of_codes).subquery("longest")


def _in_warehouse(filters: Filters) -> list[ColumnElement[bool]]:
    """Conditions on the levels of a warehouse; a status is the status of the whole SKU."""
    conditions = conditions_of(SKU_CONDITIONS, filters - {"status"}, stock_level.c)
    if "status" in filters:
        # A scalar subquery, because the planner may join the whole table for an EXISTS.
        status = select(sku.c.status).where(same_sku(sku.c, stock_level.c)).scalar_subquery()
        conditions.append(status == bindparam("status", type_=KeyValue))
    return conditions


def _number_of_skus(filters: Filters) -> ScalarSelect[int]:
    """Count the matching SKUs, from counts that every write maintains.

    Counts do not distinguish SKUs: with a filter by SKU, its row is counted. Counts of a warehouse
    have the statuses of its levels: with a status of the whole SKU, the levels are counted.
    """
    if "warehouse_id" in filters and not filters.isdisjoint({"sku", "status"}):
        return _bounded_count(select(stock_level.c.sku).where(*_in_warehouse(filters)))
    if "sku" in filters:
        conditions = conditions_of(SKU_CONDITIONS, filters, sku.c)
        return _bounded_count(select(sku.c.sku).where(*conditions))
    conditions = conditions_of(COUNT_CONDITIONS, filters, sku_count.c)
    if "warehouse_id" not in filters:
        conditions.append(sku_count.c.warehouse_id == "")
    number = cast(func.coalesce(func.sum(sku_count.c.skus), 0), BigInteger)
    return select(number).where(*conditions).scalar_subquery()


def _bounded_count(rows: Select[Any]) -> ScalarSelect[int]:
    """Count rows up to COUNT_LIMIT."""
    some = rows.limit(COUNT_LIMIT).subquery("some")
    return select(func.count()).select_from(some).scalar_subquery()


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
