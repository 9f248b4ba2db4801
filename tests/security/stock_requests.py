"""Requests on the stock under attack, and the checks of their responses."""

from typing import Any, Final

import httpx

from app.domain.warehouses import WarehouseType
from tests.fuzz.target import SECRETS
from tests.service import Service, warehouse

MAIN: Final = warehouse()
AMAZON: Final = warehouse("Amazon", WarehouseType.FBA)
UPDATE: Final = {"warehouse_id": MAIN.id, "quantity": 9, "reason": "cycle_count"}
SET: Final = f'setStock(input: {{sku: "A", warehouseId: "{MAIN.id}", quantity: 9, reason: "x"}}) {{ replayed }}'  # fmt: skip
PRECISE: Final = {"Accept": "application/graphql-response+json"}


async def on_hand(service: Service, code: str = "A") -> int:
    """Quantity of the main warehouse."""
    data = await service.data("query ($s: String!) { sku(sku: $s) { totalOnHand } }", {"s": code})
    result: int = data["sku"]["totalOnHand"]
    return result - 3


async def put(service: Service, *, token: str = "write", **options: Any) -> httpx.Response:
    """Set A to 9."""
    return await service.rest("PUT", "/api/inventory/A", token=token, **{"json": UPDATE, **options})


def code_of(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal; asserts that it shows no secrets."""
    body = response.json()
    facts = body["error"] if "error" in body else body["errors"][0]["extensions"]
    assert not SECRETS.search(response.text), response.text
    assert facts["request_id"] == response.headers["x-request-id"]
    return response.status_code, facts["code"]
