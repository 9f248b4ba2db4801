"""Conditional requests: a tag stands for the whole answer, and a condition is met or refused."""

from typing import Any, Final
from unittest.mock import Mock

import httpx
import pytest
from graphql import print_ast

from app.graphql.documents import prepared_operations
from rest_shim import rendering
from rest_shim.endpoint import OPERATIONS
from rest_shim.routes import ROUTES
from tests.rest.answers import Json, refusal, refused_fields
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
    assert different == 6


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
    response = await stocked.rest("PUT", PATH, json=count(6), headers=headers)
    assert refusal(response) == FAILED
    assert "no route creates a SKU" in response.json()["error"]["message"]
    assert (await read(stocked)).headers["etag"] == tag


@pytest.mark.parametrize("headers", [{"If-None-Match": "*"}, {"If-Match": "x"}])
async def test_every_other_check_comes_before_the_conditions(
    stocked: Service, headers: dict[str, str]
) -> None:
    before = (await read(stocked)).content
    response = await stocked.rest("PUT", PATH, json={"quantity": 1}, headers=headers)
    assert refused_fields(response) == ["warehouse_id", "reason"]
    as_json = {**headers, "Content-Type": "application/json"}
    response = await stocked.rest("PUT", PATH, content=b"{", headers=as_json)
    assert refusal(response) == (400, "MALFORMED_REQUEST")
    response = await stocked.rest("PUT", PATH, json=[], headers=headers)
    assert refused_fields(response) == ["body"]
    response = await stocked.rest("PUT", "/api/inventory/NEW", json=count(6), headers=headers)
    assert refusal(response) == (404, "INVENTORY_NOT_FOUND")
    body = {"updates": [{**count(-1), "sku": "A"}]}
    response = await stocked.rest("POST", "/api/inventory/bulk", json=body, headers=headers)
    assert refusal(response) == (422, "NEGATIVE_QUANTITY")
    response = await stocked.rest("PUT", PATH, json=count(6), headers=headers)
    assert refusal(response) == FAILED
    assert (await read(stocked)).content == before


def test_every_write_has_a_dry_run() -> None:
    # The checks before an unmet condition are those of a dry run.
    operations = prepared_operations(OPERATIONS)
    for route in ROUTES:
        if route.method not in ("GET", "HEAD"):
            assert "dry_run" in route.query
            assert "dryRun: $dry_run" in print_ast(operations[route.operation].node)


async def test_too_many_tags_are_refused_by_the_name_of_the_header(stocked: Service) -> None:
    for number, status in ((1_000, 200), (1_001, 422)):
        tags = ", ".join(['"1"', '"2"', '"3"', *[f'"{9}"'] * (number - 3)])
        response = await stocked.rest("PUT", PATH, json=count(), headers={"If-Match": tags})
        assert response.status_code == status
    assert refused_fields(response) == ["If-Match"]


async def test_a_record_is_rendered_once(stocked: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = Mock(side_effect=rendering._render_record)
    monkeypatch.setattr(rendering, "_render_record", rendered)

    got = await read(stocked)
    put = await stocked.rest("PUT", PATH, json=count(6))

    assert (got.status_code, put.status_code, rendered.call_count) == (200, 200, 2)


async def test_a_read_with_if_match_returns_only_that_answer(stocked: Service) -> None:
    tag = (await read(stocked)).headers["etag"]

    for condition in (tag, "*", f'"x", {tag}'):
        assert (await read(stocked, **{"If-Match": condition})).status_code == 200
    for condition in ('"x"', f"W/{tag}", tag.strip('"'), f'"{tag[1]}"'):
        assert refusal(await read(stocked, **{"If-Match": condition})) == FAILED
