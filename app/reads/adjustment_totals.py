"""Counts and sums of adjustments.

A figure of the whole ledger or of warehouses comes with the number of adjustments that no rollup
covers yet: the statement may have read all of them, so callers charge them. For other figures it is
0.
"""

from collections.abc import Sequence
from functools import partial, reduce
from operator import add, sub
from typing import Any, Final

import orjson
from sqlalchemy import (
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    func,
    literal_column,
    select,
)

from app.database.parameters import TENANT, rows_from
from app.database.snapshot import Snapshot
from app.database.tables import LEVEL_KEY, adjustment, ledger_sum, stock_level, tenant
from app.domain.filters import AdjustmentFilter
from app.domain.records import LedgerTotals
from app.ledger.totals import ZERO, Group, is_of_group
from app.reads.adjustment_figures import (
    ADDED_PARTS,
    FigureQuery,
    entry_count,
    entry_sums,
    ledger_totals,
)
from app.reads.adjustments import (
    ADJUSTMENT_CONDITIONS,
    PERIOD_FILTERS,
    adjustment_parameters,
    first_position_at,
)
from app.reads.conditions import (
    PARENTS,
    Filters,
    KeyColumns,
    LedgerKey,
    conditions_of,
    filters_of,
    key_columns,
    parent_conditions,
    parents_json,
    shaped,
)

# The filters of adjustments that the versions of stock levels answer.
NUMBERED_FILTERS: Final = frozenset({*LEVEL_KEY, *PERIOD_FILTERS})


async def count_adjustments(
    snapshot: Snapshot, tenant_id: str, *, where: AdjustmentFilter
) -> tuple[int, int]:
    """Count the matching adjustments; returns the count and the number of uncovered ones."""
    parameters = _figure_parameters(tenant_id, where)
    statement = _count(snapshot.dialect, filters_of(parameters))
    [row] = await snapshot.rows(statement, parameters)
    return int(row[0]), row[1]


async def sum_adjustments(
    snapshot: Snapshot, tenant_id: str, *, where: AdjustmentFilter
) -> tuple[LedgerTotals, int]:
    """Sum the matching adjustments; returns the totals and the number of uncovered ones."""
    parameters = _figure_parameters(tenant_id, where)
    statement = _sums(snapshot.dialect, filters_of(parameters))
    [[*parts, uncovered]] = await snapshot.rows(statement, parameters)
    return _totals_of_parts(parts), uncovered


async def count_adjustments_of(
    snapshot: Snapshot, tenant_id: str, *, parents: Sequence[LedgerKey], where: AdjustmentFilter
) -> tuple[dict[LedgerKey, int], int]:
    """Count the matching adjustments of each parent; all parents have keys of one kind.

    Returns the counts and the number of uncovered adjustments.
    """
    parameters = _figure_parameters(tenant_id, where)
    statement = _counts_of_parents(
        snapshot.dialect, filters_of(parameters), key_columns(parents[0])
    )
    parameters["parents"] = parents_json(parents)
    rows = await snapshot.rows(statement, parameters)
    counts = {(code, id_): int(number) for code, id_, number, _ in rows}
    return counts, rows[0].uncovered if rows else 0


async def sum_adjustments_of(
    snapshot: Snapshot, tenant_id: str, *, parents: Sequence[LedgerKey], where: AdjustmentFilter
) -> tuple[dict[LedgerKey, LedgerTotals], int]:
    """Sum the matching adjustments of each parent; all parents have keys of one kind.

    Returns the totals and the number of uncovered adjustments.
    """
    parameters = _figure_parameters(tenant_id, where)
    statement = _sums_of_parents(snapshot.dialect, filters_of(parameters), key_columns(parents[0]))
    parameters["parents"] = parents_json(parents)
    rows = await snapshot.rows(statement, parameters)
    totals = {(code, id_): _totals_of_parts(parts) for code, id_, *parts, _ in rows}
    return totals, rows[0].uncovered if rows else 0


def _figure_parameters(tenant_id: str, where: AdjustmentFilter) -> dict[str, object]:
    """Parameters of a figure. The end of its period is not before the start."""
    parameters = adjustment_parameters(tenant_id, where, None)
    if where.start and where.end:
        parameters["end"] = max(where.start, where.end)
    return parameters


def _totals_of_parts(parts: Sequence[str]) -> LedgerTotals:
    """Totals of the parts of a FigureQuery of `entry_sums`."""
    sums = [orjson.loads(part) for part in parts]
    subtracted = [[-number for number in part] for part in sums[ADDED_PARTS:]]
    return ledger_totals([*sums[:ADDED_PARTS], *subtracted])


@shaped
def _count(dialect: str, filters: Filters) -> Select[Any]:
    if _is_numbered(filters):
        return _of_tenant(_count_by_version(filters), ZERO)
    query = FigureQuery(dialect, filters, entry_count)
    return _of_tenant(_difference(query.parts()), _uncovered(query))


@shaped
def _sums(dialect: str, filters: Filters) -> Select[Any]:
    query = FigureQuery(dialect, filters, partial(entry_sums, dialect))
    return _of_tenant(*query.parts(), _uncovered(query))


@shaped
def _counts_of_parents(dialect: str, filters: Filters, key: KeyColumns) -> Select[Any]:
    # One subquery per parent. A single grouped count might read the ledger of all SKUs.
    parents = rows_from(dialect, "parents", PARENTS)
    if _is_numbered(filters | key):
        is_parent = parent_conditions(stock_level.c, parents, key)
        by_version = _count_by_version(filters, *is_parent)
        return _of_parents(parents, by_version, ZERO.label("uncovered"))
    query = FigureQuery(dialect, filters, entry_count, parents, key)
    return _of_parents(parents, _difference(query.parts()), _uncovered(query))


@shaped
def _sums_of_parents(dialect: str, filters: Filters, key: KeyColumns) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    query = FigureQuery(dialect, filters, partial(entry_sums, dialect), parents, key)
    return _of_parents(parents, *query.parts(), _uncovered(query))


def _of_tenant(*figures: ColumnElement[Any]) -> Select[Any]:
    return select(*figures).where(_is_tenant())


def _of_parents(parents: FromClause, *figures: ColumnElement[Any]) -> Select[Any]:
    with_tenant = parents.join(tenant, _is_tenant())
    return select(parents.c.sku, parents.c.warehouse_id, *figures).select_from(with_tenant)


def _uncovered(query: FigureQuery) -> ColumnElement[int]:
    """Count the adjustments after the last rollup of the ledger, if the figure may read them."""
    if query.group is not Group.LEDGER:
        return ZERO.label("uncovered")
    newest = select(func.max(adjustment.c.position)).where(adjustment.c.tenant_id == TENANT)
    covered = select(func.max(ledger_sum.c.until)).where(
        ledger_sum.c.tenant_id == TENANT, *is_of_group(Group.LEDGER, {})
    )
    last, until = (statement.scalar_subquery() for statement in (newest, covered))
    return (func.coalesce(last, ZERO) - func.coalesce(until, ZERO)).label("uncovered")


def _is_tenant() -> ColumnElement[bool]:
    return tenant.c.tenant_id == TENANT


def _difference(parts: Sequence[ColumnElement[int]]) -> ColumnElement[int]:
    """Single number from the parts of a FigureQuery."""
    number = reduce(add, parts[:ADDED_PARTS])
    return reduce(sub, parts[ADDED_PARTS:], number)


def _is_numbered(names: Filters) -> bool:
    """Whether the versions of stock levels answer a count: it has a SKU and no other filter."""
    return "sku" in names and names <= NUMBERED_FILTERS


def _count_by_version(filters: Filters, *is_parent: ColumnElement[bool]) -> ScalarSelect[int]:
    """Sum over stock levels of their numbers of adjustments, optionally within a period.

    The adjustments of a level are numbered from 1; its version is the last number.
    """
    number = _last_sequence("end") if "end" in filters else stock_level.c.version
    if "start" in filters:
        number -= _last_sequence("start")
    is_level = conditions_of(ADJUSTMENT_CONDITIONS, filters - PERIOD_FILTERS, stock_level.c)
    return select(func.coalesce(func.sum(number), 0)).where(*is_level, *is_parent).scalar_subquery()


def _last_sequence(name: str) -> ColumnElement[int]:
    """Sequence of a stock level's last adjustment before an instant, or 0."""
    last = (
        select(adjustment.c.sequence)
        .where(
            adjustment.c.tenant_id == TENANT,
            *(adjustment.c[column] == stock_level.c[column] for column in LEVEL_KEY[1:]),
            adjustment.c.position < first_position_at(name),
        )
        .order_by(adjustment.c.position.desc())
        .limit(literal_column("1"))
        .correlate(stock_level)
    )
    return func.coalesce(last.scalar_subquery(), ZERO)
