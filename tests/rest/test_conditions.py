"""Conditional requests: a tag stands for the whole answer, and a condition is met or refused."""

from typing import Any, Final

import httpx
import pytest

from tests.rest.answers import Json, refusal
from tests.service import Service, level, sku, warehouse

PATH: Final = "/api/inventory/A"
FAILED: Final = (412, "STALE_VERSION")
RENAME: Final = "mutation ($i: UpdateWarehouseInput!) { updateWarehouse(input: $i) { replayed } }"
TITLE: Final = "mutation ($i: UpdateSkuInput!) { updateSku(input: $i) { replayed } }"
SAFETY: Final = "mutation ($i: SetSafetyStockInput!) { setSafetyStock(input: $i) { replayed } }"
MAIN: Final = warehouse("Old name")


@pytest.fixture
async def stocked(service: Service) -> Service:
    await service.load([MAIN], [sku("A", level(MAIN, 5))])
    return service


def count(quantity: int = 5) -> Json:
    return {"warehouse_id": MAIN.id, "quantity": quantity, "reason": "cycle_count"}


async def read(service: Service, **headers: str) -> httpx.Response:
    return await service.rest("GET", PATH, headers=headers)


async def test_the_answer_is_304_only_while_it_is_the_same(stocked: Service) -> None:
    async def change(mutation: str, **fields: Any) -> None:
        await stocked.data(mutation, {"i": fields}, token="admin")

    steps: list[Any] = [
        lambda: change(RENAME, id=MAIN.id, name="New name"),
        lambda: change(RENAME, id=MAIN.id, isActive=False),
        lambda: change(RENAME, id=MAIN.id, isActive=True),
        lambda: change(TITLE, sku="A", title="T2"),
        lambda: change(TITLE, sku="A", title="T2"),
        lambda: change(SAFETY, levels=[{"sku": "A", "warehouseId": MAIN.id, "safetyStock": 2}]),
        lambda: stocked.rest("PUT", PATH, json=count(6)),
    ]
    different = 0
    for step in steps:
        before = await read(stocked)
        await step()
        after = await read(stocked)
        conditional = await read(stocked, **{"If-None-Match": before.headers["etag"]})
        same = before.content == after.content
        assert conditional.status_code == (304 if same else 200)
        assert same == (before.headers["etag"] == after.headers["etag"])
        different += not same
    assert different == 4


async def test_a_write_compares_the_version_of_the_tag(stocked: Service) -> None:
    tag = (await read(stocked)).headers["etag"]
    rename = {"i": {"id": MAIN.id, "name": "Renamed"}}
    await stocked.data(RENAME, rename, token="admin")

    response = await stocked.rest("PUT", PATH, json=count(6), headers={"If-Match": tag})
    assert response.status_code == 200
    assert response.headers["etag"] == (await read(stocked)).headers["etag"]
    response = await stocked.rest("PUT", PATH, json=count(7), headers={"If-Match": tag})
    assert refusal(response) == FAILED


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("W/{tag}", "only a weak tag"),
        ('W/{tag}, W/"2"', "only a weak tag"),
        ("{bare}", "in double quotes"),
        ("", "in double quotes"),
        ("'{bare}'", "in double quotes"),
        ('"{bare}-gzip"', "is not as expected"),
        ('"old", W/{tag}', "is not as expected"),
    ],
)
async def test_a_refused_tag_is_explained(stocked: Service, condition: str, words: str) -> None:
    tag = (await read(stocked)).headers["etag"]
    header = condition.format(tag=tag, bare=tag.strip('"'))
    for method, path, body in [
        ("PUT", PATH, count(6)),
        ("POST", f"{PATH}/adjustments", {"warehouse_id": MAIN.id, "delta": 1, "reason": "x"}),
    ]:
        response = await stocked.rest(method, path, json=body, headers={"If-Match": header})
        assert refusal(response) == FAILED
        error = response.json()["error"]
        assert words in error["message"]
        assert error["details"][0]["field"] == "If-Match"
    assert (await read(stocked)).headers["etag"] == tag


async def test_if_match_on_a_route_without_a_tag_is_refused(stocked: Service) -> None:
    line = {"sku": "A", "warehouse_id": MAIN.id, "quantity": 1}
    held = await stocked.rest("POST", "/api/inventory/reservations", json={"lines": [line]})
    path = f"/api/inventory/reservations/{held.json()['data']['id']}"
    tag = (await read(stocked)).headers["etag"]
    row = {**line, "reason": "x"}
    requests: list[tuple[str, str, Json]] = [
        ("POST", "/api/inventory/bulk", {"updates": [row]}),
        ("POST", "/api/inventory/reservations", {"lines": [line]}),
        ("POST", f"{path}/commit", {}),
        ("POST", f"{path}/release", {}),
        ("GET", path, {}),
        ("GET", "/api/inventory", {}),
        ("GET", f"{PATH}/adjustments", {}),
        ("HEAD", "/api/inventory/warehouses", {}),
    ]
    for method, target, body in requests:
        options: Json = {"json": body} if method == "POST" else {}
        for condition in (tag, '"x"'):
            headers = {"If-Match": condition}
            response = await stocked.rest(method, target, headers=headers, **options)
            assert response.status_code == 412, target
    assert (await read(stocked)).headers["etag"] == tag
    for method, target, body in requests[-4:]:
        assert body == {}
        response = await stocked.rest(method, target, headers={"If-Match": "*"})
        assert response.status_code == 200


@pytest.mark.parametrize("condition", ["*", "{tag}", '"other"'])
async def test_if_none_match_on_a_write_is_refused(stocked: Service, condition: str) -> None:
    tag = (await read(stocked)).headers["etag"]
    headers = {"If-None-Match": condition.format(tag=tag)}
    for path in (PATH, "/api/inventory/NEW"):
        response = await stocked.rest("PUT", path, json=count(6), headers=headers)
        assert refusal(response) == FAILED
        assert "no route creates a SKU" in response.json()["error"]["message"]
    assert (await read(stocked)).headers["etag"] == tag


async def test_a_read_with_if_match_returns_only_that_answer(stocked: Service) -> None:
    tag = (await read(stocked)).headers["etag"]

    for condition in (tag, "*", f'"x", {tag}'):
        assert (await read(stocked, **{"If-Match": condition})).status_code == 200
    for condition in ('"x"', f"W/{tag}", tag.strip('"'), f'"{tag[1]}"'):
        assert refusal(await read(stocked, **{"If-Match": condition})) == FAILED
