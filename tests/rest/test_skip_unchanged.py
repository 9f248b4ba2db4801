"""`skip_unchanged`: a feed of counts writes an entry only where stock changes."""

from typing import Any, Final

import pytest

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files.seeding import LoadedLevel
from tests.rest.answers import Json, answered, refusal
from tests.service import Service, level, sku, warehouse

BULK: Final = "/api/inventory/bulk"


def count(record: WarehouseRecord, quantity: int, **more: Any) -> Json:
    fields = {"warehouse_id": record.id, "quantity": quantity, "reason": "cycle_count"}
    return {**fields, "skip_unchanged": True, **more}


def row(code: str, record: WarehouseRecord, **more: Any) -> Json:
    return {"sku": code, "warehouse_id": record.id, "reason": "cycle_count", **more}


async def history(service: Service, code: str) -> list[tuple[int, int]]:
    entries = answered(await service.rest("GET", f"/api/inventory/{code}/adjustments"))["data"]
    return [(entry["before_quantity"], entry["after_quantity"]) for entry in entries]


async def test_the_same_count_writes_nothing_and_returns_the_record(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    before = await service.rest("GET", "/api/inventory/A")

    for _ in range(2):
        response = await service.rest("PUT", "/api/inventory/A", json=count(main, 5))
        assert answered(response) == before.json()
        assert response.headers["etag"] == before.headers["etag"]
    assert await history(service, "A") == [(0, 5)]


async def test_another_count_is_written(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])

    record = answered(await service.rest("PUT", "/api/inventory/A", json=count(main, 6)))["data"]
    assert record["total_on_hand"] == 6
    assert await history(service, "A") == [(5, 6), (0, 5)]


async def test_the_first_count_of_a_level_is_written_although_it_is_zero(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A")])

    for _ in range(2):
        answer = answered(await service.rest("PUT", "/api/inventory/A", json=count(main, 0)))
        assert len(answer["data"]["warehouses"]) == 1
    assert await history(service, "A") == [(0, 0)]


async def test_the_first_count_of_a_configured_level_is_written(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, safety_stock=2))])

    for _ in range(2):
        answered(await service.rest("PUT", "/api/inventory/A", json=count(main, 0)))
    assert await history(service, "A") == [(0, 0)]


async def test_every_check_applies_to_the_same_count(service: Service) -> None:
    main, fba = warehouse(), warehouse("FBA", WarehouseType.FBA)
    await service.load([main, fba], [sku("A", level(main, 5), level(fba, 5))])

    async def put(body: Json, **headers: str) -> object:
        response = await service.rest("PUT", "/api/inventory/A", json=body, headers=headers)
        return refusal(response)

    assert await put(count(fba, 5)) == (403, "READONLY_WAREHOUSE")
    assert await put(count(main, 5, expected_quantity=4)) == (409, "STALE_VERSION")
    assert await put(count(main, 5), **{"If-Match": '"77"'}) == (412, "STALE_VERSION")
    assert await put(count(main, 5, skip_unchanged="yes")) == (422, "VALIDATION_ERROR")


async def test_a_bulk_writes_only_the_changed_levels(service: Service) -> None:
    main, north = warehouse(), warehouse("North")
    stock = [sku("A", level(main, 5), level(north, 6)), sku("B", level(main, 7)), sku("C")]
    await service.load([main, north], stock)
    updates = [
        row("A", main, quantity=5),
        row("A", north, quantity=9),
        row("B", main, delta=0),
        row("C", main, quantity=0),
        row("B", north, quantity=-1),
    ]
    body = {"updates": updates, "on_error": "continue", "skip_unchanged": True}

    answer = answered(await service.rest("POST", BULK, json=body))

    statuses = [result["status"] for result in answer["data"]]
    assert statuses == ["unchanged", "updated", "unchanged", "updated", "failed"]
    assert answer["meta"] == {"total": 5, "succeeded": 4, "failed": 1}
    assert answer["data"][0] == {
        "index": 0,
        "sku": "A",
        "warehouse_id": main.id,
        "status": "unchanged",
        "before_quantity": 5,
        "after_quantity": 5,
        "delta": 0,
    }
    assert answer["data"][2]["after_quantity"] == 7
    written = {code: await history(service, code) for code in "ABC"}
    assert {code: len(entries) for code, entries in written.items()} == {"A": 3, "B": 1, "C": 1}


async def test_an_unchanged_bulk_is_replayed_and_its_key_is_bound_to_the_option(
    service: Service,
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    body = {"updates": [row("A", main, quantity=5)], "skip_unchanged": True}

    async def send(**changes: object) -> Any:
        headers = {"Idempotency-Key": "feed-1"}
        return await service.rest("POST", BULK, json={**body, **changes}, headers=headers)

    first, second = await send(), await send()
    assert answered(second) == answered(first)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert refusal(await send(skip_unchanged=False)) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert await history(service, "A") == [(0, 5)]


@pytest.mark.parametrize("dry_run", ["true", "false"])
async def test_graphql_returns_the_level_without_an_adjustment(
    service: Service, dry_run: str
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    level_fields = f'sku: "A", warehouseId: "{main.id}", reason: "cycle_count"'
    update = f"{{{level_fields}, change: {{quantity: 5}}}}"
    options = f"skipUnchanged: true, dryRun: {dry_run}"

    data = await service.data(
        f"mutation {{ setStock(input: {{{level_fields}, quantity: 5, {options}}}) "
        "{ adjustment { id } stockLevel { onHand version } } "
        f"bulkSetStock(input: {{updates: [{update}], {options}}}) "
        "{ succeeded skus { sku } results { status adjustment { id } stockLevel { onHand } } } }"
    )

    assert data["setStock"] == {"adjustment": None, "stockLevel": {"onHand": 5, "version": 1}}
    result = {"status": "UNCHANGED", "adjustment": None, "stockLevel": {"onHand": 5}}
    assert data["bulkSetStock"] == {"succeeded": 1, "skus": [], "results": [result]}
    assert await history(service, "A") == [(0, 5)]
