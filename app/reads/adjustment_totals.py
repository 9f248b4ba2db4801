"""Counts and sums of adjustments."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from operator import add, sub
from typing import Any, Final

import orjson
from sqlalchemy import (
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.database.columns import UtcDateTime
from app.database.parameters import KeyValue, rows_from
from app.database.snapshot import Snapshot
from app.database.tables import LEVEL_KEY, adjustment, ledger_sum, stock_level
from app.database.tables import tenant as tenant_table
from app.domain.filters import AdjustmentFilter, Sign
from app.domain.records import LedgerTotals
from app.ledger.totals import (
    BEGINNING,
    END,
    HALF,
    IN_COMMON,
    ZERO,
    Columns,
    Group,
    beginning,
    earliest,
    halves_of,
    is_of_group,
    summed_until,
)
from app.reads.adjustments import (
    ADJUSTMENT_CONDITIONS,
    PERIOD,
    adjustment_parameters,
    is_by_reason_alone,
    newest_first,
)
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
from app.reads.json_rows import json_array
from app.reads.warehouses import tenant_warehouses

# What is looked through for the adjustments of which something is told.
ENTRY_COLUMNS: Final = tuple(
    adjustment.c[name]
    for name in (*LEVEL_KEY[1:], "reason", "created_by", "reference", "created_at", "delta")
)

LEDGER_SUM_CONDITIONS: Final[Conditions] = {
    **{name: equals(name) for name in ("warehouse_id", "reason", "created_by")},
    Sign.INCREASE: lambda columns: columns.sign > ZERO,
    Sign.DECREASE: lambda columns: columns.sign < ZERO,
    Sign.UNCHANGED: lambda columns: columns.sign == ZERO,
}

# What the sums of a group tell apart, and which group it is.
SUMMED: Final = {*LEDGER_SUM_CONDITIONS, *PERIOD, "sku", "reference"}
# How many parts a figure has until an end: those that follow are taken away from it.
UNTIL_END: Final = 2


async def count_adjustments(snapshot: Snapshot, tenant: str, *, where: AdjustmentFilter) -> int:
    """Return how many adjustments match."""
    parameters = adjustment_parameters(tenant, where, None)
    statement = _adjustments_count(snapshot.dialect, parameter_names(parameters))
    [row] = await snapshot.rows(statement, {**parameters, **_end_of(where)})
    return int(row[0])


async def sum_adjustments(
    snapshot: Snapshot, tenant: str, *, where: AdjustmentFilter
) -> LedgerTotals:
    """Return what the adjustments that match come to."""
    parameters = adjustment_parameters(tenant, where, None)
    statement = _adjustments_sum(snapshot.dialect, parameter_names(parameters))
    [parts] = await snapshot.rows(statement, {**parameters, **_end_of(where)})
    return _difference(parts)


async def count_adjustments_of(
    snapshot: Snapshot, tenant: str, *, parents: Sequence[LedgerKey], where: AdjustmentFilter
) -> dict[LedgerKey, int]:
    """Return for each parent, all of one kind, how many of its adjustments match."""
    parameters = adjustment_parameters(tenant, where, None)
    statement = _adjustments_count_of(
        snapshot.dialect, parameter_names(parameters), named(parents[0])
    )
    parameters |= {"parents": parents_json(parents), **_end_of(where)}
    rows = await snapshot.rows(statement, parameters)
    return {(code, id_): int(number) for code, id_, number in rows}


async def sum_adjustments_of(
    snapshot: Snapshot, tenant: str, *, parents: Sequence[LedgerKey], where: AdjustmentFilter
) -> dict[LedgerKey, LedgerTotals]:
    """Return for each parent, all of one kind, what its adjustments that match come to."""
    parameters = adjustment_parameters(tenant, where, None)
    statement = _adjustments_sum_of(
        snapshot.dialect, parameter_names(parameters), named(parents[0])
    )
    parameters |= {"parents": parents_json(parents), **_end_of(where)}
    rows = await snapshot.rows(statement, parameters)
    return {(code, id_): _difference(parts) for code, id_, *parts in rows}


def ledger_totals(sums: Iterable[Sequence[int]]) -> LedgerTotals:
    """Return the totals of all that some rows of SUMS tell."""
    columns = [sum(column) for column in zip(*sums, strict=True)] or [0] * 5
    entries, upper_increase, increase, upper_decrease, decrease = columns
    return LedgerTotals(
        entries,
        increase=(upper_increase << HALF) + increase,
        decrease=-((upper_decrease << HALF) + decrease),
    )


def _end_of(where: AdjustmentFilter) -> dict[str, object]:
    """Return the end of a period, which `_figures` is told whether it is said or not.

    A period that ends before it starts ends as it starts.
    """
    return {"end": max(where.start or BEGINNING, where.end or END)}


@shaped
def _adjustments_count(dialect: str, asked: frozenset[str]) -> Select[Any]:
    if _is_numbered(asked):
        return select(_numbers(asked))
    return select(_count(dialect, asked)).where(_is_mine())


@shaped
def _adjustments_sum(dialect: str, asked: frozenset[str]) -> Select[Any]:
    return select(*_figures(dialect, asked, partial(_sums_in, dialect))).where(_is_mine())


def _is_mine() -> ColumnElement[bool]:
    return equals("tenant_id")(tenant_table.c)


def _count(
    dialect: str,
    asked: frozenset[str],
    parents: FromClause | None = None,
    by: Named = frozenset(),
) -> ColumnElement[int]:
    """Return how many adjustments match, for a tenant or for each parent."""
    figures = _figures(dialect, asked, _count_in, parents, by)
    number = reduce(add, figures[:UNTIL_END])
    return reduce(sub, figures[UNTIL_END:], number)


def _figures(
    dialect: str,
    asked: frozenset[str],
    figure: Callable[[FromClause], ColumnElement[Any]],
    parents: FromClause | None = None,
    by: Named = frozenset(),
) -> list[ScalarSelect[Any]]:
    """Return a figure of adjustments, for a tenant or for each parent, in some parts.

    Those of a group are what its last sum before the end says, and what follows that in the ledger;
    then, to be taken away, the same before the start. Few are part of anything else: they are read.
    """
    outer = [it for it in (tenant_table, parents) if it is not None]

    def part(
        table: FromClause, known: frozenset[str], *more: ColumnElement[bool]
    ) -> ScalarSelect[Any]:
        conditions = LEDGER_SUM_CONDITIONS if table is ledger_sum else ADJUSTMENT_CONDITIONS
        # Of the tenant's row: what depends on another row is not worth other processes' start.
        mine = table.c.tenant_id == tenant_table.c.tenant_id

        def told(columns: Columns, among: frozenset[str]) -> list[ColumnElement[bool]]:
            of_parent = [] if parents is None else parent_conditions(columns, parents, by & among)
            return [*conditions_of(conditions, known & among, columns), *of_parent]

        if table is adjustment and narrow:
            # Found by that alone, for which there is an index by time, and looked through: little
            # may have a reference, or be of a SKU, and much be in its warehouse or by its person.
            in_order = newest_first(adjustment.c, by_level=False)
            found = select(*ENTRY_COLUMNS).where(mine, *more, *told(adjustment.c, narrow))
            # The offset keeps it apart.
            found = found.order_by(*in_order).offset(literal_column("0")).correlate(*outer)
            table = found.subquery("entries")
            wanted = select(figure(table)).where(*told(table.c, (known | by) - narrow))
        else:
            wanted = select(figure(table)).where(mine, *more, *told(table.c, known | by))
        return wanted.select_from(table).correlate(*outer).scalar_subquery()

    def until(name: str) -> list[ScalarSelect[Any]]:
        end = bindparam(name, type_=UtcDateTime)
        limit = earliest(dialect, summed_until(dialect), end)
        sums = is_of_group(group, names)
        mine = ledger_sum.c.tenant_id == tenant_table.c.tenant_id
        found = select(func.max(ledger_sum.c.until)).where(mine, *sums, ledger_sum.c.until <= limit)
        last = found.correlate(*outer).scalar_subquery()
        at, since = adjustment.c.created_at, func.coalesce(last, beginning(), type_=UtcDateTime)
        return [
            part(ledger_sum, asked, *sums, ledger_sum.c.until == last),
            part(adjustment, asked - PERIOD, *anywhere, at >= since, at < end),
        ]

    asked -= {"tenant_id"}
    if not asked | by <= SUMMED:
        narrow = asked - SUMMED
        return [part(adjustment, asked)]
    group = _group_of(asked | by)
    narrow = frozenset(IN_COMMON[group])
    names = {
        name: bindparam(name, type_=KeyValue)
        if parents is None or name in asked
        else parents.c[name]
        for name in IN_COMMON[group]
    }
    anywhere = [_is_anywhere(dialect)] if is_by_reason_alone(asked | by) else []
    return until("end") + (until("start") if "start" in asked else [])


def _group_of(known: frozenset[str]) -> Group:
    """Return the group of adjustments of which something is known."""
    if "reference" in known:
        return Group.SKU_OF_REFERENCE if "sku" in known else Group.REFERENCE
    return Group.SKU if "sku" in known else Group.LEDGER


def _is_anywhere(dialect: str) -> ColumnElement[bool]:
    """Return the condition to be in any warehouse, by which an index finds those of a reason."""
    ids = select(tenant_warehouses().c.id).scalar_subquery()
    if dialect == "postgresql":
        return adjustment.c.warehouse_id == any_(func.array(ids, type_=ARRAY(Text)))
    return adjustment.c.warehouse_id.in_(ids)


def _count_in(table: FromClause) -> ColumnElement[int]:
    number: ColumnElement[int] = func.count()
    if table is ledger_sum:
        number = func.coalesce(func.sum(table.c.entries), ZERO)
    return number.label("entries")


def _sums_in(dialect: str, table: FromClause) -> ColumnElement[str]:
    if table is ledger_sum:
        halves = ledger_sum.c.delta_upper, ledger_sum.c.delta_lower
        return json_array(dialect, *_sums(_count_in(table), halves, ledger_sum.c.sign))
    return json_array(dialect, *sums_of(table.c.delta))


def _difference(parts: Sequence[str]) -> LedgerTotals:
    """Return the totals of what `_figures` finds until an end, without what there is at a start."""
    sums = [orjson.loads(part) for part in parts]
    before = [[-number for number in part] for part in sums[UNTIL_END:]]
    return ledger_totals([*sums[:UNTIL_END], *before])


def _is_numbered(asked: frozenset[str], by: Named = frozenset()) -> bool:
    """Tell whether the numbers of adjustments, level by level, say how many match."""
    known = asked | by
    return "sku" in known and known <= {*LEVEL_KEY, *PERIOD}


def _numbers(asked: frozenset[str], *of_parent: ColumnElement[bool]) -> ScalarSelect[int]:
    """Return how many adjustments levels have, or have had from a start to an end.

    They are numbered in their order, and a level's version is the number of the last one.
    """
    number = _last_before("end") if "end" in asked else stock_level.c.version
    if "start" in asked:
        number -= _last_before("start")
    of_levels = conditions_of(ADJUSTMENT_CONDITIONS, asked - PERIOD, stock_level.c)
    return (
        select(func.coalesce(func.sum(number), 0)).where(*of_levels, *of_parent).scalar_subquery()
    )


def _last_before(name: str) -> ColumnElement[int]:
    """Return the number of a stock level's last adjustment before an instant, or 0."""
    last = (
        select(adjustment.c.sequence)
        .where(
            *(adjustment.c[it] == stock_level.c[it] for it in LEVEL_KEY),
            adjustment.c.created_at < bindparam(name, type_=UtcDateTime),
        )
        .order_by(adjustment.c.created_at.desc(), adjustment.c.sequence.desc())
        .limit(literal_column("1"))
        .correlate(stock_level)
    )
    return func.coalesce(last.scalar_subquery(), ZERO)


@shaped
def _adjustments_count_of(dialect: str, asked: frozenset[str], by: Named) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    # A number per parent, and not one of all in groups: that might read the ledger of all SKUs.
    if _is_numbered(asked, by):
        number: ColumnElement[int] = _numbers(asked, *parent_conditions(stock_level.c, parents, by))
    else:
        number = _count(dialect, asked, parents, by)
    return _of_parents(parents, number)


@shaped
def _adjustments_sum_of(dialect: str, asked: frozenset[str], by: Named) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    return _of_parents(parents, *_figures(dialect, asked, partial(_sums_in, dialect), parents, by))


def _of_parents(parents: FromClause, *figures: ColumnElement[Any]) -> Select[Any]:
    mine = parents.join(tenant_table, _is_mine())
    return select(parents.c.sku, parents.c.warehouse_id, *figures).select_from(mine)


def sums_of(number: ColumnElement[int]) -> Sequence[ColumnElement[int]]:
    """Return how many numbers there are, and the sums of the positive and of the negative ones.

    Each sum is that of the upper halves, then that of the lower ones.
    """
    return _sums(func.count(), halves_of(number), number)


def _sums(
    entries: ColumnElement[int], halves: Sequence[ColumnElement[int]], sign: ColumnElement[int]
) -> Sequence[ColumnElement[int]]:
    sums = [
        func.coalesce(func.sum(half).filter(is_of_sign), ZERO)
        for is_of_sign in (sign > ZERO, sign < ZERO)
        for half in halves
    ]
    return [it.label(f"sum_{place}") for place, it in enumerate((entries, *sums))]
