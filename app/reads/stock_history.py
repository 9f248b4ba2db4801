"""Reads of past stock."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from itertools import product
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)

from app.database.parameters import in_key_array, rows_from
from app.database.snapshot import Snapshot
from app.database.tables import adjustment, stock_level
from app.domain.periods import Interval, PeriodSeries
from app.domain.records import AdjustmentRecord, LedgerTotals
from app.reads.adjustment_figures import ledger_totals, sums_of
from app.reads.adjustments import (
    ADJUSTMENT_COLUMNS,
    ADJUSTMENT_CONDITIONS,
    adjustment_record,
)
from app.reads.conditions import (
    PARENTS,
    KeyColumns,
    StockKey,
    conditions_of,
    key_columns,
    parent_conditions,
    parents_json,
)
from app.reads.json_rows import json_array
from app.reads.paging import pages_of_parents
from app.reads.skus import SKU_CONDITIONS


async def sum_adjustments_by_period(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    skus: Sequence[StockKey],
    series: PeriodSeries,
) -> dict[StockKey, dict[datetime, LedgerTotals]]:
    """Sum adjustments by SKU, in one warehouse or in all, and by start of each period.

    Periods without adjustments are absent. Each run of the series takes a statement.
    """
    sums: dict[StockKey, defaultdict[datetime, list[Sequence[int]]]]
    sums = {sku: defaultdict(list) for sku in skus}
    for key, run in product(dict.fromkeys(map(key_columns, skus)), series.runs):
        parents = parents_json(sku for sku in skus if key_columns(sku) == key)
        offset = int(run.offset.total_seconds())
        statement = _sums_by_period(snapshot.dialect, series.interval, key, is_utc=not offset)
        parameters = {"tenant_id": tenant_id, "start": run.start, "end": run.end}
        parameters |= {"parents": parents, "offset": offset}
        for row in await snapshot.rows(statement, parameters):
            of_sku = sums[row.sku, row.warehouse_id]
            for period, *figures in orjson.loads(row.periods or "[]"):
                of_sku[run.period_at(datetime.fromisoformat(period))].append(figures)
    return {
        sku: {start: ledger_totals(figures) for start, figures in of_sku.items()}
        for sku, of_sku in sums.items()
    }


async def get_stock_as_of(
    snapshot: Snapshot, tenant_id: str, *, skus: Sequence[StockKey], end: datetime
) -> dict[StockKey, list[AdjustmentRecord]]:
    """Read the last adjustment before `end` of each level of a SKU, in one warehouse or in all.

    The adjustments of a SKU are ordered by warehouse id; levels without any are absent.
    """
    last: dict[StockKey, list[AdjustmentRecord]] = {sku: [] for sku in skus}
    for warehouse_id in dict.fromkeys(view for _, view in skus):
        codes = [code for code, view in skus if view == warehouse_id]
        parameters = {"tenant_id": tenant_id, "warehouse_id": warehouse_id, "codes": codes}
        statement = _stock_as_of(snapshot.dialect, narrowed=warehouse_id is not None)
        for row in await snapshot.rows(statement, {**parameters, "end": end, "limit": 1}):
            last[row.sku, warehouse_id].append(adjustment_record(row))
    return last


@cache
def _sums_by_period(
    dialect: str, interval: Interval, key: KeyColumns, *, is_utc: bool
) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    filters = frozenset({"tenant_id", "start", "end"})
    # Without the order, PostgreSQL takes an index without the position and reads all of a SKU.
    entries = (
        select(adjustment.c.created_at, adjustment.c.delta)
        .where(
            *conditions_of(ADJUSTMENT_CONDITIONS, filters, adjustment.c),
            *parent_conditions(adjustment.c, parents, key),
        )
        .order_by(adjustment.c.position.desc())
        .correlate(parents)
        .subquery("entries")
    )
    period = _period_of(dialect, interval, entries.c.created_at, is_utc=is_utc)
    periods = (
        select(period.label("period"), *sums_of(entries.c.delta))
        .group_by(period)
        .subquery("periods")
    )
    # One JSON value per parent: both engines then find each parent by its own index seek.
    aggregate = func.json_agg if dialect == "postgresql" else func.json_group_array
    of_parent = select(aggregate(json_array(dialect, *periods.c))).scalar_subquery()
    return select(parents.c.sku, parents.c.warehouse_id, of_parent.label("periods"))


def _period_of(
    dialect: str, interval: Interval, instant: ColumnElement[datetime], *, is_utc: bool
) -> ColumnElement[str]:
    """Hour or day of an instant in ISO 8601, in UTC or at `offset` seconds from it."""
    offset = bindparam("offset", type_=Integer)
    if dialect == "postgresql":
        formats = {Interval.HOUR: "'YYYY-MM-DD\"T\"HH24'", Interval.DAY: "'YYYY-MM-DD'"}
        in_utc = func.timezone(literal_column("'UTC'"), instant)
        local = in_utc if is_utc else in_utc + offset * literal_column("interval '1 second'")
        return func.to_char(local, literal_column(formats[interval]), type_=Text)
    if not is_utc:
        formats = {Interval.HOUR: "'%Y-%m-%dT%H'", Interval.DAY: "'%Y-%m-%d'"}
        seconds = cast(offset, Text) + literal_column("' seconds'", Text)
        return func.strftime(literal_column(formats[interval]), instant, seconds, type_=Text)
    first: ColumnElement[int] = literal_column("1")
    length: ColumnElement[int] = literal_column("13" if interval is Interval.HOUR else "10")
    return func.substr(instant, first, length, type_=Text)


@cache
def _stock_as_of(dialect: str, *, narrowed: bool) -> Select[Any]:
    filters = frozenset({"tenant_id", "warehouse_id"} if narrowed else {"tenant_id"})
    levels = (
        select(stock_level.c.sku, stock_level.c.warehouse_id)
        .where(
            *conditions_of(SKU_CONDITIONS, filters, stock_level.c),
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
        order=lambda columns: [columns.sku, columns.warehouse_id, columns.position.desc()],
    )
