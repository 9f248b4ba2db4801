"""The budget of one execution: how much work its answer may take, counted while it is done.

The limits on documents refuse a query by its page sizes before it runs. They cannot know how many
levels a SKU has, or how many lines a reservation. So every execution has a budget in units of about
two microseconds of processor time. Loaders spend it before and after each statement, and both
executors spend it before they complete a list. The figures are measured: docs/query-cost.md.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from app.domain.records import SkuRecord
from app.errors import QueryTooComplex

# Units per field that graphql-core executes, by its own path.
FIELD: Final = 5
# Units per row of the ledger, of reservation lines or of a warehouse's levels.
ROW: Final = 8
# Units per stock level that comes with its SKU.
LEVEL: Final = 3
# Units per statement, per key that it looks up, and per parent for which it seeks a page, a count
# or a sum.
STATEMENT: Final = 300
KEY: Final = 15
PARENT: Final = 75
# Units per period of a stock history.
PERIOD: Final = 2
# Entries of the ledger per unit, where a statement sums them.
ENTRIES: Final = 2
# Units per stock level or reservation line that a mutation writes, and per item of its input: that
# is charged before it begins, with the item's part in the answer.
WRITE: Final = 130
INPUT: Final = 150
# Characters of text per unit, once when read and once when rendered.
CHARACTERS: Final = 40
# Below this part of the budget, texts that many values share are not measured.
UNMEASURED: Final = 10


class Budget:
    """The units that one execution may spend."""

    __slots__ = ("has_shared", "has_written", "left", "limit", "measured")
    error_type: ClassVar[type[QueryTooComplex]] = QueryTooComplex

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit
        self.has_written = False
        # Whether an object was completed once and stands in several places of the answer.
        self.has_shared = False
        # Texts are measured as soon as less than this is left.
        self.measured = limit - limit // UNMEASURED

    def spend(self, units: int) -> None:
        """Spend units before the work is done.

        Raises:
            QueryTooComplex: fewer were left, now or earlier in the same execution.

        """
        self.left -= units
        if self.left < 0:
            raise self.refusal()

    def spend_fields(self, fields: int) -> None:
        """Spend the units of fields that graphql-core executes.

        Raises:
            QueryTooComplex: fewer were left.

        """
        self.spend(fields * FIELD)

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

    def owe(self, writes: int) -> None:
        """Spend the units of a write that was made: its answer counts, and the next write."""
        self.has_written = True
        self.left -= writes * WRITE

    def spend_text(self, texts: Iterable[str | None]) -> None:
        """Spend the units of long texts that were read.

        Raises:
            QueryTooComplex: fewer were left.

        """
        self.spend(sum(len(text) for text in texts if text) // CHARACTERS)

    def spend_stock(self, records: Iterable[SkuRecord]) -> None:
        """Spend the units of SKUs that were read with their levels.

        Raises:
            QueryTooComplex: fewer were left.

        """
        self.spend(
            sum(len(record.levels) * LEVEL + len(record.title) // CHARACTERS for record in records)
        )

    def affordable(self, each: int) -> int:
        """How many things of `each` so many units can be afforded, at least one."""
        return max(1, self.left // each)

    def spend_answer(self, data: object) -> None:
        """Spend the units of an answer in which objects are shared, each place counted.

        Raises:
            QueryTooComplex: fewer were left.

        """
        if self.has_shared:
            self.spend(values_in(data, {}))

    @contextmanager
    def exhausted_by_refusal(self) -> Iterator[None]:
        """Spend all units if a statement refuses to read so much."""
        try:
            yield
        except QueryTooComplex:
            self.left = min(self.left, -1)
            raise

    @property
    def is_exceeded(self) -> bool:
        """Tell whether more was spent than there was."""
        return self.left < 0

    def refusal(self) -> QueryTooComplex:
        """Return the error of an execution that takes more than its budget."""
        written = " The writes before this point were made." if self.has_written else ""
        return QueryTooComplex(
            f"The operation was stopped, because it costs more than {self.limit}.{written} Select "
            "fewer fields, or ask for smaller pages.",
            details=[{"limit": "answer_cost", "most": self.limit, "found": self.limit - self.left}],
        )


def values_in(data: object, known: dict[int, int]) -> int:
    """Return the number of values that are rendered, in time that grows with the distinct ones."""
    if isinstance(data, str):
        return 1 + len(data) // CHARACTERS
    if not isinstance(data, dict | list):
        return 1
    found = known.get(id(data))
    if found is None:
        children = data.values() if isinstance(data, dict) else data
        found = known[id(data)] = 1 + sum(values_in(child, known) for child in children)
    return found
