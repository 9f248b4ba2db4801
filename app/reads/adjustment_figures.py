"""SQL of counts and sums of adjustments, from rollups and the entries after them.

A rollup holds the sums of a group of adjustments up to a position. A figure is the last rollup
before an end plus the entries after it, minus the same two parts before a start. If rollups do not
distinguish the filtered column, the figure is read from the entries alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    FromClause,
    ScalarSelect,
    Text,
    and_,
    any_,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.database.parameters import TENANT, KeyValue
from app.database.tables import LEVEL_KEY, adjustment, ledger_sum, tenant
from app.domain.filters import Sign
from app.domain.records import LedgerTotals
from app.ledger.totals import (
    GROUP_COLUMNS,
    HALF_BITS,
    ZERO,
    Columns,
    Group,
    halves_of,
    is_of_group,
)
from app.reads.adjustments import (
    ADJUSTMENT_CONDITIONS,
    NO_POSITION,
    OCCURRENCE_FILTERS,
    PERIOD_FILTERS,
    first_position_at,
    uses_reason_index,
)
from app.reads.conditions import (
    PARENTS,
    Conditions,
    Filters,
    KeyColumns,
    conditions_of,
    equals,
    parent_conditions,
)
from app.reads.json_rows import json_array
from app.reads.persons import is_by_author
from app.reads.warehouses import tenant_warehouses

# A figure of the rows of a rollup or of entries.
Figure = Callable[[FromClause], ColumnElement[Any]]

# The columns of entries that figures and filters use.
ENTRY_COLUMNS: Final = tuple(
    adjustment.c[name]
    for name in (*LEVEL_KEY[1:], "reason", "created_by", "reference", "position", "delta")
)

LEDGER_SUM_CONDITIONS: Final[Conditions] = {
    **{name: equals(name) for name in ("warehouse_id", "reason")},
    "created_by": is_by_author,
    Sign.INCREASE: lambda columns: columns.sign > ZERO,
    Sign.DECREASE: lambda columns: columns.sign < ZERO,
    Sign.UNCHANGED: lambda columns: columns.sign == ZERO,
}

# The filters that rollups answer: columns of their rows, the group, and the period.
SUMMED_FILTERS: Final = frozenset({*LEDGER_SUM_CONDITIONS, *PERIOD_FILTERS, "sku", "reference"})
# The parts of a figure to add; the parts after them are to be subtracted.
ADDED_PARTS: Final = 2


@dataclass(frozen=True, slots=True)
class FigureQuery:
    """A figure of the adjustments that match filters, for a tenant or for each parent."""

    dialect: str
    filters: Filters
    figure: Figure
    parents: FromClause | None = None
    key: KeyColumns = frozenset()

    @property
    def group(self) -> Group | None:
        """The group whose rollups serve the figure; None if an index of entries serves it."""
        names = self.filters - {"tenant_id"} | self.key
        return _group_of(names) if names <= SUMMED_FILTERS else None

    def parts(self) -> list[ScalarSelect[Any]]:
        """Scalar subqueries: up to ADDED_PARTS to add, then the ones to subtract."""
        filters = self.filters - {"tenant_id"}
        if self.group is None:
            indexed = filters - SUMMED_FILTERS
            if filters & OCCURRENCE_FILTERS:
                indexed |= PARENTS.keys()
            return [self._of_entries(filters, indexed)]
        parts = self._parts_until("end", filters)
        if "start" in filters:
            parts += self._parts_until("start", filters)
        return parts

    def _parts_until(self, name: str, filters: Filters) -> list[ScalarSelect[Any]]:
        """Last rollup before the parameter `name`, and the entries from there to it."""
        group = _group_of(filters | self.key)
        end = first_position_at(name) if name in filters else NO_POSITION
        is_sum = [*is_of_group(group, self._names_of(group, filters))]
        newest = select(func.max(ledger_sum.c.until)).where(
            _is_of_tenant(ledger_sum.c), *is_sum, ledger_sum.c.until < end
        )
        last = newest.correlate(*self._outer).scalar_subquery()
        at = adjustment.c.position
        conditions = [*self._reason_index(filters), at > func.coalesce(last, ZERO), at < end]
        return [
            self._of_rollup(filters, *is_sum, ledger_sum.c.until == last),
            self._of_entries(
                filters - PERIOD_FILTERS, frozenset(GROUP_COLUMNS[group]), *conditions
            ),
        ]

    def _of_rollup(self, filters: Filters, *is_sum: ColumnElement[bool]) -> ScalarSelect[Any]:
        conditions = [_is_of_tenant(ledger_sum.c), *is_sum]
        conditions += self._matches(LEDGER_SUM_CONDITIONS, ledger_sum.c, filters, self.key)
        return self._select(ledger_sum, conditions)

    def _of_entries(
        self, filters: Filters, indexed: Filters, *more: ColumnElement[bool]
    ) -> ScalarSelect[Any]:
        """Figure of entries, found by the `indexed` columns and then filtered by the others.

        One index by position serves the indexed columns. Few entries may have a reference or a SKU,
        and many may be of the same warehouse or person.
        """
        source: FromClause = adjustment
        conditions = [_is_of_tenant(adjustment.c), *more]
        key = self.key
        if indexed:
            conditions += self._matches(
                ADJUSTMENT_CONDITIONS, adjustment.c, filters & indexed, key & indexed
            )
            source = self._entries_in_order(conditions)
            filters, key, conditions = filters - indexed, key - indexed, []
        conditions += self._matches(ADJUSTMENT_CONDITIONS, source.c, filters, key)
        return self._select(source, conditions)

    def _entries_in_order(self, conditions: Iterable[ColumnElement[bool]]) -> FromClause:
        return (
            select(*ENTRY_COLUMNS)
            .where(*conditions)
            .order_by(adjustment.c.position.desc())
            # PostgreSQL does not merge a subquery with an offset into the outer query.
            .offset(literal_column("0"))
            .correlate(*self._outer)
            .subquery("entries")
        )

    def _matches(
        self, conditions: Conditions, columns: Columns, filters: Filters, key: KeyColumns
    ) -> list[ColumnElement[bool]]:
        of_parent = [] if self.parents is None else parent_conditions(columns, self.parents, key)
        return [*conditions_of(conditions, filters, columns), *of_parent]

    def _select(
        self, source: FromClause, conditions: Iterable[ColumnElement[bool]]
    ) -> ScalarSelect[Any]:
        rows = select(self.figure(source)).where(*conditions).select_from(source)
        return rows.correlate(*self._outer).scalar_subquery()

    def _names_of(self, group: Group, filters: Filters) -> dict[str, ColumnElement[str]]:
        """Values that name the group: parameters, or columns of the parents."""
        return {
            name: bindparam(name, type_=KeyValue)
            if self.parents is None or name in filters
            else self.parents.c[name]
            for name in GROUP_COLUMNS[group]
        }

    def _reason_index(self, filters: Filters) -> list[ColumnElement[bool]]:
        """Condition that lets the index by warehouse and reason serve, if it is the best one."""
        return [_is_in_any_warehouse(self.dialect)] if uses_reason_index(filters | self.key) else []

    @property
    def _outer(self) -> list[FromClause]:
        return [tenant] if self.parents is None else [tenant, self.parents]


def entry_count(source: FromClause) -> ColumnElement[int]:
    """Count the adjustments in rows of a rollup or of entries."""
    number: ColumnElement[int] = func.count()
    if source is ledger_sum:
        number = func.coalesce(func.sum(source.c.entries), ZERO)
    return number.label("entries")


def entry_sums(dialect: str, source: FromClause) -> ColumnElement[str]:
    """Sum the adjustments in such rows, as a JSON array that `ledger_totals` reads."""
    if source is ledger_sum:
        halves = ledger_sum.c.delta_upper, ledger_sum.c.delta_lower
        return json_array(dialect, *_signed_sums(entry_count(source), halves, ledger_sum.c.sign))
    return json_array(dialect, *sums_of(source.c.delta))


def sums_of(number: ColumnElement[int]) -> Sequence[ColumnElement[int]]:
    """Count numbers, and sum the positive and the negative ones.

    Each sum takes two columns, of the upper and of the lower halves.
    """
    return _signed_sums(func.count(), halves_of(number), number)


def ledger_totals(sums: Iterable[Sequence[int]]) -> LedgerTotals:
    """Add up rows of `sums_of`."""
    columns = [sum(column) for column in zip(*sums, strict=True)] or [0] * 5
    entries, upper_increase, increase, upper_decrease, decrease = columns
    return LedgerTotals(
        entries,
        increase=(upper_increase << HALF_BITS) + increase,
        decrease=-((upper_decrease << HALF_BITS) + decrease),
    )


def _signed_sums(
    entries: ColumnElement[int], halves: Sequence[ColumnElement[int]], sign: ColumnElement[int]
) -> Sequence[ColumnElement[int]]:
    sums = [
        func.coalesce(func.sum(half).filter(is_of_sign), ZERO)
        for is_of_sign in (sign > ZERO, sign < ZERO)
        for half in halves
    ]
    return [column.label(f"sum_{number}") for number, column in enumerate((entries, *sums))]


def _group_of(names: Filters) -> Group:
    """Smallest group that the named columns identify."""
    if "reference" in names:
        return Group.SKU_OF_REFERENCE if "sku" in names else Group.REFERENCE
    return Group.SKU if "sku" in names else Group.LEDGER


def _is_of_tenant(columns: Columns) -> ColumnElement[bool]:
    """Correlate with the row of the tenant: PostgreSQL then starts no parallel workers."""
    return and_(columns.tenant_id == TENANT, columns.tenant_id == tenant.c.tenant_id)


def _is_in_any_warehouse(dialect: str) -> ColumnElement[bool]:
    ids = select(tenant_warehouses().c.id).scalar_subquery()
    if dialect == "postgresql":
        return adjustment.c.warehouse_id == any_(func.array(ids, type_=ARRAY(Text)))
    return adjustment.c.warehouse_id.in_(ids)
