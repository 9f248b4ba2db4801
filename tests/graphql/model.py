"""A catalogue with stock of every kind, and the expected lists in plain Python."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files.seeding import LoadedCount, LoadedLevel, LoadedSku
from tests.service import EMAIL, sku, warehouse

# In order of code points, which differs from every alphabetical order.
CODES: Final = ["0", "9 9", "A", "A-1", "A/B", "A_1", "Z", "a", "z", "Ä", "é", "日本", "𠀀9"]
REASONS: Final = ["cycle_count", "damage", "supplier_receipt"]
START: Final = datetime(2026, 3, 10, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """The fields of an adjustment that identify it."""

    sku: str
    warehouse_id: str
    sequence: int
    before: int
    after: int
    reason: str
    note: str | None
    created_at: datetime


@dataclass(frozen=True)
class Catalogue:
    """The warehouses and SKUs of a tenant."""

    warehouses: Sequence[WarehouseRecord]
    skus: Sequence[LoadedSku]

    def for_sale(self, levels: Sequence[LoadedLevel]) -> list[LoadedLevel]:
        """Those of some levels whose stock is for sale."""
        selling = {each.id for each in self.warehouses if each.is_active and each.is_sellable}
        return [each for each in levels if each.warehouse_id in selling]

    def record_of(self, item: LoadedSku) -> dict[str, object]:
        """Return a SKU as GraphQL shows it."""
        levels = sorted(item.levels, key=lambda each: each.warehouse_id)
        for_sale = self.for_sale(levels)
        return {
            "id": f"sku_{item.sku}",
            "sku": item.sku,
            "title": item.title,
            "totalOnHand": sum(map(on_hand, levels)),
            "totalReserved": sum(each.reserved for each in levels),
            "totalAvailable": sum(map(available, for_sale)),
            "safetyStock": sum(each.safety_stock for each in levels),
            "reorderPoint": sum_of(each.reorder_point for each in for_sale),
            "status": status_of_levels(for_sale),
            "stock": [
                {
                    "id": f"level_{each.warehouse_id}_{item.sku}",
                    "onHand": on_hand(each),
                    "reserved": each.reserved,
                    "safetyStock": each.safety_stock,
                    "reorderPoint": each.reorder_point,
                    "available": available(each) if each in for_sale else 0,
                    "status": status_of_levels(self.for_sale([each])),
                    "version": len(each.history),
                    "warehouse": {"id": each.warehouse_id},
                }
                for each in levels
            ],
        }

    def list_skus(
        self,
        *,
        warehouse_id: str | None = None,
        status: str | None = None,
        code: str | None = None,
    ) -> list[dict[str, object]]:
        """SKUs of a list with these filters, in ascending order."""
        records = [
            self.record_of(item)
            for item in sorted(self.skus, key=lambda item: item.sku)
            if warehouse_id is None or warehouse_id in {each.warehouse_id for each in item.levels}
        ]
        return [
            record
            for record in records
            if status in (None, record["status"]) and code in (None, record["sku"])
        ]

    def list_levels(
        self, warehouse_id: str, status: str | None = None
    ) -> list[tuple[str, int, str]]:
        """Levels of a warehouse as (SKU, on hand, status)."""
        levels = [
            (item.sku, on_hand(each), status_of_levels(self.for_sale([each])))
            for item in sorted(self.skus, key=lambda item: item.sku)
            for each in item.levels
            if each.warehouse_id == warehouse_id
        ]
        return [each for each in levels if status in (None, each[2])]

    def list_entries(
        self,
        *,
        code: str | None = None,
        warehouse_id: str | None = None,
        reason: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[Entry]:
        """Return the adjustments, newest first; `start` is inclusive, `end` exclusive."""
        entries = [
            entry
            for item in self.skus
            for each in item.levels
            for entry in _entries(item.sku, each)
        ]
        return [
            entry
            for entry in sorted(
                entries, key=lambda entry: (entry.created_at, entry.sequence), reverse=True
            )
            if code in (None, entry.sku)
            and warehouse_id in (None, entry.warehouse_id)
            and reason in (None, entry.reason)
            and (start is None or entry.created_at >= start)
            and (end is None or entry.created_at < end)
        ]


def catalogue() -> Catalogue:
    """Build SKUs with none to four levels of every status, and a history of six days."""
    warehouses = [
        warehouse("Main", address="Street 1"),
        warehouse("Amazon", WarehouseType.FBA, marketplace="amazon_eu"),
        warehouse("Partner", WarehouseType.THIRD_PARTY, is_active=False),
        warehouse("Empty"),
    ]
    skus = []
    clock = START
    for number, code in enumerate(CODES):
        levels: list[LoadedLevel] = []
        for each in warehouses[: number % 4]:
            history = []
            for step in range(1 + (number + len(levels)) % 4):
                # Within a level, every third entry has the instant of its predecessor.
                clock += timedelta(minutes=0 if step % 3 == 2 else 97)
                history.append(
                    LoadedCount(
                        quantity=(number * 7 + step * 5) % 23,
                        reason=REASONS[(number + step) % 3],
                        note=f"Note {step}" if step else None,
                        created_by=EMAIL,
                        created_at=clock,
                    )
                )
            levels.append(
                LoadedLevel(
                    warehouse_id=each.id,
                    reserved=number % 5,
                    safety_stock=(number * 3) % 8,
                    reorder_point=(8, 12, None)[(number + len(levels)) % 3],
                    history=history,
                )
            )
        skus.append(sku(code, *levels, title=f"Thing {code}"))
    return Catalogue(warehouses, skus)


def on_hand(level: LoadedLevel) -> int:
    """Quantity after the last entry of a level."""
    return level.history[-1].quantity if level.history else 0


def available(level: LoadedLevel) -> int:
    """Available quantity of a level whose stock is for sale."""
    return on_hand(level) - level.reserved - level.safety_stock


def status_of(
    on_hand: int, reserved: int, safety_stock: int, reorder_point: int | None = None
) -> str:
    """Status of the figures, by the rules of the published API."""
    sellable = on_hand - reserved
    if sellable <= 0:
        return "OUT_OF_STOCK"
    if sellable <= safety_stock:
        return "CRITICAL"
    low = 2 * safety_stock if reorder_point is None else reorder_point
    return "LOW" if sellable <= low else "NORMAL"


def sum_of(reorder_points: Iterable[int | None]) -> int | None:
    """Sum of the reorder points that are set; None without one."""
    numbers = [number for number in reorder_points if number is not None]
    return sum(numbers) if numbers else None


def status_of_levels(levels: Sequence[LoadedLevel]) -> str:
    """Status of levels whose stock is for sale."""
    return status_of(
        sum(map(on_hand, levels)),
        sum(each.reserved for each in levels),
        sum(each.safety_stock for each in levels),
        sum_of(each.reorder_point for each in levels),
    )


def _entries(code: str, level: LoadedLevel) -> list[Entry]:
    entries = []
    before = 0
    for sequence, count in enumerate(level.history, start=1):
        entries.append(
            Entry(
                code,
                level.warehouse_id,
                sequence,
                before,
                count.quantity,
                count.reason,
                count.note,
                count.created_at,
            )
        )
        before = count.quantity
    return entries
