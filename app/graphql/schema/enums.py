"""The enums of the schema: enums of the domain, with GraphQL names and descriptions."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from app.domain.changes import ChangeType
from app.domain.filters import Order, Sign
from app.domain.periods import Interval
from app.domain.quantities import Status
from app.domain.records import ReservationStatus
from app.domain.signatures import SignatureKind
from app.domain.stock import OnError
from app.domain.warehouses import WarehouseType
from app.domain.webhooks import DisablingReason, WebhookStatus
from app.errors import ERRORS, code_meanings

__all__ = [
    "LEVEL_ORDERS",
    "ChangeType",
    "DisablingReason",
    "ErrorCode",
    "Interval",
    "LevelOrder",
    "OnError",
    "Order",
    "ReservationStatus",
    "Sign",
    "SignatureKind",
    "Status",
    "WarehouseType",
    "WebhookStatus",
]


def described(
    enum: type[Enum],
    *,
    name: str,
    description: str,
    values: Mapping[Any, str],
    names: Mapping[Any, str] | None = None,
) -> None:
    """Register a Python enum as a GraphQL enum with descriptions of its values."""
    strawberry.enum(enum, name=name, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        member = enum(value.value)
        value.description = values[member]
        value.name = (names or {}).get(member, value.name)


# The codes of all errors, also of those that GraphQL never answers.
ErrorCode: Final = Enum("ErrorCode", {error.code: error.code for error in ERRORS})  # type: ignore[misc]

described(
    ErrorCode,
    name="ErrorCode",
    description="Code of an error. `errors[].extensions.code` has the same values.",
    values={ErrorCode(code): text for code, text in code_meanings(ERRORS).items()},
)
described(
    Status,
    name="SkuStatus",
    description=(
        "Stock status, derived from the quantities. Sellable stock is on hand minus reserved, in "
        "warehouses that are active and sellable. If several conditions hold, the most severe one "
        "is the status."
    ),
    values={
        Status.NORMAL: "Sellable stock is more than for any other status.",
        Status.LOW: "Sellable stock is at most the reorder point or, without one, at most twice "
        "the safety stock.",
        Status.CRITICAL: "Sellable stock is at most the safety stock.",
        Status.OUT_OF_STOCK: "Sellable stock is 0 or less.",
    },
)
described(
    WarehouseType,
    name="WarehouseType",
    description="Operator of a warehouse.",
    values={
        WarehouseType.OWN: "The merchant. `own` in REST.",
        WarehouseType.FBA: "The marketplace (fulfilment by Amazon). Stock writes are refused.",
        WarehouseType.FBS: "The marketplace (fulfilment by seller). Stock writes are refused.",
        WarehouseType.THIRD_PARTY: "A logistics provider. `3PL` in REST.",
    },
)
described(
    OnError,
    name="BulkOnError",
    description="Behaviour of a bulk with refused updates.",
    values={
        OnError.ABORT: "Change nothing. The error lists every refused update.",
        OnError.CONTINUE: "Apply the valid updates. Each result has its own status.",
    },
)
described(
    Order,
    name="SkuOrder",
    description="Order of a list of SKUs.",
    values={
        Order.CODE_ASCENDING: "By code in ascending order of code points.",
        Order.CODE_DESCENDING: "By code in descending order of code points.",
        Order.AVAILABLE_ASCENDING: "By `totalAvailable`, the smallest first, then by code.",
        Order.AVAILABLE_DESCENDING: "By `totalAvailable`, the largest first, then by code.",
        Order.UPDATED_ASCENDING: "By the last change, the oldest first, then by code.",
        Order.UPDATED_DESCENDING: "By the last change, the newest first, then by code.",
    },
    names={
        Order.CODE_ASCENDING: "SKU_ASC",
        Order.CODE_DESCENDING: "SKU_DESC",
        Order.AVAILABLE_ASCENDING: "AVAILABLE_ASC",
        Order.AVAILABLE_DESCENDING: "AVAILABLE_DESC",
        Order.UPDATED_ASCENDING: "UPDATED_ASC",
        Order.UPDATED_DESCENDING: "UPDATED_DESC",
    },
)


@strawberry.enum(name="StockLevelOrder", description="Order of a warehouse's list of stock levels.")
class LevelOrder(Enum):
    """The order of a list of stock levels."""

    SKU_ASC = strawberry.enum_value(
        Order.CODE_ASCENDING.value, description="By SKU code in ascending order of code points."
    )
    SKU_DESC = strawberry.enum_value(
        Order.CODE_DESCENDING.value, description="By SKU code in descending order of code points."
    )


LEVEL_ORDERS: Final = {
    LevelOrder.SKU_ASC: Order.CODE_ASCENDING,
    LevelOrder.SKU_DESC: Order.CODE_DESCENDING,
}
described(
    ReservationStatus,
    name="ReservationStatus",
    description="State of a reservation. Every state except OPEN is final.",
    values={
        ReservationStatus.OPEN: "The reservation holds stock.",
        ReservationStatus.COMMITTED: "The committed quantity was taken from the quantity on hand. "
        "The rest was released.",
        ReservationStatus.RELEASED: "The held stock was released.",
        ReservationStatus.EXPIRED: "The time of the reservation ended. The held stock was "
        "released.",
    },
)
described(
    Sign,
    name="AdjustmentSign",
    description="Sign of an adjustment's delta.",
    values={
        Sign.INCREASE: "Positive delta.",
        Sign.DECREASE: "Negative delta.",
        Sign.UNCHANGED: "Zero delta, for example a count that confirms the quantity.",
    },
)
described(
    Interval,
    name="StockInterval",
    description="Length of the periods of a stock history.",
    values={
        Interval.HOUR: "A full hour in UTC.",
        Interval.DAY: "A calendar day in UTC.",
    },
)
described(
    ChangeType,
    name="ChangeType",
    description="Type of a change of the feed.",
    values={
        ChangeType.STOCK_CHANGED: "A stock level: quantity on hand, reserved quantity, safety "
        "stock or version. It may be new.",
        ChangeType.STATUS_CHANGED: "The stock status of a SKU. A new SKU is out of stock.",
        ChangeType.SKU_CREATED: "A new SKU.",
        ChangeType.SKU_CHANGED: "The title of a SKU.",
        ChangeType.SKU_ARCHIVED: "A SKU was archived.",
        ChangeType.SKU_RESTORED: "An archived SKU was restored.",
        ChangeType.WAREHOUSE_CREATED: "A new warehouse.",
        ChangeType.WAREHOUSE_CHANGED: "A warehouse, which may have become active or inactive.",
        ChangeType.RESERVATION_OPENED: "A new reservation.",
        ChangeType.RESERVATION_EXTENDED: "A reservation got a later time of expiry, or none.",
        ChangeType.RESERVATION_AMENDED: "A reservation got other lines.",
        ChangeType.RESERVATION_COMMITTED: "A reservation was committed.",
        ChangeType.RESERVATION_RELEASED: "A reservation was released.",
        ChangeType.RESERVATION_EXPIRED: "A reservation expired.",
        ChangeType.WEBHOOK_DISABLED: "The service disabled a webhook whose endpoint failed.",
    },
)
described(
    WebhookStatus,
    name="WebhookStatus",
    description="Whether a webhook is served.",
    values={
        WebhookStatus.ACTIVE: "Changes are sent.",
        WebhookStatus.PAUSED: "An administrator paused it.",
        WebhookStatus.DISABLED: "The service disabled it; `disablingReason` says why.",
    },
)
described(
    DisablingReason,
    name="WebhookDisablingReason",
    description="Why the service disabled a webhook.",
    values={
        DisablingReason.GONE: "The endpoint responded with the status 410.",
        DisablingReason.FAILING: "All attempts of five days failed.",
        DisablingReason.CHANGES_GONE: "The changes after its position are not kept.",
    },
)
described(
    SignatureKind,
    name="WebhookSignature",
    description="How the messages of a webhook are signed, by the Standard Webhooks specification.",
    values={
        SignatureKind.HMAC: "HMAC-SHA256 with a shared secret: `v1`.",
        SignatureKind.ED25519: "Ed25519. The receiver has only the public key: `v1a`.",
    },
)
