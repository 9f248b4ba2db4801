"""The published description says what the service does."""

from typing import Any, Final

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.demo import FBA_EU, WAREHOUSE_A
from app.errors import ERRORS
from app.http import PROTECTION
from app.stock import WarehouseType
from rest_shim.openapi import openapi
from rest_shim.routes import ROUTES, RestRoute
from tests.service import Service, level, sku, warehouse

Json = dict[str, Any]
DOCUMENT: Final[Any] = openapi()
MAIN: Final = warehouse("Main", address="Street 1")
AMAZON: Final = warehouse("Amazon", WarehouseType.FBA, marketplace="amazon_eu")
CLOSED: Final = warehouse("Closed", is_active=False)


def resolved(node: Json) -> Json:
    """Return what a reference means."""
    while "$ref" in node:
        found: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def problems(schema: Json, value: object) -> list[str]:
    """Return how a value does not fit a schema."""
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def operations() -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }


def content_of(node: Json) -> Json:
    """Return the JSON content of a body."""
    [(type_, content)] = node["content"].items()
    assert type_ == "application/json"
    found: Json = content
    return found


def test_it_is_valid_openapi() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


async def test_it_is_served_to_everyone(service: Service) -> None:
    response = await service.rest("GET", "/api/openapi.json", token=None)

    assert response.status_code == 200
    assert response.json() == DOCUMENT


def test_it_describes_every_route_and_no_other() -> None:
    routes = {(route.method, route.path.replace(":segment}", "}")) for route in ROUTES}

    assert set(operations()) == routes


@pytest.mark.parametrize("route", ROUTES, ids=[route.operation for route in ROUTES])
def test_it_describes_what_a_route_reads(route: RestRoute) -> None:
    operation = operations()[route.method, route.path.replace(":segment}", "}")]
    described = {(it["in"], it["name"].lower()) for it in operation["parameters"]}
    conditional = {("header", "if-none-match")} if route.operation == "GetInventory" else set()

    assert described == {
        *(("path", name) for name in ("sku", "reservation_id") if f"{{{name}:" in route.path),
        *(("query", name) for name in route.query),
        *(("header", name) for name in route.request_headers),
        *conditional,
    }
    assert ("requestBody" in operation) is (route.body is not None)
    if route.body is not None:
        schema = resolved(content_of(operation["requestBody"])["schema"])
        assert set(schema["properties"]) == set(route.body)
        assert schema["additionalProperties"] is False


def test_it_lists_every_error_code() -> None:
    schema = DOCUMENT["components"]["schemas"]["ErrorCode"]

    assert set(schema["enum"]) == {error.code for error in ERRORS}
    for error in ERRORS:
        assert f"`{error.code}`" in schema["description"]


def test_its_examples_fit_their_schemas() -> None:
    seen = 0
    for operation in operations().values():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in [*bodies, *map(resolved, operation["responses"].values())]:
            if "content" in body and "example" in content_of(body):
                seen += 1
                content = content_of(body)
                assert problems(content["schema"], content["example"]) == []
        for parameter in operation["parameters"]:
            if "example" in parameter:
                seen += 1
                assert problems(parameter["schema"], parameter["example"]) == []
    assert seen >= 10


def test_its_examples_are_the_demos() -> None:
    text = str(DOCUMENT["paths"])

    assert WAREHOUSE_A in text
    assert FBA_EU in text
    record = content_of(operations()["GET", "/api/inventory/{sku}"]["responses"]["200"])
    assert record["example"]["data"]["sku"] == "SKU-001"
    assert record["example"]["data"]["title"] == "Blue Widget 500ml"


PUT: Final = {"warehouse_id": MAIN.id, "quantity": 5, "reason": "loss"}
ITEM: Final = {"sku": "A", **PUT}
KEY: Final = {"Idempotency-Key": "k"}
# Method, path of the description, address, options of the request, status.
REQUESTS: Final[dict[str, tuple[str, str, str, Json, int]]] = {
    "list": ("GET", "", "", {}, 200),
    "page": ("GET", "", "", {"params": {"limit": 1, "status": "normal"}}, 200),
    "limit 200": ("GET", "", "", {"params": {"limit": 200}}, 200),
    "limit 201": ("GET", "", "", {"params": {"limit": 201}}, 422),
    "limit 0": ("GET", "", "", {"params": {"limit": 0}}, 422),
    "cursor": ("GET", "", "", {"params": {"cursor": "cursor_x"}}, 422),
    "list, no warehouse": ("GET", "", "", {"params": {"warehouse_id": "wh_x"}}, 404),
    "list, no token": ("GET", "", "", {"token": None}, 401),
    "list, malformed": ("GET", "", "?sku=%ff", {}, 400),
    "warehouses": ("GET", "/warehouses", "/warehouses", {}, 200),
    "one": ("GET", "/{sku}", "/A", {}, 200),
    "one without stock": ("GET", "/{sku}", "/B", {}, 200),
    "one, known": ("GET", "/{sku}", "/A", {"headers": {"If-None-Match": "*"}}, 304),
    "one, not there": ("GET", "/{sku}", "/NOPE", {}, 404),
    "history": ("GET", "/{sku}/adjustments", "/A/adjustments", {}, 200),
    "history page": ("GET", "/{sku}/adjustments", "/A/adjustments", {"params": {"limit": 1}}, 200),
    "history, bad date": (
        *("GET", "/{sku}/adjustments", "/A/adjustments"),
        *({"params": {"start_date": "soon"}}, 422),
    ),
    "history, not there": ("GET", "/{sku}/adjustments", "/NOPE/adjustments", {}, 404),
    "set": ("PUT", "/{sku}", "/A", {"json": PUT, "headers": KEY}, 200),
    "set, greatest": ("PUT", "/{sku}", "/A", {"json": {**PUT, "quantity": 10**12}}, 200),
    "set, too great": ("PUT", "/{sku}", "/A", {"json": {**PUT, "quantity": 10**12 + 1}}, 422),
    "set, negative": (
        *("PUT", "/{sku}", "/A"),
        *({"json": {**PUT, "quantity": -1}, "headers": KEY}, 422),
    ),
    "set, longest note": ("PUT", "/{sku}", "/A", {"json": {**PUT, "note": "x" * 1000}}, 200),
    "set, too long a note": ("PUT", "/{sku}", "/A", {"json": {**PUT, "note": "x" * 1001}}, 422),
    "set, no JSON": (
        *("PUT", "/{sku}", "/A"),
        *({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
    ),
    "set, another type": ("PUT", "/{sku}", "/A", {"content": b"{}"}, 415),
    "set, too long": (
        *("PUT", "/{sku}", "/A"),
        *({"content": b" " * 5_000_000, "headers": {"Content-Type": "application/json"}}, 413),
    ),
    "set, readonly": ("PUT", "/{sku}", "/A", {"json": {**PUT, "warehouse_id": AMAZON.id}}, 403),
    "set, reading token": ("PUT", "/{sku}", "/A", {"json": PUT, "token": "read"}, 403),
    "set, inactive": ("PUT", "/{sku}", "/A", {"json": {**PUT, "warehouse_id": CLOSED.id}}, 422),
    "set, not there": ("PUT", "/{sku}", "/NOPE", {"json": PUT, "headers": KEY}, 404),
    "set, stale": ("PUT", "/{sku}", "/A", {"json": {**PUT, "expected_quantity": 77}}, 409),
    "set, other tag": ("PUT", "/{sku}", "/A", {"json": PUT, "headers": {"If-Match": '"9"'}}, 412),
    "bulk": ("POST", "/bulk", "/bulk", {"json": {"updates": [ITEM]}, "headers": KEY}, 200),
    "bulk in part": (
        *("POST", "/bulk", "/bulk"),
        *({"json": {"updates": [ITEM, {**ITEM, "sku": "NOPE"}], "on_error": "continue"}}, 200),
    ),
    "bulk, refused": ("POST", "/bulk", "/bulk", {"json": {"updates": [{**ITEM, "sku": "X"}]}}, 404),
    "bulk of none": ("POST", "/bulk", "/bulk", {"json": {"updates": []}}, 422),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_real_answers_are_as_described(service: Service, name: str) -> None:
    main, amazon = level(MAIN, 5, reserved=1, safety_stock=2), level(AMAZON, 3)
    await service.load([MAIN, AMAZON, CLOSED], [sku("A", main, amazon), sku("B")])
    method, path, address, options, status = REQUESTS[name]
    response = await service.rest(method, f"/api/inventory{address}", **options)
    again = await service.rest(method, f"/api/inventory{address}", **options)

    assert response.status_code == status, response.text
    for answer in (response, again):
        assert_described(operations()[method, f"/api/inventory{path}"], answer)


def assert_described(operation: Json, response: httpx.Response) -> None:
    described = resolved(operation["responses"][str(response.status_code)])
    protection = {name.decode() for name, _ in PROTECTION}
    usual = {"content-type", "content-length", "vary", *protection}
    assert set(response.headers) - usual <= {name.lower() for name in described["headers"]}
    for name, header in described["headers"].items():
        if name in response.headers:
            schema = resolved(header)["schema"]
            value: object = response.headers[name]
            if schema.get("type") == "integer":
                value = int(response.headers[name])
            assert problems(schema, value) == []
        else:
            assert not resolved(header).get("required"), name
    if "content" in described:
        assert problems(content_of(described)["schema"], response.json()) == []
    else:
        assert response.content == b""


def test_bodies_that_are_refused_do_not_fit_the_description() -> None:
    operation = operations()["PUT", "/api/inventory/{sku}"]
    schema = content_of(operation["requestBody"])["schema"]

    assert problems(schema, PUT) == []
    for broken in (
        {**PUT, "quantity": 10**12 + 1},
        {**PUT, "quantity": -1},
        {**PUT, "quantity": "5"},
        {**PUT, "note": "x" * 1001},
        {**PUT, "reason": "Not a word"},
        {**PUT, "colour": "red"},
        {"quantity": 5, "reason": "loss"},
    ):
        assert problems(schema, broken) != [], broken
