"""The mutation that reverses adjustments."""

from typing import Annotated

import strawberry
from strawberry import Private

from app.domain.records import SkuRecord
from app.graphql.schema.context import Info
from app.graphql.schema.fields import described_field, exactly_one, given_fields, optional
from app.graphql.schema.mutations.write_input import (
    NOTE_DESCRIPTION,
    REASON_DESCRIPTION,
    REPLAYED_DESCRIPTION,
    WriteInput,
)
from app.graphql.schema.types import Adjustment, Sku
from app.writes.reversals import Reversal, reverse_adjustments


@strawberry.input(one_of=True, description="An adjustment, a bulk or a transfer to reverse.")
class ReversalTargetInput:
    """An adjustment, a bulk or a transfer to reverse."""

    adjustment_id: strawberry.ID | None = exactly_one(
        "One adjustment that is not part of a transfer."
    )
    bulk_id: strawberry.ID | None = exactly_one("All adjustments of a bulk.")
    transfer_id: strawberry.ID | None = exactly_one("All adjustments of a transfer.")


@strawberry.input(description="Adjustments to reverse.")
class ReverseAdjustmentsInput(WriteInput):
    """Adjustments to reverse."""

    target: ReversalTargetInput = described_field("The adjustments.")
    reason: str = strawberry.field(default="reversal", description=REASON_DESCRIPTION)
    note: str | None = optional(NOTE_DESCRIPTION)


@strawberry.type(description="Result of reverseAdjustments.")
class ReverseAdjustmentsPayload:
    """Result of reverseAdjustments."""

    adjustments: list[Adjustment] = described_field(
        "The new adjustments, in descending order of the reversed ones. `reversalOf` has the id of "
        "the reversed adjustment."
    )
    replayed: bool = described_field(REPLAYED_DESCRIPTION)
    changed: Private[dict[str, SkuRecord]]

    @strawberry.field(description="The changed SKUs, ordered by code.")
    def skus(self) -> list[Sku]:
        """List the changed SKUs by code."""
        return [Sku(record=self.changed[code]) for code in sorted(self.changed)]


@strawberry.type
class ReversalMutation:
    """The mutation that reverses adjustments."""

    @strawberry.mutation(
        description="Reverse adjustments by linked counter-entries, all or none. The ledger keeps "
        "both. An adjustment can be reversed once. Needs the scope inventory:write."
    )
    async def reverse_adjustments(
        self,
        info: Info,
        input: Annotated[
            ReverseAdjustmentsInput, strawberry.argument(description="Adjustments to reverse.")
        ],
    ) -> ReverseAdjustmentsPayload | None:
        """Reverse adjustments."""
        reversal = Reversal(**given_fields(input.target), reason=input.reason, note=input.note)
        written = await info.context.write(
            input, lambda writing: reverse_adjustments(writing, reversal), count=len
        )
        return ReverseAdjustmentsPayload(
            adjustments=[Adjustment(record=change.adjustment) for change in written.result],
            replayed=written.replayed,
            changed={change.sku.sku: change.sku for change in written.result},
        )
