"""Filters and orders of lists."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.changes import ChangeRecord, ChangeType
from app.domain.object_details import ExternalIdRecord
from app.domain.quantities import Status
from app.domain.records import ReservationStatus


class Sign(StrEnum):
    """The sign of the delta of an adjustment."""

    INCREASE = "increase"
    DECREASE = "decrease"
    UNCHANGED = "unchanged"


class Order(StrEnum):
    """The order of a list of SKUs; SKUs with one value are ordered by code point."""

    CODE_ASCENDING = "code"
    CODE_DESCENDING = "-code"
    AVAILABLE_ASCENDING = "available"
    AVAILABLE_DESCENDING = "-available"
    UPDATED_ASCENDING = "updated"
    UPDATED_DESCENDING = "-updated"

    @property
    def is_descending(self) -> bool:
        """Whether the largest value is first."""
        return self.startswith("-")

    @property
    def subject(self) -> str:
        """The ordered value: `code`, `available` or `updated`."""
        return self.removeprefix("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuFilter:
    """A filter of SKUs; `warehouse_id` finds the SKUs that have a level there."""

    # None: SKUs with any status.
    statuses: tuple[Status, ...] | None = None
    warehouse_id: str | None = None
    sku: str | None = None
    code_prefix: str | None = None
    # Each begins a word of the code or the title.
    words: tuple[str, ...] | None = None
    updated_since: datetime | None = None
    external_id: ExternalIdRecord | None = None
    # None: both archived and active SKUs.
    archived: bool | None = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentFilter:
    """A filter of adjustments: `start` and `occurred_from` inclusive, the ends exclusive."""

    sku: str | None = None
    warehouse_id: str | None = None
    reason: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    occurred_from: datetime | None = None
    occurred_to: datetime | None = None
    created_by: str | None = None
    bulk_id: str | None = None
    transfer_id: str | None = None
    reservation_id: str | None = None
    reference: str | None = None
    sign: Sign | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationFilter:
    """A filter of reservations; `sku` and `warehouse_id` find those with stock of a line there."""

    status: ReservationStatus | None = None
    reference: str | None = None
    sku: str | None = None
    warehouse_id: str | None = None

    @property
    def names_stock(self) -> bool:
        """Whether the reservations are those of a SKU, a warehouse or a stock level."""
        return self.sku is not None or self.warehouse_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """A filter of changes of the feed. None matches every value."""

    types: frozenset[ChangeType] | None = None
    skus: frozenset[str] | None = None
    warehouse_ids: frozenset[str] | None = None
    reservation_ids: frozenset[str] | None = None

    def matches(self, change: ChangeRecord) -> bool:
        """Whether a change matches all conditions."""
        return (
            (self.types is None or change.type in self.types)
            and (self.skus is None or change.sku in self.skus)
            and (self.warehouse_ids is None or change.warehouse_id in self.warehouse_ids)
            and (self.reservation_ids is None or change.body.reservation_id in self.reservation_ids)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailabilityFilter:
    """A filter of the changes after which the availability of some SKUs may differ."""

    skus: frozenset[str]

    def matches(self, change: ChangeRecord) -> bool:
        """Whether a change is of one of the SKUs, or of a warehouse, which may hold all of them."""
        return change.sku in self.skus or change.type is ChangeType.WAREHOUSE_CHANGED
