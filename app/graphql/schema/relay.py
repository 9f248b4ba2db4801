"""Relay: nodes that can be fetched again, and lists in pages."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Final, Generic, TypeVar

import strawberry
from graphql.pyutils import gather_with_cancel
from strawberry import Private
from strawberry.types import get_object_definition, has_object_definition
from strawberry.types.base import StrawberryList
from strawberry.utils.str_converters import to_camel_case

from app.errors import invalid_field
from app.graphql.columnar import ColumnarField
from app.graphql.schema.scalars import Quantity

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 200
ID: Final = "Identifies the object within the tenant, for good."
T = TypeVar("T")
First = Annotated[int, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}.")]
After = Annotated[
    str | None,
    strawberry.argument(
        description="A cursor of this very list (same filters, same order): what follows it."
    ),
]


def read_from(path: str, description: str, graphql_type: Any = None) -> Any:  # noqa: ANN401
    """Return a field that is an attribute of an attribute of its object, by its path."""
    get = attrgetter(path)

    def read(self: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401 - as declared
        return get(self)

    return strawberry.field(
        resolver=read,
        description=description,
        graphql_type=graphql_type,
        metadata=ColumnarField(path).metadata,
    )


def object_from(path: str, make: Callable[[Any], object], description: str) -> Any:  # noqa: ANN401
    """Return a field that is an object made of a record, which is read by its path."""
    get = attrgetter(path)

    def read(self: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401 - as declared
        record = get(self)
        return None if record is None else make(record)

    return strawberry.field(
        resolver=read, description=description, metadata=ColumnarField(path, make).metadata
    )


def objects_from(path: str, make: Callable[[Any], object], description: str) -> Any:  # noqa: ANN401
    """Return a field that is a list of objects, each made of a record."""
    get = attrgetter(path)

    def read(self: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401 - as declared
        return [make(record) for record in get(self)]

    return strawberry.field(
        resolver=read, description=description, metadata=ColumnarField(path, make).metadata
    )


def quantity_from(path: str, description: str) -> Any:  # noqa: ANN401
    """Return a field that is a quantity, by its path."""
    return read_from(path, description, Quantity)


def made_from(
    make: Callable[[Any], object],
    description: str,
    graphql_type: Any = None,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Return a field that is made of its object, and only when asked for."""
    return strawberry.field(resolver=make, description=description, graphql_type=graphql_type)


def described_field(description: str) -> Any:  # noqa: ANN401
    """Return a field that is read from the object as it is."""
    return strawberry.field(description=description)


def optional(description: str) -> Any:  # noqa: ANN401
    """Return an input field that may be left out."""
    return strawberry.field(default=None, description=description)


def of_plain_values(input_type: type[T]) -> type[T]:
    """Have an input made of values as they come, which is quick where a list has hundreds of it.

    Strawberry converts each value by its type. Scalars and enums need no conversion; a list of
    such inputs is converted item by item, as they are.
    """
    definition = get_object_definition(input_type, strict=True)
    names = {to_camel_case(field.python_name): field.python_name for field in definition.fields}
    inputs: dict[str, Callable[[Mapping[str, Any], Any], Any]] = {}
    for field in definition.fields:
        inner: Any = field.type
        while hasattr(inner, "of_type"):
            inner = inner.of_type
        if not has_object_definition(inner):
            continue
        make: Any = get_object_definition(inner, strict=True).from_input
        if make is None or not isinstance(field.type, StrawberryList):
            message = f"{input_type.__name__}.{field.python_name} is not made of plain values"
            raise TypeError(message)
        inputs[to_camel_case(field.python_name)] = partial(make, inner)

    def made(type_: type[T], value: Mapping[str, Any], context: Any) -> T:  # noqa: ANN401
        fields = {names[name]: given for name, given in value.items()}
        for name, make in inputs.items():
            fields[names[name]] = [make(item, context) for item in value[name]]
        return type_(**fields)

    definition.from_input = made
    return input_type


@strawberry.interface(description="An object that can be fetched again by its id.")
class Node:
    """An object with an id."""

    id: strawberry.ID = described_field(ID)


@strawberry.type(description="Where a page stands in its list (Relay).")
class PageInfo:
    """Where a page stands in its list."""

    has_next_page: bool = described_field("Whether more follows.")
    has_previous_page: bool = described_field("Whether the page was asked for by a cursor.")
    nodes: Private[Sequence[Any]]
    cursor_of: Private[Any]

    @strawberry.field(description="The cursor of the first item.")
    def start_cursor(self) -> str | None:
        """Make the cursor only when asked."""
        return self.cursor_of(self.nodes[0]) if self.nodes else None

    @strawberry.field(description="The cursor of the last item: pass it as `after`.")
    def end_cursor(self) -> str | None:
        """Make the cursor only when asked."""
        return self.cursor_of(self.nodes[-1]) if self.nodes else None


@strawberry.type(description="An item of a list with its cursor (Relay).")
class Edge(Generic[T]):
    """An item with its cursor."""

    node: T = described_field("The item.")
    cursor: str = described_field("The position of the item in its list.")


def totals_of(pages: Sequence["Connection[Any]"], _context: object) -> Any:  # noqa: ANN401
    """Return the totals of lists, or an awaitable if one must be counted."""
    totals = [page.count for page in pages]
    return totals if set(map(type, totals)) <= {int} else _counted(totals)


async def _counted(totals: Sequence[Any]) -> list[int]:
    async def count(total: Any) -> int:  # noqa: ANN401
        found: int = total if isinstance(total, int) else await total()
        return found

    return await gather_with_cancel(*map(count, totals))


@strawberry.type(description="A page of a list (Relay).")
class Connection(Generic[T]):
    """A page of a list."""

    nodes: list[T] = described_field("The items.")
    page_info: PageInfo = described_field("Where the page stands in the list.")
    cursor_of: Private[Any]
    # The total, or the function that counts it.
    count: Private[Any]

    @strawberry.field(description="The items with their cursors.")
    def edges(self) -> list[Edge[T]]:
        """Give every item its cursor."""
        return [Edge(node=node, cursor=self.cursor_of(node)) for node in self.nodes]

    @strawberry.field(
        description="How many there are in the whole list, exactly.",
        metadata=ColumnarField(batch=totals_of).metadata,
    )
    async def total_count(self) -> int:
        """Count only when asked."""
        total: int = self.count if isinstance(self.count, int) else await self.count()
        return total


def connection(
    nodes: Sequence[T],
    *,
    limit: int,
    after: str | None,
    cursor_of: Callable[[T], str],
    count: int | Callable[[], Awaitable[int]],
) -> Connection[T]:
    """Return the connection of a page that was read with one item more than asked for."""
    page = list(nodes[:limit])
    info = page_info(nodes, limit=limit, after=after, cursor_of=cursor_of)
    return Connection(nodes=page, page_info=info, cursor_of=cursor_of, count=count)


def page_info(
    nodes: Sequence[T], *, limit: int, after: str | None, cursor_of: Callable[[T], str]
) -> PageInfo:
    """Return where a page stands that was read with one item more than asked for."""
    return PageInfo(
        has_next_page=len(nodes) > limit,
        has_previous_page=after is not None,
        nodes=nodes[:limit],
        cursor_of=cursor_of,
    )


def page_size(first: int, *, longest: int = MAX_PAGE) -> int:
    """Return the size of a page.

    Raises:
        ValidationFailed: it is out of range.

    """
    if not 1 <= first <= longest:
        raise invalid_field("first", f"must be 1 to {longest}, and is {first}")
    return first
