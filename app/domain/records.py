"""What the database says, as values: `queries` and `commands` return these.

A SKU's figures are derived from the levels it is seen with, so a record's totals are always the
sums of its own levels. Records of stock are msgspec's: a page has hundreds of them, and they are
made of the database's JSON, arrays of their values, without Python. Nobody changes one that was
read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct

from app.domain.quantities import Figures, total
from app.domain.warehouses import WarehouseType


class WarehouseRecord(Struct, array_like=True, frozen=True, gc=False):
    """A warehouse."""

    id: str
    name: str
    type: WarehouseType
    address: str | None
    marketplace: str | None
    is_active: bool


# Where a level is until its warehouse is told.
NOWHERE: Final = WarehouseRecord("", "", WarehouseType.OWN, None, None, is_active=False)


class LevelRecord(Figures, array_like=True, gc=False):
    """A stock level: what one warehouse holds of one SKU."""

    version: int
    adjusted_at: datetime | None
    synced_at: datetime | None
    warehouse_id: str
    # Of its last entry; for those who write the next one.
    last_hash: str | None = None
    # What is not told of each level, but once.
    sku: str = ""
    warehouse: WarehouseRecord = NOWHERE
    # The one warehouse that its SKU is seen in, if it is.
    view: str | None = None

    @property
    def id(self) -> str:
        """The id of the level, for clients."""
        return f"level_{self.warehouse_id}_{self.sku}"


class SkuRecord(Struct, array_like=True, gc=False):
    """A SKU and its stock levels by warehouse id: all, or the one of `warehouse_id` alone."""

    sku: str
    title: str
    version: int
    archived_at: datetime | None
    levels: list[LevelRecord]
    warehouse_id: str | None = None

    @property
    def id(self) -> str:
        """The id of the SKU, for clients."""
        return f"sku_{self.sku}"

    @property
    def figures(self) -> Figures:
        """The sums over its levels."""
        return total(self.levels)

    def level_in(self, warehouse_id: str) -> LevelRecord | None:
        """Return the level in a warehouse, if there ever was one."""
        for level in self.levels:
            if level.warehouse_id == warehouse_id:
                return level
        return None

    def level_at(self, place: WarehouseRecord) -> LevelRecord:
        """Return the level in a warehouse; one that never was holds nothing."""
        return self.level_in(place.id) or LevelRecord(
            0, 0, 0, 0, None, None, place.id, sku=self.sku, warehouse=place
        )

    def with_level(self, changed: LevelRecord) -> "SkuRecord":
        """Return the next version of the SKU, with a level changed or added."""
        levels = {level.warehouse_id: level for level in self.levels}
        levels[changed.warehouse_id] = changed
        ordered = [levels[warehouse_id] for warehouse_id in sorted(levels)]
        return SkuRecord(self.sku, self.title, self.version + 1, self.archived_at, ordered)


@dataclass(slots=True)
class AdjustmentRecord:
    """One entry of the ledger."""

    id: str
    sku: str
    warehouse_id: str
    sequence: int
    before_quantity: int
    after_quantity: int
    reason: str
    note: str | None
    created_by: str
    created_at: datetime
    bulk_id: str | None = None
    transfer_id: str | None = None
    reservation_id: str | None = None
    reversal_of: str | None = None
    reference: str | None = None

    @property
    def delta(self) -> int:
        """The change of `on_hand`."""
        return self.after_quantity - self.before_quantity


@dataclass(frozen=True, slots=True)
class StockChange:
    """A change that was made: its ledger entry, and the SKU with all its levels after it."""

    adjustment: AdjustmentRecord
    sku: SkuRecord


class ReservationStatus(StrEnum):
    """How a reservation stands: open, or ended in one of three ways."""

    OPEN = "open"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class ReservationLineRecord:
    """What a reservation asked for at one stock level, holds now, and took in the end."""

    reservation_id: str
    sku: str
    warehouse_id: str
    quantity: int
    held: int
    committed: int


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """Stock that is held for somebody; `expires_at` is None if it is held for good."""

    id: str
    status: ReservationStatus
    reference: str | None
    note: str | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    version: int
    lines: Sequence[ReservationLineRecord]


@dataclass(frozen=True, slots=True)
class ReservationChange:
    """What became of a reservation, with the SKUs after it and the ledger entries written."""

    reservation: ReservationRecord
    skus: Sequence[SkuRecord] = ()
    adjustments: Sequence[AdjustmentRecord] = ()


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """What entries of the ledger come to; increase and decrease are not negative."""

    entries: int = 0
    increase: int = 0
    decrease: int = 0

    @property
    def net_change(self) -> int:
        """What all of them together changed."""
        return self.increase - self.decrease


@dataclass(slots=True)
class PeriodRecord:
    """What was on hand at the start of an hour or a day, and what changed it until its end."""

    start: datetime
    opening: int
    increase: int
    decrease: int

    @property
    def closing(self) -> int:
        """What was on hand at its end."""
        return self.opening + self.increase - self.decrease
