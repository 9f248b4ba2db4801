"""GET /api/availability: the list for frontends, and the stock of a cart."""

from typing import Final

import pytest

from rest_shim.binding import MAX_PARAMETERS
from tests.rest.answers import refusal
from tests.service import Service, level, sku, warehouse

PATH: Final = "/api/availability"
MAIN: Final = warehouse("Main")
SHOP: Final = "availability"


@pytest.fixture
async def shop(service: Service) -> Service:
    codes = ("A", "A,B", "B")
    await service.load([MAIN], [sku(code, level(MAIN, 500), title="Lamp") for code in codes])
    return service


def record(code: str) -> dict[str, object]:
    return {
        "sku": code,
        "title": "Lamp",
        "status": "normal",
        "is_in_stock": True,
        "available": 10,
        "is_limited": True,
    }


async def test_the_list_is_in_pages_without_a_total(shop: Service) -> None:
    first = (await shop.rest("GET", PATH, token=SHOP, params={"limit": 2})).json()
    cursor = first["meta"]["nextCursor"]
    rest = await shop.rest("GET", PATH, token=SHOP, params={"limit": 2, "cursor": cursor})

    assert first["data"] == [record("A"), record("A,B")]
    assert first["meta"] == {"limit": 2, "nextCursor": cursor}
    assert rest.json() == {"data": [record("B")], "meta": {"limit": 2, "nextCursor": None}}


async def test_a_cart_gets_the_availability_of_its_codes(shop: Service) -> None:
    codes = ["B", "A,B", "B", *(f"unknown-{n}" for n in range(MAX_PARAMETERS - 3))]
    cart = await shop.rest("GET", PATH, token=SHOP, params={"sku": codes})

    assert cart.json()["data"] == [record("A,B"), record("B")]
    found = await shop.rest("GET", PATH, token=SHOP, params={"sku": ["A", "B"], "q": "lam"})
    assert found.json()["data"] == [record("A"), record("B")]


async def test_wrong_parameters_are_refused_by_name(shop: Service) -> None:
    async def answer(query: str) -> tuple[int, str, list[str]]:
        response = await shop.rest("GET", f"{PATH}?{query}", token=SHOP)
        details = response.json()["error"].get("details", [])
        return *refusal(response), [detail["field"] for detail in details]

    invalid = (422, "VALIDATION_ERROR")
    assert await answer("sku=") == (*invalid, ["sku"])
    assert await answer("sku=A&sku=") == (*invalid, ["sku"])
    assert await answer("q=a&q=b") == (*invalid, ["q"])
    assert await answer("sort=-available") == (*invalid, ["sort"])
    assert await answer("limit=201") == (*invalid, ["limit"])
    assert (await answer("&".join(["sku=A"] * (MAX_PARAMETERS + 1))))[:2] == (
        400,
        "MALFORMED_REQUEST",
    )


async def test_the_scope_reads_no_other_route(shop: Service) -> None:
    for path in ("/api/inventory", "/api/inventory/A", "/api/inventory/changes"):
        response = await shop.rest("GET", path, token=SHOP)
        assert refusal(response) == (403, "INSUFFICIENT_SCOPE")
        assert "inventory:read" in response.json()["error"]["message"]
