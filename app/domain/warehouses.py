"""Warehouse types and refusals about a warehouse."""

from enum import StrEnum

from app.errors import ReadonlyWarehouse


class WarehouseType(StrEnum):
    """The operator of a warehouse: the tenant, a marketplace or a third party."""

    OWN = "own"
    FBA = "FBA"
    FBS = "FBS"
    THIRD_PARTY = "3PL"

    @property
    def is_readonly(self) -> bool:
        """Whether a marketplace operates the warehouse; stock writes are then refused."""
        return self in (WarehouseType.FBA, WarehouseType.FBS)

    @property
    def sends_reports(self) -> bool:
        """Whether its operator, not the tenant, counts the stock and reports it."""
        return self is not WarehouseType.OWN


def readonly_refusal(warehouse_id: str, warehouse_type: WarehouseType) -> ReadonlyWarehouse:
    """Create the refusal of a stock write to a warehouse of a marketplace."""
    return ReadonlyWarehouse(
        f"Warehouse {warehouse_id} is {warehouse_type}: its marketplace runs it, and its "
        "stock is read-only.",
        details=[{"warehouse_id": warehouse_id, "type": warehouse_type.value}],
    )


def marketplace_problem(marketplace: str | None, warehouse_type: WarehouseType) -> str | None:
    """Describe the fault of the marketplace of a warehouse, if any."""
    if marketplace is None or warehouse_type.is_readonly:
        return None
    return f"must be given for {WarehouseType.FBA} and {WarehouseType.FBS} only"
