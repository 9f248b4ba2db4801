"""Quantities of stock and the status that they mean."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct

MAX_QUANTITY: Final = 1_000_000_000_000


class Status(StrEnum):
    """How a SKU stands: derived from its figures, never set."""

    NORMAL = "normal"
    LOW = "low"
    CRITICAL = "critical"
    OUT_OF_STOCK = "out_of_stock"


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
