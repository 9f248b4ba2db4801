"""The mutation that takes over the stock reports of marketplaces and third parties."""

from collections import Counter
from datetime import datetime
from typing import Annotated

import strawberry

from app.domain.caller import Scope
from app.graphql.schema.context import Info
from app.graphql.schema.enums import OnError, described
from app.graphql.schema.fields import described_field, of_plain_values
from app.graphql.schema.mutations.stock import BulkError
from app.graphql.schema.mutations.write_input import (
    ON_ERROR_DESCRIPTION,
    REPLAYED_DESCRIPTION,
    WriteInput,
)
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
    description="Outcome of one level of a report.",
    values={
        SyncStatus.UPDATED: "The quantity on hand differed; an adjustment was written.",
        SyncStatus.UNCHANGED: "The quantity on hand was equal; only syncedAt changed.",
        SyncStatus.IGNORED: "The level has a later report or, in a 3PL warehouse, an adjustment "
        "that occurred after this report; nothing changed.",
        SyncStatus.FAILED: "The level was refused; `error` has the reason.",
    },
)


@of_plain_values
@strawberry.input(description="Quantity of one SKU in a report.")
class ReportedLevelInput:
    """One level of a report."""

    sku: str = described_field("Code of an existing SKU, once per report.")
    on_hand: Quantity = described_field("Quantity on hand, 0 to 1,000,000,000,000.")


@strawberry.input(description="A report of the stock in a warehouse by its operator.")
class SyncStockInput(WriteInput):
    """A report of the operator of a warehouse."""

    warehouse_id: strawberry.ID = described_field(
        "Id of a warehouse with the type FBA, FBS or 3PL."
    )
    reported_at: datetime = described_field(
        "Time at which the operator had this stock. Levels with a later report ignore this one. In "
        "a 3PL warehouse, levels with an adjustment that occurred later ignore it too."
    )
    levels: list[ReportedLevelInput] = described_field(
        "1 to 500 levels with distinct SKUs. Omitted SKUs do not change, so a long report can be "
        "split into several requests."
    )
    on_error: OnError = strawberry.field(default=OnError.ABORT, description=ON_ERROR_DESCRIPTION)

    def report(self) -> StockReport:
        """Report that the write takes."""
        return StockReport(
            warehouse_id=self.warehouse_id,
            reported_at=self.reported_at,
            levels=tuple(ReportedLevel(level.sku, level.on_hand) for level in self.levels),
            on_error=self.on_error,
        )


@strawberry.type(description="Result of one level of a report.")
class SyncResult:
    """Result of one level of a report."""

    index: int = described_field("Position of the level in the report, from 0.")
    code: str = described_field("SKU code of the level.")
    status: SyncStatus = described_field("Outcome of the level.")
    sku: Sku | None = described_field("The SKU after the sync; null if the level was refused.")
    stock_level: StockLevel | None = described_field(
        "The stock level after the sync; null if the level was refused."
    )
    adjustment: Adjustment | None = described_field(
        "The new adjustment; null if the quantity on hand did not change."
    )
    error: BulkError | None = described_field("Error of a refused level; null for others.")

    @classmethod
    def of(cls, index: int, code: str, warehouse_id: str, outcome: SyncedLevel) -> "SyncResult":
        """Build the result of an outcome."""
        record, entry, refusal = outcome.sku, outcome.adjustment, outcome.refusal
        level = record.level_in(warehouse_id) if record else None
        return cls(
            index=index,
            code=code,
            status=outcome.status,
            sku=Sku(record=record) if record else None,
            stock_level=StockLevel(record=level) if level else None,
            adjustment=Adjustment(record=entry) if entry else None,
            error=BulkError.of(refusal) if refusal else None,
        )


@strawberry.type(description="Result of syncStock.")
class SyncStockPayload:
    """Result of syncStock."""

    results: list[SyncResult] = described_field("Results in the order of the report.")
    updated: int = described_field("Number of levels with a new adjustment.")
    unchanged: int = described_field("Number of levels with an equal quantity.")
    ignored: int = described_field("Number of levels with later news than the report.")
    failed: int = described_field("Number of refused levels.")
    replayed: bool = described_field(REPLAYED_DESCRIPTION)


@strawberry.type
class SyncMutation:
    """The mutation that takes over the stock reports of marketplaces and third parties."""

    @strawberry.mutation(
        description="Take over the quantities on hand of up to 500 SKUs from a report by the "
        "operator of a warehouse, a marketplace or a third party. Each changed quantity gets an "
        "adjustment with the reason marketplace_sync, or stock_report in a 3PL warehouse, and "
        "`occurredAt` is the time of the report. Needs the scope inventory:write for a 3PL "
        "warehouse, and inventory:admin for others."
    )
    async def sync_stock(
        self,
        info: Info,
        input: Annotated[SyncStockInput, strawberry.argument(description="The report.")],
    ) -> SyncStockPayload | None:
        """Take over a report."""
        report = input.report()
        is_admin = info.context.principal.has(Scope.ADMIN)
        written = await info.context.write(
            input, lambda writing: sync_stock(writing, report, is_admin=is_admin), count=len
        )
        results = [
            SyncResult.of(index, level.sku, input.warehouse_id, outcome)
            for index, (level, outcome) in enumerate(zip(input.levels, written.result, strict=True))
        ]
        statuses = Counter(outcome.status for outcome in written.result)
        return SyncStockPayload(
            results=results,
            updated=statuses[SyncStatus.UPDATED],
            unchanged=statuses[SyncStatus.UNCHANGED],
            ignored=statuses[SyncStatus.IGNORED],
            failed=statuses[SyncStatus.FAILED],
            replayed=written.replayed,
        )
