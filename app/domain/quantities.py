"""Quantities of stock and the status derived from them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from app.errors import InventoryError, NegativeQuantity, invalid_field

MAX_QUANTITY: Final = 1_000_000_000_000


class Status(StrEnum):
    """The stock status of a SKU or a stock level, derived from its figures."""

    NORMAL = "normal"
    LOW = "low"
    CRITICAL = "critical"
    OUT_OF_STOCK = "out_of_stock"


# The prefix of the status of archived SKUs in the counts of SKUs by status.
ARCHIVED_PREFIX: Final = "archived_"


class Figures(Struct, gc=False):
    """The quantities of a stock level, or their sums over several levels."""

    on_hand: int
    reserved: int
    safety_stock: int

    @property
    def available(self) -> int:
        """The quantity that can be promised; negative if oversold or below the safety stock."""
        return self.on_hand - self.reserved - self.safety_stock

    @property
    def status(self) -> Status:
        """The status of these figures."""
        sellable = self.on_hand - self.reserved
        if sellable <= 0:
            return Status.OUT_OF_STOCK
        if sellable <= self.safety_stock:
            return Status.CRITICAL
        if sellable <= 2 * self.safety_stock:
            return Status.LOW
        return Status.NORMAL


def total_figures(levels: Iterable[Figures]) -> Figures:
    """Sum the figures of stock levels."""
    on_hand = reserved = safety_stock = 0
    for level in levels:
        on_hand += level.on_hand
        reserved += level.reserved
        safety_stock += level.safety_stock
    return Figures(on_hand, reserved, safety_stock)


def refuse_quantity(quantity: int) -> InventoryError | None:
    """Return the refusal of an on-hand quantity that is negative or too large, if any."""
    if quantity < 0:
        return NegativeQuantity(
            f"The resulting quantity would be {quantity}; it must be 0 or more.",
            details=[{"field": "quantity", "message": "must be 0 or more"}],
        )
    if quantity > MAX_QUANTITY:
        return invalid_field("delta", f"must leave at most {MAX_QUANTITY}, and leaves {quantity}")
    return None


def quantity_problem(quantity: int | None) -> str | None:
    """Describe the fault of a requested quantity, if any; `refuse_quantity` checks the result."""
    if quantity is not None and quantity > MAX_QUANTITY:
        return f"must be at most {MAX_QUANTITY}"
    return None


def moved_quantity_problem(quantity: int) -> str | None:
    """Describe the fault of a transferred or reserved quantity, if any."""
    if not 1 <= quantity <= MAX_QUANTITY:
        return f"must be 1 to {MAX_QUANTITY}"
    return None


def delta_problem(delta: int | None) -> str | None:
    """Describe the fault of a change of a quantity, if any."""
    if delta is not None and abs(delta) > MAX_QUANTITY:
        return f"must be {-MAX_QUANTITY} to {MAX_QUANTITY}"
    return None


def expected_quantity_problem(quantity: int | None) -> str | None:
    """Describe the fault of an expected quantity, if any."""
    if quantity is not None and not 0 <= quantity <= MAX_QUANTITY:
        return f"must be 0 to {MAX_QUANTITY}"
    return None
