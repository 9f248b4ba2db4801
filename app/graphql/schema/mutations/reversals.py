"""Reversals of adjustments."""

from typing import Annotated

import strawberry
from strawberry import Private

from app.domain.records import SkuRecord
from app.graphql.schema.context import Info
from app.graphql.schema.mutations.shared import NOTE, REASON, REPLAYED, WriteInput, writing
from app.graphql.schema.relay import described_field, optional
from app.graphql.schema.types import Adjustment, Sku
from app.writes.reversals import Reversal, reverse_adjustments


@strawberry.input(description="What to undo: exactly one of an adjustment, a bulk, a transfer.")
class ReverseAdjustmentsInput(WriteInput):
    """What to undo."""

    adjustment_id: strawberry.ID | None = optional("An adjustment that is no half of a transfer.")
    bulk_id: strawberry.ID | None = optional("All adjustments of a bulk.")
    transfer_id: strawberry.ID | None = optional("Both halves of every line of a transfer.")
    reason: str = strawberry.field(default="reversal", description=REASON)
    note: str | None = optional(NOTE)


@strawberry.type(description="Adjustments that were undone.")
class ReverseAdjustmentsPayload:
    """Adjustments that were undone."""

    adjustments: list[Adjustment] = described_field(
        "The ledger entries written, newest undone first; each names what it undoes in reversalOf."
    )
    replayed: bool = described_field(REPLAYED)
    changed: Private[dict[str, SkuRecord]]

    @strawberry.field(description="The SKUs after it, by code.")
    def skus(self) -> list[Sku]:
        """Make the SKUs only when asked."""
        return [Sku(record=self.changed[code]) for code in sorted(self.changed)]


@strawberry.type
class ReversingMutation:
    """Reversals."""

    @strawberry.mutation(
        description="Undo adjustments by counter-entries that are linked to them, all or none; "
        "the ledger keeps both. Each can be undone once. Needs the scope inventory:write."
    )
    async def reverse_adjustments(
        self,
        info: Info,
        input: Annotated[ReverseAdjustmentsInput, strawberry.argument(description="What to undo.")],
    ) -> ReverseAdjustmentsPayload:
        """Undo adjustments."""
        context = info.context
        wanted = Reversal(
            adjustment_id=input.adjustment_id,
            bulk_id=input.bulk_id,
            transfer_id=input.transfer_id,
            reason=input.reason,
            note=input.note,
        )
        done = await reverse_adjustments(writing(context, input), wanted)
        await context.forget(writes=len(done.result))
        return ReverseAdjustmentsPayload(
            adjustments=[Adjustment(record=change.adjustment) for change in done.result],
            replayed=done.replayed,
            changed={change.sku.sku: change.sku for change in done.result},
        )
