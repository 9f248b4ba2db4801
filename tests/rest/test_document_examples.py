"""The examples of the published API document, exactly, with keys in its order."""

import json

from app.demo import DOCUMENT_ADJUSTMENT, FBA_EU, WAREHOUSE_A, WAREHOUSE_B
from app.domain.warehouses import WarehouseType
from tests.rest.answers import answered, ordered
from tests.service import Service, warehouse

RECORD = """
{
"sku": "SKU-001",
"title": "Blue Widget 500ml",
"total_on_hand": 487,
"total_reserved": 23,
"total_available": 449,
"safety_stock": 15,
"status": "normal",
"warehouses": [
{
"warehouse_id": "wh_01HX...",
"name": "Warehouse A",
"on_hand": 350,
"reserved": 18,
"available": 317
},
{
"warehouse_id": "wh_01HY...",
"name": "FBA EU",
"on_hand": 137,
"reserved": 5,
"available": 132,
"type": "FBA"
}
]
}
"""
WAREHOUSES = """
[
{
"id": "wh_01HX...",
"name": "Warehouse A",
"address": "Industriestraße 1, 12345 Berlin, DE",
"type": "own",
"is_active": true
},
{
"id": "wh_01HY...",
"name": "FBA EU",
"type": "FBA",
"marketplace": "amazon_eu",
"is_active": true,
"is_readonly": true
}
]
"""
ADJUSTMENT = """
{
"id": "adj_01HX...",
"sku": "SKU-001",
"warehouse_id": "wh_01HX...",
"before_quantity": 450,
"after_quantity": 500,
"delta": 50,
"reason": "supplier_receipt",
"note": "PO-2026-0312 received",
"created_by": "[email protected]",
"created_at": "2026-03-12T14:00:00.000Z"
}
"""
UPDATE = """
{
"warehouse_id": "wh_01HX...",
"quantity": 500,
"reason": "supplier_receipt",
"note": "PO-2026-0312 received"
}
"""
BULK = """
{
"updates": [
{
"sku": "SKU-001",
"warehouse_id": "wh_01HX...",
"quantity": 500,
"reason": "supplier_receipt"
},
{
"sku": "SKU-002",
"warehouse_id": "wh_01HX...",
"quantity": 200,
"reason": "cycle_count"
}
]
}
"""
JSON = {"Content-Type": "application/json"}
READER = "demo-read"
WRITER = "demo-write"


def with_ids(example: str) -> str:
    ids = {
        "wh_01HX...": WAREHOUSE_A,
        "wh_01HY...": FBA_EU,
        "adj_01HX...": DOCUMENT_ADJUSTMENT,
    }
    for printed, whole in ids.items():
        assert whole.startswith(printed.removesuffix("..."))
        example = example.replace(printed, whole)
    return example


async def test_list_starts_with_the_documented_record_and_has_meta(demo: Service) -> None:
    response = await demo.rest("GET", "/api/inventory", token=READER)

    kind, [(data_key, data), (meta_key, (_, meta))] = ordered(response.text)
    assert (response.status_code, kind) == (200, "object")
    assert (data_key, meta_key) == ("data", "meta")
    assert len(data) == 50
    assert data[0] == ordered(with_ids(RECORD))
    assert meta[:2] == [("total", 1248), ("limit", 50)]
    assert meta[2][0] == "nextCursor"
    assert meta[2][1].startswith("cursor_")
    assert len(meta) == 3


async def test_single_sku_is_the_documented_record(demo: Service) -> None:
    response = await demo.rest("GET", "/api/inventory/SKU-001", token=READER)

    assert response.status_code == 200
    assert ordered(response.text) == ordered(f'{{"data": {with_ids(RECORD)}}}')


async def test_warehouses_begin_with_the_documented_ones(demo: Service) -> None:
    response = await demo.rest("GET", "/api/inventory/warehouses", token=READER)

    assert response.status_code == 200
    _, [(key, result)] = ordered(response.text)
    assert (key, result[:-1]) == ("data", ordered(with_ids(WAREHOUSES)))
    # The demo has a third warehouse, to which stock can be transferred.
    assert dict(result[-1][1])["id"] == WAREHOUSE_B


async def test_history_has_the_documented_adjustment(demo: Service) -> None:
    response = await demo.rest("GET", "/api/inventory/SKU-001/adjustments", token=READER)

    _, [(key, entries)] = ordered(response.text)
    assert (response.status_code, key) == (200, "data")
    [result] = [entry for entry in entries if ("reason", "supplier_receipt") in entry[1]]
    assert result == ordered(with_ids(ADJUSTMENT))


async def test_history_of_the_documented_sku_is_an_unbroken_chain(demo: Service) -> None:
    parameters = {"warehouse_id": WAREHOUSE_A}
    path = "/api/inventory/SKU-001/adjustments"
    body = answered(await demo.rest("GET", path, token=READER, params=parameters))

    entries = body["data"][::-1]
    assert [entry["before_quantity"] for entry in entries] == [
        0,
        *(entry["after_quantity"] for entry in entries[:-1]),
    ]
    assert entries[-1]["after_quantity"] == 350


async def test_documented_update_returns_the_updated_record(own_demo: Service) -> None:
    path = "/api/inventory/SKU-001"
    response = await own_demo.rest(
        "PUT", path, token=WRITER, content=with_ids(UPDATE), headers=JSON
    )

    changes = {'"on_hand": 350': '"on_hand": 500', "317": "467", "487": "637", "449": "599"}
    expected = with_ids(RECORD)
    for before, after in changes.items():
        expected = expected.replace(before, after)
    assert response.status_code == 200
    assert ordered(response.text) == ordered(f'{{"data": {expected}}}')
    again = await own_demo.rest("GET", path, token=READER)
    assert again.text == response.text


async def test_documented_bulk_is_applied(own_demo: Service) -> None:
    [before] = [
        item["on_hand"]
        for item in answered(await own_demo.rest("GET", "/api/inventory/SKU-002", token=READER))[
            "data"
        ]["warehouses"]
        if item["warehouse_id"] == WAREHOUSE_A
    ] or [0]

    response = await own_demo.rest(
        "POST", "/api/inventory/bulk", token=WRITER, content=with_ids(BULK), headers=JSON
    )

    ids = []
    for code in ("SKU-001", "SKU-002"):
        path = f"/api/inventory/{code}/adjustments"
        newest = answered(await own_demo.rest("GET", path, token=READER, params={"limit": 1}))[
            "data"
        ][0]
        assert newest["created_by"] == "demo@example.com"
        assert list(newest) == [name for name in json.loads(ADJUSTMENT) if name != "note"]
        ids.append(newest["id"])
    assert response.status_code == 200
    assert ordered(response.text) == ordered(
        json.dumps(
            {
                "data": [
                    {
                        "index": 0,
                        "sku": "SKU-001",
                        "warehouse_id": WAREHOUSE_A,
                        "status": "updated",
                        "before_quantity": 350,
                        "after_quantity": 500,
                        "delta": 150,
                        "adjustment_id": ids[0],
                    },
                    {
                        "index": 1,
                        "sku": "SKU-002",
                        "warehouse_id": WAREHOUSE_A,
                        "status": "updated",
                        "before_quantity": before,
                        "after_quantity": 200,
                        "delta": 200 - before,
                        "adjustment_id": ids[1],
                    },
                ],
                "meta": {"total": 2, "succeeded": 2, "failed": 0},
            }
        )
    )


async def test_optional_keys_of_a_warehouse_are_omitted_if_not_set(service: Service) -> None:
    marketplace = warehouse("FBS DE", WarehouseType.FBS, marketplace="amazon_de")
    provider = warehouse("North", WarehouseType.THIRD_PARTY, address="Havenstraat 12")
    closed = warehouse("Old Hall", is_active=False)
    await service.load([marketplace, provider, closed])

    body = answered(await service.rest("GET", "/api/inventory/warehouses"))

    result = {each["id"]: each for each in body["data"]}
    assert list(result[marketplace.id].items())[1:] == [
        ("name", "FBS DE"),
        ("type", "FBS"),
        ("marketplace", "amazon_de"),
        ("is_active", True),
        ("is_readonly", True),
    ]
    assert list(result[provider.id].items())[1:] == [
        ("name", "North"),
        ("address", "Havenstraat 12"),
        ("type", "3PL"),
        ("is_active", True),
    ]
    assert list(result[closed.id].items())[1:] == [
        ("name", "Old Hall"),
        ("type", "own"),
        ("is_active", False),
    ]
