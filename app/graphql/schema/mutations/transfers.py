"""The mutation that moves stock between warehouses."""

from datetime import datetime
from typing import Annotated

import strawberry

from app.graphql.schema.context import Info
from app.graphql.schema.fields import described_field, of_plain_values, optional
from app.graphql.schema.mutations.write_input import (
    DRY_RUN_DESCRIPTION,
    IDEMPOTENCY_KEY_DESCRIPTION,
    NOTE_DESCRIPTION,
    OCCURRED_AT_DESCRIPTION,
    REASON_DESCRIPTION,
    REFERENCE_DESCRIPTION,
    REPLAYED_DESCRIPTION,
)
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Adjustment, Sku
from app.writes.idempotency_keys import WriteResult
from app.writes.transfers import LineTransfer, Transfer, TransferLine, transfer_stock


@of_plain_values
@strawberry.input(description="Quantity of one SKU to move.")
class TransferLineInput:
    """Quantity of one SKU to move."""

    sku: str = described_field("Code of an existing SKU, once per transfer.")
    quantity: Quantity = described_field(
        "Quantity to move, 1 to the quantity on hand in the source warehouse."
    )


@of_plain_values
@strawberry.input(description="Stock to move from one warehouse to another, all lines or none.")
class TransferStockInput:
    """Stock to move."""

    from_warehouse_id: strawberry.ID = described_field("Id of the source warehouse.")
    to_warehouse_id: strawberry.ID = described_field("Id of the destination warehouse.")
    lines: list[TransferLineInput] = described_field("1 to 500 lines with distinct SKUs.")
    reason: str = strawberry.field(default="transfer", description=REASON_DESCRIPTION)
    note: str | None = optional(NOTE_DESCRIPTION)
    reference: str | None = optional(REFERENCE_DESCRIPTION)
    occurred_at: datetime | None = optional(OCCURRED_AT_DESCRIPTION)
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY_DESCRIPTION)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN_DESCRIPTION)

    def transfer(self) -> Transfer:
        """Transfer that the write takes."""
        return Transfer(
            source=self.from_warehouse_id,
            destination=self.to_warehouse_id,
            lines=tuple(TransferLine(line.sku, line.quantity) for line in self.lines),
            reason=self.reason,
            note=self.note,
            reference=self.reference,
            occurred_at=self.occurred_at,
        )


@strawberry.type(description="Result of one line of a transfer.")
class TransferredLine:
    """Result of one line of a transfer."""

    sku: Sku = described_field("The SKU after the transfer.")
    outgoing: Adjustment = described_field("Adjustment in the source warehouse.")
    incoming: Adjustment = described_field("Adjustment in the destination warehouse.")


@strawberry.type(description="Result of transferStock.")
class TransferStockPayload:
    """Result of transferStock."""

    transfer_id: strawberry.ID = described_field(
        "Id of the transfer. All its adjustments have this `transferId`."
    )
    lines: list[TransferredLine] = described_field("Results in the order of the input.")
    replayed: bool = described_field(REPLAYED_DESCRIPTION)

    @classmethod
    def of(cls, written: WriteResult[list[LineTransfer]]) -> "TransferStockPayload":
        """Payload of a write result."""
        return cls(
            transfer_id=strawberry.ID(written.result[0].outgoing.adjustment.transfer_id or ""),
            lines=[
                TransferredLine(
                    sku=Sku(record=line.incoming.sku),
                    outgoing=Adjustment(record=line.outgoing.adjustment),
                    incoming=Adjustment(record=line.incoming.adjustment),
                )
                for line in written.result
            ],
            replayed=written.replayed,
        )


@strawberry.type
class TransferMutation:
    """The mutation that moves stock between warehouses."""

    @strawberry.mutation(
        description="Move stock of up to 500 SKUs from one warehouse to another, all or nothing. "
        "Needs the scope inventory:write."
    )
    async def transfer_stock(
        self,
        info: Info,
        input: Annotated[TransferStockInput, strawberry.argument(description="Stock to move.")],
    ) -> TransferStockPayload | None:
        """Move stock."""
        written = await info.context.write(
            input,
            lambda writing: transfer_stock(
                writing.database,
                writing.caller,
                input.transfer(),
                key=writing.key,
                dry_run=writing.dry_run,
            ),
            count=lambda lines: 2 * len(lines),
        )
        return TransferStockPayload.of(written)
