"""Rules of reservations."""

from typing import Final

from app.domain.quantities import MAX_QUANTITY, Figures
from app.domain.warehouses import WarehouseType, readonly_refusal
from app.errors import (
    InsufficientStock,
    InventoryError,
    SkuArchived,
    WarehouseInactive,
    invalid_field,
)

# The duration of a reservation in seconds: by default, and at most.
DEFAULT_HOLD: Final = 900
MAX_HOLD: Final = 30 * 24 * 60 * 60


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
    """Return the refusal of a reservation of `quantity` more at a stock level, if any."""
    if warehouse_type.is_readonly:
        return readonly_refusal(warehouse_id, warehouse_type)
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


def hold_problem(seconds: int) -> str | None:
    """Describe the fault of the duration of a reservation, if any."""
    if not 1 <= seconds <= MAX_HOLD:
        return f"must be 1 to {MAX_HOLD} seconds"
    return None
