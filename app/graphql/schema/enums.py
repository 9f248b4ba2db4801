"""The enums of the schema: Python's own, which know nothing of GraphQL, with descriptions."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from app.domain.filters import Order, Sign
from app.domain.periods import Interval
from app.domain.quantities import Status
from app.domain.records import ReservationStatus
from app.domain.warehouses import WarehouseType
from app.writes.stock import OnError

__all__ = [
    "Interval",
    "OnError",
    "Order",
    "ReservationStatus",
    "Sign",
    "Status",
    "WarehouseType",
]


def described(
    enum: type[Enum],
    *,
    name: str,
    description: str,
    values: Mapping[Any, str],
    names: Mapping[Any, str] | None = None,
) -> None:
    """Make a GraphQL enum of a Python one that knows nothing of GraphQL."""
    strawberry.enum(enum, name=name, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        member = enum(value.value)
        value.description = values[member]
        value.name = (names or {}).get(member, value.name)


described(
    Status,
    name="SkuStatus",
    description=(
        "How stock stands, where sellable is on hand minus reserved. Derived, never set; of the "
        "conditions that hold, the most severe counts."
    ),
    values={
        Status.NORMAL: "Sellable is more than twice the safety stock.",
        Status.LOW: "Sellable is at most twice the safety stock.",
        Status.CRITICAL: "Sellable is at most the safety stock.",
        Status.OUT_OF_STOCK: "Nothing is sellable.",
    },
)
described(
    WarehouseType,
    name="WarehouseType",
    description="Who runs a warehouse.",
    values={
        WarehouseType.OWN: "The merchant. REST says `own`.",
        WarehouseType.FBA: "The marketplace (fulfilment by Amazon); read-only to stock writes.",
        WarehouseType.FBS: "The marketplace (fulfilment by seller); read-only to stock writes.",
        WarehouseType.THIRD_PARTY: "A logistics provider. REST says `3PL`.",
    },
)
described(
    OnError,
    name="BulkOnError",
    description="What a bulk does when some of its updates are refused.",
    values={
        OnError.ABORT: "Nothing is changed, and the error names every refused update.",
        OnError.CONTINUE: "The good ones are applied, and each result says what became of it.",
    },
)
described(
    Order,
    name="SkuOrder",
    description="The order of a list of SKUs.",
    values={
        Order.ASCENDING: "By code point, A before Z.",
        Order.DESCENDING: "By code point, Z before A.",
    },
    names={Order.ASCENDING: "SKU_ASC", Order.DESCENDING: "SKU_DESC"},
)
described(
    ReservationStatus,
    name="ReservationStatus",
    description="How a reservation stands. It ends once.",
    values={
        ReservationStatus.OPEN: "It holds stock.",
        ReservationStatus.COMMITTED: "What was taken has left on hand; the rest is free again.",
        ReservationStatus.RELEASED: "What it held was given back.",
        ReservationStatus.EXPIRED: "Its time was over; what it held is free again.",
    },
)
described(
    Sign,
    name="AdjustmentSign",
    description="Which way an adjustment goes, by its delta.",
    values={
        Sign.INCREASE: "There is more than before.",
        Sign.DECREASE: "There is less than before.",
        Sign.UNCHANGED: "There is as much as before: a count that found what was expected.",
    },
)
described(
    Interval,
    name="StockInterval",
    description="How long each period of a stock history is.",
    values={
        Interval.HOUR: "An hour, from minute 0 of UTC on.",
        Interval.DAY: "A day of UTC.",
    },
)
