"""The types of reservations, made from records."""

from datetime import datetime

import strawberry
from strawberry import Private

from app.domain.records import LevelRecord, ReservationLineRecord, ReservationRecord
from app.graphql.schema.context import Context
from app.graphql.schema.edges import edge_to
from app.graphql.schema.enums import ReservationStatus
from app.graphql.schema.fields import objects_from, quantity_from, read_from
from app.graphql.schema.lookups import require_reservation
from app.graphql.schema.relay import ID_DESCRIPTION, Connection, Node, connection_of, page_size
from app.graphql.schema.types import Sku, Warehouse, sku_edge, warehouse_edge


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
