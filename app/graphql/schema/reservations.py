"""The types of reservations, made from records."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import strawberry
from strawberry import Private

from app.domain.filters import ReservationFilter
from app.domain.records import LevelRecord, ReservationLineRecord, ReservationRecord
from app.graphql.schema.budget import (
    ENTRIES_PER_UNIT,
    LINE_COST,
    PARENT_COST,
    STATEMENT_COST,
)
from app.graphql.schema.context import Context
from app.graphql.schema.edges import edge_to
from app.graphql.schema.enums import ReservationStatus
from app.graphql.schema.fields import objects_from, quantity_from, read_from
from app.graphql.schema.lookups import require_filtered, require_reservation
from app.graphql.schema.relay import (
    ID_DESCRIPTION,
    Connection,
    Node,
    connection_of,
    page_info,
    page_size,
)
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Sku, Warehouse, sku_edge, warehouse_edge
from app.reads.reservations import (
    MOST_LINES,
    count_reservations,
    count_reservations_of_stock,
    list_reservations,
    sum_held,
)


@strawberry.type(description="The part of a reservation at one stock level.")
class ReservationLine:
    """The part of a reservation at one stock level."""

    record: Private[ReservationLineRecord]
    quantity: int = quantity_from("record.quantity", "Reserved quantity.")
    held: int = quantity_from(
        "record.held",
        "Quantity that is held now: `quantity` while the reservation is open, else 0.",
    )
    committed: int = quantity_from(
        "record.committed", "Quantity that the commit took from the quantity on hand."
    )
    sku: Sku | None = sku_edge()
    warehouse: Warehouse | None = warehouse_edge()
    reservation: "Reservation | None" = edge_to(
        require_reservation,
        lambda record: record.reservation_id,
        lambda record: Reservation(record=record),
        "The reservation.",
    )


@strawberry.type(
    description="Stock that is held for an order. A reservation ends once: it is committed, "
    "released or expires."
)
class Reservation(Node):
    """Stock that is held for an order."""

    record: Private[ReservationRecord]
    id: strawberry.ID = read_from("record.id", ID_DESCRIPTION)
    status: ReservationStatus = read_from("record.status", "State of the reservation.")
    reference: str | None = read_from("record.reference", "The caller's id of the order.")
    note: str | None = read_from("record.note", "Free text that explains the reservation.")
    created_by: str = read_from(
        "record.created_by", "E-mail address of the author, or `erased` after its erasure."
    )
    created_at: datetime = read_from("record.created_at", "Time of the reservation.")
    expires_at: datetime | None = read_from(
        "record.expires_at", "Time of expiry; null if the reservation does not expire."
    )
    ended_at: datetime | None = read_from(
        "record.ended_at", "Time of the end; null while the reservation is open."
    )
    version: int = quantity_from(
        "record.version", "Version of the reservation. It increases with each change."
    )
    lines: list[ReservationLine] = objects_from(
        "record.lines",
        lambda record: ReservationLine(record=record),
        "Lines of the reservation, ordered by SKU code and warehouse id.",
    )


@strawberry.type(description="A page of a list of reservations (Relay).")
class ReservationConnection(Connection[Reservation]):
    """A page of a list of reservations."""

    sum_up: Private[Callable[[], Awaitable[int | None]]]

    @strawberry.field(
        description="Exact quantity that the reservations of the whole list hold now of the SKU, "
        "the warehouse or the stock level of the filter; without one, of all stock. Ended "
        "reservations hold nothing. Null with a filter by `reference`."
    )
    async def held(self) -> Quantity | None:
        """Held quantity, which is summed when it is selected."""
        held = await self.sum_up()
        return None if held is None else Quantity(held)


async def page_of_reservations(
    context: Context, first: int, after: str | None, where: ReservationFilter
) -> ReservationConnection:
    """Page of reservations, newest first.

    Raises:
        ValidationFailed, InvalidCursor, InventoryNotFound, WarehouseNotFound.

    """
    limit = page_size(first)
    cursors = context.cursors("reservations", where)
    position = cursors.decode(after)
    await require_filtered(context, where)
    snapshot, tenant_id, budget = context.snapshot, context.principal.tenant_id, context.budget
    async with snapshot.planning:
        budget.spend(STATEMENT_COST + PARENT_COST)
        with budget.exhausted_by_refusal():
            records = await list_reservations(
                snapshot,
                tenant_id,
                where=where,
                after=position,
                limit=limit + 1,
                most_lines=min(MOST_LINES, budget.affordable(LINE_COST)),
            )
        budget.spend(sum(len(record.lines) for record in records) * LINE_COST)
        budget.spend_text(record.note for record in records)

    async def count() -> int:
        budget.spend(STATEMENT_COST)
        if not where.names_stock:
            return await count_reservations(snapshot, tenant_id, where=where)
        number, lines = await count_reservations_of_stock(snapshot, tenant_id, where=where)
        budget.spend(lines // ENTRIES_PER_UNIT)
        return number

    async def sum_up() -> int | None:
        if where.status not in (None, ReservationStatus.OPEN):
            return 0
        if where.reference is not None:
            return None
        budget.spend(STATEMENT_COST + PARENT_COST)
        return await sum_held(snapshot, tenant_id, where=where)

    nodes = [Reservation(record=record) for record in records]

    def cursor_of(node: Reservation) -> str:
        return cursors.encode(node.record.id)

    return ReservationConnection(
        nodes=nodes[:limit],
        page_info=page_info(nodes, limit=limit, after=after, cursor_of=cursor_of),
        cursor_of=cursor_of,
        count=count,
        sum_up=sum_up,
    )


async def holds_of(
    context: Context, level: LevelRecord, first: int, after: str | None
) -> Connection[ReservationLine]:
    """Page of the lines of open reservations of a stock level.

    Raises:
        ValidationFailed, InvalidCursor.

    """
    key = (level.sku, level.warehouse_id)
    cursors = context.cursors("holds", key)
    holds = context.loaders.holds(cursors.decode(after), page_size(first) + 1)
    return connection_of(
        [ReservationLine(record=line) for line in await holds.load(key)],
        limit=first,
        after=after,
        cursor_of=lambda line: cursors.encode(line.record.reservation_id),
        count=lambda: context.loaders.hold_count.load(key),
    )
