"""Records: rows of the database as values. Reads and writes return them.

The figures of a SKU are the sums over the levels of its record. Stock records are msgspec structs:
a page has hundreds of them, and msgspec decodes them from the database's JSON arrays without
Python code. Records are not changed after they are read.
"""

from bisect import insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Final

from msgspec import Struct, structs

from app.domain.object_details import ObjectDetails
from app.domain.quantities import Figures, Totals, total_figures
from app.domain.warehouses import WarehouseType


class WarehouseRecord(Struct, array_like=True, frozen=True, gc=False):
    """A warehouse."""

    id: str
    name: str
    type: WarehouseType
    address: str | None
    marketplace: str | None
    is_active: bool
    is_sellable: bool = True
    # Results of writes of the catalogue have them.
    details: ObjectDetails | None = None

    @property
    def is_selling(self) -> bool:
        """Whether the stock of the warehouse is for sale."""
        return self.is_active and self.is_sellable


# The warehouse of a level before `LevelRecord.warehouse` is set.
UNKNOWN_WAREHOUSE: Final = WarehouseRecord("", "", WarehouseType.OWN, None, None, is_active=False)


class LevelRecord(Figures, array_like=True, gc=False):
    """A stock level: the stock of one SKU in one warehouse."""

    version: int
    adjusted_at: datetime | None
    occurred_until: datetime | None
    synced_at: datetime | None
    warehouse_id: str
    # The database returns these once per SKU or warehouse.
    sku: str = ""
    warehouse: WarehouseRecord = UNKNOWN_WAREHOUSE

    @property
    def is_for_sale(self) -> bool:
        """Whether the stock can be promised to customers."""
        return self.warehouse.is_selling

    @property
    def id(self) -> str:
        """The id of the level, for clients."""
        return f"level_{self.warehouse_id}_{self.sku}"


def empty_level(code: str, warehouse: WarehouseRecord) -> LevelRecord:
    """Return the level of a SKU in a warehouse that has never been adjusted or configured."""
    return LevelRecord(
        on_hand=0,
        reserved=0,
        safety_stock=0,
        reorder_point=None,
        version=0,
        adjusted_at=None,
        occurred_until=None,
        synced_at=None,
        warehouse_id=warehouse.id,
        sku=code,
        warehouse=warehouse,
    )


class SkuRecord(Struct, array_like=True, gc=False):
    """A SKU and all its stock levels by warehouse id."""

    sku: str
    title: str
    version: int
    archived_at: datetime | None
    levels: list[LevelRecord]
    # Only lists that are ordered by it read it.
    updated_at: datetime | None = None
    # Results of writes of the catalogue have them.
    details: ObjectDetails | None = None

    @property
    def id(self) -> str:
        """The id of the SKU, for clients."""
        return f"sku_{self.sku}"

    @property
    def figures(self) -> Totals:
        """The sums over the levels."""
        return total_figures(self.levels)

    def within(self, warehouse_ids: Collection[str] | None) -> "SkuRecord":
        """Return the SKU as if there were only these warehouses; None: all."""
        if warehouse_ids is None:
            return self
        levels = [level for level in self.levels if level.warehouse_id in warehouse_ids]
        return structs.replace(self, levels=levels)

    def level_in(self, warehouse_id: str) -> LevelRecord | None:
        """Return the level in a warehouse, if it has ever been adjusted or configured."""
        for level in self.levels:
            if level.warehouse_id == warehouse_id:
                return level
        return None

    def level_at(self, warehouse: WarehouseRecord) -> LevelRecord:
        """Return the level in a warehouse; a missing level is empty."""
        return self.level_in(warehouse.id) or empty_level(self.sku, warehouse)

    def with_level(self, changed: LevelRecord) -> "SkuRecord":
        """Return the next version of the SKU, with one level replaced or added."""
        levels = [*self.levels]
        for index, level in enumerate(levels):
            if level.warehouse_id == changed.warehouse_id:
                levels[index] = changed
                break
        else:
            insort(levels, changed, key=attrgetter("warehouse_id"))
        return SkuRecord(self.sku, self.title, self.version + 1, self.archived_at, levels)


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
    # When the change occurred, if the caller said so.
    occurred_at: datetime | None = None
    # The place in the ledger of the tenant, from 1; 0 until the decision on the whole write.
    position: int = 0

    @property
    def delta(self) -> int:
        """The change of `on_hand`."""
        return self.after_quantity - self.before_quantity

    @property
    def occurrence(self) -> datetime:
        """The time at which the change counts as occurred."""
        return self.occurred_at or self.created_at


@dataclass(frozen=True, slots=True)
class StockChange:
    """A change of stock: its ledger entry, and the SKU with all its levels afterwards."""

    adjustment: AdjustmentRecord
    sku: SkuRecord


@dataclass(frozen=True, slots=True)
class UnchangedStock:
    """An update that changed nothing and wrote no entry: the SKU with all its levels."""

    sku: SkuRecord


class ReservationStatus(StrEnum):
    """The status of a reservation: open, or ended in one of three ways."""

    OPEN = "open"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class ReservationLineRecord:
    """The quantities of a reservation at one stock level: requested, held and committed."""

    reservation_id: str
    sku: str
    warehouse_id: str
    quantity: int
    held: int
    committed: int


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """A reservation of stock; without `expires_at` it does not expire."""

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
    """A changed reservation, with the SKUs afterwards and the written ledger entries.

    The successor holds what a commit has left.
    """

    reservation: ReservationRecord
    skus: Sequence[SkuRecord] = ()
    adjustments: Sequence[AdjustmentRecord] = ()
    successor: ReservationRecord | None = None


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """Totals of ledger entries; increase and decrease are never negative."""

    entries: int = 0
    increase: int = 0
    decrease: int = 0

    @property
    def net_change(self) -> int:
        """The sum of all deltas."""
        return self.increase - self.decrease


@dataclass(slots=True)
class PeriodRecord:
    """An hour or a day of a stock history: the opening stock and its changes."""

    start: datetime
    opening: int
    increase: int
    decrease: int

    @property
    def closing(self) -> int:
        """The stock at the end of the period."""
        return self.opening + self.increase - self.decrease
