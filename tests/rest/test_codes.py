"""SKU codes in paths: percent-decoded exactly once."""

from typing import Final
from urllib.parse import quote

import pytest

from tests.rest.answers import answered, refusal
from tests.service import EMAIL, Service, level, sku, warehouse

PATH: Final = "/api/inventory"

CODES: Final = [
    ("SKU-001", "SKU-001"),
    ("SKU-001", "%53%4B%55%2D%30%30%31"),
    ("AB/12", "AB%2F12"),
    ("AB/12", "AB%2f12"),
    ("A B", "A%20B"),
    ("A+B", "A+B"),
    ("A+B", "A%2BB"),
    ("A.B:C_D-E", "A.B:C_D-E"),
    ("A.B:C_D-E", "A%2EB%3AC%5FD%2DE"),
    ("Größe", "Gr%C3%B6%C3%9Fe"),
    ("日本 1", "%E6%97%A5%E6%9C%AC%201"),
    ("𠀀9", "%F0%A0%80%809"),
    ("A/adjustments", "A%2Fadjustments"),
    ("A//B", "A%2F%2FB"),
    ("adjustments", "adjustments"),
    ("Warehouses", "Warehouses"),
    ("Größe", "Gro%CC%88%C3%9Fe"),
    ("x" * 255, "x" * 255),
    ("é" * 255, "%C3%A9" * 255),
    ("é" * 255, "e%CC%81" * 255),
    ("100%", "100%25"),
    ("A&B=C;D", "A%26B%3DC%3BD"),
    ("A,(B)'\"#?", "A%2C%28B%29%27%22%23%3F"),
    ("A..B", "A..B"),
    ("...", "..."),
]


@pytest.mark.parametrize(("code", "raw"), CODES)
async def test_every_route_accepts_the_encoded_code(service: Service, code: str, raw: str) -> None:
    main = warehouse()
    await service.load([main], [sku(code, level(main, 5)), sku("A", level(main, 1))])

    def record(on_hand: int) -> dict[str, object]:
        stock = {"on_hand": on_hand, "reserved": 0, "available": on_hand}
        return {
            "sku": code,
            "title": "Thing",
            "total_on_hand": on_hand,
            "total_reserved": 0,
            "total_available": on_hand,
            "safety_stock": 0,
            "status": "normal",
            "warehouses": [{"warehouse_id": main.id, "name": "Main", **stock}],
        }

    assert answered(await service.rest("GET", f"{PATH}/{raw}")) == {"data": record(5)}
    update = {"warehouse_id": main.id, "quantity": 7, "reason": "cycle_count"}
    assert answered(await service.rest("PUT", f"{PATH}/{raw}", json=update)) == {"data": record(7)}
    bulk = {"updates": [{"sku": code, **update, "quantity": 8}]}
    results = answered(await service.rest("POST", f"{PATH}/bulk", json=bulk))["data"]
    assert [(it["sku"], it["before_quantity"], it["delta"]) for it in results] == [(code, 7, 1)]
    assert answered(await service.rest("GET", f"{PATH}?sku={quote(code, safe='')}")) == {
        "data": [record(8)],
        "meta": {"total": 1, "limit": 50, "nextCursor": None},
    }
    history = answered(await service.rest("GET", f"{PATH}/{raw}/adjustments"))
    assert [(it["sku"], it["after_quantity"], it["created_by"]) for it in history["data"]] == [
        (code, quantity, EMAIL) for quantity in (8, 7, 5)
    ]
    assert answered(await service.rest("GET", f"{PATH}/A"))["data"]["total_on_hand"] == 1


@pytest.mark.parametrize(
    "raw",
    [
        "unknown",
        "ab%2F12",
        "AB%252F12",
        "A%2520B",
        "A%252BB",
        "A%2BB%20",
        "%20A%20B",
        "A%20B%0A",
        "A%20B%00",
        "%00",
        "A%2FB",
        "AB%2F12%2F",
        "A%20B%2Fadjustments",
        "A%C2%A0B",
        "GR%C3%96%C3%9FE",
        "bulk%20",
        "%62ulk",
        "%77arehouses",
        "x" * 256,
        "x" * 10_000,
        "%F0%9F%92%A9" * 1000,
        "%2F",
        "%25",
        "%3F",
        "A%20B%3Flimit=5",
        "*",
        "null",
    ],
)
async def test_unknown_code_has_no_inventory_record(service: Service, raw: str) -> None:
    main = warehouse()
    await service.load([main], [sku(code) for code in dict.fromkeys(code for code, _ in CODES)])

    body = {"warehouse_id": main.id, "quantity": 1, "reason": "cycle_count"}
    missing = (404, "INVENTORY_NOT_FOUND")
    assert refusal(await service.rest("GET", f"{PATH}/{raw}")) == missing
    assert refusal(await service.rest("GET", f"{PATH}/{raw}/adjustments")) == missing
    assert refusal(await service.rest("GET", f"{PATH}/{raw}/adjustments?limit=1")) == missing
    assert refusal(await service.rest("PUT", f"{PATH}/{raw}", json=body)) == missing


@pytest.mark.parametrize("raw", ["%FF", "A%C3", "%C0%80", "%ED%A0%80", "A%FE%FFB", "%F8%88%80%80"])
async def test_a_path_that_is_not_utf8_is_malformed(service: Service, raw: str) -> None:
    for rest in ("", "/adjustments"):
        response = await service.rest("GET", f"{PATH}/{raw}{rest}")
        assert refusal(response) == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/inventory/",
        "/api/inventory//",
        "/api/inventory/A/",
        "/api/inventory/A/B",
        "/api/inventory/A/adjustments/",
        "/api/inventory/A/adjustments/1",
        "/api/inventory/A//adjustments",
        "/api/inventory//adjustments",
        "/api/inventory/A/Adjustments",
        "/api/inventory/warehouses/",
        "/api/inventory/bulk/",
        "/api/Inventory",
        "/inventory",
        "/api/inventory%2FA",
        "/api/inventoryA",
    ],
)
async def test_unknown_path_is_not_found(service: Service, path: str) -> None:
    await service.load([], [sku("A"), sku("A/B"), sku("A/adjustments")])

    for method in ("GET", "PUT", "POST"):
        response = await service.rest(method, path)
        assert refusal(response) == (404, "NOT_FOUND")
        assert "location" not in response.headers


async def test_routes_shadow_the_codes_warehouses_and_bulk(service: Service) -> None:
    body = {"warehouse_id": "wh_1", "quantity": 1, "reason": "cycle_count"}

    assert answered(await service.rest("GET", f"{PATH}/warehouses")) == {"data": []}
    for method, name, allowed in [
        ("PUT", "warehouses", "GET, HEAD"),
        ("GET", "bulk", "POST"),
        ("PUT", "bulk", "POST"),
    ]:
        response = await service.rest(method, f"{PATH}/{name}", json=body)
        assert refusal(response) == (405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == allowed
    for name in ("warehouses", "bulk"):
        response = await service.rest("GET", f"{PATH}/{name}/adjustments")
        assert refusal(response) == (404, "INVENTORY_NOT_FOUND")


async def test_an_encoded_slash_does_not_lead_to_the_history(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])

    response = await service.rest("GET", f"{PATH}/A%2Fadjustments")
    assert refusal(response) == (404, "INVENTORY_NOT_FOUND")
    assert response.json()["error"]["details"] == [{"sku": "A/adjustments"}]
