"""Catalogue and marketplace writes with hostile values."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from app.domain.warehouses import WarehouseType
from app.ledger.verification import verify_tenant
from tests.service import Service, level, sku, warehouse

MAIN: Final = warehouse("Main")
FBA: Final = warehouse("FBA", WarehouseType.FBA, marketplace="amazon_eu")
INPUTS: Final = {
    "createSku": "CreateSkuInput",
    "updateSku": "UpdateSkuInput",
    "archiveSku": "SkuInput",
    "restoreSku": "SkuInput",
    "createWarehouse": "CreateWarehouseInput",
    "updateWarehouse": "UpdateWarehouseInput",
    "setReorderPoints": "SetReorderPointsInput",
    "setSafetyStock": "SetSafetyStockInput",
    "syncStock": "SyncStockInput",
}
GOOD: Final[dict[str, dict[str, Any]]] = {
    "createSku": {"sku": "NEW", "title": "New"},
    "updateSku": {"sku": "A", "title": "Other", "expectedVersion": 3},
    "archiveSku": {"sku": "A", "expectedVersion": 3},
    "restoreSku": {"sku": "A", "expectedVersion": 3},
    "createWarehouse": {"name": "N", "type": "FBA", "address": "x", "marketplace": "amazon_eu"},
    "updateWarehouse": {
        "id": FBA.id,
        "name": "N",
        "address": "x",
        "marketplace": "amazon_de",
        "isSellable": False,
    },
    "setReorderPoints": {"levels": [{"sku": "A", "warehouseId": MAIN.id, "reorderPoint": 3}]},
    "setSafetyStock": {"levels": [{"sku": "A", "warehouseId": MAIN.id, "safetyStock": 3}]},
    "syncStock": {
        "warehouseId": FBA.id,
        "reportedAt": "2026-01-02T03:04:05Z",
        "levels": [{"sku": "A", "onHand": 3}],
    },
}
HOSTILE: Final = {
    "nothing": "",
    "a space": " ",
    "NUL": "a\x00b",
    "a surrogate's escape": "\ufffd\uffff",
    "a line break": "a\r\nb",
    "very much": "x" * 100_000,
    "another type": 7,
    "a list": ["x"],
    "an object": {"x": 1},
    "yes": True,
    "below zero": -1,
    "64 bits and one": 2**63,
    "a hundred digits": 10**100,
    "a fraction": 0.5,
    "the first instant": "0001-01-01T00:00:00Z",
    "the last instant": "9999-12-31T23:59:59.999Z",
    "an instant that zones push out": "0001-01-01T00:00:00+14:00",
}


def broken(value: Any, hostile: object) -> Iterator[Any]:
    """Yield copies of a value, each with one leaf replaced."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: other} for other in broken(inner, hostile))
    elif isinstance(value, list):
        yield from ([other] for other in broken(value[0], hostile))
        yield []
        yield value * 501
    else:
        yield hostile


@pytest.mark.parametrize("what", HOSTILE)
async def test_no_hostile_value_causes_an_internal_error(service: Service, what: str) -> None:
    await service.load([MAIN, FBA], [sku("A", level(MAIN, 5), level(FBA, 2))])
    sent = 0
    for name, type_ in INPUTS.items():
        query = f"mutation ($input: {type_}!) {{ {name}(input: $input) {{ replayed }} }}"
        for given in broken(GOOD[name], HOSTILE[what]):
            for key in (None, f"{name}-{sent // 3}", f"{name}-{sent // 3}"):
                answer = await service.graphql(
                    query, {"input": {**given, "idempotencyKey": key}}, token="admin"
                )
                codes = [error["extensions"]["code"] for error in answer.get("errors", ())]
                assert not {"INTERNAL", "UNAVAILABLE"} & set(codes), (name, given, answer)
                sent += 1

    assert sent > 60
    await verify_tenant(service.database, service.tenant_id)
    assert (await service.rest("GET", "/api/inventory")).status_code == 200
    assert (await service.rest("GET", "/api/inventory/warehouses")).status_code == 200
