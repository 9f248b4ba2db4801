"""Writes of stock: set, adjust, in bulk, and transfer."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Final, Self

import strawberry
from strawberry import Private

from app.domain.records import SkuRecord, StockChange
from app.domain.stock import StockUpdate
from app.graphql.schema.context import Context, Info
from app.graphql.schema.enums import OnError
from app.graphql.schema.mutations.shared import (
    DRY_RUN,
    IDEMPOTENCY_KEY,
    NOTE,
    REASON,
    REFERENCE,
    REPLAYED,
)
from app.graphql.schema.relay import described_field, of_plain_values, optional
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Adjustment, Sku, StockLevel
from app.writes.idempotency_keys import WriteResult
from app.writes.stock import BulkOutcome, bulk_change_stock, change_stock
from app.writes.transfers import LineTransfer, Transfer, TransferLine, transfer_stock

QUANTITY: Final = (
    "The new on hand, 0 to 1,000,000,000,000. It may be below what is reserved: a count is the "
    "truth."
)
DELTA: Final = (
    "What is added to on hand, or taken from it if negative. What would leave less than 0 is "
    "refused."
)
SKU_VERSIONS: Final = "The SKU's version must be one of these now; else STALE_VERSION."


@strawberry.input
class StockLevelInput:
    """Which stock level changes, why, and what is expected of it: what all such inputs share."""

    sku: str = described_field("The code of a SKU that exists.")
    warehouse_id: strawberry.ID = described_field(
        "The warehouse. A SKU that has no stock level in it yet gets one."
    )
    reason: str = described_field(
        "Why, in a word: ^[a-z][a-z0-9_]{0,63}$. Usual ones: supplier_receipt, cycle_count, "
        "customer_return, damage, loss, correction, initial_stock."
    )
    note: str | None = optional(NOTE)
    reference: str | None = optional(REFERENCE)
    expected_quantity: Quantity | None = optional(
        "What on hand must be now; else STALE_VERSION, and nothing is changed."
    )
    expected_version: Quantity | None = optional(
        "What the stock level's version must be now (0 if there is none yet); else STALE_VERSION."
    )

    def update(
        self,
        *,
        quantity: int | None = None,
        delta: int | None = None,
        sku_versions: list[Quantity] | None = None,
    ) -> StockUpdate:
        """Return what the commands take."""
        return StockUpdate(
            sku=self.sku,
            warehouse_id=self.warehouse_id,
            quantity=quantity,
            delta=delta,
            reason=self.reason,
            note=self.note,
            reference=self.reference,
            expected_quantity=self.expected_quantity,
            expected_version=self.expected_version,
            expected_sku_versions=None if sku_versions is None else tuple(sku_versions),
        )


@of_plain_values
@strawberry.input(description="A stock level to set, or to adjust: exactly one of the two.")
class StockUpdateInput(StockLevelInput):
    """One update of a bulk."""

    quantity: Quantity | None = optional(QUANTITY)
    delta: Quantity | None = optional(DELTA)


@of_plain_values
@strawberry.input(description="A stock level to set.")
class SetStockInput(StockLevelInput):
    """A stock level to set."""

    quantity: Quantity = described_field(QUANTITY)
    expected_sku_versions: list[Quantity] | None = optional(SKU_VERSIONS)
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


@of_plain_values
@strawberry.input(description="A stock level to adjust.")
class AdjustStockInput(StockLevelInput):
    """A stock level to adjust."""

    delta: Quantity = described_field(DELTA)
    expected_sku_versions: list[Quantity] | None = optional(SKU_VERSIONS)
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


@strawberry.type
class StockChangePayload:
    """A stock level that was changed: what all such payloads share."""

    sku: Sku = described_field("The SKU after it.")
    stock_level: StockLevel = described_field("The stock level after it.")
    adjustment: Adjustment = described_field("The ledger entry written.")
    replayed: bool = described_field(REPLAYED)

    @classmethod
    def of(cls, done: WriteResult[StockChange]) -> Self:
        """Make one of a change."""
        entry, sku = done.result.adjustment, done.result.sku
        [level] = [it for it in sku.levels if it.warehouse_id == entry.warehouse_id]
        return cls(
            sku=Sku(record=sku),
            stock_level=StockLevel(record=level),
            adjustment=Adjustment(record=entry),
            replayed=done.replayed,
        )


@strawberry.type(description="A stock level that was set.")
class SetStockPayload(StockChangePayload):
    """A stock level that was set."""


@strawberry.type(description="A stock level that was adjusted.")
class AdjustStockPayload(StockChangePayload):
    """A stock level that was adjusted."""


@of_plain_values
@strawberry.input(description="Stock levels to set or adjust, in one transaction.")
class BulkSetStockInput:
    """Stock levels to set or adjust."""

    updates: list[StockUpdateInput] = described_field("1 to 500, each for another stock level.")
    on_error: OnError = strawberry.field(
        default=OnError.ABORT, description="What happens when some of them are refused."
    )
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


@strawberry.enum(description="What became of an update.")
class BulkResultStatus(Enum):
    """What became of an update."""

    UPDATED = strawberry.enum_value("updated", description="It was made.")
    FAILED = strawberry.enum_value("failed", description="It was refused; `error` says why.")


@strawberry.type(description="Why an update was refused.")
class BulkError:
    """Why an update was refused."""

    code: str = described_field("The error code.")
    message: str = described_field("What is wrong.")


@strawberry.type(description="What became of one update of a bulk.")
class BulkResult:
    """What became of one update."""

    index: int = described_field("The position of the update in the request, from 0.")
    sku: str = described_field("The SKU code of the update.")
    warehouse_id: strawberry.ID = described_field("The warehouse of the update.")
    status: BulkResultStatus = described_field("Whether it was made.")
    adjustment: Adjustment | None = described_field("The ledger entry written, if it was made.")
    error: BulkError | None = described_field("Why it was refused, if it was.")

    @classmethod
    def of(cls, index: int, update: StockUpdate, outcome: BulkOutcome) -> "BulkResult":
        """Make one of an outcome."""
        change, refusal = outcome.change, outcome.refusal
        return cls(
            index=index,
            sku=update.sku,
            warehouse_id=strawberry.ID(update.warehouse_id),
            status=BulkResultStatus.UPDATED if change else BulkResultStatus.FAILED,
            adjustment=Adjustment(record=change.adjustment) if change else None,
            error=BulkError(code=refusal.code, message=refusal.message) if refusal else None,
        )


@strawberry.type(description="What became of a bulk.")
class BulkSetStockPayload:
    """What became of a bulk."""

    results: list[BulkResult] = described_field("One per update, in the order of the request.")
    total: int = described_field("How many updates there were.")
    succeeded: int = described_field("How many were made.")
    failed: int = described_field("How many were refused.")
    replayed: bool = described_field(REPLAYED)
    changed: Private[Mapping[str, SkuRecord]]

    @strawberry.field(description="The SKUs that changed, after it, by code.")
    def skus(self) -> list[Sku]:
        """Make the SKUs only when asked."""
        return [Sku(record=self.changed[code]) for code in sorted(self.changed)]


@of_plain_values
@strawberry.input(description="How many of a SKU are moved.")
class TransferLineInput:
    """A SKU to move."""

    sku: str = described_field("The code of a SKU that exists, once per transfer.")
    quantity: Quantity = described_field(
        "How many are moved, 1 to what the first warehouse has on hand."
    )


@of_plain_values
@strawberry.input(description="Stock to move from one warehouse to another, all lines or none.")
class TransferStockInput:
    """Stock to move."""

    from_warehouse_id: strawberry.ID = described_field("The warehouse that gives.")
    to_warehouse_id: strawberry.ID = described_field("The warehouse that takes.")
    lines: list[TransferLineInput] = described_field("1 to 500, each for another SKU.")
    reason: str = strawberry.field(default="transfer", description=REASON)
    note: str | None = optional(NOTE)
    reference: str | None = optional(REFERENCE)
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)

    def transfer(self) -> Transfer:
        """Return what the commands take."""
        return Transfer(
            source=self.from_warehouse_id,
            destination=self.to_warehouse_id,
            lines=tuple(TransferLine(line.sku, line.quantity) for line in self.lines),
            reason=self.reason,
            note=self.note,
            reference=self.reference,
        )


@strawberry.type(description="What became of one line of a transfer.")
class TransferredLine:
    """What became of a line."""

    sku: Sku = described_field("The SKU after the transfer.")
    outgoing: Adjustment = described_field("The ledger entry of the warehouse that gave.")
    incoming: Adjustment = described_field("The ledger entry of the warehouse that took.")


@strawberry.type(description="Stock that was moved.")
class TransferStockPayload:
    """Stock that was moved."""

    transfer_id: strawberry.ID = described_field("Names the transfer in all its ledger entries.")
    lines: list[TransferredLine] = described_field("In the order of the request.")
    replayed: bool = described_field(REPLAYED)

    @classmethod
    def of(cls, done: WriteResult[list[LineTransfer]]) -> "TransferStockPayload":
        """Make one of what was moved."""
        return cls(
            transfer_id=strawberry.ID(done.result[0].outgoing.adjustment.transfer_id or ""),
            lines=[
                TransferredLine(
                    sku=Sku(record=line.incoming.sku),
                    outgoing=Adjustment(record=line.outgoing.adjustment),
                    incoming=Adjustment(record=line.incoming.adjustment),
                )
                for line in done.result
            ],
            replayed=done.replayed,
        )


@strawberry.type
class StockMutation:
    """Writes of stock."""

    @strawberry.mutation(
        description="Set on hand of one stock level. Needs the scope inventory:write."
    )
    async def set_stock(
        self,
        info: Info,
        input: Annotated[SetStockInput, strawberry.argument(description="What to set.")],
    ) -> SetStockPayload:
        """Set a stock level."""
        update = input.update(quantity=input.quantity, sku_versions=input.expected_sku_versions)
        return SetStockPayload.of(await _changed(info.context, input, update))

    @strawberry.mutation(
        description="Add to on hand of one stock level, or take from it. Needs the scope "
        "inventory:write."
    )
    async def adjust_stock(
        self,
        info: Info,
        input: Annotated[AdjustStockInput, strawberry.argument(description="What to adjust.")],
    ) -> AdjustStockPayload:
        """Adjust a stock level."""
        update = input.update(delta=input.delta, sku_versions=input.expected_sku_versions)
        return AdjustStockPayload.of(await _changed(info.context, input, update))

    @strawberry.mutation(
        description="Set or adjust on hand of up to 500 stock levels. Needs the scope "
        "inventory:write."
    )
    async def bulk_set_stock(
        self,
        info: Info,
        input: Annotated[BulkSetStockInput, strawberry.argument(description="What to set.")],
    ) -> BulkSetStockPayload:
        """Change many stock levels."""
        context = info.context
        updates = [item.update(quantity=item.quantity, delta=item.delta) for item in input.updates]
        done = await bulk_change_stock(
            context.database,
            context.caller,
            updates,
            on_error=input.on_error,
            key=input.idempotency_key,
            dry_run=input.dry_run,
        )
        await context.forget(writes=len(updates))
        results = [
            BulkResult.of(index, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, done.result, strict=True))
        ]
        changes = [outcome.change for outcome in done.result if outcome.change]
        return BulkSetStockPayload(
            results=results,
            total=len(results),
            succeeded=len(changes),
            failed=len(results) - len(changes),
            replayed=done.replayed,
            changed={change.sku.sku: change.sku for change in changes},
        )

    @strawberry.mutation(
        description="Move stock of up to 500 SKUs from one warehouse to another, all or nothing. "
        "Needs the scope inventory:write."
    )
    async def transfer_stock(
        self,
        info: Info,
        input: Annotated[TransferStockInput, strawberry.argument(description="What to move.")],
    ) -> TransferStockPayload:
        """Move stock."""
        context = info.context
        done = await transfer_stock(
            context.database,
            context.caller,
            input.transfer(),
            key=input.idempotency_key,
            dry_run=input.dry_run,
        )
        await context.forget(writes=2 * len(input.lines))
        return TransferStockPayload.of(done)


async def _changed(
    context: Context, input: SetStockInput | AdjustStockInput, update: StockUpdate
) -> WriteResult[StockChange]:
    done = await change_stock(
        context.database,
        context.caller,
        update,
        key=input.idempotency_key,
        dry_run=input.dry_run,
    )
    await context.forget()
    return done
