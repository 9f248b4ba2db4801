"""The mutations that reserve stock, and commit, release and extend reservations."""

from typing import Annotated, Final, Self

import strawberry
from strawberry import UNSET, Private

from app.domain.records import ReservationChange
from app.domain.reservations import (
    DEFAULT_HOLD,
    MAX_HOLD,
    MAX_LINE_WAREHOUSES,
    RequestedLine,
)
from app.errors import invalid_field
from app.graphql.schema.context import Info
from app.graphql.schema.fields import described_field, of_plain_values, optional
from app.graphql.schema.mutations.write_input import (
    NOTE_DESCRIPTION,
    REASON_DESCRIPTION,
    REFERENCE_DESCRIPTION,
    REPLAYED_DESCRIPTION,
    SKU_CODE_DESCRIPTION,
    WriteInput,
)
from app.graphql.schema.reservations import Reservation
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Adjustment, Sku
from app.writes.idempotency_keys import WriteResult
from app.writes.reservations import (
    AmendRequest,
    CommitRequest,
    CommittedLine,
    ReserveRequest,
    amend_reservation,
    commit_reservation,
    extend_reservation,
    release_reservation,
    reserve_stock,
)

HOLD_RANGE: Final = f"in seconds from now, 1 to {MAX_HOLD:,} (30 days)."
RESERVATION_ID_DESCRIPTION: Final = "Reservation id, rsv_..."
OVERSELL_DESCRIPTION: Final = (
    "Whether the reservation may exceed the available quantity. If the tenant does not permit "
    "this, the error is OVERSELL_NOT_PERMITTED."
)


@of_plain_values
@strawberry.input(description="Quantity of a SKU to reserve, from one of some warehouses.")
class ReserveLineInput:
    """Quantity of a SKU to reserve."""

    sku: str = described_field(SKU_CODE_DESCRIPTION)
    quantity: Quantity = described_field(
        "Quantity, at least 1. Lines with the same single warehouse are summed."
    )
    warehouse_id: strawberry.ID | None = optional(
        "Id of the warehouse. Give it, or `warehouseIds`."
    )
    warehouse_ids: list[strawberry.ID] | None = optional(
        f"Ids of 1 to {MAX_LINE_WAREHOUSES} warehouses. The first one that has the quantity gives "
        "it. A warehouse in which nothing can be reserved is passed over."
    )
    split: bool | None = strawberry.field(
        default=False,
        description="Whether each of `warehouseIds` in turn gives what it has, until the quantity "
        "is complete.",
    )

    def line(self) -> RequestedLine:
        """Line that the write takes; without warehouses unless exactly one field has them."""
        ids = tuple(self.warehouse_ids or ())
        if self.warehouse_id is not None:
            ids = () if ids else (self.warehouse_id,)
        return RequestedLine(self.sku, ids, self.quantity, bool(self.split))


@of_plain_values
@strawberry.input(description="Quantity of one stock level to commit.")
class CommitLineInput:
    """Quantity of one stock level to commit."""

    sku: str = described_field(SKU_CODE_DESCRIPTION)
    warehouse_id: strawberry.ID = described_field("Id of the warehouse.")
    quantity: Quantity = described_field(
        "Quantity, at least 1. Lines with the same stock level are summed."
    )

    def line(self) -> CommittedLine:
        """Line that the write takes."""
        return CommittedLine(self.sku, self.warehouse_id, self.quantity)


@strawberry.input(description="Stock to reserve, all lines or none.")
class ReserveStockInput(WriteInput):
    """Stock to reserve."""

    lines: list[ReserveLineInput] = described_field("1 to 500 lines.")
    expires_in: int | None = strawberry.field(
        default=DEFAULT_HOLD,
        description=f"Time until the reservation expires, {HOLD_RANGE} With null it holds until "
        "it is ended. If the tenant does not permit this, the error is EXPIRY_REQUIRED.",
    )
    reference: str | None = optional(REFERENCE_DESCRIPTION)
    note: str | None = optional(NOTE_DESCRIPTION)
    allow_oversell: bool = strawberry.field(default=False, description=OVERSELL_DESCRIPTION)


@strawberry.input(description="A reservation to commit, as a whole or in part.")
class CommitReservationInput(WriteInput):
    """A reservation to commit."""

    id: strawberry.ID = described_field(RESERVATION_ID_DESCRIPTION)
    lines: list[CommitLineInput] | None = optional(
        "Quantities to take from the quantity on hand, up to the held quantities. Without lines, "
        "all held stock is taken."
    )
    keep_rest: bool = strawberry.field(
        default=False,
        description="Whether a new reservation holds what is not taken. Otherwise it is released.",
    )
    reason: str = strawberry.field(default="sale", description=REASON_DESCRIPTION)
    note: str | None = optional(NOTE_DESCRIPTION)


@strawberry.input(description="The lines that a reservation is to hold from now on.")
class AmendReservationInput(WriteInput):
    """The lines that a reservation is to hold from now on."""

    id: strawberry.ID = described_field(RESERVATION_ID_DESCRIPTION)
    lines: list[ReserveLineInput] = described_field(
        "1 to 500 lines, which replace all lines of the reservation."
    )
    allow_oversell: bool = strawberry.field(default=False, description=OVERSELL_DESCRIPTION)


@strawberry.input(description="A reservation to release.")
class ReleaseReservationInput(WriteInput):
    """A reservation to release."""

    id: strawberry.ID = described_field(RESERVATION_ID_DESCRIPTION)


@strawberry.input(description="A reservation to extend.")
class ExtendReservationInput(WriteInput):
    """A reservation to extend."""

    id: strawberry.ID = described_field(RESERVATION_ID_DESCRIPTION)
    expires_in: int | None = strawberry.field(
        default=UNSET,
        description=f"Minimum time until the reservation expires, {HOLD_RANGE} It is never "
        "shortened. With null the reservation holds until it is ended. If the tenant does not "
        "permit this, the error is EXPIRY_REQUIRED.",
    )


@strawberry.type
class ReservationPayload:
    """Fields that payloads of a changed reservation share."""

    reservation: Reservation = described_field("The reservation after the change.")
    replayed: bool = described_field(REPLAYED_DESCRIPTION)
    change: Private[ReservationChange]

    @strawberry.field(description="The changed SKUs, ordered by code.")
    def skus(self) -> list[Sku]:
        """List the changed SKUs by code."""
        return [Sku(record=record) for record in self.change.skus]

    @classmethod
    def of(cls, written: WriteResult[ReservationChange]) -> Self:
        """Payload of a write result."""
        return cls(
            reservation=Reservation(record=written.result.reservation),
            replayed=written.replayed,
            change=written.result,
        )


@strawberry.type(description="Result of reserveStock.")
class ReserveStockPayload(ReservationPayload):
    """Result of reserveStock."""


@strawberry.type(description="Result of commitReservation.")
class CommitReservationPayload(ReservationPayload):
    """Result of commitReservation."""

    @strawberry.field(description="The new adjustments, ordered by SKU code and warehouse id.")
    def adjustments(self) -> list[Adjustment]:
        """List the new adjustments by SKU code and warehouse id."""
        return [Adjustment(record=record) for record in self.change.adjustments]

    @strawberry.field(
        description="The new reservation of the rest; null without `keepRest`, or without a rest."
    )
    def successor(self) -> Reservation | None:
        """Get the new reservation of the rest."""
        rest = self.change.successor
        return Reservation(record=rest) if rest else None


@strawberry.type(description="Result of amendReservation.")
class AmendReservationPayload(ReservationPayload):
    """Result of amendReservation."""


@strawberry.type(description="Result of releaseReservation.")
class ReleaseReservationPayload(ReservationPayload):
    """Result of releaseReservation."""


@strawberry.type(description="Result of extendReservation.")
class ExtendReservationPayload:
    """Result of extendReservation."""

    reservation: Reservation = described_field("The reservation after the change.")
    replayed: bool = described_field(REPLAYED_DESCRIPTION)


@strawberry.type
class ReservationMutation:
    """The mutations of reservations."""

    @strawberry.mutation(
        description="Hold stock for an order. More than the available quantity "
        "is refused, unless overselling is allowed. Needs the scope inventory:write."
    )
    async def reserve_stock(
        self,
        info: Info,
        input: Annotated[ReserveStockInput, strawberry.argument(description="Stock to reserve.")],
    ) -> ReserveStockPayload | None:
        """Reserve stock."""
        order = ReserveRequest(
            lines=tuple(line.line() for line in input.lines),
            seconds=input.expires_in,
            reference=input.reference,
            note=input.note,
            may_oversell=input.allow_oversell,
        )
        written = await info.context.write(
            input, lambda writing: reserve_stock(writing, order), count=_line_count
        )
        return ReserveStockPayload.of(written)

    @strawberry.mutation(
        description="Take reserved stock from the quantity on hand, as a whole or in part, and end "
        "the reservation. Needs the scope inventory:write."
    )
    async def commit_reservation(
        self,
        info: Info,
        input: Annotated[
            CommitReservationInput, strawberry.argument(description="Reservation to commit.")
        ],
    ) -> CommitReservationPayload | None:
        """Commit a reservation."""
        order = CommitRequest(
            id=input.id,
            lines=None if input.lines is None else tuple(line.line() for line in input.lines),
            reason=input.reason,
            note=input.note,
            keep_rest=input.keep_rest,
        )
        written = await info.context.write(
            input, lambda writing: commit_reservation(writing, order), count=_line_count
        )
        return CommitReservationPayload.of(written)

    @strawberry.mutation(
        description="Replace the lines of a reservation, all or none. What it holds already is not "
        "let go in between. Needs the scope inventory:write."
    )
    async def amend_reservation(
        self,
        info: Info,
        input: Annotated[
            AmendReservationInput, strawberry.argument(description="Reservation to amend.")
        ],
    ) -> AmendReservationPayload | None:
        """Amend a reservation."""
        order = AmendRequest(
            id=input.id,
            lines=tuple(line.line() for line in input.lines),
            may_oversell=input.allow_oversell,
        )
        written = await info.context.write(
            input, lambda writing: amend_reservation(writing, order), count=_line_count
        )
        return AmendReservationPayload.of(written)

    @strawberry.mutation(
        description="Release reserved stock and end the reservation. Needs the scope "
        "inventory:write."
    )
    async def release_reservation(
        self,
        info: Info,
        input: Annotated[
            ReleaseReservationInput, strawberry.argument(description="Reservation to release.")
        ],
    ) -> ReleaseReservationPayload | None:
        """Release a reservation."""
        written = await info.context.write(
            input, lambda writing: release_reservation(writing, input.id), count=_line_count
        )
        return ReleaseReservationPayload.of(written)

    @strawberry.mutation(
        description="Extend the time of a reservation. Needs the scope inventory:write."
    )
    async def extend_reservation(
        self,
        info: Info,
        input: Annotated[
            ExtendReservationInput, strawberry.argument(description="Reservation to extend.")
        ],
    ) -> ExtendReservationPayload | None:
        """Extend a reservation."""
        if input.expires_in is UNSET:
            raise invalid_field(
                "expiresIn", "must be a number of seconds, or say that it never expires"
            )
        written = await info.context.write(
            input, lambda writing: extend_reservation(writing, input.id, input.expires_in)
        )
        return ExtendReservationPayload(
            reservation=Reservation(record=written.result.reservation), replayed=written.replayed
        )


def _line_count(change: ReservationChange) -> int:
    successor = change.successor.lines if change.successor else ()
    return len(change.reservation.lines) + len(successor)
