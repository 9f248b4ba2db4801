"""Reads and refusals agree: archived SKUs and closed warehouses say that they are."""

from typing import Any

from tests.rest.answers import answered
from tests.service import Service, level, new_tenant, sku, warehouse

CLOSE = """
mutation ($input: UpdateWarehouseInput!) {
  updateWarehouse(input: $input) {
    warehouse { isActive } remainingStock { stockedLevels reservedLevels }
  }
}
"""
ARCHIVE = "mutation ($i: SkuInput!) { archiveSku(input: $i) { replayed } }"


async def test_the_record_of_an_archived_sku_says_so(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5)), sku("B")])
    path = "/api/inventory/A"
    before = answered(await service.rest("GET", path))["data"]
    assert "is_archived" not in before
    await service.data(ARCHIVE, {"i": {"sku": "A"}}, token="admin")

    read = await service.rest("GET", path)
    assert answered(read)["data"] == {**before, "is_archived": True}
    assert list(read.json()["data"])[-1] == "is_archived"
    body = {"warehouse_id": main.id, "quantity": 4, "reason": "loss"}
    put = await service.rest("PUT", path, json=body)
    assert answered(put)["data"]["is_archived"] is True
    assert put.headers["etag"] == (await service.rest("GET", path)).headers["etag"]
    listed = answered(await service.rest("GET", "/api/inventory"))["data"]
    assert [list(record) for record in listed] == [list(before)]


async def test_closing_a_warehouse_returns_the_stock_that_it_still_holds(
    service: Service,
) -> None:
    main, empty = warehouse(), warehouse("Empty")
    levels = [sku("A", level(main, 5, reserved=2)), sku("B", level(main, 1)), sku("C")]
    await service.load([main, empty], [*levels, sku("D", level(main, 0), level(empty, 0))])
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    theirs = warehouse("Theirs")
    await other.load([theirs], [sku("A", level(theirs, 5))])

    async def change(record: Any, **fields: object) -> Any:
        variables = {"input": {"id": record.id, **fields}}
        data = await service.data(CLOSE, variables, token="admin")
        return data["updateWarehouse"]["remainingStock"]

    remaining = {"stockedLevels": 2, "reservedLevels": 1}
    assert await change(main, isActive=False, dryRun=True) == remaining
    assert await change(main, name="Open") is None
    assert await change(main, isActive=False) == remaining
    assert await change(main, name="Still closed") == remaining
    assert await change(main, isActive=True) is None
    assert await change(empty, isActive=False) is None
