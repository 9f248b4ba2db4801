"""GraphQL documents and requests of reservations."""

from typing import Any, Final

from app.domain.warehouses import WarehouseType
from tests.service import Service, level, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
MARKET: Final = warehouse("Market", WarehouseType.FBA)
CLOSED: Final = warehouse("Closed", is_active=False)
RESERVE: Final = """
mutation ($input: ReserveStockInput!) {
  reserveStock(input: $input) {
    reservation {
      id status reference note createdBy expiresAt endedAt version
      lines { sku { sku } warehouse { id } quantity held committed }
    }
    skus { sku totalOnHand totalReserved totalAvailable }
    replayed
  }
}
"""
COMMIT: Final = """
mutation ($input: CommitReservationInput!) {
  commitReservation(input: $input) {
    reservation { id status endedAt lines { quantity held committed } }
    adjustments { delta reason note reference reservationId }
    skus { sku totalOnHand totalReserved }
    replayed
  }
}
"""
RELEASE: Final = """
mutation ($input: ReleaseReservationInput!) {
  releaseReservation(input: $input) {
    reservation { status lines { held committed } } skus { totalReserved } replayed
  }
}
"""
EXTEND: Final = """
mutation ($input: ExtendReservationInput!) {
  extendReservation(input: $input) { reservation { expiresAt status version } replayed }
}
"""


def line(code: str, quantity: int, warehouse_id: str = MAIN.id) -> dict[str, object]:
    return {"sku": code, "warehouseId": warehouse_id, "quantity": quantity}


async def reserve(service: Service, *lines: dict[str, object], **more: object) -> dict[str, Any]:
    """Reserve stock. Returns the reservation."""
    data = await service.data(RESERVE, {"input": {"lines": [*lines], **more}})
    result: dict[str, Any] = data["reserveStock"]["reservation"]
    return result


async def refusal(service: Service, query: str, **content: object) -> dict[str, Any]:
    """Error extensions of a refused write."""
    answer = await service.graphql(query, {"input": content})
    assert not any((answer.get("data") or {}).values()), answer
    [error] = answer["errors"]
    result: dict[str, Any] = error["extensions"]
    return result


async def stocked(service: Service) -> None:
    await service.load(
        [MAIN, OTHER, MARKET, CLOSED],
        [
            sku("A", level(MAIN, 10, safety_stock=2), level(OTHER, 5), level(MARKET, 7)),
            sku("B", level(MAIN, 3), level(CLOSED, 4)),
        ],
    )
