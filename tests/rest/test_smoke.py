"""Smoke."""

from tests.service import Service, level, sku, warehouse


async def test_a_record_is_listed(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    r = await service.rest("GET", "/api/inventory")
    assert r.json()["meta"] == {"total": 1, "limit": 50, "nextCursor": None}
    r = await service.rest(
        "PUT", "/api/inventory/A", json={"warehouse_id": main.id, "quantity": 7, "reason": "count"}
    )
    assert r.status_code == 200, r.text
    d = await service.data(
        "{ warehouses { stock { nodes { onHand sku { sku adjustments { totalCount nodes { id } } } adjustments { nodes { delta } } } } } }"
    )
    assert d["warehouses"][0]["stock"]["nodes"][0]["onHand"] == 7
