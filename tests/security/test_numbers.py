"""Numbers that are wider than any storage or comparison of them."""

import pytest

from tests.graphql.test_access_matrix import CODE, WAREHOUSE
from tests.security.test_isolation import stock
from tests.service import Service

WIDE = (2**63, -(2**63) - 1, 553_981_333_943_322_476_544)


@pytest.mark.parametrize("number", [*WIDE, -1, 10**12 + 1])
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_an_impossible_expected_quantity_is_refused(
    service: Service, method: str, number: int
) -> None:
    await stock(service, "x", [CODE], 5)
    path = f"/api/inventory/{CODE}{'/adjustments' if method == 'POST' else ''}"
    change = {"delta": 1} if method == "POST" else {"quantity": 1}
    body = {"warehouse_id": WAREHOUSE, "reason": "loss", "expected_quantity": number, **change}

    for headers in ({}, {"Idempotency-Key": "k"}):
        response = await service.rest(method, path, json=body, headers=headers)
        assert response.status_code == 422
        [detail] = response.json()["error"]["details"]
        assert detail["field"] == "expected_quantity"


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("quantity", 2**63, "VALIDATION_ERROR"),
        ("quantity", -(2**63) - 1, "NEGATIVE_QUANTITY"),
        ("expectedQuantity", 2**64, "VALIDATION_ERROR"),
        ("expectedVersion", 2**64, "STALE_VERSION"),
        ("expectedSkuVersions", [2**64], "STALE_VERSION"),
    ],
)
async def test_a_number_wider_than_64_bits_is_refused_with_and_without_a_key(
    service: Service, name: str, number: object, code: str
) -> None:
    await stock(service, "x", [CODE], 5)
    given = {"sku": CODE, "warehouseId": WAREHOUSE, "reason": "loss", "quantity": 5, name: number}
    query = "mutation ($input: SetStockInput!) { setStock(input: $input) { replayed } }"
    for key in (None, "k", "k"):
        answer = await service.graphql(query, {"input": {**given, "idempotencyKey": key}})
        assert answer["errors"][0]["extensions"]["code"] == code
