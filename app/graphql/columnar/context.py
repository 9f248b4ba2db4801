"""The protocols that an application's GraphQL context and its budget implement."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from app.graphql.columnar.operation import OperationPlans

Rows = list[dict[str, Any]]


class ExecutionBudget(Protocol):
    """The units of work that one execution may spend; each value of the response is one unit."""

    # Set to True when one object stands in several places of the response.
    has_shared: bool

    @property
    def error_type(self) -> type[Exception]:
        """The exception that the methods raise when the budget is spent."""

    @property
    def is_exceeded(self) -> bool:
        """Whether more than the budget was spent."""

    @property
    def measures_texts(self) -> bool:
        """Whether the texts in lists must be measured."""

    def spend(self, units: int) -> None:
        """Spend units before the work is done."""

    def spend_column(self, values: int) -> None:
        """Spend the units of a selection and of the values of all its objects."""

    def owe_error(self) -> None:
        """Spend the units of the error of a field, without an exception."""

    def spend_fields(self, fields: int) -> None:
        """Spend the units of fields that graphql-core executes."""

    def spend_awaited(self, fields: int) -> None:
        """Spend the units of fields whose resolvers will be awaited."""

    def owe_awaited(self) -> None:
        """Spend the units of a field whose resolver is awaited, without an exception."""

    def spend_characters(self, characters: int) -> None:
        """Spend the units of texts."""


class ColumnarContext(Protocol):
    """The GraphQL context of one execution."""

    # Whether lists and objects may be completed column by column.
    columnar: bool
    # Set to True when a list or an object of a query was completed column by column.
    has_columns: bool
    # The plans of an operation that is executed repeatedly; None if @skip or @include depend on
    # its variables.
    plans: "OperationPlans | None"
    # The longest list of rows that is built without a pause.
    piece_size: int

    @property
    def budget(self) -> ExecutionBudget:
        """The budget of the execution."""

    def in_pieces(
        self, convert: Callable[[Sequence[Any]], Rows], items: Sequence[Any]
    ) -> Awaitable[Rows]:
        """Convert a long list piece by piece, with a pause after each piece."""

    def afresh(self) -> Self:
        """Copy the context for a second execution, without loaded data."""
