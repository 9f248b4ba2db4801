"""The root type of the subscriptions."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Annotated, Any, TypeVar

import strawberry

from app.domain.changes import RESERVATION_CHANGES
from app.domain.filters import ChangeFilter
from app.domain.validation import normalized_code
from app.errors import ValidationFailed, invalid_field
from app.graphql.schema.availability import AvailabilityChange
from app.graphql.schema.changes import Change, ChangeTypes, OfWarehouses
from app.graphql.schema.context import Info
from app.graphql.schema.enums import ChangeType
from app.graphql.schema.filters import refuse_empty
from app.graphql.schema.lookups import require_warehouses
from app.graphql.schema.relay import MAX_PAGE, check_number
from app.graphql.schema.scalars import Quantity
from app.live.streams import LiveStream
from app.live.subscriber import Subscriber

T = TypeVar("T")
FollowedAfter = Annotated[
    Quantity | None,
    strawberry.argument(
        description="Position of the feed. The stream begins with the changes after it. Without "
        "it, the stream begins with the next change. The header `Last-Event-ID` replaces it."
    ),
]
OfSkus = Annotated[
    list[str] | None,
    strawberry.argument(description=f"Changes of these SKUs, by code. Up to {MAX_PAGE} codes."),
]
OfReservations = Annotated[
    list[strawberry.ID] | None,
    strawberry.argument(
        description=f"Changes of the reservations with these ids. Up to {MAX_PAGE} ids."
    ),
]


class Followed(AsyncIterable[T]):
    """The events of a subscription: the stream of their records, and the type of their objects."""

    def __init__(self, stream: LiveStream, node_of: Callable[[Any], T]) -> None:
        self.stream = stream
        self.node_of = node_of

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the objects."""
        while True:
            for live in await self.stream.next_batch():
                yield self.node_of(live.record)


@strawberry.type(
    description="Streams of new changes, by server-sent events (GraphQL over SSE, distinct "
    "connections mode). Each needs the scope inventory:read or inventory:write, unless its "
    "description names another. The id of an event is its position."
)
class Subscription:
    """The root type of the subscriptions."""

    @strawberry.subscription(description="New changes of the feed, in order.")
    async def changes(
        self,
        info: Info,
        after: FollowedAfter = None,
        types: ChangeTypes = None,
        warehouse_ids: OfWarehouses = None,
    ) -> AsyncIterable[Change]:
        """Follow all changes.

        Raises:
            ValidationFailed, WarehouseNotFound, ChangesGone, TooManyStreams.

        """
        refuse_empty(types=types)
        check_number("types", types or ())
        wanted = None if types is None else frozenset(types)
        return await _follow(info, after, types=wanted, warehouse_ids=warehouse_ids)

    @strawberry.subscription(description="New changes of stock levels, in order.")
    async def stock_changed(
        self,
        info: Info,
        skus: OfSkus = None,
        warehouse_ids: OfWarehouses = None,
        after: FollowedAfter = None,
    ) -> AsyncIterable[Change]:
        """Follow the changes of stock levels.

        Raises:
            ValidationFailed, WarehouseNotFound, ChangesGone, TooManyStreams.

        """
        types = frozenset({ChangeType.STOCK_CHANGED})
        return await _follow(info, after, types=types, skus=skus, warehouse_ids=warehouse_ids)

    @strawberry.subscription(description="New changes of the status of SKUs, in order.")
    async def status_changed(
        self, info: Info, skus: OfSkus = None, after: FollowedAfter = None
    ) -> AsyncIterable[Change]:
        """Follow the changes of statuses.

        Raises:
            ValidationFailed, ChangesGone, TooManyStreams.

        """
        types = frozenset({ChangeType.STATUS_CHANGED})
        return await _follow(info, after, types=types, skus=skus)

    @strawberry.subscription(description="New changes of reservations, in order.")
    async def reservation_changed(
        self, info: Info, ids: OfReservations = None, after: FollowedAfter = None
    ) -> AsyncIterable[Change]:
        """Follow the changes of reservations.

        Raises:
            ValidationFailed, ChangesGone, TooManyStreams.

        """
        return await _follow(info, after, types=RESERVATION_CHANGES, ids=ids)

    @strawberry.subscription(
        description="The availability of SKUs: at first the present one of each, and then each "
        "one that differs from the event before. Its events have no id; to resume, subscribe "
        "again. Needs the scope inventory:availability or any other."
    )
    async def availability_changed(
        self,
        info: Info,
        skus: Annotated[
            list[str],
            strawberry.argument(description=f"SKU codes, 1 to {MAX_PAGE}."),
        ],
    ) -> AsyncIterable[AvailabilityChange]:
        """Follow the availability of SKUs.

        Raises:
            ValidationFailed, TooManyStreams.

        """
        refuse_empty(skus=skus)
        check_number("skus", skus)
        codes = [*dict.fromkeys(map(normalized_code, skus))]
        stream = await _subscriber_of(info).follow_availability(codes)
        return Followed(stream, lambda record: AvailabilityChange(record=record))


async def _follow(
    info: strawberry.Info[Any, None],
    after: int | None,
    *,
    types: frozenset[ChangeType] | None,
    skus: Sequence[str] | None = None,
    warehouse_ids: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> Followed[Change]:
    """Check the conditions of a subscription, and open its stream."""
    context = info.context
    if after is not None and after < 0:
        raise invalid_field("after", f"must be 0 or more, and is {after}")
    refuse_empty(skus=skus, warehouseIds=warehouse_ids, ids=ids)
    for name, keys in (("skus", skus), ("warehouseIds", warehouse_ids), ("ids", ids)):
        check_number(name, keys or ())
    warehouse_ids = await require_warehouses(context, warehouse_ids)
    where = ChangeFilter(
        types=types,
        skus=None if skus is None else frozenset(map(normalized_code, skus)),
        warehouse_ids=None if warehouse_ids is None else frozenset(warehouse_ids),
        reservation_ids=None if ids is None else frozenset(ids),
    )
    stream = await _subscriber_of(info).follow(where, after)
    return Followed(stream, lambda record: Change(record=record))


def _subscriber_of(info: strawberry.Info[Any, None]) -> Subscriber:
    subscriber: Subscriber | None = info.context.subscriber
    if subscriber is None:
        message = "This operation cannot follow changes."
        raise ValidationFailed(message)
    return subscriber
