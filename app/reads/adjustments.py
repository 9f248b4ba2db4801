"""Reads of adjustments."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    bindparam,
    func,
    literal_column,
    select,
)

from app.database.columns import UtcDateTime, occurrence_of
from app.database.parameters import TENANT, in_key_array, rows_from
from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import LINK_COLUMNS, adjustment
from app.domain.filters import AdjustmentFilter, Sign
from app.domain.records import AdjustmentRecord
from app.ledger.totals import ZERO, Columns
from app.reads.conditions import (
    PARENTS,
    Conditions,
    Filters,
    KeyColumns,
    LedgerKey,
    conditions_of,
    equals,
    filters_of,
    key_columns,
    of_tenant,
    parent_conditions,
    parents_json,
    shaped,
)
from app.reads.paging import PAGE_LIMIT, pages_of_parents
from app.reads.persons import author_of, is_by_author
from app.reads.warehouses import tenant_warehouses
from app.runtime.fair_loop import in_pieces

ADJUSTMENT_COLUMNS: Final = tuple(
    author_of(adjustment) if field.name == "created_by" else adjustment.c[field.name]
    for field in fields(AdjustmentRecord)
)

# Follows all positions.
NO_POSITION: Final = literal_column("9223372036854775807", BigInteger)


def first_position_at(name: str) -> ColumnElement[int]:
    """Position of the first adjustment at or after the instant of a parameter.

    Positions follow the time, so this turns the bound of a period into one that every index has.
    """
    entry = adjustment.alias(f"first_at_{name}")
    first = (
        select(entry.c.position)
        .where(
            entry.c.tenant_id == TENANT,
            entry.c.created_at >= bindparam(name, type_=UtcDateTime),
        )
        .order_by(entry.c.created_at, entry.c.position)
        .limit(literal_column("1"))
    )
    return func.coalesce(first.scalar_subquery(), NO_POSITION)


ADJUSTMENT_CONDITIONS: Final[Conditions] = {
    "tenant_id": of_tenant,
    **{name: equals(name) for name in ("sku", "warehouse_id", "reason", *LINK_COLUMNS)},
    "created_by": is_by_author,
    "start": lambda columns: columns.position >= first_position_at("start"),
    "end": lambda columns: columns.position < first_position_at("end"),
    "occurred_from": lambda columns: (
        occurrence_of(columns) >= bindparam("occurred_from", type_=UtcDateTime)
    ),
    "occurred_to": lambda columns: (
        occurrence_of(columns) < bindparam("occurred_to", type_=UtcDateTime)
    ),
    Sign.INCREASE: lambda columns: columns.delta > 0,
    Sign.DECREASE: lambda columns: columns.delta < 0,
    Sign.UNCHANGED: lambda columns: columns.delta == 0,
    "after": lambda columns: columns.position < bindparam("after", type_=BigInteger),
}
PERIOD_FILTERS: Final = frozenset({"start", "end"})
OCCURRENCE_FILTERS: Final = frozenset({"occurred_from", "occurred_to"})
# The fields of an AdjustmentFilter that are parameters of the same name.
FILTER_NAMES: Final = tuple(
    field.name for field in fields(AdjustmentFilter) if field.name != "sign"
)


async def list_adjustments(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    where: AdjustmentFilter,
    after: int | None = None,
    limit: int,
) -> list[AdjustmentRecord]:
    """Read a page of the ledger, newest first, starting after a position."""
    parameters = adjustment_parameters(tenant_id, where, after)
    statement = _page_of_adjustments(snapshot.dialect, filters_of(parameters))
    rows = await snapshot.rows(statement, {**parameters, "limit": limit})
    return adjustment_records(rows)


async def list_adjustments_of(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    parents: Sequence[LedgerKey],
    where: AdjustmentFilter,
    after: int | None = None,
    limit: int,
) -> dict[LedgerKey, list[AdjustmentRecord]]:
    """Read a page of the ledger of each parent, newest first; all parents have keys of one kind."""
    key = key_columns(parents[0])
    parameters = adjustment_parameters(tenant_id, where, after)
    statement = _pages_of_adjustments(snapshot.dialect, filters_of(parameters), key)
    parameters |= {"parents": parents_json(parents), "limit": limit}
    pages: dict[LedgerKey, list[AdjustmentRecord]] = {parent: [] for parent in parents}
    rows = await snapshot.rows(statement, parameters)
    for record in await in_pieces(adjustment_records, rows):
        code = record.sku if "sku" in key else None
        warehouse_id = record.warehouse_id if "warehouse_id" in key else None
        pages[code, warehouse_id].append(record)
    return pages


async def get_adjustments(
    snapshot: Snapshot, tenant_id: str, *, ids: Sequence[str]
) -> dict[str, AdjustmentRecord]:
    """Read adjustments by id; missing ids are absent."""
    statement = _adjustments_by_id(snapshot.dialect)
    rows = await snapshot.rows(statement, {"tenant_id": tenant_id, "ids": ids})
    return {row.id: adjustment_record(row) for row in rows}


async def list_adjustments_of_group(
    session: Session, tenant_id: str, *, name: str, id_: str, limit: int
) -> list[AdjustmentRecord]:
    """Read the first adjustments with a value in the column `id`, `bulk_id` or `transfer_id`."""
    parameters = {"tenant_id": tenant_id, name: id_, "limit": limit}
    rows = await session.rows(_adjustments_of_group(name), parameters)
    return adjustment_records(rows)


async def get_reversals(session: Session, tenant_id: str, *, ids: Sequence[str]) -> dict[str, str]:
    """Read the ids of the reversals of some adjustments, by the id of the reversed one."""
    rows = await session.rows(_reversals(session.dialect), {"tenant_id": tenant_id, "ids": ids})
    return {row.reversal_of: row.id for row in rows}


def adjustment_record(row: Row[Any]) -> AdjustmentRecord:
    """Convert a row of ADJUSTMENT_COLUMNS."""
    return AdjustmentRecord(*tuple(row))


def adjustment_records(rows: Iterable[Row[Any]]) -> list[AdjustmentRecord]:
    """Convert rows of ADJUSTMENT_COLUMNS."""
    return [adjustment_record(row) for row in rows]


def adjustment_parameters(
    tenant_id: str, where: AdjustmentFilter, after: int | None
) -> dict[str, object]:
    """Parameters of a list of adjustments; None for each unused one."""
    return {
        "tenant_id": tenant_id,
        **{name: getattr(where, name) for name in FILTER_NAMES},
        "after": after,
        **({} if where.sign is None else {where.sign: True}),
    }


@shaped
def _page_of_adjustments(dialect: str, filters: Filters) -> Select[Any]:
    if uses_reason_index(filters):
        return _page_by_reason(dialect, filters)
    by_level = _is_in_level_order(filters, filters)
    return (
        select(*ADJUSTMENT_COLUMNS)
        .where(*_page_conditions(filters, adjustment.c, by_level=by_level))
        .order_by(*newest_first(adjustment.c, filters, by_level=by_level))
        .limit(PAGE_LIMIT)
    )


def _page_by_reason(dialect: str, filters: Filters) -> Select[Any]:
    """Merge the first adjustments of the reason in each warehouse."""
    warehouses = tenant_warehouses()
    return pages_of_parents(
        dialect,
        warehouses,
        adjustment,
        ADJUSTMENT_COLUMNS,
        where=lambda columns: [
            *_page_conditions(filters, columns, by_level=False),
            columns.warehouse_id == warehouses.c.id,
        ],
        order=lambda columns: newest_first(columns, filters, by_level=False),
    ).limit(PAGE_LIMIT)


@shaped
def _pages_of_adjustments(dialect: str, filters: Filters, key: KeyColumns) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    by_level = _is_in_level_order(key | filters, filters)
    return pages_of_parents(
        dialect,
        parents,
        adjustment,
        ADJUSTMENT_COLUMNS,
        where=lambda columns: [
            *_page_conditions(filters, columns, by_level=by_level),
            *parent_conditions(columns, parents, key),
        ],
        order=lambda columns: newest_first(columns, filters, by_level=by_level),
    )


@cache
def _adjustments_by_id(dialect: str) -> Select[Any]:
    return select(*ADJUSTMENT_COLUMNS).where(
        adjustment.c.tenant_id == TENANT, in_key_array(dialect, adjustment.c.id, "ids")
    )


@cache
def _adjustments_of_group(name: str) -> Select[Any]:
    return (
        select(*ADJUSTMENT_COLUMNS)
        .where(adjustment.c.tenant_id == TENANT, equals(name)(adjustment.c))
        .order_by(adjustment.c.position.desc())
        .limit(PAGE_LIMIT)
    )


@cache
def _reversals(dialect: str) -> Select[Any]:
    return select(adjustment.c.reversal_of, adjustment.c.id).where(
        adjustment.c.tenant_id == TENANT, in_key_array(dialect, adjustment.c.reversal_of, "ids")
    )


def uses_reason_index(filters: Filters) -> bool:
    """Whether the index by warehouse and reason is the best one, warehouse by warehouse."""
    return "reason" in filters and filters.isdisjoint(
        {"sku", "warehouse_id", "created_by", *LINK_COLUMNS, *OCCURRENCE_FILTERS}
    )


def newest_first(columns: Columns, filters: Filters, *, by_level: bool) -> list[ColumnElement[Any]]:
    """Order of a list. The list of one level has its order by sequence.

    By position, a generic plan of PostgreSQL may read the whole history of the SKU instead.

    The times of occurrence do not follow the positions. A page with a filter of them is sorted, so
    that it reads the adjustments of the period and not the ledger after it.
    """
    if by_level:
        return [columns.sequence.desc()]
    if filters.isdisjoint(OCCURRENCE_FILTERS):
        return [columns.position.desc()]
    return [(columns.position + ZERO).desc()]


def _is_in_level_order(known: Filters, filters: Filters) -> bool:
    """Whether a list is of one level and without a period, which is a range of positions."""
    return {"sku", "warehouse_id"} <= known and filters.isdisjoint(PERIOD_FILTERS)


def _page_conditions(
    filters: Filters, columns: Columns, *, by_level: bool
) -> list[ColumnElement[bool]]:
    if "after" not in filters:
        return conditions_of(ADJUSTMENT_CONDITIONS, filters, columns)
    if by_level:
        before = columns.sequence < _sequence_of_cursor()
        return [*conditions_of(ADJUSTMENT_CONDITIONS, filters - {"after"}, columns), before]
    # The position is before the end. With both conditions an index would be read from the end.
    return conditions_of(ADJUSTMENT_CONDITIONS, filters - {"end"}, columns)


def _sequence_of_cursor() -> ColumnElement[int]:
    """Select the sequence of the adjustment at the position of a cursor."""
    last = adjustment.alias("last")
    is_last = last.c.position == bindparam("after", type_=BigInteger)
    return select(last.c.sequence).where(last.c.tenant_id == TENANT, is_last).scalar_subquery()
