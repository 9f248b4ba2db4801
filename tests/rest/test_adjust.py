"""Adjustments by a delta, and dry runs of writes, through REST and GraphQL."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from tests.ledger.writes import ADJUST, BULK, SET, Json, assert_proven, ledger
from tests.rest.answers import answered, refusal, refused_fields
from tests.service import EMAIL, Service, level, sku, warehouse

PATH: Final = "/api/inventory/A"
MAX: Final = 10**12


@pytest.fixture
async def main(service: Service) -> WarehouseRecord:
    own = warehouse()
    await service.load([own], [sku("A", level(own, 10, reserved=2)), sku("B")])
    return own


def adjustment(warehouse: WarehouseRecord, delta: object, **more: object) -> Json:
    return {"warehouse_id": warehouse.id, "delta": delta, "reason": "damage", **more}


async def post(service: Service, body: Json, **more: Any) -> Any:
    return await service.rest("POST", f"{PATH}/adjustments", json=body, **more)


async def state(service: Service) -> Any:
    record = await service.rest("GET", PATH)
    listing = await service.rest("GET", f"{PATH}/adjustments")
    return answered(record), record.headers["ETag"], answered(listing)


async def test_adjustment_is_returned_and_newest_in_the_history(
    service: Service, main: WarehouseRecord
) -> None:
    response = await post(service, adjustment(main, -3, note="Fell off"))

    written = answered(response)["data"]
    assert written == {
        "id": written["id"],
        "sku": "A",
        "warehouse_id": main.id,
        "before_quantity": 10,
        "after_quantity": 7,
        "delta": -3,
        "reason": "damage",
        "note": "Fell off",
        "created_by": EMAIL,
        "created_at": written["created_at"],
    }
    record, etag, history = await state(service)
    assert response.headers["ETag"] == etag
    assert history["data"][0] == written
    assert record["data"]["total_available"] == 5
    await assert_proven(service)


@pytest.mark.parametrize(("delta", "left"), [(0, 10), (5, 15), (-10, 0), (MAX - 10, MAX)])
async def test_a_delta_is_added(
    service: Service, main: WarehouseRecord, delta: int, left: int
) -> None:
    assert answered(await post(service, adjustment(main, delta)))["data"]["after_quantity"] == left
    answer = await service.data(
        ADJUST,
        {"input": {"sku": "B", "warehouseId": main.id, "delta": left, "reason": "correction"}},
    )
    changed = answer["adjustStock"]
    assert changed["adjustment"]["beforeQuantity"] == 0
    assert changed["stockLevel"]["onHand"] == changed["sku"]["totalOnHand"] == left


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (-11, (422, "NEGATIVE_QUANTITY")),
        (-MAX, (422, "NEGATIVE_QUANTITY")),
        (MAX - 9, (422, "VALIDATION_ERROR")),
        (MAX + 1, (422, "VALIDATION_ERROR")),
        (-MAX - 1, (422, "VALIDATION_ERROR")),
        (10**30, (422, "VALIDATION_ERROR")),
        (1.0, (422, "VALIDATION_ERROR")),
        ("1", (422, "VALIDATION_ERROR")),
        (True, (422, "VALIDATION_ERROR")),
        (None, (422, "VALIDATION_ERROR")),
    ],
)
async def test_invalid_delta_is_rejected_and_changes_nothing(
    service: Service, main: WarehouseRecord, delta: object, expected: tuple[int, str]
) -> None:
    before = await state(service)
    response = await post(service, adjustment(main, delta))
    assert refusal(response) == expected
    if expected[1] == "VALIDATION_ERROR":
        assert refused_fields(response) == ["delta"]
    assert await state(service) == before


async def test_inactive_warehouse_allows_decreases_and_a_marketplace_warehouse_none(
    service: Service,
) -> None:
    old, fba = warehouse("Old", is_active=False), warehouse("FBA", WarehouseType.FBA)
    await service.load([old, fba], [sku("A", level(old, 5), level(fba, 5))])

    assert refusal(await post(service, adjustment(old, 1))) == (422, "WAREHOUSE_INACTIVE")
    assert refusal(await post(service, adjustment(fba, -1))) == (403, "READONLY_WAREHOUSE")
    assert answered(await post(service, adjustment(old, -5)))["data"]["after_quantity"] == 0


async def test_adjustment_respects_if_match_and_idempotency_key(
    service: Service, main: WarehouseRecord
) -> None:
    _, etag, _ = await state(service)
    headers = {"If-Match": etag, "Idempotency-Key": "one"}
    first = await post(service, adjustment(main, -1), headers=headers)
    again = await post(service, adjustment(main, -1), headers=headers)
    assert answered(again) == answered(first)
    assert again.headers["Idempotent-Replayed"] == "true"

    assert refusal(await post(service, adjustment(main, -2), headers=headers)) == (
        422,
        "IDEMPOTENCY_KEY_REUSED",
    )
    stale = await post(service, adjustment(main, -1), headers={"If-Match": etag})
    assert refusal(stale) == (412, "STALE_VERSION")
    assert await ledger(service, "A") == [(1, 0, 10), (2, 10, 9)]


async def test_idempotency_key_of_a_set_is_rejected_for_an_adjustment(
    service: Service, main: WarehouseRecord
) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"warehouse_id": main.id, "quantity": 3, "reason": "damage"}
    answered(await service.rest("PUT", PATH, json=body, headers=headers))
    assert refusal(await post(service, adjustment(main, 3), headers=headers)) == (
        422,
        "IDEMPOTENCY_KEY_REUSED",
    )


async def test_concurrent_decreases_never_make_stock_negative(
    service: Service, main: WarehouseRecord
) -> None:
    responses = await asyncio.gather(
        *(post(service, adjustment(main, -1)) for _ in range(16)),
    )
    outcomes = [response.status_code for response in responses]
    assert (outcomes.count(200), outcomes.count(422)) == (10, 6)
    assert len(await ledger(service, "A")) == 11
    await assert_proven(service)


async def test_a_bulk_sets_and_adjusts(service: Service, main: WarehouseRecord) -> None:
    common = {"warehouse_id": main.id, "reason": "correction"}
    updates = [{"sku": "A", "delta": -4, **common}, {"sku": "B", "quantity": 8, **common}]
    body = answered(await service.rest("POST", "/api/inventory/bulk", json={"updates": updates}))
    assert [(it["after_quantity"], it["delta"]) for it in body["data"]] == [(6, -4), (8, 8)]

    updates = [{"sku": "A", "delta": -7, **common}, {"sku": "B", "delta": 1, **common}]
    response = await service.rest("POST", "/api/inventory/bulk", json={"updates": updates})
    assert refusal(response) == (422, "NEGATIVE_QUANTITY")
    assert await ledger(service, "B") == [(1, 0, 8)]


@pytest.mark.parametrize("both", [{}, {"quantity": 1, "delta": 1}, {"quantity": None}])
async def test_an_update_of_a_bulk_either_sets_or_adjusts(
    service: Service, main: WarehouseRecord, both: Json
) -> None:
    update = {"sku": "A", "warehouse_id": main.id, "reason": "correction", **both}
    response = await service.rest("POST", "/api/inventory/bulk", json={"updates": [update]})
    assert refusal(response) == (422, "VALIDATION_ERROR")
    assert refused_fields(response) == ["updates.0.quantity"]


# Writes that leave a given quantity of the 10 pieces of SKU A in a warehouse.
REST_WRITES: Final[Mapping[str, Callable[[WarehouseRecord, int], tuple[str, str, Json]]]] = {
    "a set": lambda warehouse, left: (
        "PUT",
        PATH,
        {"warehouse_id": warehouse.id, "quantity": left, "reason": "loss"},
    ),
    "an adjustment": lambda warehouse, left: (
        "POST",
        f"{PATH}/adjustments",
        adjustment(warehouse, left - 10),
    ),
    "a bulk": lambda warehouse, left: (
        "POST",
        "/api/inventory/bulk",
        {
            "updates": [
                {"sku": "A", "warehouse_id": warehouse.id, "quantity": left, "reason": "loss"},
                {"sku": "B", "warehouse_id": warehouse.id, "delta": 1, "reason": "loss"},
            ]
        },
    ),
}


@pytest.mark.parametrize("name", REST_WRITES)
async def test_dry_run_returns_the_response_of_the_write_and_writes_nothing(
    service: Service, main: WarehouseRecord, name: str
) -> None:
    before = await state(service)
    for left, dry in [(4, True), (-1, True), (4, False)]:
        method, path, body = REST_WRITES[name](main, left)
        response = await service.rest(
            method,
            path,
            json=body,
            params={"dry_run": str(dry).lower()},
            headers={"Idempotency-Key": "one"},
        )
        if dry:
            assert await state(service) == before
            assert await ledger(service, "B") == []
        if left < 0:
            assert refusal(response) == (422, "NEGATIVE_QUANTITY")
        elif dry:
            preview = response
    assert "Idempotent-Replayed" not in response.headers
    assert without_identity(answered(preview)) == without_identity(answered(response))
    # Its version does not exist yet: another write may make it first.
    assert "ETag" not in preview.headers
    await assert_proven(service)


async def test_dry_run_with_a_used_idempotency_key_is_replayed(
    service: Service, main: WarehouseRecord
) -> None:
    headers = {"Idempotency-Key": "one"}
    done = await post(service, adjustment(main, -1), headers=headers)
    again = await post(service, adjustment(main, -1), headers=headers, params={"dry_run": "true"})
    assert answered(again) == answered(done)
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("value", ["", "1", "True", "yes"])
async def test_a_dry_run_is_true_or_false(
    service: Service, main: WarehouseRecord, value: str
) -> None:
    response = await post(service, adjustment(main, -1), params={"dry_run": value})
    assert refusal(response) == (422, "VALIDATION_ERROR")
    assert refused_fields(response) == ["dry_run"]
    assert await ledger(service, "A") == [(1, 0, 10)]


@pytest.mark.parametrize("query", [SET, ADJUST, BULK])
async def test_a_dry_run_by_graphql_writes_nothing(
    service: Service, main: WarehouseRecord, query: str
) -> None:
    update: Json = {"sku": "A", "warehouseId": main.id, "reason": "loss"}
    if query == ADJUST:
        content = {**update, "delta": -6}
    elif query == SET:
        content = {**update, "quantity": 4}
    else:
        content = {"updates": [{**update, "change": {"delta": -6}}]}
    before = await state(service)
    preview = await service.data(query, {"input": {**content, "dryRun": True}})
    assert await state(service) == before
    done = await service.data(query, {"input": content})
    assert without_identity(preview) == without_identity(done)


def without_identity(value: Any) -> Any:
    """Return a response without the ids and instants, which differ per write."""
    if isinstance(value, dict):
        return {
            key: without_identity(item)
            for key, item in value.items()
            if key not in ("id", "adjustment_id", "created_at")
        }
    if isinstance(value, list):
        return [without_identity(item) for item in value]
    return value
