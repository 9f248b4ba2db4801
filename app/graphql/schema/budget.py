"""The budget of one execution: the work that its response may take, counted while it is done.

Query limits refuse a query by its page sizes before it runs. The number of levels of a SKU or of
lines of a reservation is unknown at that time. So every execution has a budget, in units of about
two microseconds of processor time. Loaders spend it before and after each statement, and both
executors spend it before they complete a list. The figures are measured: docs/query-cost.md.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from app.domain.records import SkuRecord
from app.errors import QueryTooComplex
from app.ledger.rollup import MIN_ENTRIES

# Units per field that graphql-core executes without the columnar executor.
FIELD: Final = 10
# Units per field and object whose resolver is awaited.
AWAITED_COST: Final = 50
# Units per row of the ledger or of a warehouse's levels, and per line of a reservation.
ROW_COST: Final = 8
LINE_COST: Final = 20
# Units per stock level that is read with its SKU.
LEVEL_COST: Final = 3
# Units per statement, per key of a look-up, and per parent of a page, a count or a sum.
STATEMENT_COST: Final = 300
KEY_COST: Final = 15
PARENT_COST: Final = 75
# Units per selection that is completed column by column, once for all its objects.
COLUMN_COST: Final = 20
# Units per field that is null because of an error.
ERROR_COST: Final = 75
# Units per period of a stock history.
PERIOD_COST: Final = 2
# Ledger entries per unit in statements with sums.
ENTRIES_PER_UNIT: Final = 2
# Units per parent whose adjustments are summed. A group of fewer than MIN_ENTRIES has no rollup.
TOTALS_COST: Final = PARENT_COST + MIN_ENTRIES // ENTRIES_PER_UNIT
# Units per stock level or reservation line that a mutation writes.
WRITE_COST: Final = 130
# Units per item of a mutation's input with its part of the response, charged before the execution.
INPUT_COST: Final = 150
# Characters of text per unit, once when read and once when rendered.
CHARACTERS: Final = 40
# Texts that many values share are measured after this fraction of the budget is spent.
UNMEASURED_FRACTION: Final = 10


class Budget:
    """The units that one execution may spend."""

    __slots__ = ("has_shared", "has_written", "left", "limit", "measured")
    error_type: ClassVar[type[QueryTooComplex]] = QueryTooComplex

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit
        self.has_written = False
        # Whether a completed object is in several places of the response.
        self.has_shared = False
        # Texts are measured when fewer units are left.
        self.measured = limit - limit // UNMEASURED_FRACTION

    def spend(self, units: int) -> None:
        """Spend units before the work is done.

        Raises:
            QueryTooComplex: fewer units are left.

        """
        self.left -= units
        if self.left < 0:
            raise self.refusal()

    def spend_column(self, values: int) -> None:
        """Spend the units of a selection and of the values of all its objects.

        Raises:
            QueryTooComplex: fewer were left.

        """
        self.spend(COLUMN_COST + values)

    def require_not_exceeded(self) -> None:
        """Refuse further work after the budget was spent.

        Raises:
            QueryTooComplex: more than the budget was spent.

        """
        self.spend(0)

    def spend_fields(self, fields: int) -> None:
        """Spend the units of fields that graphql-core executes.

        Raises:
            QueryTooComplex: fewer were left.

        """
        self.spend(fields * FIELD)

    def spend_awaited(self, fields: int) -> None:
        """Spend the units of fields whose resolvers will be awaited.

        Raises:
            QueryTooComplex: fewer were left.

        """
        self.spend(fields * AWAITED_COST)

    def owe_awaited(self) -> None:
        """Spend the units of a field whose resolver is awaited; the next `spend` may refuse."""
        self.left -= AWAITED_COST

    def spend_characters(self, characters: int) -> None:
        """Spend the units of texts.

        Raises:
            QueryTooComplex: fewer were left.

        """
        self.spend(characters // CHARACTERS)

    @property
    def measures_texts(self) -> bool:
        """Whether so much is spent that texts which many values share are measured."""
        return self.left < self.measured

    def owe_error(self) -> None:
        """Spend the units of the error of a field; the next `spend` refuses a negative balance."""
        self.left -= ERROR_COST

    def owe(self, writes: int) -> None:
        """Spend the units of a committed write; the next `spend` refuses a negative balance."""
        self.has_written = True
        self.left -= writes * WRITE_COST

    def spend_text(self, texts: Iterable[str | None]) -> None:
        """Spend the units of long texts that were read.

        Raises:
            QueryTooComplex: fewer units are left.

        """
        self.spend(sum(len(text) for text in texts if text) // CHARACTERS)

    def spend_stock(self, records: Iterable[SkuRecord]) -> None:
        """Spend the units of SKUs that were read with their levels.

        Raises:
            QueryTooComplex: fewer units are left.

        """
        records = list(records)
        self.spend(
            sum(
                len(record.levels) * LEVEL_COST + len(record.title) // CHARACTERS
                for record in records
            )
        )
        # Many levels may share a warehouse with long texts.
        if self.measures_texts:
            levels = (level for record in records for level in record.levels)
            warehouses = {level.warehouse_id: level.warehouse for level in levels}.values()
            self.spend_text(text for each in warehouses for text in (each.name, each.address))

    def affordable(self, each: int) -> int:
        """Count the things at `each` units that the budget affords, at least 1."""
        return max(1, self.left // each)

    def spend_answer(self, data: object) -> None:
        """Spend the units of a response with shared objects, which count once per place.

        Raises:
            QueryTooComplex: fewer units are left.

        """
        if self.has_shared:
            self.spend(values_in(data, {}))

    @contextmanager
    def exhausted_by_refusal(self) -> Iterator[None]:
        """Spend all units if a statement raises QueryTooComplex."""
        try:
            yield
        except QueryTooComplex:
            self.left = min(self.left, -1)
            raise

    @property
    def is_exceeded(self) -> bool:
        """Whether more units were spent than the limit."""
        return self.left < 0

    def refusal(self) -> QueryTooComplex:
        """Error of an execution that exceeds its budget."""
        written = " The writes before this point are committed." if self.has_written else ""
        return QueryTooComplex(
            f"The operation was stopped, because it costs more than {self.limit}.{written} Select "
            "fewer fields, or request smaller pages.",
            details=[{"limit": "answer_cost", "most": self.limit, "found": self.limit - self.left}],
        )


def values_in(data: object, known: dict[int, int]) -> int:
    """Count the rendered values, in time proportional to the distinct ones."""
    if isinstance(data, str):
        return 1 + len(data) // CHARACTERS
    if not isinstance(data, dict | list):
        return 1
    count = known.get(id(data))
    if count is None:
        children = data.values() if isinstance(data, dict) else data
        count = known[id(data)] = 1 + sum(values_in(child, known) for child in children)
    return count
