"""Warehouse types and the refusals about a warehouse."""

from enum import StrEnum

from app.errors import ReadonlyWarehouse, WarehouseNotFound


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


def readonly_refusal(warehouse_id: str, warehouse_type: WarehouseType) -> ReadonlyWarehouse:
    return ReadonlyWarehouse(
        f"Warehouse {warehouse_id} is {warehouse_type}: its marketplace runs it, and its "
        "stock is read-only.",
        details=[{"warehouse_id": warehouse_id, "type": warehouse_type.value}],
    )


def warehouse_not_found(warehouse_id: str) -> WarehouseNotFound:
    """Return the refusal of a warehouse id that the tenant does not have."""
    return WarehouseNotFound(
        f"Warehouse {warehouse_id!r} does not exist; GET /api/inventory/warehouses lists all.",
        details=[{"warehouse_id": warehouse_id}],
    )
