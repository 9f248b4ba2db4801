"""Types of sums over the ledger: the periods of a stock history, and the totals of a list."""

from datetime import datetime

import strawberry
from strawberry import Private

from app.domain.records import LedgerTotals, PeriodRecord
from app.graphql.schema.fields import quantity_from, read_from


@strawberry.type(
    description="Quantity on hand of a SKU at the start and the end of an hour or a day, and the "
    "changes between them."
)
class StockPeriod:
    """A period of a stock history."""

    record: Private[PeriodRecord]
    start: datetime = read_from(
        "record.start", "Start of the period. It ends at the start of the next period."
    )
    opening: int = quantity_from("record.opening", "Quantity on hand at the start.")
    increase: int = quantity_from("record.increase", "Sum of the positive deltas.")
    decrease: int = quantity_from("record.decrease", "Sum of the negative deltas, without sign.")
    closing: int = quantity_from(
        "record.closing", "Quantity on hand at the end: opening plus increase minus decrease."
    )


@strawberry.type(description="Totals of a list of adjustments.")
class AdjustmentTotals:
    """Totals of a list of adjustments."""

    record: Private[LedgerTotals]
    entries: int = quantity_from("record.entries", "Number of adjustments.")
    increase: int = quantity_from("record.increase", "Sum of the positive deltas.")
    decrease: int = quantity_from("record.decrease", "Sum of the negative deltas, without sign.")
    net_change: int = quantity_from(
        "record.net_change", "Increase minus decrease: the sum of all deltas."
    )
