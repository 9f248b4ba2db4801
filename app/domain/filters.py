"""The filters and orders of lists."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.quantities import Status
from app.domain.records import ReservationStatus


class Sign(StrEnum):
    """Which way adjustments go, by their delta."""

    INCREASE = "increase"
    DECREASE = "decrease"
    UNCHANGED = "unchanged"


class Order(StrEnum):
    """The order of a list of SKUs, by code point."""

    ASCENDING = "ascending"
    DESCENDING = "descending"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuFilter:
    """Which SKUs a list holds; a warehouse narrows the view as if there were no other."""

    status: Status | None = None
    warehouse_id: str | None = None
    sku: str | None = None
    # None: archived ones and others.
    archived: bool | None = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentFilter:
    """Which adjustments a list holds: `start` inclusive, `end` exclusive."""

    sku: str | None = None
    warehouse_id: str | None = None
    reason: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    created_by: str | None = None
    bulk_id: str | None = None
    transfer_id: str | None = None
    reservation_id: str | None = None
    reference: str | None = None
    sign: Sign | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationFilter:
    """Which reservations a list holds."""

    status: ReservationStatus | None = None
    reference: str | None = None
