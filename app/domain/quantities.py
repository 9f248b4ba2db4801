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
    # The sellable quantity from which the status is low. None: there is none.
    reorder_point: int | None

    @property
    def is_for_sale(self) -> bool:
        """Whether the stock can be promised to customers."""
        return True

    @property
    def available(self) -> int:
        """The quantity that can be promised; negative if oversold or below the safety stock."""
        return self.on_hand - self.reserved - self.safety_stock if self.is_for_sale else 0

    @property
    def status(self) -> Status:
        """The status of these figures."""
        sellable = self.on_hand - self.reserved if self.is_for_sale else 0
        if sellable <= 0:
            return Status.OUT_OF_STOCK
        if sellable <= self.safety_stock:
            return Status.CRITICAL
        low = 2 * self.safety_stock if self.reorder_point is None else self.reorder_point
        return Status.LOW if sellable <= low else Status.NORMAL


class Totals(Struct, gc=False):
    """The sums over the levels of a SKU. Those of the stock for sale decide the status."""

    on_hand: int
    reserved: int
    safety_stock: int
    for_sale: Figures
    status: Status

    @property
    def available(self) -> int:
        """The sum of the available quantities."""
        return self.for_sale.available

    @property
    def reorder_point(self) -> int | None:
        """The sum of the reorder points of the stock for sale; None if no level has one."""
        return self.for_sale.reorder_point


def total_figures(levels: Iterable[Figures]) -> Totals:
    """Sum the figures of stock levels."""
    on_hand = reserved = safety_stock = 0
    # Of the stock that is not for sale.
    kept_on_hand = kept_reserved = kept_safety_stock = 0
    reorder_point = None
    for level in levels:
        on_hand += level.on_hand
        reserved += level.reserved
        safety_stock += level.safety_stock
        if not level.is_for_sale:
            kept_on_hand += level.on_hand
            kept_reserved += level.reserved
            kept_safety_stock += level.safety_stock
        elif level.reorder_point is not None:
            reorder_point = (reorder_point or 0) + level.reorder_point
    for_sale = Figures(
        on_hand - kept_on_hand,
        reserved - kept_reserved,
        safety_stock - kept_safety_stock,
        reorder_point,
    )
    return Totals(on_hand, reserved, safety_stock, for_sale, for_sale.status)


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
