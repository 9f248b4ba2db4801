"""The metadata of a Strawberry field that the executor reads column by column."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from strawberry.types.field import StrawberryField

METADATA_KEY: Final = "columnar"
# From all parents of a list and the context to one value per parent.
BatchResolver = Callable[[Sequence[Any], Any], Sequence[Any] | Awaitable[Sequence[Any]]]
# From a record to its object.
ObjectFactory = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class ColumnarField:
    """How a field is read for all objects of a list; its resolver must give the same values.

    `path`: the attributes that lead from the object to the value, separated by dots.
    `make`: makes the object of the record at the path, or of each record in a list there.
    `batch`: resolves the field for all objects in one call.
    """

    path: str | None = None
    make: ObjectFactory | None = None
    batch: BatchResolver | None = None

    @property
    def metadata(self) -> dict[object, object]:
        """The argument `metadata` of `strawberry.field`."""
        return {METADATA_KEY: self}

    @classmethod
    def of(cls, definition: StrawberryField) -> Self:
        """Read the metadata of a field; all values are None without metadata."""
        field: Self | None = definition.metadata.get(METADATA_KEY)
        return cls() if field is None else field
