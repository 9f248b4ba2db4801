"""Reads of past stock."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, Text, func, literal_column, select

from app.database.parameters import in_key_array, rows_from
from app.database.snapshot import Snapshot
from app.database.tables import adjustment, stock_level
from app.domain.periods import Interval
from app.domain.records import AdjustmentRecord, LedgerTotals
from app.reads.adjustment_totals import ledger_totals, sums_of
from app.reads.adjustments import (
    ADJUSTMENT_COLUMNS,
    ADJUSTMENT_CONDITIONS,
    adjustment_record,
    newest_first,
)
from app.reads.conditions import (
    PARENTS,
    Named,
    StockKey,
    conditions_of,
    named,
    parent_conditions,
    parents_json,
)
from app.reads.json_rows import json_array
from app.reads.paging import pages_of_parents
from app.reads.skus import SKU_CONDITIONS


async def sum_adjustments_by_period(
    snapshot: Snapshot,
    tenant: str,
    *,
    skus: Sequence[StockKey],
    start: datetime,
    end: datetime,
    interval: Interval,
) -> dict[StockKey, dict[datetime, LedgerTotals]]:
    """Return for each SKU, as seen in one warehouse or in all, what its adjustments come to.

    That is by the start of each hour or day in which there are some, from `start` to before `end`.
    """
    found: dict[StockKey, dict[datetime, LedgerTotals]] = {}
    for by in dict.fromkeys(map(named, skus)):
        parents = parents_json(each for each in skus if named(each) == by)
        statement = _sums_by_period(snapshot.dialect, interval, by)
        parameters = {"tenant_id": tenant, "start": start, "end": end, "parents": parents}
        for row in await snapshot.rows(statement, parameters):
            found[row.sku, row.warehouse_id] = {
                datetime.fromisoformat(period).replace(tzinfo=UTC): ledger_totals([numbers])
                for period, *numbers in orjson.loads(row.periods or "[]")
            }
    return found


async def get_stock_as_of(
    snapshot: Snapshot, tenant: str, *, skus: Sequence[StockKey], end: datetime
) -> dict[StockKey, list[AdjustmentRecord]]:
    """Return for each SKU, as seen in one warehouse or in all, what made its stock before an end.

    That is the last adjustment before it of every level that had one, by warehouse id.
    """
    found: dict[StockKey, list[AdjustmentRecord]] = {each: [] for each in skus}
    for view in dict.fromkeys(view for _, view in skus):
        codes = [code for code, seen in skus if seen == view]
        parameters = {"tenant_id": tenant, "warehouse_id": view, "codes": codes, "end": end}
        statement = _stock_as_of(snapshot.dialect, narrowed=view is not None)
        for row in await snapshot.rows(statement, {**parameters, "limit": 1}):
            found[row.sku, view].append(adjustment_record(row))
    return found


@cache
def _sums_by_period(dialect: str, interval: Interval, by: Named) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    asked = frozenset({"tenant_id", "start", "end"})
    # In their order, lest PostgreSQL takes an index without the time and reads all of a SKU.
    entries = (
        select(adjustment.c.created_at, adjustment.c.delta)
        .where(
            *conditions_of(ADJUSTMENT_CONDITIONS, asked, adjustment.c),
            *parent_conditions(adjustment.c, parents, by),
        )
        .order_by(*newest_first(adjustment.c, by_level=False))
        .correlate(parents)
        .subquery("entries")
    )
    period = _period_of(dialect, interval, entries.c.created_at)
    periods = (
        select(period.label("period"), *sums_of(entries.c.delta))
        .group_by(period)
        .subquery("periods")
    )
    # As one value per parent, so that each is found by its own index seek on both engines.
    all_of = func.json_agg if dialect == "postgresql" else func.json_group_array
    of_parent = select(all_of(json_array(dialect, *periods.c))).scalar_subquery()
    return select(parents.c.sku, parents.c.warehouse_id, of_parent.label("periods"))


def _period_of(
    dialect: str, interval: Interval, instant: ColumnElement[datetime]
) -> ColumnElement[str]:
    """Return the hour or the day of an instant, as ISO 8601 writes it."""
    if dialect == "postgresql":
        words = {Interval.HOUR: "'YYYY-MM-DD\"T\"HH24'", Interval.DAY: "'YYYY-MM-DD'"}
        in_utc = func.timezone(literal_column("'UTC'"), instant)
        return func.to_char(in_utc, literal_column(words[interval]), type_=Text)
    first: ColumnElement[int] = literal_column("1")
    length: ColumnElement[int] = literal_column("13" if interval is Interval.HOUR else "10")
    return func.substr(instant, first, length, type_=Text)


@cache
def _stock_as_of(dialect: str, *, narrowed: bool) -> Select[Any]:
    asked = frozenset({"tenant_id", "warehouse_id"} if narrowed else {"tenant_id"})
    levels = (
        select(stock_level.c.sku, stock_level.c.warehouse_id)
        .where(
            *conditions_of(SKU_CONDITIONS, asked, stock_level.c),
            in_key_array(dialect, stock_level.c.sku, "codes"),
        )
        .subquery("levels")
    )
    return pages_of_parents(
        dialect,
        levels,
        adjustment,
        ADJUSTMENT_COLUMNS,
        where=lambda columns: [
            *conditions_of(ADJUSTMENT_CONDITIONS, frozenset({"tenant_id", "end"}), columns),
            *parent_conditions(columns, levels, frozenset(PARENTS)),
        ],
        # The last of several in one millisecond is the one of the highest sequence.
        order=lambda columns: [
            columns.sku,
            columns.warehouse_id,
            columns.created_at.desc(),
            columns.sequence.desc(),
        ],
    )
