"""The root of the writes."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Final

import strawberry
from strawberry import Private

from app.commands.idempotency import Done
from app.commands.stock import BulkOutcome, StockChange, StockUpdate, bulk_set_stock, set_stock
from app.graphql.context import Info
from app.graphql.enums import OnError
from app.graphql.relay import described_field, optional
from app.graphql.scalars import Quantity
from app.graphql.types import Adjustment, Sku, StockLevel
from app.records import SkuRecord

IDEMPOTENCY_KEY: Final = (
    "1 to 255 visible ASCII characters of your choice. Sent again with the same input within 24 "
    "hours, it has no second effect and gets the same answer."
)
REPLAYED: Final = "Whether this is the answer that an earlier request with the same key got."


@strawberry.input(description="What a stock level's on hand shall be, and why.")
class StockUpdateInput:
    """One stock level to set."""

    sku: str = described_field("The code of a SKU that exists.")
    warehouse_id: strawberry.ID = described_field(
        "The warehouse. A SKU that has no stock level in it yet gets one."
    )
    quantity: Quantity = described_field(
        "The new on hand, 0 to 1,000,000,000,000. It may be below what is reserved: a count is "
        "the truth."
    )
    reason: str = described_field(
        "Why, in a word: ^[a-z][a-z0-9_]{0,63}$. Usual ones: supplier_receipt, cycle_count, "
        "customer_return, damage, loss, correction, initial_stock."
    )
    note: str | None = optional("Why, in a sentence of up to 1000 characters.")
    expected_quantity: Quantity | None = optional(
        "What on hand must be now; else STALE_VERSION, and nothing is changed."
    )
    expected_version: Quantity | None = optional(
        "What the stock level's version must be now (0 if there is none yet); else STALE_VERSION."
    )

    def update(self, *, sku_versions: list[Quantity] | None = None) -> StockUpdate:
        """Return what the commands take."""
        return StockUpdate(
            sku=self.sku,
            warehouse_id=self.warehouse_id,
            quantity=self.quantity,
            reason=self.reason,
            note=self.note,
            expected_quantity=self.expected_quantity,
            expected_version=self.expected_version,
            expected_sku_versions=None if sku_versions is None else tuple(sku_versions),
        )


@strawberry.input(description="A stock level to set.")
class SetStockInput(StockUpdateInput):
    """A stock level to set."""

    expected_sku_versions: list[Quantity] | None = optional(
        "The SKU's version must be one of these now; else STALE_VERSION."
    )
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY)


@strawberry.type(description="A stock level that was set.")
class SetStockPayload:
    """A stock level that was set."""

    sku: Sku = described_field("The SKU after it.")
    stock_level: StockLevel = described_field("The stock level after it.")
    adjustment: Adjustment = described_field("The ledger entry written.")
    replayed: bool = described_field(REPLAYED)

    @classmethod
    def of(cls, done: Done[StockChange]) -> "SetStockPayload":
        """Make one of a change."""
        entry, sku = done.result.adjustment, done.result.sku
        return cls(
            sku=Sku.of(sku),
            stock_level=StockLevel.of(sku.level_in(entry.warehouse_id)),
            adjustment=Adjustment.of(entry),
            replayed=done.replayed,
        )


@strawberry.input(description="Stock levels to set, in one transaction.")
class BulkSetStockInput:
    """Stock levels to set."""

    updates: list[StockUpdateInput] = described_field("1 to 500, each for another stock level.")
    on_error: OnError = strawberry.field(
        default=OnError.ABORT, description="What happens when some of them are refused."
    )
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY)


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
            adjustment=Adjustment.of(change.adjustment) if change else None,
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
        return [Sku.of(self.changed[code]) for code in sorted(self.changed)]


@strawberry.type(description="The writes. Each needs the scope that its description names.")
class Mutation:
    """The writes."""

    @strawberry.mutation(
        description="Set on hand of one stock level. Needs the scope inventory:write."
    )
    async def set_stock(
        self,
        info: Info,
        input: Annotated[SetStockInput, strawberry.argument(description="What to set.")],
    ) -> SetStockPayload:
        """Set a stock level."""
        context = info.context
        update = input.update(sku_versions=input.expected_sku_versions)
        done = await set_stock(context.database, context.caller, update, key=input.idempotency_key)
        await context.forget()
        return SetStockPayload.of(done)

    @strawberry.mutation(
        description="Set on hand of up to 500 stock levels. Needs the scope inventory:write."
    )
    async def bulk_set_stock(
        self,
        info: Info,
        input: Annotated[BulkSetStockInput, strawberry.argument(description="What to set.")],
    ) -> BulkSetStockPayload:
        """Set many stock levels."""
        context = info.context
        updates = [item.update() for item in input.updates]
        done = await bulk_set_stock(
            context.database,
            context.caller,
            updates,
            on_error=input.on_error,
            key=input.idempotency_key,
        )
        await context.forget()
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
