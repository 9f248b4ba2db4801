"""What marketplaces report."""

from collections import Counter
from datetime import datetime
from typing import Annotated

import strawberry

from app.graphql.schema.context import Info
from app.graphql.schema.enums import OnError, described
from app.graphql.schema.mutations.shared import REPLAYED, WriteInput, writing
from app.graphql.schema.mutations.stock import BulkError
from app.graphql.schema.relay import described_field, of_plain_values
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Adjustment, Sku, StockLevel
from app.writes.marketplace_sync import (
    ReportedLevel,
    StockReport,
    SyncedLevel,
    SyncStatus,
    sync_stock,
)

described(
    SyncStatus,
    name="SyncStatus",
    description="What became of one level of a report.",
    values={
        SyncStatus.UPDATED: "On hand was another one; a ledger entry was written.",
        SyncStatus.UNCHANGED: "On hand was the same; only syncedAt has moved.",
        SyncStatus.IGNORED: "The level knows a later report; nothing was changed.",
        SyncStatus.FAILED: "It was refused; `error` says why.",
    },
)


@of_plain_values
@strawberry.input(description="How many of a SKU a marketplace says it has.")
class ReportedLevelInput:
    """One level of a report."""

    sku: str = described_field("The code of a SKU that exists, once per report.")
    on_hand: Quantity = described_field("What is there, 0 to 1,000,000,000,000.")


@strawberry.input(description="What a marketplace reports of a warehouse that it runs.")
class SyncStockInput(WriteInput):
    """A report."""

    warehouse_id: strawberry.ID = described_field("The warehouse, of the type FBA or FBS.")
    reported_at: datetime = described_field(
        "When the marketplace saw it. A level that knows a later report ignores this one."
    )
    levels: list[ReportedLevelInput] = described_field(
        "1 to 500, each for another SKU. SKUs that are left out stay as they are, so that a long "
        "report can come in several."
    )
    on_error: OnError = strawberry.field(
        default=OnError.ABORT, description="What happens when some of them are refused."
    )

    def report(self) -> StockReport:
        """Return what the commands take."""
        return StockReport(
            warehouse_id=self.warehouse_id,
            reported_at=self.reported_at,
            levels=tuple(ReportedLevel(level.sku, level.on_hand) for level in self.levels),
            on_error=self.on_error,
        )


@strawberry.type(description="What became of one level of a report.")
class SyncResult:
    """What became of a level."""

    index: int = described_field("The position of the level in the report, from 0.")
    code: str = described_field("The SKU code of the level.")
    status: SyncStatus = described_field("What became of it.")
    sku: Sku | None = described_field("The SKU after it, unless it was refused.")
    stock_level: StockLevel | None = described_field("The stock level after it, likewise.")
    adjustment: Adjustment | None = described_field("The ledger entry written, if one was.")
    error: BulkError | None = described_field("Why it was refused, if it was.")

    @classmethod
    def of(cls, index: int, code: str, warehouse_id: str, outcome: SyncedLevel) -> "SyncResult":
        """Make one of an outcome."""
        record, entry, refusal = outcome.sku, outcome.adjustment, outcome.refusal
        level = record.level_in(warehouse_id) if record else None
        return cls(
            index=index,
            code=code,
            status=outcome.status,
            sku=Sku(record=record) if record else None,
            stock_level=StockLevel(record=level) if level else None,
            adjustment=Adjustment(record=entry) if entry else None,
            error=BulkError(code=refusal.code, message=refusal.message) if refusal else None,
        )


@strawberry.type(description="What became of a report.")
class SyncStockPayload:
    """What became of a report."""

    results: list[SyncResult] = described_field("One per level, in the order of the report.")
    updated: int = described_field("How many got a ledger entry.")
    unchanged: int = described_field("How many were the same.")
    ignored: int = described_field("How many know a later report.")
    failed: int = described_field("How many were refused.")
    replayed: bool = described_field(REPLAYED)


@strawberry.type
class SyncMutation:
    """What marketplaces report."""

    @strawberry.mutation(
        description="Take over what a marketplace reports of a warehouse that it runs: on hand "
        "of up to 500 SKUs. What changes gets a ledger entry with the reason marketplace_sync. "
        "Needs the scope inventory:admin."
    )
    async def sync_stock(
        self,
        info: Info,
        input: Annotated[SyncStockInput, strawberry.argument(description="The report.")],
    ) -> SyncStockPayload:
        """Take over a report."""
        context = info.context
        done = await sync_stock(writing(context, input), input.report())
        await context.forget(writes=len(input.levels))
        results = [
            SyncResult.of(index, level.sku, input.warehouse_id, outcome)
            for index, (level, outcome) in enumerate(zip(input.levels, done.result, strict=True))
        ]
        statuses = Counter(outcome.status for outcome in done.result)
        return SyncStockPayload(
            results=results,
            updated=statuses[SyncStatus.UPDATED],
            unchanged=statuses[SyncStatus.UNCHANGED],
            ignored=statuses[SyncStatus.IGNORED],
            failed=statuses[SyncStatus.FAILED],
            replayed=done.replayed,
        )
