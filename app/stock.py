"""The rules of stock, as pure functions and values: no I/O, no framework.

Quantities are whole pieces. `available = on_hand - reserved - safety_stock`, per stock level, and
may be negative; a SKU's figures are the sums over its stock levels.
"""

import re
import unicodedata
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from app.errors import (
    InsufficientStock,
    InventoryError,
    NegativeQuantity,
    ReadonlyWarehouse,
    SkuArchived,
    WarehouseInactive,
    WarehouseNotFound,
    invalid_field,
)

MAX_QUANTITY: Final = 1_000_000_000_000
MAX_NOTE_LENGTH: Final = 1_000
MAX_SKU_LENGTH: Final = 64
MAX_REFERENCE_LENGTH: Final = 255
MAX_BULK_UPDATES: Final = 500
# For how many seconds a reservation holds stock, unless it says otherwise and at most.
DEFAULT_HOLD: Final = 900
MAX_HOLD: Final = 30 * 24 * 60 * 60
USUAL_REASONS: Final = (
    "supplier_receipt",
    "cycle_count",
    "customer_return",
    "damage",
    "loss",
    "correction",
    "initial_stock",
)
# The routes /api/inventory/warehouses and so on shadow these codes.
SHADOWED_SKUS: Final = frozenset({"warehouses", "bulk", "transfers", "reservations"})

REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SKU_PUNCTUATION: Final = frozenset(" ._:/+-")


class Status(StrEnum):
    """How a SKU stands: derived from its figures, never set."""

    NORMAL = "normal"
    LOW = "low"
    CRITICAL = "critical"
    OUT_OF_STOCK = "out_of_stock"


class WarehouseType(StrEnum):
    """Who runs a warehouse."""

    OWN = "own"
    FBA = "FBA"
    FBS = "FBS"
    THIRD_PARTY = "3PL"

    @property
    def is_readonly(self) -> bool:
        """Whether a marketplace runs it, so that stock writes are refused."""
        return self in (WarehouseType.FBA, WarehouseType.FBS)


# What stands before the status of an archived SKU where SKUs are counted by status.
ARCHIVED: Final = "archived_"


class Figures(Struct, gc=False):
    """The quantities of a stock level, or their sums over several."""

    on_hand: int
    reserved: int
    safety_stock: int

    @property
    def available(self) -> int:
        """What can be promised: negative when oversold or eating into the safety stock."""
        return self.on_hand - self.reserved - self.safety_stock

    @property
    def status(self) -> Status:
        """The status that these figures mean."""
        sellable = self.on_hand - self.reserved
        if sellable <= 0:
            return Status.OUT_OF_STOCK
        if sellable <= self.safety_stock:
            return Status.CRITICAL
        if sellable <= 2 * self.safety_stock:
            return Status.LOW
        return Status.NORMAL


def total(figures: Iterable[Figures]) -> Figures:
    """Return the sums over stock levels."""
    on_hand = reserved = safety_stock = 0
    for level in figures:
        on_hand += level.on_hand
        reserved += level.reserved
        safety_stock += level.safety_stock
    return Figures(on_hand, reserved, safety_stock)


def check_new_on_hand(
    quantity: int,
    *,
    on_hand: int,
    warehouse_id: str,
    warehouse_type: WarehouseType,
    is_active: bool,
    by_marketplace: bool = False,
) -> InventoryError | None:
    """Return why a warehouse may not change a level from `on_hand` to `quantity`.

    Setting below what is reserved is allowed: a physical count is the truth.
    """
    if warehouse_type.is_readonly and not by_marketplace:
        return _readonly(warehouse_id, warehouse_type)
    if quantity < 0:
        return NegativeQuantity(
            f"The resulting quantity would be {quantity}; it must be 0 or more.",
            details=[{"field": "quantity", "message": "must be 0 or more"}],
        )
    if quantity > MAX_QUANTITY:
        return invalid_field("delta", f"must leave at most {MAX_QUANTITY}, and leaves {quantity}")
    if not is_active and quantity > on_hand:
        return WarehouseInactive(
            f"Warehouse {warehouse_id} is inactive and can only be emptied: it holds {on_hand}, "
            f"and {quantity} would be an increase.",
            details=[{"warehouse_id": warehouse_id, "on_hand": on_hand, "quantity": quantity}],
        )
    return None


def _readonly(warehouse_id: str, warehouse_type: WarehouseType) -> ReadonlyWarehouse:
    return ReadonlyWarehouse(
        f"Warehouse {warehouse_id} is {warehouse_type}: its marketplace runs it, and its "
        "stock is read-only.",
        details=[{"warehouse_id": warehouse_id, "type": warehouse_type.value}],
    )


def check_archived(code: str, quantity: int, *, on_hand: int) -> SkuArchived | None:
    """Return why a level of an archived SKU may not change from `on_hand` to `quantity`."""
    if quantity <= on_hand:
        return None
    return SkuArchived(
        f"SKU {code!r} is archived and can only be emptied: there are {on_hand}, and {quantity} "
        "would be an increase.",
        details=[{"sku": code, "on_hand": on_hand, "quantity": quantity}],
    )


def check_reservable(
    quantity: int,
    *,
    code: str,
    level: Figures,
    warehouse_id: str,
    warehouse_type: WarehouseType,
    is_active: bool,
    is_archived: bool,
    may_oversell: bool,
) -> InventoryError | None:
    """Return why a quantity of a level may not be reserved, beyond what it holds already."""
    if warehouse_type.is_readonly:
        return _readonly(warehouse_id, warehouse_type)
    if not is_active:
        return WarehouseInactive(
            f"Warehouse {warehouse_id} is inactive: nothing can be reserved there.",
            details=[{"warehouse_id": warehouse_id}],
        )
    if is_archived:
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


def warehouse_not_found(warehouse_id: str) -> WarehouseNotFound:
    """Return the refusal of a warehouse id that the tenant does not have."""
    return WarehouseNotFound(
        f"Warehouse {warehouse_id!r} does not exist; GET /api/inventory/warehouses lists all.",
        details=[{"warehouse_id": warehouse_id}],
    )


def is_sku(code: str) -> bool:
    """Tell whether a text can be a SKU code.

    1 to 64 characters in NFC: letters, digits, space and `._:/+-`, a letter or digit first.
    """
    return (
        0 < len(code) <= MAX_SKU_LENGTH
        and code[0].isalnum()
        and all(letter.isalnum() or letter in _SKU_PUNCTUATION for letter in code)
        and unicodedata.is_normalized("NFC", code)
    )


def is_reason(text: str) -> bool:
    """Tell whether a text can be the reason of an adjustment: `^[a-z][a-z0-9_]{0,63}$`."""
    return REASON.fullmatch(text) is not None


def quantity_problem(quantity: int | None, delta: int | None) -> str | None:
    """Return what is wrong with a new quantity; its sign is another rule's matter."""
    if quantity is None and delta is None:
        return "is required, unless there is a delta"
    if quantity is not None and delta is not None:
        return "must not be given together with a delta"
    if quantity is not None and quantity > MAX_QUANTITY:
        return f"must be at most {MAX_QUANTITY}"
    return None


def moved_quantity_problem(quantity: int) -> str | None:
    """Return what is wrong with a quantity that is to be moved."""
    if not 1 <= quantity <= MAX_QUANTITY:
        return f"must be 1 to {MAX_QUANTITY}"
    return None


def name_problem(name: str, longest: int) -> str | None:
    """Return what is wrong with a title or a name."""
    if not name.strip() or len(name) > longest or "\x00" in name:
        return f"must be 1 to {longest} characters, not all of them spaces and none of them NUL"
    return None


def delta_problem(delta: int | None) -> str | None:
    """Return what is wrong with a change of a quantity."""
    if delta is not None and abs(delta) > MAX_QUANTITY:
        return f"must be {-MAX_QUANTITY} to {MAX_QUANTITY}"
    return None


def expected_quantity_problem(quantity: int | None) -> str | None:
    """Return what is wrong with what a caller expects to be on hand."""
    if quantity is not None and not 0 <= quantity <= MAX_QUANTITY:
        return f"must be 0 to {MAX_QUANTITY}"
    return None


def reference_problem(reference: str | None) -> str | None:
    """Return what is wrong with what a caller calls an order, a delivery or a count."""
    return None if reference is None else name_problem(reference, MAX_REFERENCE_LENGTH)


def hold_problem(seconds: int) -> str | None:
    """Return what is wrong with for how long stock shall be held."""
    if not 1 <= seconds <= MAX_HOLD:
        return f"must be 1 to {MAX_HOLD} seconds"
    return None


def reason_problem(reason: str) -> str | None:
    """Return what is wrong with a reason."""
    if is_reason(reason):
        return None
    return "must be 1 to 64 of a-z, 0-9 and _, a letter first, for example supplier_receipt"


def note_problem(note: str | None) -> str | None:
    """Return what is wrong with a note."""
    if note is None:
        return None
    if len(note) > MAX_NOTE_LENGTH:
        return f"must have at most {MAX_NOTE_LENGTH} characters, and has {len(note)}"
    if "\x00" in note:
        return "must not contain the character NUL"
    return None
