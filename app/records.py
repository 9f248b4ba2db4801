"""What the database says, as values: `queries` and `commands` return these.

Every stock level knows its own figures; a SKU's figures are derived from the levels it is seen
with, so a record's totals are always the sums of its own levels.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.stock import Figures, Status, WarehouseType, total


@dataclass(frozen=True, slots=True)
class WarehouseRecord:
    """A warehouse."""

    id: str
    name: str
    type: WarehouseType
    address: str | None
    marketplace: str | None
    is_active: bool


@dataclass(frozen=True, slots=True)
class LevelRecord:
    """A stock level: one SKU in one warehouse."""

    sku: str
    warehouse_id: str
    figures: Figures
    version: int
    adjusted_at: datetime | None


@dataclass(frozen=True, slots=True)
class SkuRecord:
    """A SKU and its stock levels by warehouse id: all, or the one of `warehouse_id` alone."""

    sku: str
    title: str
    version: int
    levels: tuple[LevelRecord, ...]
    warehouse_id: str | None = None
    figures: Figures = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", total(level.figures for level in self.levels))

    def level_in(self, warehouse_id: str) -> LevelRecord:
        """Return the level in a warehouse; one that never was holds nothing."""
        for level in self.levels:
            if level.warehouse_id == warehouse_id:
                return level
        return LevelRecord(self.sku, warehouse_id, Figures(), 0, None)

    def with_level(self, changed: LevelRecord) -> "SkuRecord":
        """Return the next version of the SKU, with a level changed or added."""
        levels = {level.warehouse_id: level for level in self.levels}
        levels[changed.warehouse_id] = changed
        ordered = tuple(levels[warehouse_id] for warehouse_id in sorted(levels))
        return SkuRecord(self.sku, self.title, self.version + 1, ordered)


@dataclass(frozen=True, slots=True)
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

    @property
    def delta(self) -> int:
        """The change of `on_hand`."""
        return self.after_quantity - self.before_quantity


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentFilter:
    """Which adjustments a list holds: `start` inclusive, `end` exclusive."""

    sku: str | None = None
    warehouse_id: str | None = None
    reason: str | None = None
    start: datetime | None = None
    end: datetime | None = None
