"""External ids and metadata through REST."""

from typing import Any, Final

import pytest

from tests.ledger.test_object_details import (
    CHANGE_WAREHOUSE,
    EAN,
    UPDATE_SKU,
    entries,
    ids,
    written,
)
from tests.rest.answers import answered, refusal, refused_fields
from tests.service import Service, level, new_tenant, sku, warehouse

PATH: Final = "/api/inventory"
MAIN: Final = warehouse()


@pytest.fixture
async def shop(service: Service) -> Service:
    await service.load([MAIN], [sku("A/1", level(MAIN, 5)), sku("B", level(MAIN, 5))])
    details: dict[str, Any] = {
        "externalIds": ids(gtin=[EAN], erp=["a:1"]),
        "metadata": entries(color="blue"),
    }
    await written(service, UPDATE_SKU, sku="A/1", **details)
    await written(service, CHANGE_WAREHOUSE, id=MAIN.id, **details)
    return service


async def test_a_list_finds_the_sku_with_an_external_id(shop: Service) -> None:
    for id_ in (f"gtin:{EAN}", f"gtin:0{EAN}", "erp:a:1"):
        body = answered(await shop.rest("GET", f"{PATH}?external_id={id_}"))
        assert [record["sku"] for record in body["data"]] == ["A/1"]
        assert body["meta"] == {"total": 1, "limit": 50, "nextCursor": None}
    for query in (
        "external_id=erp:2",
        "external_id=erp:a:1&sku=B",
        "external_id=erp:a:1&status=low",
    ):
        body = answered(await shop.rest("GET", f"{PATH}?{query}"))
        assert (body["data"], body["meta"]["total"]) == ([], 0)
    # Published records have no new field.
    record = answered(await shop.rest("GET", f"{PATH}/A%2F1"))["data"]
    assert record.keys().isdisjoint({"external_ids", "metadata"})


async def test_details_of_a_sku_and_a_warehouse_are_read(shop: Service) -> None:
    details = {
        "external_ids": [
            {"namespace": "erp", "value": "a:1"},
            {"namespace": "gtin", "value": EAN},
        ],
        "metadata": {"color": "blue"},
    }
    body = answered(await shop.rest("GET", f"{PATH}/A%2F1/details", token="read"))
    assert body == {"data": {"sku": "A/1", "title": "Thing", **details}}
    body = answered(await shop.rest("GET", f"{PATH}/warehouses/{MAIN.id}/details", token="read"))
    assert body == {"data": {"id": MAIN.id, "name": "Main", **details}}
    body = answered(await shop.rest("GET", f"{PATH}/B/details"))
    assert (body["data"]["external_ids"], body["data"]["metadata"]) == ([], {})


async def test_a_list_finds_the_warehouse_with_an_external_id(shop: Service) -> None:
    every = answered(await shop.rest("GET", f"{PATH}/warehouses"))
    assert answered(await shop.rest("GET", f"{PATH}/warehouses?external_id=erp:a:1")) == every
    response = await shop.rest("GET", f"{PATH}/warehouses?external_id=erp:2")
    assert refusal(response) == (404, "WAREHOUSE_NOT_FOUND")


async def test_a_malformed_external_id_is_refused(shop: Service) -> None:
    for query, field in (
        ("external_id=", "external_id"),
        ("external_id=erp", "external_id"),
        ("external_id=:1", "external_id.namespace"),
        ("external_id=ERP:1", "external_id.namespace"),
        ("external_id=erp:", "external_id.value"),
        ("external_id=erp:%00", "external_id.value"),
        ("external_id=gtin:4006381333932", "external_id.value"),
        ("external_id=erp:1&warehouse_id=wh_1", "external_id"),
    ):
        response = await shop.rest("GET", f"{PATH}?{query}")
        assert refused_fields(response) == [field], query


async def test_details_of_another_tenant_are_like_missing_ones(shop: Service) -> None:
    stranger = Service(shop.app, shop.client, shop.database, await new_tenant(shop.database))
    for path, code in (
        ("A%2F1/details", "INVENTORY_NOT_FOUND"),
        (f"warehouses/{MAIN.id}/details", "WAREHOUSE_NOT_FOUND"),
        ("warehouses?external_id=erp:a:1", "WAREHOUSE_NOT_FOUND"),
    ):
        assert refusal(await stranger.rest("GET", f"{PATH}/{path}")) == (404, code)
    body = answered(await stranger.rest("GET", f"{PATH}?external_id=erp:a:1"))
    assert body["data"] == []
