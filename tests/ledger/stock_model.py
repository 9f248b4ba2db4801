"""A model of the stock that stores only the entries of each level."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import structs

from app.domain.warehouses import WarehouseType
from tests.graphql.model import status_of, sum_of
from tests.graphql.operations import bulk_item
from tests.service import warehouse

WAREHOUSES: Final = tuple(
    structs.replace(record, id=f"wh_01J000000000000000000000{number:02}")
    for number, record in enumerate(
        (
            warehouse("Main"),
            warehouse("Partner", WarehouseType.THIRD_PARTY),
            warehouse("Closed", is_active=False),
            warehouse("Returns", is_sellable=False),
            warehouse("Amazon", WarehouseType.FBA),
        )
    )
)
BY_ID: Final = {record.id: record for record in WAREHOUSES}
CODES: Final = ("A", "B", "C")
STATUSES: Final = ("NORMAL", "LOW", "CRITICAL", "OUT_OF_STOCK")
REASONS: Final = ("initial_stock", "loss", "cycle_count")
UNKNOWN: Final = warehouse("Unknown").id


@dataclass(frozen=True)
class Level:
    """A stock level: its counts in order, and its constant figures."""

    counts: tuple[tuple[int, str], ...] = ()
    reserved: int = 0
    safety_stock: int = 0
    reorder_point: int | None = None

    @property
    def on_hand(self) -> int:
        return self.counts[-1][0] if self.counts else 0

    @property
    def available(self) -> int:
        """The available quantity, if the stock is for sale."""
        return self.on_hand - self.reserved - self.safety_stock


@dataclass(frozen=True)
class Update:
    """A stock level to set or (`by_delta`) to adjust, with its expectations."""

    code: str
    warehouse_id: str
    quantity: int
    reason: str
    expected_quantity: int | None = None
    expected_version: int | None = None
    expected_sku_versions: tuple[int, ...] | None = None
    by_delta: bool = False

    def left(self, level: "Level") -> int:
        """Quantity on hand after the update."""
        return level.on_hand + self.quantity if self.by_delta else self.quantity

    def as_input(self, *, bulk: bool) -> dict[str, object]:
        """GraphQL input of the update."""
        result: dict[str, object] = {
            "sku": self.code,
            "warehouseId": self.warehouse_id,
            "delta" if self.by_delta else "quantity": self.quantity,
            "reason": self.reason,
            "expectedQuantity": self.expected_quantity,
            "expectedVersion": self.expected_version,
        }
        return (
            bulk_item(result)
            if bulk
            else {**result, "expectedSkuVersions": self.expected_sku_versions}
        )


@dataclass
class Model:
    """The levels by SKU and warehouse; every other figure is derived on demand."""

    levels: dict[tuple[str, str], Level] = field(default_factory=dict)
    # Number of changes of a SKU other than adjustments.
    other_changes: Counter[str] = field(default_factory=Counter)
    archived: set[str] = field(default_factory=set)

    def of(self, code: str) -> dict[str, Level]:
        """Levels of a SKU by warehouse id, in order."""
        result = {
            warehouse_id: level
            for (each, warehouse_id), level in self.levels.items()
            if each == code
        }
        return dict(sorted(result.items()))

    def for_sale(self, code: str) -> dict[str, Level]:
        """Levels of a SKU whose stock is for sale."""
        return {
            id_: level
            for id_, level in self.of(code).items()
            if BY_ID[id_].is_active and BY_ID[id_].is_sellable
        }

    def version(self, code: str) -> int:
        """Version of a SKU: 1 plus the number of its changes."""
        counts = sum(len(level.counts) for level in self.of(code).values())
        return 1 + counts + self.other_changes[code]

    def status(self, code: str, warehouse_id: str | None = None) -> str:
        """Status of a SKU, over all warehouses or in one."""
        levels = [
            level for each, level in self.for_sale(code).items() if warehouse_id in (None, each)
        ]
        return status_of(
            sum(level.on_hand for level in levels),
            sum(level.reserved for level in levels),
            sum(level.safety_stock for level in levels),
            sum_of(level.reorder_point for level in levels),
        )

    def refusal(self, update: Update) -> str | None:  # noqa: PLR0911 - one per reason
        """Error code of a refused update, or None."""
        if update.code not in CODES:
            return "INVENTORY_NOT_FOUND"
        warehouse = BY_ID.get(update.warehouse_id)
        if warehouse is None:
            return "WAREHOUSE_NOT_FOUND"
        if warehouse.type is WarehouseType.FBA:
            return "READONLY_WAREHOUSE"
        level = self.levels.get((update.code, update.warehouse_id), Level())
        if update.left(level) < 0:
            return "NEGATIVE_QUANTITY"
        if not warehouse.is_active and update.left(level) > level.on_hand:
            return "WAREHOUSE_INACTIVE"
        if update.code in self.archived and update.left(level) > level.on_hand:
            return "SKU_ARCHIVED"
        versions = update.expected_sku_versions
        if (
            update.expected_quantity not in (None, level.on_hand)
            or update.expected_version not in (None, len(level.counts))
            or (versions is not None and self.version(update.code) not in versions)
        ):
            return "STALE_VERSION"
        return None

    def write(self, updates: Sequence[Update], *, abort: bool) -> list[str | None]:
        """Apply the accepted updates, or none on abort. Returns the error code of each, or None."""
        before = dict(self.levels)
        refusals = []
        for update in updates:
            refusals.append(self.refusal(update))
            if refusals[-1] is None:
                key = update.code, update.warehouse_id
                level = self.levels.get(key, Level())
                counts = (*level.counts, (update.left(level), update.reason))
                self.levels[key] = replace(level, counts=counts)
        if abort and any(refusals):
            self.levels = before
        return refusals

    def archive(self, code: str, *, is_archived: bool) -> None:
        """Archive a SKU, or restore it."""
        if (code in self.archived) is not is_archived:
            self.other_changes[code] += 1
            (self.archived.add if is_archived else self.archived.discard)(code)

    def keep_safe(self, code: str, warehouse_id: str, quantity: int) -> None:
        """Set the safety stock of a level."""
        old = self.levels.get((code, warehouse_id))
        if old is None or old.safety_stock != quantity:
            self.levels[code, warehouse_id] = replace(old or Level(), safety_stock=quantity)
            self.other_changes[code] += 1

    def reorder_at(self, code: str, warehouse_id: str, quantity: int | None) -> None:
        """Set the reorder point of a level, or remove it."""
        old = self.levels.get((code, warehouse_id))
        if old is None or old.reorder_point != quantity:
            self.levels[code, warehouse_id] = replace(old or Level(), reorder_point=quantity)
            self.other_changes[code] += 1

    def sync(self, code: str, quantity: int) -> str:
        """Apply the quantity of a marketplace report. Returns the status of the result."""
        key = code, WAREHOUSES[-1].id
        old = self.levels.get(key)
        level = old or Level()
        if code in self.archived and quantity > level.on_hand:
            return "FAILED"
        if quantity == level.on_hand:
            self.levels[key] = level
            self.other_changes[code] += old is None
            return "UNCHANGED"
        counts = (*level.counts, (quantity, "marketplace_sync"))
        self.levels[key] = replace(level, counts=counts)
        return "UPDATED"

    def listed(self, archived: bool | None = False) -> list[str]:  # noqa: FBT001, FBT002
        """SKU codes of a list: archived, not archived or (None) both."""
        return [code for code in CODES if archived in (None, code in self.archived)]

    def entries(self) -> Iterator[tuple[str, str, int, int, int, str]]:
        """Yield every adjustment: SKU, warehouse, sequence, before, after, reason."""
        for (code, warehouse_id), level in self.levels.items():
            before = 0
            for sequence, (after, reason) in enumerate(level.counts, start=1):
                yield code, warehouse_id, sequence, before, after, reason
                before = after
