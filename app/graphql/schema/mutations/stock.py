"""The mutations that set and adjust stock levels, one or many."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Final, Self

import strawberry
from strawberry import Private

from app.domain.records import SkuRecord
from app.domain.stock import StockUpdate
from app.errors import StaleVersion, ValidationFailed
from app.graphql.schema.context import Context, Info
from app.graphql.schema.enums import ErrorCode, OnError
from app.graphql.schema.fields import (
    described_field,
    exactly_one,
    given_fields,
    of_plain_values,
    optional,
)
from app.graphql.schema.mutations.write_input import (
    DRY_RUN_DESCRIPTION,
    IDEMPOTENCY_KEY_DESCRIPTION,
    NOTE_DESCRIPTION,
    OCCURRED_AT_DESCRIPTION,
    ON_ERROR_DESCRIPTION,
    REFERENCE_DESCRIPTION,
    REPLAYED_DESCRIPTION,
    SKU_CODE_DESCRIPTION,
)
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Adjustment, Sku, StockLevel
from app.writes.idempotency_keys import WriteResult
from app.writes.stock import BulkOutcome, Refusal, UpdatedStock, bulk_change_stock, change_stock

QUANTITY_DESCRIPTION: Final = (
    "New quantity on hand, 0 to 1,000,000,000,000. It may be below the reserved quantity."
)
DELTA_DESCRIPTION: Final = (
    "Quantity to add to the quantity on hand; negative to subtract. A result below 0 is refused."
)
SKU_VERSIONS_DESCRIPTION: Final = (
    "Expected versions of the SKU. If the current version is not in the list, the error is "
    "STALE_VERSION and nothing changes."
)
SKIP_UNCHANGED_DESCRIPTION: Final = (
    "Write no adjustment for an existing stock level that has the new quantity already. All checks "
    "apply as usual."
)


@strawberry.input
class StockLevelInput:
    """Fields that inputs with a stock level share: the level, the reason, the expected state."""

    sku: str = described_field(SKU_CODE_DESCRIPTION)
    warehouse_id: strawberry.ID = described_field(
        "Id of the warehouse. A missing stock level of the SKU in this warehouse is created."
    )
    reason: str = described_field(
        "Reason code: ^[a-z][a-z0-9_]{0,63}$. Usual codes: supplier_receipt, cycle_count, "
        "customer_return, damage, loss, correction, initial_stock."
    )
    note: str | None = optional(NOTE_DESCRIPTION)
    reference: str | None = optional(REFERENCE_DESCRIPTION)
    occurred_at: datetime | None = optional(OCCURRED_AT_DESCRIPTION)
    expected_quantity: Quantity | None = optional(
        "Expected quantity on hand. If the current one differs, the error is STALE_VERSION and "
        "nothing changes."
    )
    expected_version: Quantity | None = optional(
        "Expected version of the stock level, 0 for a missing level. If the current one differs, "
        "the error is STALE_VERSION and nothing changes."
    )

    def update(
        self,
        *,
        quantity: int | None = None,
        delta: int | None = None,
        sku_versions: list[Quantity] | None = None,
        skip_unchanged: bool = False,
    ) -> StockUpdate:
        """Update that the write takes."""
        return StockUpdate(
            sku=self.sku,
            warehouse_id=self.warehouse_id,
            quantity=quantity,
            delta=delta,
            reason=self.reason,
            note=self.note,
            reference=self.reference,
            occurred_at=self.occurred_at,
            expected_quantity=self.expected_quantity,
            expected_version=self.expected_version,
            expected_sku_versions=None if sku_versions is None else tuple(sku_versions),
            skip_unchanged=skip_unchanged,
        )


@of_plain_values
@strawberry.input(one_of=True, description="A change of the quantity on hand: set it or add to it.")
class QuantityChangeInput:
    """A change of the quantity on hand."""

    quantity: Quantity | None = exactly_one(QUANTITY_DESCRIPTION)
    delta: Quantity | None = exactly_one(DELTA_DESCRIPTION)


@of_plain_values
@strawberry.input(description="A stock level to set or to adjust.")
class StockUpdateInput(StockLevelInput):
    """One update of a bulk."""

    change: QuantityChangeInput = described_field("Change of the quantity on hand.")


@of_plain_values
@strawberry.input(description="A stock level to set.")
class SetStockInput(StockLevelInput):
    """A stock level to set."""

    quantity: Quantity = described_field(QUANTITY_DESCRIPTION)
    expected_sku_versions: list[Quantity] | None = optional(SKU_VERSIONS_DESCRIPTION)
    skip_unchanged: bool = strawberry.field(default=False, description=SKIP_UNCHANGED_DESCRIPTION)
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY_DESCRIPTION)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN_DESCRIPTION)


@of_plain_values
@strawberry.input(description="A stock level to adjust.")
class AdjustStockInput(StockLevelInput):
    """A stock level to adjust."""

    delta: Quantity = described_field(DELTA_DESCRIPTION)
    expected_sku_versions: list[Quantity] | None = optional(SKU_VERSIONS_DESCRIPTION)
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY_DESCRIPTION)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN_DESCRIPTION)


@strawberry.type
class StockChangePayload:
    """Fields that payloads of one changed stock level share."""

    sku: Sku = described_field("The SKU after the change.")
    stock_level: StockLevel = described_field("The stock level after the change.")
    adjustment: Adjustment | None = described_field(
        "The new adjustment; null if `skipUnchanged` is set and the level had the quantity already."
    )
    replayed: bool = described_field(REPLAYED_DESCRIPTION)

    @classmethod
    def of(cls, context: Context, written: WriteResult[UpdatedStock], warehouse_id: str) -> Self:
        """Payload of a write to a warehouse."""
        updated = written.result
        return cls(
            sku=Sku(record=updated.sku.within(context.principal.warehouse_ids)),
            stock_level=_level_of(updated, warehouse_id),
            adjustment=Adjustment(record=updated.adjustment) if updated.adjustment else None,
            replayed=written.replayed,
        )


@strawberry.type(description="Result of setStock.")
class SetStockPayload(StockChangePayload):
    """Result of setStock."""


@strawberry.type(description="Result of adjustStock.")
class AdjustStockPayload(StockChangePayload):
    """Result of adjustStock."""

    adjustment: Adjustment = described_field("The new adjustment.")


@of_plain_values
@strawberry.input(description="Stock levels to set or adjust in one transaction.")
class BulkSetStockInput:
    """Stock levels to set or adjust in one transaction."""

    updates: list[StockUpdateInput] = described_field("1 to 500 updates of distinct stock levels.")
    on_error: OnError = strawberry.field(default=OnError.ABORT, description=ON_ERROR_DESCRIPTION)
    skip_unchanged: bool = strawberry.field(default=False, description=SKIP_UNCHANGED_DESCRIPTION)
    idempotency_key: str | None = optional(IDEMPOTENCY_KEY_DESCRIPTION)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN_DESCRIPTION)


@strawberry.enum(description="Outcome of one update of a bulk.")
class BulkResultStatus(Enum):
    """Outcome of one update of a bulk."""

    UPDATED = strawberry.enum_value("updated", description="The update was applied.")
    UNCHANGED = strawberry.enum_value(
        "unchanged",
        description="The level had the quantity already, and `skipUnchanged` is set: no adjustment "
        "was written.",
    )
    FAILED = strawberry.enum_value(
        "failed", description="The update was refused; `error` has the reason."
    )


@strawberry.type(description="A malformed field and its problem.")
class InvalidField:
    """A malformed field and its problem."""

    field: str = described_field("Name of the field; `update` for the update as a whole.")
    message: str = described_field("Problem of its value.")


@strawberry.type(description="Details of the error STALE_VERSION: the current state.")
class StaleVersionDetails:
    """The current state of a stock level that differs from the expected one."""

    on_hand: int = strawberry.field(
        graphql_type=Quantity, description="Current quantity on hand of the stock level."
    )
    version: int = strawberry.field(
        graphql_type=Quantity, description="Current version of the stock level."
    )
    sku_version: int = strawberry.field(
        graphql_type=Quantity, description="Current version of the SKU."
    )


@strawberry.type(description="Error of a refused item.")
class BulkError:
    """Error of a refused item."""

    code: ErrorCode = described_field("Error code.")
    message: str = described_field("Error message.")
    fields: list[InvalidField] = described_field(
        "All malformed fields, for VALIDATION_ERROR; empty for other errors."
    )
    details: StaleVersionDetails | None = described_field(
        "Details of the error STALE_VERSION; null for others."
    )

    @classmethod
    def of(cls, refusal: Refusal) -> "BulkError":
        """Error of a refusal."""
        is_malformed = refusal.code == ValidationFailed.code
        fields = [
            InvalidField(field=detail["field"], message=detail["message"])
            for detail in (refusal.details if is_malformed else ())
        ]
        return cls(
            code=ErrorCode(refusal.code),
            message=refusal.message,
            fields=fields,
            details=_details_of(refusal),
        )


def _details_of(refusal: Refusal) -> StaleVersionDetails | None:
    """Typed details of a refusal, from its first detail."""
    if refusal.code != StaleVersion.code:
        return None
    names = StaleVersionDetails.__annotations__
    return StaleVersionDetails(**{name: refusal.details[0][name] for name in names})


@strawberry.type(description="Result of one update of a bulk.")
class BulkResult:
    """Result of one update of a bulk."""

    index: int = described_field("Position of the update in the input, from 0.")
    sku: str = described_field("SKU code of the update.")
    warehouse_id: strawberry.ID = described_field("Warehouse id of the update.")
    status: BulkResultStatus = described_field("Outcome of the update.")
    adjustment: Adjustment | None = described_field(
        "The new adjustment; null if the update was refused or changed nothing."
    )
    stock_level: StockLevel | None = described_field(
        "The stock level after the bulk; null if the update was refused."
    )
    error: BulkError | None = described_field("Error of a refused update; null for others.")

    @classmethod
    def of(cls, index: int, update: StockUpdate, outcome: BulkOutcome) -> "BulkResult":
        """Build the result of an outcome."""
        updated, refusal = outcome.change, outcome.refusal
        entry = updated.adjustment if updated else None
        status = BulkResultStatus.UPDATED if entry else BulkResultStatus.UNCHANGED
        return cls(
            index=index,
            sku=update.sku,
            warehouse_id=strawberry.ID(update.warehouse_id),
            status=status if updated else BulkResultStatus.FAILED,
            adjustment=Adjustment(record=entry) if entry else None,
            stock_level=_level_of(updated, update.warehouse_id) if updated else None,
            error=BulkError.of(refusal) if refusal else None,
        )


@strawberry.type(description="Result of bulkSetStock.")
class BulkSetStockPayload:
    """Result of bulkSetStock."""

    results: list[BulkResult] = described_field("Results in the order of the updates.")
    total: int = described_field("Number of updates.")
    succeeded: int = described_field("Number of updates that were not refused.")
    failed: int = described_field("Number of refused updates.")
    replayed: bool = described_field(REPLAYED_DESCRIPTION)
    changed: Private[Mapping[str, SkuRecord]]

    @strawberry.field(description="The changed SKUs, ordered by code.")
    def skus(self) -> list[Sku]:
        """List the changed SKUs by code."""
        return [Sku(record=self.changed[code]) for code in sorted(self.changed)]


@strawberry.type
class StockMutation:
    """The mutations that set and adjust stock levels."""

    @strawberry.mutation(
        description="Set the quantity on hand of one stock level. Needs the scope inventory:write."
    )
    async def set_stock(
        self,
        info: Info,
        input: Annotated[SetStockInput, strawberry.argument(description="Stock level to set.")],
    ) -> SetStockPayload | None:
        """Set a stock level."""
        update = input.update(
            quantity=input.quantity,
            sku_versions=input.expected_sku_versions,
            skip_unchanged=input.skip_unchanged,
        )
        written = await _write_change(info.context, input, update)
        return SetStockPayload.of(info.context, written, update.warehouse_id)

    @strawberry.mutation(
        description="Add to the quantity on hand of one stock level, or subtract from it. Needs "
        "the scope inventory:write."
    )
    async def adjust_stock(
        self,
        info: Info,
        input: Annotated[
            AdjustStockInput, strawberry.argument(description="Stock level to adjust.")
        ],
    ) -> AdjustStockPayload | None:
        """Adjust a stock level."""
        update = input.update(delta=input.delta, sku_versions=input.expected_sku_versions)
        written = await _write_change(info.context, input, update)
        return AdjustStockPayload.of(info.context, written, update.warehouse_id)

    @strawberry.mutation(
        description="Set or adjust the quantity on hand of up to 500 stock levels. Needs the scope "
        "inventory:write."
    )
    async def bulk_set_stock(
        self,
        info: Info,
        input: Annotated[
            BulkSetStockInput, strawberry.argument(description="Stock levels to set or adjust.")
        ],
    ) -> BulkSetStockPayload | None:
        """Change many stock levels."""
        updates = [
            item.update(**given_fields(item.change), skip_unchanged=input.skip_unchanged)
            for item in input.updates
        ]
        written = await info.context.write(
            input,
            lambda writing: bulk_change_stock(
                writing.database,
                writing.caller,
                updates,
                on_error=input.on_error,
                row_problems=info.context.row_problems,
                key=writing.key,
                dry_run=writing.dry_run,
            ),
            count=len,
        )
        results = [
            BulkResult.of(index, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, written.result, strict=True))
        ]
        done = [outcome.change for outcome in written.result if outcome.change]
        return BulkSetStockPayload(
            results=results,
            total=len(results),
            succeeded=len(done),
            failed=len(results) - len(done),
            replayed=written.replayed,
            changed={updated.sku.sku: updated.sku for updated in done if updated.adjustment},
        )


def _level_of(updated: UpdatedStock, warehouse_id: str) -> StockLevel:
    [level] = [level for level in updated.sku.levels if level.warehouse_id == warehouse_id]
    return StockLevel(record=level)


async def _write_change(
    context: Context, input: SetStockInput | AdjustStockInput, update: StockUpdate
) -> WriteResult[UpdatedStock]:
    return await context.write(
        input,
        lambda writing: change_stock(
            writing.database,
            writing.caller,
            update,
            key=writing.key,
            dry_run=writing.dry_run,
        ),
    )
