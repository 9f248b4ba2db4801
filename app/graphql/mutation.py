"""The root of the writes."""

from enum import Enum
from typing import Annotated, Any

import strawberry
from strawberry import Private

from app.commands.stock import StockChange, StockUpdate, bulk_set_stock, set_stock
from app.errors import InventoryError
from app.graphql.context import Info
from app.graphql.enums import OnError
from app.graphql.relay import described_field, optional
from app.graphql.scalars import Quantity
from app.graphql.types import Adjustment, Sku, StockLevel


@strawberry.input(description="What a stock level's on hand shall be, and why.")
class SetStockInput:
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

    def update(self) -> StockUpdate:
        """Return what the commands take."""
        return StockUpdate(
            sku=self.sku,
            warehouse_id=self.warehouse_id,
            quantity=self.quantity,
            reason=self.reason,
            note=self.note,
        )


@strawberry.type(description="A stock level that was set.")
class SetStockPayload:
    """A stock level that was set."""

    sku: Sku = described_field("The SKU after it.")
    stock_level: StockLevel = described_field("The stock level after it.")
    adjustment: Adjustment = described_field("The ledger entry written.")

    @classmethod
    def of(cls, change: StockChange) -> "SetStockPayload":
        """Make one of a change."""
        entry = change.adjustment
        return cls(
            sku=Sku.of(change.sku),
            stock_level=StockLevel.of(change.sku.level_in(entry.warehouse_id)),
            adjustment=Adjustment.of(entry),
        )


@strawberry.input(description="Stock levels to set, in one transaction.")
class BulkSetStockInput:
    """Stock levels to set."""

    updates: list[SetStockInput] = described_field("1 to 500, each for another stock level.")
    on_error: OnError = strawberry.field(
        default=OnError.ABORT, description="What happens when some of them are refused."
    )


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
    def of(
        cls, index: int, update: StockUpdate, outcome: StockChange | InventoryError
    ) -> "BulkResult":
        """Make one of an outcome."""
        id_ = strawberry.ID(update.warehouse_id)
        if isinstance(outcome, StockChange):
            return cls(
                index=index,
                sku=update.sku,
                warehouse_id=id_,
                status=BulkResultStatus.UPDATED,
                adjustment=Adjustment.of(outcome.adjustment),
                error=None,
            )
        return cls(
            index=index,
            sku=update.sku,
            warehouse_id=id_,
            status=BulkResultStatus.FAILED,
            adjustment=None,
            error=BulkError(code=outcome.code, message=outcome.message),
        )


@strawberry.type(description="What became of a bulk.")
class BulkSetStockPayload:
    """What became of a bulk."""

    results: list[BulkResult] = described_field("One per update, in the order of the request.")
    total: int = described_field("How many updates there were.")
    succeeded: int = described_field("How many were made.")
    failed: int = described_field("How many were refused.")
    changed: Private[Any]

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
        change = await set_stock(context.database, context.actor, input.update())
        await context.forget()
        return SetStockPayload.of(change)

    @strawberry.mutation(
        description=(
            "Set on hand of up to 500 stock levels at once. Needs the scope inventory:write."
        )
    )
    async def bulk_set_stock(
        self,
        info: Info,
        input: Annotated[BulkSetStockInput, strawberry.argument(description="What to set.")],
    ) -> BulkSetStockPayload:
        """Set many stock levels."""
        context = info.context
        updates = [item.update() for item in input.updates]
        outcomes = await bulk_set_stock(
            context.database, context.actor, updates, on_error=input.on_error
        )
        await context.forget()
        results = [
            BulkResult.of(index, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
        ]
        changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
        return BulkSetStockPayload(
            results=results,
            total=len(results),
            succeeded=len(changes),
            failed=len(results) - len(changes),
            changed={change.sku.sku: change.sku for change in changes},
        )
