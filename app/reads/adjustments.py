"""Reads of adjustments."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Row, Select, Text, bindparam, select, tuple_

from app.database.columns import UtcDateTime
from app.database.parameters import in_key_array, rows_from
from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import LINK_COLUMNS, adjustment
from app.domain.filters import AdjustmentFilter, Sign
from app.domain.records import AdjustmentRecord
from app.ledger.totals import Columns
from app.reads.conditions import (
    PARENTS,
    Conditions,
    LedgerKey,
    Named,
    conditions_of,
    equals,
    named,
    parameter_names,
    parent_conditions,
    parents_json,
    shaped,
)
from app.reads.paging import PAGE_LIMIT, pages_of_parents
from app.reads.warehouses import tenant_warehouses
from app.runtime.fair_loop import in_pieces

# Where an adjustment stands in a list: when, sequence, id.
AdjustmentPosition = tuple[datetime, int, str]

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

ADJUSTMENT_CONDITIONS: Final[Conditions] = {
    "tenant_id": equals("tenant_id"),
    "sku": equals("sku"),
    "warehouse_id": equals("warehouse_id"),
    "reason": equals("reason"),
    **{name: equals(name) for name in ("created_by", *LINK_COLUMNS)},
    "start": lambda columns: columns.created_at >= bindparam("start", type_=UtcDateTime),
    "end": lambda columns: columns.created_at < bindparam("end", type_=UtcDateTime),
    Sign.INCREASE: lambda columns: columns.delta > 0,
    Sign.DECREASE: lambda columns: columns.delta < 0,
    Sign.UNCHANGED: lambda columns: columns.delta == 0,
    "after": lambda columns: (
        tuple_(columns.created_at, columns.sequence, columns.id)
        < tuple_(
            bindparam("after", type_=UtcDateTime),
            bindparam("after_sequence", type_=BigInteger),
            bindparam("after_id", type_=Text),
        )
    ),
}

PERIOD: Final = {"start", "end"}


async def list_adjustments(
    snapshot: Snapshot,
    tenant: str,
    *,
    where: AdjustmentFilter,
    after: AdjustmentPosition | None = None,
    limit: int,
) -> list[AdjustmentRecord]:
    """Return a page of the ledger, newest first, from after a position on."""
    parameters = adjustment_parameters(tenant, where, after)
    statement = _adjustments_page(snapshot.dialect, parameter_names(parameters))
    rows = await snapshot.rows(statement, {**parameters, "limit": limit})
    return adjustment_records(rows)


async def list_adjustments_of(
    snapshot: Snapshot,
    tenant: str,
    *,
    parents: Sequence[LedgerKey],
    where: AdjustmentFilter,
    after: AdjustmentPosition | None = None,
    limit: int,
) -> dict[LedgerKey, list[AdjustmentRecord]]:
    """Return for each parent, all of one kind, a page of its ledger, newest first."""
    by = named(parents[0])
    parameters = adjustment_parameters(tenant, where, after)
    statement = _adjustments_of(snapshot.dialect, parameter_names(parameters), by)
    parameters |= {"parents": parents_json(parents), "limit": limit}
    pages: dict[LedgerKey, list[AdjustmentRecord]] = {parent: [] for parent in parents}
    rows = await snapshot.rows(statement, parameters)
    for record in await in_pieces(adjustment_records, rows):
        code = record.sku if "sku" in by else None
        place = record.warehouse_id if "warehouse_id" in by else None
        pages[code, place].append(record)
    return pages


async def get_adjustment(snapshot: Snapshot, tenant: str, *, id_: str) -> AdjustmentRecord | None:
    """Return the adjustment of an id."""
    rows = await snapshot.rows(_adjustment_by_id(), {"tenant_id": tenant, "id": id_})
    return adjustment_record(rows[0]) if rows else None


async def list_adjustments_of_group(
    session: Session, tenant: str, *, name: str, id_: str, limit: int
) -> list[AdjustmentRecord]:
    """Return the adjustment of an `id`, or up to so many of a bulk or a transfer."""
    parameters = {"tenant_id": tenant, name: id_, "limit": limit}
    rows = await session.rows(_adjustments_of_group(name), parameters)
    return adjustment_records(rows)


async def get_reversals(
    session: Session, tenant: str, *, ids: Sequence[str]
) -> list[tuple[str, str]]:
    """Return which of some adjustments were reversed, each with the adjustment that did it."""
    rows = await session.rows(_reversals(session.dialect), {"tenant_id": tenant, "ids": ids})
    return [(row.reversal_of, row.id) for row in rows]


def adjustment_record(row: Row[Any]) -> AdjustmentRecord:
    """Return a row of ADJUSTMENT_COLUMNS as a record."""
    return AdjustmentRecord(*tuple(row))


def adjustment_records(rows: Iterable[Row[Any]]) -> list[AdjustmentRecord]:
    """Return rows of ADJUSTMENT_COLUMNS as records."""
    return [adjustment_record(row) for row in rows]


def adjustment_parameters(
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
        **({} if where.sign is None else {where.sign: True}),
    }


@shaped
def _adjustments_page(dialect: str, asked: frozenset[str]) -> Select[Any]:
    by_level = {"sku", "warehouse_id"} <= asked and not _is_period(asked)
    if is_by_reason_alone(asked):
        places = tenant_warehouses()
        return pages_of_parents(
            dialect,
            places,
            adjustment,
            ADJUSTMENT_COLUMNS,
            where=lambda columns: [
                *_adjustment_conditions(asked, columns, by_level=False),
                columns.warehouse_id == places.c.id,
            ],
            order=lambda columns: newest_first(columns, by_level=False),
        ).limit(PAGE_LIMIT)
    return (
        select(*ADJUSTMENT_COLUMNS)
        .where(*_adjustment_conditions(asked, adjustment.c, by_level=by_level))
        .order_by(*newest_first(adjustment.c, by_level=by_level))
        .limit(PAGE_LIMIT)
    )


def is_by_reason_alone(asked: frozenset[str]) -> bool:
    """Tell whether the index by warehouse and reason serves, warehouse by warehouse."""
    return "reason" in asked and asked.isdisjoint(
        {"sku", "warehouse_id", "created_by", *LINK_COLUMNS}
    )


@shaped
def _adjustments_of(dialect: str, asked: frozenset[str], by: Named) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    by_level = {"sku", "warehouse_id"} <= by | asked and not _is_period(asked)
    return pages_of_parents(
        dialect,
        parents,
        adjustment,
        ADJUSTMENT_COLUMNS,
        where=lambda columns: [
            *_adjustment_conditions(asked, columns, by_level=by_level),
            *parent_conditions(columns, parents, by),
        ],
        order=lambda columns: newest_first(columns, by_level=by_level),
    )


@cache
def _adjustment_by_id() -> Select[Any]:
    return select(*ADJUSTMENT_COLUMNS).where(
        equals("tenant_id")(adjustment.c), equals("id")(adjustment.c)
    )


@cache
def _adjustments_of_group(name: str) -> Select[Any]:
    return (
        select(*ADJUSTMENT_COLUMNS)
        .where(equals("tenant_id")(adjustment.c), equals(name)(adjustment.c))
        .order_by(*newest_first(adjustment.c, by_level=False))
        .limit(PAGE_LIMIT)
    )


@cache
def _reversals(dialect: str) -> Select[Any]:
    return select(adjustment.c.reversal_of, adjustment.c.id).where(
        equals("tenant_id")(adjustment.c), in_key_array(dialect, adjustment.c.reversal_of, "ids")
    )


def _is_period(asked: frozenset[str]) -> bool:
    """Tell whether a list has a first or last instant, which an index by time finds."""
    return not asked.isdisjoint({"start", "end"})


def _adjustment_conditions(
    asked: frozenset[str], columns: Columns, *, by_level: bool
) -> list[ColumnElement[bool]]:
    if "after" not in asked:
        return conditions_of(ADJUSTMENT_CONDITIONS, asked, columns)
    if by_level:
        # Within a level the sequence alone is the order, and its index serves it.
        before = columns.sequence < bindparam("after_sequence", type_=BigInteger)
        return [*conditions_of(ADJUSTMENT_CONDITIONS, asked - {"after"}, columns), before]
    # A position of the list is before its end. Told both, an index is read from the end on.
    return conditions_of(ADJUSTMENT_CONDITIONS, asked - {"end"}, columns)


def newest_first(columns: Columns, *, by_level: bool) -> list[ColumnElement[Any]]:
    if by_level:
        return [columns.sequence.desc()]
    return [columns.created_at.desc(), columns.sequence.desc(), columns.id.desc()]
