"""The OpenAPI document matches the routes, the operations, the errors and real responses."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpx
import pytest
from graphql import NonNullTypeNode, value_from_ast_untyped
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from app.demo import DOCUMENT_ADJUSTMENT, FBA_EU, WAREHOUSE_A
from app.domain.warehouses import WarehouseType
from app.errors import ERRORS
from app.graphql.documents import prepared_operations
from app.http.errors import PROTECTION
from app.runtime.positions import POSITION_HEADER
from rest_shim.endpoint import OPERATIONS
from rest_shim.openapi import (
    OPENAPI_SOURCE,
    PLACEHOLDER,
    openapi,
    openapi_for_gateways,
    openapi_path,
)
from rest_shim.openapi_values import PLACEHOLDER_VALUES
from rest_shim.routes import BULK_ITEM, COMMIT_LINE, RESERVE_LINE, ROUTES, TRANSFER_LINE, RestRoute
from tests.service import Service, level, sku, warehouse

Json = dict[str, Any]
DOCUMENT: Final[Any] = openapi()
MAIN: Final = warehouse("Main", address="Street 1")
AMAZON: Final = warehouse("Amazon", WarehouseType.FBA, marketplace="amazon_eu")
CLOSED: Final = warehouse("Closed", is_active=False)
NORTH: Final = warehouse("North", WarehouseType.THIRD_PARTY)
# Codes of GraphQL responses and of requests outside the routes.
OTHER_CODES: Final = {
    *("ADJUSTMENT_NOT_FOUND", "ALREADY_REVERSED", "EXTERNAL_ID_TAKEN", "DOCUMENT_NOT_TRUSTED"),
    *("PERSISTED_QUERY_NOT_FOUND", "PERSISTED_QUERY_NOT_SUPPORTED", "NOT_FOUND", "SKU_EXISTS"),
    *("QUERY_TOO_COMPLEX", "STREAM_TOO_SLOW", "WAREHOUSE_NOT_MARKETPLACE", "WEBHOOK_NOT_FOUND"),
}
each_route = pytest.mark.parametrize("route", ROUTES, ids=[route.operation for route in ROUTES])


def closed(node: Any) -> Any:
    """Copy a tree, with schemas of objects that allow no other properties."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    copy = {key: closed(value) for key, value in node.items()}
    is_object = copy.get("type") == "object" and "properties" in copy
    return {**copy, "additionalProperties": False} if is_object else copy


COMPONENTS: Final = closed(DOCUMENT["components"])


def resolved(node: Json) -> Json:
    """Follow the references of a node."""
    while "$ref" in node:
        result: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            result = result[step]
        node = result
    return node


def problems(schema: Json, value: object) -> list[str]:
    """Validate a value against a schema whose objects allow no other properties."""
    validator = Draft202012Validator({**closed(schema), "components": COMPONENTS})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def operations() -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }


def operation_of(route: RestRoute) -> Json:
    return operations()[route.method, openapi_path(route)]


def content_of(node: Json) -> Json:
    """Get the JSON content of a request body or a response."""
    assert set(node["content"]) <= {"application/json", "text/event-stream"}
    result: Json = node["content"]["application/json"]
    return result


def body_schema(route: RestRoute) -> Json:
    return resolved(content_of(operation_of(route)["requestBody"])["schema"])


def test_document_is_valid_openapi() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_document_of_version_30_is_valid() -> None:
    document = openapi_for_gateways()
    text = json.dumps(document)

    OpenAPIV30SpecValidator(document).validate()
    assert document["openapi"] == "3.0.3"
    assert '"const"' not in text
    assert '"null"' not in text
    assert [*document["paths"]] == [*DOCUMENT["paths"]]
    # Requests for it need no credential.
    assert openapi_for_gateways() is document


def test_no_reference_has_siblings_which_generators_drop() -> None:
    def walk(node: Any) -> Iterator[Json]:
        if isinstance(node, dict):
            yield node
        for each in node.values() if isinstance(node, dict) else node:
            if isinstance(each, (dict, list)):
                yield from walk(each)

    nodes = list(walk(DOCUMENT))
    assert [node for node in nodes if "$ref" in node and len(node) > 1] == []
    assert [node for node in nodes if "const" in node and "type" not in node] == []


def test_schemas_have_short_names_that_no_language_uses() -> None:
    names = set(DOCUMENT["components"]["schemas"])

    assert max(map(len, names)) <= 27
    assert names & {"Array", "Date", "Error", "Map", "Object", "Promise", "Record"} == set()


async def test_document_needs_no_token(service: Service) -> None:
    response = await service.rest("GET", "/api/openapi.json", token=None)

    assert response.status_code == 200
    assert response.json() == DOCUMENT


def test_every_value_of_the_code_has_a_placeholder() -> None:
    text = OPENAPI_SOURCE.read_text(encoding="utf-8").partition("\nopenapi:")[2]

    assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER_VALUES)
    assert PLACEHOLDER.findall(str(DOCUMENT)) == []


def test_paths_are_those_of_the_routes() -> None:
    assert set(operations()) == {(route.method, openapi_path(route)) for route in ROUTES}


@each_route
def test_parameters_and_body_fields_are_those_of_the_route(route: RestRoute) -> None:
    operation = operation_of(route)
    described = [(field["in"], field["name"].lower()) for field in operation["parameters"]]
    conditional = {("header", "if-none-match")} if route.operation == "GetInventory" else set()
    if route.method == "GET":
        conditional.add(("header", POSITION_HEADER.lower()))
    if route.subscription:
        conditional.add(("header", "last-event-id"))
        assert set(route.subscription.query) == set(route.query) - {"limit"}

    assert len(described) == len(set(described))
    assert set(described) == {
        *(("path", name) for name in re.findall(r"{(\w+):", route.path)),
        *(("query", name) for name in route.query),
        *(("header", name) for name in route.request_headers),
        *conditional,
    }
    assert ("requestBody" in operation) is (route.body is not None)
    if route.body is not None:
        schema = body_schema(route)
        assert set(schema["properties"]) == set(route.body)
        assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("BulkSetItem", BULK_ITEM.keys() - {"delta"}),
        ("BulkAdjustItem", BULK_ITEM.keys() - {"quantity"}),
        ("TransferLine", TRANSFER_LINE),
        ("ReserveLine", RESERVE_LINE),
        ("CommitLine", COMMIT_LINE),
    ],
)
def test_fields_of_list_items_are_those_of_the_route(name: str, fields: Iterable[str]) -> None:
    schema = DOCUMENT["components"]["schemas"][name]

    assert set(schema["properties"]) == set(fields)
    assert schema["additionalProperties"] is False


def described_values(route: RestRoute) -> Iterator[tuple[str, bool, Any]]:
    """Yield name, required and default of each query parameter and body field."""
    for parameter in operation_of(route)["parameters"]:
        if parameter["in"] == "query":
            required = parameter.get("required", False)
            yield parameter["name"], required, parameter["schema"].get("default")
    if route.body is not None:
        schema = body_schema(route)
        for name, field in schema["properties"].items():
            yield name, name in schema["required"], field.get("default")


@each_route
def test_required_fields_and_defaults_are_those_of_the_operation(route: RestRoute) -> None:
    operations = prepared_operations(OPERATIONS)
    variables = {
        definition.variable.name.value: definition
        for operation in (
            operations[route.operation],
            route.narrowing and operations[route.narrowing.operation],
        )
        for definition in (operation and operation.node.variable_definitions) or ()
    }
    selecting = route.narrowing.parameter if route.narrowing else None
    if selecting:
        # The parameter selects the operation that requires it.
        del variables[selecting]

    for name, required, default in described_values(route):
        if name == selecting:
            assert not required
            continue
        variable = variables[name]
        is_required = isinstance(variable.type, NonNullTypeNode) and variable.default_value is None
        # The mutation checks the time of an extension itself, because null means never.
        assert required is is_required or name == "expires_in", name
        if default is not None:
            assert variable.default_value is not None, name
            value = value_from_ast_untyped(variable.default_value)
            assert default in (value, str(value).lower()), name


@each_route
def test_writes_describe_the_header_of_a_replayed_response(route: RestRoute) -> None:
    headers = operation_of(route)["responses"]["200"]["headers"]

    assert ("Idempotent-Replayed" in headers) is ("idempotency-key" in route.request_headers)


def test_responses_have_every_error_code_of_rest() -> None:
    responses = [
        response
        for operation in operations().values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
    ]
    codes = {code for response in responses for code in content_of(response)["examples"]}
    for response in responses:
        content = content_of(response)
        for code, example in content["examples"].items():
            assert f"`{code}`" in response["description"]
            assert problems(content["schema"], example["value"]) == []

    assert codes == {error.code for error in ERRORS} - OTHER_CODES


def test_examples_match_their_schemas() -> None:
    count = 0
    for operation in operations().values():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in [*bodies, *map(resolved, operation["responses"].values())]:
            if "content" in body and "example" in content_of(body):
                count += 1
                content = content_of(body)
                assert problems(content["schema"], content["example"]) == []
        for parameter in operation["parameters"]:
            if "example" in parameter:
                count += 1
                assert problems(parameter["schema"], parameter["example"]) == []
    assert count >= 10


def test_examples_have_the_ids_of_the_demo() -> None:
    text = str(DOCUMENT["paths"])

    assert WAREHOUSE_A in text
    assert FBA_EU in text
    record = content_of(operations()["GET", "/api/inventory/{sku}"]["responses"]["200"])
    assert record["example"]["data"]["sku"] == "SKU-001"
    assert record["example"]["data"]["title"] == "Blue Widget 500ml"


async def test_examples_work_on_the_demo(own_demo: Service) -> None:
    # Made by the service or the client, or not possible with `warehouse_id`.
    without = {"cursor", "Idempotency-Key", "q", "external_id", "reference"}
    for (method, path), operation in operations().items():
        given: Json = {"path": {}, "query": {}, "header": {}}
        for each in operation["parameters"]:
            if each["name"] not in without:
                given[each["in"]][each["name"]] = each["example"]
        query = {
            # The second write to one reservation would find it ended.
            name: "true" if name == "dry_run" else value
            for name, value in given["query"].items()
        }
        body = (
            content_of(operation["requestBody"])["example"] if "requestBody" in operation else None
        )
        address = path.format(**given["path"])
        answer = await own_demo.rest(
            method, address, token="demo-admin", json=body, params=query, headers=given["header"]
        )
        assert answer.status_code == 200, (method, path, answer.text)
        if query.get("start_date"):
            [entry] = answer.json()["data"]
            assert entry["id"] == DOCUMENT_ADJUSTMENT


PUT: Final = {"warehouse_id": MAIN.id, "quantity": 5, "reason": "loss"}
ITEM: Final = {"sku": "A", **PUT}
DELTA: Final = {"warehouse_id": MAIN.id, "delta": -1, "reason": "loss"}
TRANSFER: Final = {
    "from_warehouse_id": MAIN.id,
    "to_warehouse_id": NORTH.id,
    "lines": [{"sku": "A", "quantity": 1}],
}
LINE: Final = {"sku": "A", "warehouse_id": MAIN.id, "quantity": 1}
RESERVE: Final = {"lines": [LINE], "reference": "order-1", "note": "A note"}
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
    "set, longest key": (
        *("PUT", "/{sku}", "/A"),
        *({"json": PUT, "headers": {"Idempotency-Key": "!" * 255}}, 200),
    ),
    "set, too long a key": (
        *("PUT", "/{sku}", "/A"),
        *({"json": PUT, "headers": {"Idempotency-Key": "!" * 256}}, 422),
    ),
    "set, method of no SKU": ("PUT", "/{sku}", "/warehouses", {"json": PUT}, 405),
    "adjust": (
        *("POST", "/{sku}/adjustments", "/A/adjustments"),
        *({"json": DELTA, "headers": KEY}, 200),
    ),
    "adjust, negative": (
        *("POST", "/{sku}/adjustments", "/A/adjustments"),
        *({"json": {**DELTA, "delta": -9}, "headers": KEY}, 422),
    ),
    "transfer": ("POST", "/transfers", "/transfers", {"json": TRANSFER, "headers": KEY}, 200),
    "transfer of none": (
        "POST",
        "/transfers",
        "/transfers",
        {"json": {**TRANSFER, "lines": []}},
        422,
    ),
    "reservations": ("GET", "/reservations", "/reservations", {}, 200),
    "reserve": ("POST", "/reservations", "/reservations", {"json": RESERVE, "headers": KEY}, 201),
    "reserve, too much": (
        *("POST", "/reservations", "/reservations"),
        *({"json": {"lines": [{**LINE, "quantity": 9}]}, "headers": KEY}, 422),
    ),
    "reserve, oversell": (
        *("POST", "/reservations", "/reservations"),
        *({"json": {"lines": [{**LINE, "quantity": 9}], "allow_oversell": True}}, 403),
    ),
    "reservation, not there": ("GET", "/reservations/{reservation_id}", "/reservations/x", {}, 404),
    "commit, not there": (
        *("POST", "/reservations/{reservation_id}/commit", "/reservations/x/commit"),
        *({"json": {}, "headers": KEY}, 404),
    ),
    "bulk of none": ("POST", "/bulk", "/bulk", {"json": {"updates": []}}, 422),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_responses_match_the_document(service: Service, name: str) -> None:
    main, amazon = level(MAIN, 5, reserved=1, safety_stock=2), level(AMAZON, 3)
    await service.load([MAIN, AMAZON, CLOSED, NORTH], [sku("A", main, amazon), sku("B")])
    method, path, address, options, status = REQUESTS[name]
    response = await service.rest(method, f"/api/inventory{address}", **options)
    again = await service.rest(method, f"/api/inventory{address}", **options)

    assert response.status_code == status, response.text
    if status in (200, 201):
        assert request_problems(operations()[method, f"/api/inventory{path}"], options) == []
    for answer in (response, again):
        assert_described(operations()[method, f"/api/inventory{path}"], answer)


async def test_responses_of_a_reservation_match_the_document(service: Service) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 5))])
    path = "/api/inventory/reservations"
    for action, body in (("commit", {"lines": [LINE]}), ("release", {})):
        reserved = await service.rest("POST", path, json=RESERVE)
        address = f"{path}/{reserved.json()['data']['id']}"
        ended = await service.rest("POST", f"{address}/{action}", json=body)
        again = await service.rest("POST", f"{address}/{action}", json=body)
        read = await service.rest("GET", address)
        listed = await service.rest("GET", path, params={"reference": "order-1"})

        assert [answer.status_code for answer in (reserved, ended, again, read, listed)] == [
            *(201, 200, 409, 200, 200)
        ]
        described = operations()
        assert_described(described["POST", path], reserved)
        for answer in (ended, again):
            assert_described(described["POST", f"{path}/{{reservation_id}}/{action}"], answer)
        assert_described(described["GET", f"{path}/{{reservation_id}}"], read)
        assert_described(described["GET", path], listed)


def request_problems(operation: Json, options: Json) -> list[str]:
    """Validate the headers and the body of a request against the document."""
    result: list[str] = []
    if "json" in options:
        result += problems(content_of(operation["requestBody"])["schema"], options["json"])
    for parameter in operation["parameters"]:
        if parameter["in"] == "header" and parameter["name"] in options.get("headers", {}):
            result += problems(parameter["schema"], options["headers"][parameter["name"]])
    return result


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
        if response.status_code >= 400:
            assert response.json()["error"]["code"] in content_of(described)["examples"]
    else:
        assert response.content == b""


def test_rejected_idempotency_key_does_not_match_the_schema() -> None:
    operation = operations()["PUT", "/api/inventory/{sku}"]
    _, _, _, options, _ = REQUESTS["set, too long a key"]

    assert request_problems(operation, options) != []


def test_rejected_bodies_do_not_match_the_schema() -> None:
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
