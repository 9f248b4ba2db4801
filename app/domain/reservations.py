"""Rules of reservations: what may be held, and from which warehouse."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from msgspec import structs

from app.domain.quantities import MAX_QUANTITY
from app.domain.records import LevelRecord, SkuRecord, WarehouseRecord
from app.domain.stock import NO_SKUS, LevelKey, RefusedItem, Stock
from app.domain.warehouses import readonly_refusal
from app.errors import (
    InsufficientStock,
    InventoryError,
    SkuArchived,
    WarehouseInactive,
    WarehouseNotSellable,
    invalid_field,
    warehouse_not_found,
)

# The duration of a reservation in seconds: by default, and at most.
DEFAULT_HOLD: Final = 900
MAX_HOLD: Final = 30 * 24 * 60 * 60
# The most warehouses that a line may name.
MAX_LINE_WAREHOUSES: Final = 20
NO_HOLDS: Final[Mapping[LevelKey, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RequestedLine:
    """Quantity of a SKU to reserve, from the first of some warehouses that has it.

    With `may_split`, each warehouse in turn gives what it has.
    """

    sku: str
    warehouse_ids: tuple[str, ...]
    quantity: int
    may_split: bool = False

    @property
    def warehouse_id(self) -> str:
        """The warehouse that is asked first."""
        return self.warehouse_ids[0]

    @property
    def level(self) -> LevelKey:
        """The key of the stock level that is asked first."""
        return self.sku, self.warehouse_id


def check_reservable(
    quantity: int,
    *,
    record: SkuRecord,
    level: LevelRecord,
    may_oversell: bool,
) -> InventoryError | None:
    """Return the refusal of a reservation of `quantity` more at a stock level of a SKU, if any."""
    code, warehouse_id = record.sku, level.warehouse_id
    if refusal := _warehouse_refusal(level.warehouse):
        return refusal
    if record.archived_at:
        return SkuArchived(
            f"SKU {code!r} is archived: nothing of it can be reserved.", details=[{"sku": code}]
        )
    if level.reserved + quantity > MAX_QUANTITY:
        return invalid_field("quantity", f"must leave at most {MAX_QUANTITY} reserved")
    if quantity > level.available and not may_oversell:
        return InsufficientStock(
            f"SKU {code!r} has {level.available} available in warehouse {warehouse_id}, and "
            f"{quantity} are to be reserved.",
            details=[
                {
                    "sku": code,
                    "warehouse_id": warehouse_id,
                    "available": level.available,
                    "quantity": quantity,
                }
            ],
        )
    return None


def _warehouse_refusal(warehouse: WarehouseRecord) -> InventoryError | None:
    """Return the refusal of any reservation in a warehouse, if there is one."""
    if warehouse.type.is_readonly:
        return readonly_refusal(warehouse.id, warehouse.type)
    details = [{"warehouse_id": warehouse.id}]
    if not warehouse.is_active:
        return WarehouseInactive(
            f"Warehouse {warehouse.id} is inactive: nothing can be reserved there.", details=details
        )
    if not warehouse.is_sellable:
        return WarehouseNotSellable(
            f"The stock of warehouse {warehouse.id} is not for sale: nothing can be reserved "
            "there. Reserve from another warehouse, or transfer the stock to one first.",
            details=details,
        )
    return None


def hold_problem(seconds: int | None) -> str | None:
    """Describe the fault of the duration of a reservation, if any; None means never."""
    if seconds is not None and not 1 <= seconds <= MAX_HOLD:
        return f"must be 1 to {MAX_HOLD} seconds"
    return None


def line_warehouses_problem(line: RequestedLine) -> tuple[str, str | None]:
    """Return the field of the warehouses of a line, and the description of its fault, if any."""
    ids = line.warehouse_ids
    if not ids:
        return "warehouseId", "must be given, or warehouseIds instead of it"
    if len(ids) > MAX_LINE_WAREHOUSES:
        return "warehouseIds", f"must hold 1 to {MAX_LINE_WAREHOUSES} ids, and holds {len(ids)}"
    if len({*ids}) < len(ids):
        return "warehouseIds", "must not name a warehouse twice"
    return "warehouseIds", None


class StockHolder:
    """Holds the lines of one reservation; each line sees the stock without those before it.

    `freed` are the SKUs without what the reservation has held until now, and `kept` are these
    quantities. They can be held again in any case.
    """

    def __init__(
        self,
        stock: Stock,
        *,
        may_oversell: bool,
        freed: Mapping[str, SkuRecord] = NO_SKUS,
        kept: Mapping[LevelKey, int] = NO_HOLDS,
    ) -> None:
        self.skus = dict(freed)
        self.held: Counter[LevelKey] = Counter()
        self._stock = stock
        self._kept = kept
        self._may_oversell = may_oversell

    def hold_all(self, lines: Sequence[RequestedLine]) -> list[RefusedItem]:
        """Hold the lines, and return the refused ones.

        Lines with the same single warehouse are summed. They come first, because the others can
        be held elsewhere.
        """
        refusals = []
        for index, line in _in_turn(lines):
            if refusal := self._hold(line):
                refusals.append(RefusedItem(index, line, refusal))
        return refusals

    def add(self, level: LevelKey, quantity: int) -> None:
        """Hold a quantity of a stock level without a check."""
        code, warehouse_id = level
        record = self._sku(code)
        warehouse = self._stock.warehouses[warehouse_id]
        old = record.level_at(warehouse)
        new = structs.replace(old, reserved=old.reserved + quantity)
        self.skus[code] = record.with_level(new)
        self.held[level] += quantity

    def _sku(self, code: str) -> SkuRecord:
        return self.skus.get(code) or self._stock.skus[code]

    def _hold(self, line: RequestedLine) -> InventoryError | None:
        """Hold a line, or return its refusal."""
        if line.sku not in self._stock.skus:
            return self._stock.unknown_sku(line.sku)
        warehouses = []
        for id_ in line.warehouse_ids:
            if (warehouse := self._stock.warehouses.get(id_)) is None:
                return warehouse_not_found(id_)
            warehouses.append(warehouse)
        if len(warehouses) == 1:
            refusal = self._refusal(
                line.sku, warehouses[0], line.quantity, may_oversell=self._may_oversell
            )
            if refusal is None:
                self.add(line.level, line.quantity)
            return refusal
        quantities = self._chosen(line, warehouses)
        if quantities is None:
            return self._nowhere_enough(line, warehouses)
        for warehouse_id, quantity in quantities.items():
            self.add((line.sku, warehouse_id), quantity)
        return None

    def _chosen(
        self, line: RequestedLine, warehouses: Sequence[WarehouseRecord]
    ) -> dict[str, int] | None:
        """Return the quantities of a line by warehouse; None if there is not enough."""
        chosen: dict[str, int] = {}
        rest = line.quantity
        for warehouse in warehouses:
            room = self._room(line.sku, warehouse)
            if room >= rest or (line.may_split and room):
                chosen[warehouse.id] = min(room, rest)
                rest -= chosen[warehouse.id]
            if not rest:
                return chosen
        if self._may_oversell:
            for warehouse in warehouses:
                quantity = chosen.get(warehouse.id, 0) + rest
                if self._refusal(line.sku, warehouse, quantity, may_oversell=True) is None:
                    return {**chosen, warehouse.id: quantity}
        return None

    def _room(self, code: str, warehouse: WarehouseRecord) -> int:
        """Return how much of a SKU a warehouse can give."""
        available = self._sku(code).level_at(warehouse).available
        kept = self._kept_there(code, warehouse)
        if available <= kept or self._refusal(code, warehouse, available, may_oversell=False):
            return kept
        return available

    def _kept_there(self, code: str, warehouse: WarehouseRecord) -> int:
        level = code, warehouse.id
        return max(0, self._kept.get(level, 0) - self.held[level])

    def _refusal(
        self, code: str, warehouse: WarehouseRecord, quantity: int, *, may_oversell: bool
    ) -> InventoryError | None:
        if quantity <= self._kept_there(code, warehouse):
            return None
        record = self._sku(code)
        return check_reservable(
            quantity,
            record=record,
            level=record.level_at(warehouse),
            may_oversell=may_oversell,
        )

    def _nowhere_enough(
        self, line: RequestedLine, warehouses: Sequence[WarehouseRecord]
    ) -> InventoryError:
        rooms = {warehouse.id: self._room(line.sku, warehouse) for warehouse in warehouses}
        if line.may_split:
            found = f"can give {sum(rooms.values())} of SKU {line.sku!r}"
        else:
            found = f"can give at most {max(rooms.values())} of SKU {line.sku!r} from one of them"
        return InsufficientStock(
            f"The {len(rooms)} warehouses of the line {found}, and {line.quantity} are to be "
            "reserved.",
            details=[
                {"sku": line.sku, "warehouse_id": id_, "available": room, "quantity": line.quantity}
                for id_, room in rooms.items()
            ],
        )


def _in_turn(lines: Sequence[RequestedLine]) -> Iterator[tuple[int, RequestedLine]]:
    """Yield lines with their indexes: summed ones of one warehouse, then those of several."""
    summed: dict[LevelKey, tuple[int, RequestedLine]] = {}
    for index, line in enumerate(lines):
        if len(line.warehouse_ids) == 1:
            first, before = summed.get(line.level, (index, replace(line, quantity=0)))
            quantity = before.quantity + line.quantity
            summed[line.level] = first, replace(line, quantity=quantity)
    yield from summed.values()
    for index, line in enumerate(lines):
        if len(line.warehouse_ids) > 1:
            yield index, line
