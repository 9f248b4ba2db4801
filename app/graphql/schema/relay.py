"""Relay: nodes with a global id, and lists in pages."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

import strawberry
from graphql.pyutils import gather_with_cancel
from strawberry import Private

from app.errors import invalid_field
from app.graphql.columnar import ColumnarField
from app.graphql.schema.fields import described_field
from app.graphql.schema.scalars import Quantity
from app.reads.paging import MAX_COUNT
from app.reads.reservations import MOST_COUNTED_LINES

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 200
ID_DESCRIPTION: Final = "Id of the object within the tenant. It never changes."
T = TypeVar("T")
First = Annotated[int, strawberry.argument(description=f"Page size, 1 to {MAX_PAGE}.")]
After = Annotated[
    str | None,
    strawberry.argument(
        description="Cursor of this list with the same filters and order. The page starts after it."
    ),
]


@strawberry.interface(description="An object with a global id.")
class Node:
    """An object with a global id."""

    id: strawberry.ID = described_field(ID_DESCRIPTION)


@strawberry.type(description="Position of a page in its list (Relay).")
class PageInfo:
    """Position of a page in its list."""

    has_next_page: bool = described_field("Whether more items follow.")
    has_previous_page: bool = described_field("Whether the page was requested with a cursor.")
    nodes: Private[Sequence[Any]]
    cursor_of: Private[Any]

    @strawberry.field(description="Cursor of the first item.")
    def start_cursor(self) -> str | None:
        """Cursor of the first item; None for an empty page."""
        return self.cursor_of(self.nodes[0]) if self.nodes else None

    @strawberry.field(description="Cursor of the last item, to be sent as `after`.")
    def end_cursor(self) -> str | None:
        """Cursor of the last item; None for an empty page."""
        return self.cursor_of(self.nodes[-1]) if self.nodes else None


@strawberry.type(description="An item of a list with its cursor (Relay).")
class Edge(Generic[T]):
    """An item of a list with its cursor."""

    node: T = described_field("The item.")
    cursor_of: Private[Any]

    @strawberry.field(description="Position of the item in its list.")
    def cursor(self) -> str:
        """Cursor of the item, which is computed if it is selected."""
        position: str = self.cursor_of(self.node)
        return position


def totals_of(pages: Sequence["Connection[Any]"], _context: object) -> Any:  # noqa: ANN401
    """Return the totals of lists, or an awaitable if one must be counted."""
    totals = [page.count for page in pages]
    return totals if set(map(type, totals)) <= {int} else _counted(totals)


async def feed_positions_of(pages: Sequence["Connection[Any]"], context: Any) -> list[int]:  # noqa: ANN401
    """Return the position of the feed for each list: one snapshot has one position."""
    return [await context.loaders.feed_position.load("")] * len(pages)


async def _counted(totals: Sequence[Any]) -> list[int]:
    async def count(total: Any) -> int:  # noqa: ANN401
        found: int = total if isinstance(total, int) else await total()
        return found

    return await gather_with_cancel(*map(count, totals))


@strawberry.type(description="A page of a list (Relay).")
class Connection(Generic[T]):
    """A page of a list."""

    nodes: list[T] = described_field("The items.")
    page_info: PageInfo = described_field("Position of the page in its list.")
    cursor_of: Private[Any]
    # The total, or the function that counts it.
    count: Private[Any]

    @strawberry.field(description="The items with their cursors.")
    def edges(self) -> list[Edge[T]]:
        """Items of the page with their cursors."""
        return [Edge(node=node, cursor_of=self.cursor_of) for node in self.nodes]

    @strawberry.field(
        description="Number of items in the whole list. It is exact, except that counts of SKUs or "
        "levels by `codePrefix`, `updatedSince`, or `status` with `warehouseId` end at "
        f"{MAX_COUNT:,}, and counts of reservations by `sku` or `warehouseId` are of their newest "
        f"{MOST_COUNTED_LINES:,} lines.",
        metadata=ColumnarField(batch=totals_of).metadata,
    )
    async def total_count(self) -> int | None:
        """Count the items of the whole list when the field is selected."""
        total: int = self.count if isinstance(self.count, int) else await self.count()
        return total

    @strawberry.field(
        description="Position of the feed: the list has all changes up to it, and no later one. To "
        "follow the list, send it as `after` of `changes`.",
        metadata=ColumnarField(batch=feed_positions_of).metadata,
    )
    async def feed_position(self, info: strawberry.Info[Any, None]) -> Quantity | None:
        """Newest position of the feed in the snapshot of the list."""
        return Quantity(await info.context.loaders.feed_position.load(""))


def connection_of(
    nodes: Sequence[T],
    *,
    limit: int,
    after: str | None,
    cursor_of: Callable[[T], str],
    count: int | Callable[[], Awaitable[int]],
) -> Connection[T]:
    """Build the connection of `limit` items; one further item in `nodes` means a next page."""
    page = list(nodes[:limit])
    info = page_info(nodes, limit=limit, after=after, cursor_of=cursor_of)
    return Connection(nodes=page, page_info=info, cursor_of=cursor_of, count=count)


def page_info(
    nodes: Sequence[T], *, limit: int, after: str | None, cursor_of: Callable[[T], str]
) -> PageInfo:
    """Build the page info of `limit` items; one further item in `nodes` means a next page."""
    return PageInfo(
        has_next_page=len(nodes) > limit,
        has_previous_page=after is not None,
        nodes=nodes[:limit],
        cursor_of=cursor_of,
    )


def check_number(field: str, keys: Sequence[str]) -> None:
    """Check the number of keys to look up.

    Raises:
        ValidationFailed: there are more than MAX_PAGE.

    """
    if len(keys) > MAX_PAGE:
        raise invalid_field(field, f"must hold at most {MAX_PAGE} items, and holds {len(keys)}")


def page_size(first: int, *, longest: int = MAX_PAGE) -> int:
    """Check a page size.

    Raises:
        ValidationFailed: the size is not in 1 to `longest`.

    """
    if not 1 <= first <= longest:
        raise invalid_field("first", f"must be 1 to {longest}, and is {first}")
    return first
