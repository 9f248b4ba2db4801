"""Reservations: reserve, commit, release, extend."""

from collections.abc import Sequence
from typing import Annotated, Final, Self

import strawberry
from strawberry import Private

from app.domain.records import AdjustmentRecord, ReservationChange, SkuRecord
from app.domain.reservations import DEFAULT_HOLD, MAX_HOLD
from app.graphql.schema.context import Context, Info
from app.graphql.schema.mutations.shared import (
    NOTE,
    REASON,
    REFERENCE,
    REPLAYED,
    WriteInput,
    writing,
)
from app.graphql.schema.relay import described_field, of_plain_values, optional
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Adjustment, Reservation, Sku
from app.writes.idempotency_keys import WriteResult
from app.writes.reservations import (
    CommitRequest,
    RequestedLine,
    ReserveRequest,
    commit_reservation,
    extend_reservation,
    release_reservation,
    reserve_stock,
)

SECONDS: Final = f"in seconds from now, 1 to {MAX_HOLD:,} (30 days)."
RESERVATION_ID: Final = "The id of the reservation, rsv_..."


@of_plain_values
@strawberry.input(description="How many of a stock level are reserved, or committed.")
class ReservationLineInput:
    """A line."""

    sku: str = described_field("The code of a SKU that exists.")
    warehouse_id: strawberry.ID = described_field("The warehouse.")
    quantity: Quantity = described_field(
        "How many, at least 1. Lines for the same stock level are summed."
    )

    def line(self) -> RequestedLine:
        """Return what the commands take."""
        return RequestedLine(self.sku, self.warehouse_id, self.quantity)


@strawberry.input(description="Stock to reserve, all lines or none.")
class ReserveStockInput(WriteInput):
    """Stock to reserve."""

    lines: list[ReservationLineInput] = described_field("1 to 500.")
    expires_in: int = strawberry.field(
        default=DEFAULT_HOLD, description=f"When it ends by itself, {SECONDS}"
    )
    reference: str | None = optional(REFERENCE)
    note: str | None = optional(NOTE)
    allow_oversell: bool = strawberry.field(
        default=False,
        description="Whether more than is available may be reserved, if the tenant permits it; "
        "else OVERSELL_NOT_PERMITTED.",
    )


@strawberry.input(description="A reservation to commit, whole or in part.")
class CommitReservationInput(WriteInput):
    """A reservation to commit."""

    id: strawberry.ID = described_field(RESERVATION_ID)
    lines: list[ReservationLineInput] | None = optional(
        "What is taken from on hand, up to what is held; all of it if left out. What is held and "
        "not taken is free again: a reservation is committed once."
    )
    reason: str = strawberry.field(default="sale", description=REASON)
    note: str | None = optional(NOTE)


@strawberry.input(description="A reservation to release.")
class ReleaseReservationInput(WriteInput):
    """A reservation to release."""

    id: strawberry.ID = described_field(RESERVATION_ID)


@strawberry.input(description="A reservation to extend.")
class ExtendReservationInput(WriteInput):
    """A reservation to extend."""

    id: strawberry.ID = described_field(RESERVATION_ID)
    expires_in: int = described_field(
        f"Until when it holds at least, {SECONDS} It is never made shorter."
    )


@strawberry.type
class ReservationPayload:
    """A reservation that was changed: what all such payloads share."""

    reservation: Reservation = described_field("The reservation after it.")
    replayed: bool = described_field(REPLAYED)
    changed: Private[Sequence[SkuRecord]]
    written: Private[Sequence[AdjustmentRecord]]

    @strawberry.field(description="The SKUs after it, by code.")
    def skus(self) -> list[Sku]:
        """Make the SKUs only when asked."""
        return [Sku(record=record) for record in self.changed]

    @classmethod
    async def of(cls, context: Context, done: WriteResult[ReservationChange]) -> Self:
        """Make one of what became of it."""
        await context.forget(writes=len(done.result.reservation.lines))
        return cls(
            reservation=Reservation(record=done.result.reservation),
            replayed=done.replayed,
            changed=done.result.skus,
            written=done.result.adjustments,
        )


@strawberry.type(description="Stock that was reserved.")
class ReserveStockPayload(ReservationPayload):
    """Stock that was reserved."""


@strawberry.type(description="A reservation that was committed.")
class CommitReservationPayload(ReservationPayload):
    """A reservation that was committed."""

    @strawberry.field(description="The ledger entries written, by SKU and warehouse.")
    def adjustments(self) -> list[Adjustment]:
        """Make the entries only when asked."""
        return [Adjustment(record=record) for record in self.written]


@strawberry.type(description="A reservation that was released.")
class ReleaseReservationPayload(ReservationPayload):
    """A reservation that was released."""


@strawberry.type(description="A reservation that was extended.")
class ExtendReservationPayload:
    """A reservation that was extended."""

    reservation: Reservation = described_field("The reservation after it.")
    replayed: bool = described_field(REPLAYED)


@strawberry.type
class ReservationMutation:
    """Writes of reservations."""

    @strawberry.mutation(
        description="Hold stock for somebody, for a time: never more than is available, unless "
        "that is allowed. Needs the scope inventory:write."
    )
    async def reserve_stock(
        self,
        info: Info,
        input: Annotated[ReserveStockInput, strawberry.argument(description="What to hold.")],
    ) -> ReserveStockPayload:
        """Reserve stock."""
        wanted = ReserveRequest(
            lines=tuple(line.line() for line in input.lines),
            seconds=input.expires_in,
            reference=input.reference,
            note=input.note,
            may_oversell=input.allow_oversell,
        )
        done = await reserve_stock(writing(info.context, input), wanted)
        return await ReserveStockPayload.of(info.context, done)

    @strawberry.mutation(
        description="Take what is reserved from on hand, whole or in part, and end the "
        "reservation. Needs the scope inventory:write."
    )
    async def commit_reservation(
        self,
        info: Info,
        input: Annotated[CommitReservationInput, strawberry.argument(description="What to take.")],
    ) -> CommitReservationPayload:
        """Commit a reservation."""
        lines = None if input.lines is None else tuple(line.line() for line in input.lines)
        wanted = CommitRequest(id=input.id, lines=lines, reason=input.reason, note=input.note)
        done = await commit_reservation(writing(info.context, input), wanted)
        return await CommitReservationPayload.of(info.context, done)

    @strawberry.mutation(
        description="Give back what is reserved, and end the reservation. Needs the scope "
        "inventory:write."
    )
    async def release_reservation(
        self,
        info: Info,
        input: Annotated[ReleaseReservationInput, strawberry.argument(description="Which one.")],
    ) -> ReleaseReservationPayload:
        """Release a reservation."""
        done = await release_reservation(writing(info.context, input), input.id)
        return await ReleaseReservationPayload.of(info.context, done)

    @strawberry.mutation(
        description="Have a reservation hold for longer. Needs the scope inventory:write."
    )
    async def extend_reservation(
        self,
        info: Info,
        input: Annotated[ExtendReservationInput, strawberry.argument(description="Which one.")],
    ) -> ExtendReservationPayload:
        """Extend a reservation."""
        context = info.context
        done = await extend_reservation(writing(context, input), input.id, input.expires_in)
        await context.forget()
        return ExtendReservationPayload(
            reservation=Reservation(record=done.result.reservation), replayed=done.replayed
        )
