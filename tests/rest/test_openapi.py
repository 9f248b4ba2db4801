"""The description of the REST routes is so: it fits the table, the document and the answers."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.datastructures import Headers

from app.commands.loading import LoadedLevel
from app.commands.tenants import insert_token
from app.errors import ERRORS, IdempotencyInFlight, Unavailable
from app.stock import WarehouseType
from rest_shim.openapi import openapi
from rest_shim.routes import BULK_ITEM, ROUTES
from tests.rest.answers import Json, answered, ordered, refusal, refused_fields
from tests.rest.test_document_examples import (
    ADJUSTMENT,
    BULK,
    RECORD,
    UPDATE,
    WAREHOUSES,
    with_ids,
)
from tests.service import EMAIL, Service, counted, level, sku, warehouse

DOCUMENT: Final[Json] = json.loads(json.dumps(openapi()))
COMPONENTS: Final[Json] = DOCUMENT["components"]
# Method, path and description of every operation.
OPERATIONS: Final[Mapping[str, tuple[str, str, Json]]] = {
    described["operationId"]: (method.upper(), path, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
}
ROUTE_OF: Final = {f"{it.operation[0].lower()}{it.operation[1:]}": it for it in ROUTES}
WRITES: Final = ("setStock", "bulkSetStock")

MAIN: Final = warehouse("Main")
FBA: Final = warehouse("FBA EU", WarehouseType.FBA, marketplace="amazon_eu")
NORTH: Final = warehouse("North", WarehouseType.THIRD_PARTY, address="Havenstraat 12")
CLOSED: Final = warehouse("Old Hall", is_active=False)
GOOD: Final[Json] = {"warehouse_id": MAIN.id, "quantity": 7, "reason": "loss", "note": "Wet"}
BODIES: Final[Mapping[str, Json]] = {
    "setStock": GOOD,
    "bulkSetStock": {"updates": [{"sku": "A", **GOOD}], "on_error": "abort"},
}
POWERLESS: Final = "powerless"


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Return a service with stock, a history, and a token that may do nothing."""
    history = [counted(9), counted(5, "2026-03-12T14:00:00Z", reason="loss", note="Wet")]
    await service.load(
        [MAIN, FBA, NORTH, CLOSED],
        [
            sku(
                "A",
                LoadedLevel(warehouse_id=MAIN.id, history=history),
                level(FBA, 2, reserved=3),
                level(NORTH, 10**12, reserved=10**13),
                level(CLOSED, 2, safety_stock=1),
            ),
            sku("bare"),
            *(sku("a" * length, level(MAIN, 5)) for length in (1, 2, 63, 64)),
        ],
    )

    async def work(connection: AsyncConnection) -> None:
        await insert_token(
            connection,
            service.tenant,
            token=service.token(POWERLESS),
            name=POWERLESS,
            email=EMAIL,
            scopes=[],
        )

    await service.database.transaction(work)
    return service


async def ask(
    service: Service,
    operation: str,
    *,
    sku: str = "A",
    query: str = "",
    token: str | None = "write",
    headers: Mapping[str, str | bytes] | None = None,
    body: object = None,
) -> httpx.Response:
    """Send a request that is good, but for what is said."""
    method, path, _ = OPERATIONS[operation]
    good = BODIES.get(operation)
    return await service.rest(
        method,
        path.replace("{sku}", sku) + query,
        token=token and service.token(token),
        headers=headers or {},
        **({"json": good if body is None else body} if good else {}),
    )


def validator(schema: Json) -> Draft202012Validator:
    """Return what checks values against a schema of the description."""
    return Draft202012Validator(
        {**schema, "components": COMPONENTS}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def followed(node: Json) -> Json:
    """Return what a description refers to, or itself."""
    if "$ref" not in node:
        return node
    _, _, kind, name = node["$ref"].split("/")
    found: Json = COMPONENTS[kind][name]
    return found


def walk(node: object) -> Iterator[Json]:
    """Yield every object of the description."""
    if isinstance(node, dict):
        yield node
    if isinstance(node, (dict, list)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from walk(child)


def assert_described(operation: str, response: httpx.Response) -> None:
    """Assert that an answer is what the description says of its status."""
    answers = OPERATIONS[operation][2]["responses"]
    assert str(response.status_code) in answers, response.text
    described = followed(answers[str(response.status_code)])
    if "content" in described:
        [(media_type, content)] = described["content"].items()
        assert response.headers["content-type"] == media_type
        validator(content["schema"]).validate(response.json())
    else:
        assert response.content == b""
    for name, shared in COMPONENTS["headers"].items():
        value = response.headers.get(name)
        if name not in described["headers"]:
            assert value is None, name
            continue
        assert described["headers"][name] == {"$ref": f"#/components/headers/{name}"}
        assert value is not None or not shared.get("required"), name
        if value is not None:
            is_integer = shared["schema"].get("type") == "integer"
            validator(shared["schema"]).validate(int(value) if is_integer else value)


def test_it_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(DOCUMENT).validate()


async def test_everyone_is_served_it(service: Service) -> None:
    response = await service.rest("GET", "/api/openapi.json", token=None)
    assert answered(response) == DOCUMENT
    assert ordered(response.text) == ordered(json.dumps(DOCUMENT))


def test_its_paths_and_methods_are_those_of_the_table() -> None:
    described = [
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    ]

    assert len(described) == len(ROUTES)
    assert set(described) == {
        (route.method, route.path.replace("{sku:sku}", "{sku}")) for route in ROUTES
    }


@pytest.mark.parametrize("operation", OPERATIONS)
def test_its_parameters_are_those_of_the_table(operation: str) -> None:
    _, path, described = OPERATIONS[operation]
    route = ROUTE_OF[operation]
    found: dict[str, list[str]] = {"path": [], "query": [], "header": []}
    for parameter in described["parameters"]:
        assert parameter["description"]
        assert parameter.get("required", False) == (parameter["in"] == "path")
        found[parameter["in"]].append(parameter["name"])

    assert found["path"] == re.findall(r"{(\w+)}", path)
    assert found["query"] == list(route.query)
    headers = {name.lower() for name in found["header"]}
    assert headers - {"if-none-match"} == route.reads.keys()
    assert len(headers) == len(found["header"])


@pytest.mark.parametrize("operation", WRITES)
def test_the_fields_of_its_bodies_are_those_of_the_table(operation: str) -> None:
    assert list(body_schema(operation)["properties"]) == list(ROUTE_OF[operation].body or {})
    assert list(COMPONENTS["schemas"]["BulkItem"]["properties"]) == list(BULK_ITEM)


def test_its_error_codes_are_those_of_the_service() -> None:
    codes = {error.code for error in ERRORS}
    listed = COMPONENTS["schemas"]["ErrorCode"]["enum"]
    by_status: dict[str, set[str]] = {}
    for operation, (_, _, described) in OPERATIONS.items():
        for status in described["responses"]:
            by_status.setdefault(status, set()).update(codes_of(operation, status))

    assert len(listed) == len(set(listed))
    assert set(listed) == codes
    for status, found in by_status.items():
        assert found <= {error.code for error in ERRORS if error.status == int(status)}
    # There is no route where there is nothing.
    assert set().union(*by_status.values()) == codes - {"NOT_FOUND"}


def test_it_refers_to_what_exists_and_holds_nothing_else() -> None:
    referred = {node["$ref"] for node in walk(DOCUMENT) if "$ref" in node}
    existing = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses", "headers")
        for name in COMPONENTS[kind]
    }

    assert referred == existing
    schemes = {name for _, _, it in OPERATIONS.values() for need in it["security"] for name in need}
    assert schemes == COMPONENTS["securitySchemes"].keys()
    assert {tag for _, _, it in OPERATIONS.values() for tag in it["tags"]} == {
        tag["name"] for tag in DOCUMENT["tags"]
    }


def test_its_examples_and_defaults_fit_their_schemas() -> None:
    exemplary = [node for node in walk(DOCUMENT) if "example" in node]
    defaults = [node for node in walk(DOCUMENT) if "default" in node]

    # An answer of every route, the bodies of the writes, and the SKU in three paths.
    assert len(exemplary) == 6 + 2 + 3
    assert len(defaults) == 2
    for node in exemplary:
        validator(node["schema"]).validate(node["example"])
    for node in defaults:
        validator(node).validate(node["default"])


def test_its_examples_are_the_published_documents() -> None:
    meta = '{"total": 1248, "limit": 50, "nextCursor": "cursor_abc123"}'
    after = RECORD
    for before, now in {"350": "500", "317": "467", "487": "637", "449": "599"}.items():
        after = after.replace(f": {before}", f": {now}")
    [adjustment] = example_answer("listAdjustments")["data"]
    answers = {
        "listInventory": f'{{"data": [{RECORD}], "meta": {meta}}}',
        "getInventory": f'{{"data": {RECORD}}}',
        "setStock": f'{{"data": {after}}}',
        "listWarehouses": f'{{"data": {WAREHOUSES}}}',
        "listAdjustments": f'{{"data": [{ADJUSTMENT.replace("adj_01HX...", adjustment["id"])}]}}',
    }

    assert adjustment["id"].startswith("adj_01HX")
    for operation, published in answers.items():
        example = example_answer(operation)
        assert ordered(json.dumps(example)) == ordered(with_ids(published)), operation
    for operation, published in {"setStock": UPDATE, "bulkSetStock": BULK}.items():
        example = json_content(OPERATIONS[operation][2]["requestBody"])["example"]
        assert ordered(json.dumps(example)) == ordered(with_ids(published)), operation


def json_content(described: Json) -> Json:
    """Return what is said of a JSON body."""
    content: Json = described["content"]["application/json"]
    return content


def example_answer(operation: str) -> Json:
    """Return the example of an operation's success."""
    example: Json = json_content(OPERATIONS[operation][2]["responses"]["200"])["example"]
    return example


def body_schema(operation: str) -> Json:
    """Return the schema of an operation's body."""
    return followed(json_content(OPERATIONS[operation][2]["requestBody"])["schema"])


def codes_of(operation: str, status: str) -> list[str]:
    """Return the error codes that may come with a status."""
    described = followed(OPERATIONS[operation][2]["responses"][status])
    if int(status) < 400:
        return []
    error = json_content(described)["schema"]["properties"]["error"]
    codes: list[str] = error["properties"]["code"]["enum"]
    return codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request, and the status and code that it is answered with."""

    operation: str
    status: int = 200
    code: str | None = None
    # What differs from a good request.
    request: Mapping[str, Any] = field(default_factory=dict)
    # The body of a request before it, which is the same otherwise.
    earlier: Json | None = None

    @property
    def is_repeated(self) -> bool:
        """Whether it is the answer that the earlier request got."""
        return self.earlier is not None and self.code != "IDEMPOTENCY_KEY_REUSED"


def case(operation: str, status: int = 200, code: str | None = None, **request: object) -> Case:
    """Return a case without an earlier request."""
    return Case(operation=operation, status=status, code=code, request=request)


def with_changes(operation: str, **changes: object) -> Json:
    """Return the good body of a write with a change of what it sets."""
    if operation == "setStock":
        return {**GOOD, **changes}
    return {"updates": [{"sku": "A", **GOOD, **changes}]}


def cases_of_all(operation: str) -> list[Case]:
    """Return what every operation answers."""
    return [
        case(operation),
        case(operation, 400, "MALFORMED_REQUEST", query="?x=%FF"),
        case(operation, 401, "UNAUTHENTICATED", token=None),
        case(operation, 403, "INSUFFICIENT_SCOPE", token=POWERLESS),
        case(operation, 422, "VALIDATION_ERROR", query="?x=1"),
    ]


def cases_of_writes(operation: str) -> list[Case]:
    """Return what every write answers, and what it answers again."""

    def changed(status: int, code: str, **changes: object) -> Case:
        return case(operation, status, code, body=with_changes(operation, **changes))

    by_the_stock = [
        changed(403, "READONLY_WAREHOUSE", warehouse_id=FBA.id),
        changed(404, "WAREHOUSE_NOT_FOUND", warehouse_id="nope"),
        changed(409, "STALE_VERSION", expected_quantity=6),
        changed(422, "NEGATIVE_QUANTITY", quantity=-1),
        changed(422, "WAREHOUSE_INACTIVE", warehouse_id=CLOSED.id),
    ]
    keyed = {"headers": {"Idempotency-Key": "k"}}
    return [
        *by_the_stock,
        *(again(it) for it in [case(operation), *by_the_stock]),
        Case(
            operation=operation,
            status=422,
            code="IDEMPOTENCY_KEY_REUSED",
            request=keyed,
            earlier=with_changes(operation, quantity=8),
        ),
        changed(413, "PAYLOAD_TOO_LARGE", note="x" * 4 * 1024 * 1024),
        case(operation, 415, "UNSUPPORTED_MEDIA_TYPE", headers={"Content-Type": "text/plain"}),
    ]


def again(first: Case) -> Case:
    """Return the case of a request that is sent for the second time under one key."""
    body = first.request.get("body", BODIES[first.operation])
    headers = {"Idempotency-Key": "k", **first.request.get("headers", {})}
    return Case(
        operation=first.operation,
        status=first.status,
        code=first.code,
        request={**first.request, "headers": headers},
        earlier=body,
    )


STALE: Final = case("setStock", 412, "STALE_VERSION", headers={"If-Match": '"999"'})
CASES: Final[list[Case]] = [
    *(it for operation in OPERATIONS for it in cases_of_all(operation)),
    *(it for operation in WRITES for it in cases_of_writes(operation)),
    case("listInventory", query="?limit=1"),
    case("listInventory", query="?status=normal"),
    case("listInventory", query="?sku=unknown"),
    case("listInventory", query=f"?warehouse_id={FBA.id}"),
    case("listInventory", 404, "WAREHOUSE_NOT_FOUND", query="?warehouse_id=nope"),
    case("listInventory", 422, "INVALID_CURSOR", query="?cursor=cursor_x"),
    case("getInventory", sku="bare"),
    case("getInventory", 304, headers={"If-None-Match": "*"}),
    case("getInventory", 404, "INVENTORY_NOT_FOUND", sku="unknown"),
    case("getInventory", 405, "METHOD_NOT_ALLOWED", sku="bulk"),
    case("setStock", headers={"If-Match": "*"}),
    case("setStock", sku="bare"),
    case("setStock", 404, "INVENTORY_NOT_FOUND", sku="unknown"),
    case("setStock", 405, "METHOD_NOT_ALLOWED", sku="warehouses"),
    STALE,
    again(STALE),
    case(
        "bulkSetStock", body={**with_changes("bulkSetStock", sku="unknown"), "on_error": "continue"}
    ),
    case(
        "bulkSetStock", 404, "INVENTORY_NOT_FOUND", body=with_changes("bulkSetStock", sku="unknown")
    ),
    case("listAdjustments", query="?limit=1"),
    case("listAdjustments", query="?reason=loss&start_date=2026-03-12&end_date=2026-03-12"),
    case("listAdjustments", sku="bare"),
    case("listAdjustments", 404, "INVENTORY_NOT_FOUND", sku="unknown"),
    case("listAdjustments", 404, "WAREHOUSE_NOT_FOUND", query="?warehouse_id=nope"),
    case("listAdjustments", 422, "INVALID_CURSOR", query="?cursor=cursor_x"),
]
# What breaks, in which part of the database, and what it is answered with.
FAULTS: Final = [
    ("snapshot", RuntimeError("a bug"), 500, "INTERNAL"),
    ("snapshot", Unavailable("The database cannot answer now."), 503, "UNAVAILABLE"),
    ("transaction", IdempotencyInFlight("Try again."), 409, "IDEMPOTENCY_IN_FLIGHT"),
]


@pytest.mark.parametrize(
    "it", CASES, ids=[f"{number} {it.operation} {it.code}" for number, it in enumerate(CASES)]
)
async def test_an_answer_is_as_described(stocked: Service, it: Case) -> None:
    if it.earlier is not None:
        earlier = await ask(stocked, it.operation, **{**it.request, "body": it.earlier})
        assert_described(it.operation, earlier)
    response = await ask(stocked, it.operation, **it.request)

    assert response.status_code == it.status, response.text
    if it.code:
        assert refusal(response) == (it.status, it.code)
        assert it.code in codes_of(it.operation, str(it.status))
    assert_described(it.operation, response)
    assert ("idempotent-replayed" in response.headers) == it.is_repeated


@pytest.mark.parametrize(("part", "fault", "status", "code"), FAULTS, ids=[it[3] for it in FAULTS])
async def test_an_answer_to_a_fault_is_as_described(
    stocked: Service,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    fault: Exception,
    status: int,
    code: str,
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(stocked.database, part, fail)
    for operation in OPERATIONS if part == "snapshot" else WRITES:
        response = await ask(stocked, operation)
        assert refusal(response) == (status, code)
        assert_described(operation, response)
        described = followed(OPERATIONS[operation][2]["responses"][str(status)])
        assert ("retry-after" in response.headers) == ("Retry-After" in described["headers"])


def test_every_status_and_code_that_is_described_has_been_answered() -> None:
    described = {
        (operation, status, code)
        for operation, (_, _, it) in OPERATIONS.items()
        for status in it["responses"]
        for code in codes_of(operation, status) or [""]
    }
    answers = {(it.operation, str(it.status), it.code or "") for it in CASES}
    for part, _, status, code in FAULTS:
        for operation in OPERATIONS if part == "snapshot" else WRITES:
            answers.add((operation, str(status), code))

    assert described == answers


def test_an_answer_may_be_a_repeated_one_where_the_description_says_so() -> None:
    described = {
        (operation, int(status))
        for operation, (_, _, it) in OPERATIONS.items()
        for status, answer in it["responses"].items()
        if "Idempotent-Replayed" in followed(answer)["headers"]
    }

    assert described == {(it.operation, it.status) for it in CASES if it.is_repeated}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_the_scopes_that_are_described_suffice_and_no_others(
    stocked: Service, operation: str
) -> None:
    security = OPERATIONS[operation][2]["security"]
    described = {scope for need in security for scopes in need.values() for scope in scopes}

    for token in ("read", "write", "admin", POWERLESS):
        response = await ask(stocked, operation, token=token)
        suffices = f"inventory:{token}" in described
        assert (token, response.status_code) == (token, 200 if suffices else 403)


# Header values that show whether a route heeds them, and what they then lead to.
TELLING: Final = {
    "Idempotency-Key": ("a b", 422),
    "If-Match": ('"999"', 412),
    "If-None-Match": ("*", 304),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_header_is_heeded_if_it_is_described(stocked: Service, operation: str) -> None:
    described = {
        it["name"] for it in OPERATIONS[operation][2]["parameters"] if it["in"] == "header"
    }

    assert described <= TELLING.keys()
    for name, (value, status) in TELLING.items():
        response = await ask(stocked, operation, headers={name: value})
        expected = status if name in described else 200
        assert (name, response.status_code) == (name, expected)


async def test_no_header_is_read_that_is_not_described(
    stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    for method in ("__getitem__", "__contains__", "getlist"):
        monkeypatch.setattr(Headers, method, noting(read, getattr(Headers, method)))
    for operation in OPERATIONS:
        await ask(stocked, operation)

    # OpenAPI has other places for these two.
    assert read == {name.lower() for name in TELLING} | {"authorization", "content-type"}


def noting(names: set[str], method: Any) -> Any:  # noqa: ANN401 - any look-up
    """Return a look-up that takes note of the names that a request is asked for."""

    def look_up(headers: Headers, name: str) -> object:
        # Answers have a class of their own.
        if type(headers) is Headers:
            names.add(name.lower())
        return method(headers, name)

    return look_up


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_query_parameter_is_known_if_it_is_described(
    stocked: Service, operation: str
) -> None:
    everywhere = {
        it["name"]
        for _, _, op in OPERATIONS.values()
        for it in op["parameters"]
        if it["in"] == "query"
    }
    described = {it["name"] for it in OPERATIONS[operation][2]["parameters"] if it["in"] == "query"}

    for name in [*everywhere, "page", "offset"]:
        response = await ask(stocked, operation, query=f"?{name}=")
        is_known = f"{name} is not known here" not in response.text
        assert (name, is_known) == (name, name in described)


@pytest.mark.parametrize("operation", WRITES)
async def test_a_field_may_be_missing_if_the_description_says_so(
    stocked: Service, operation: str
) -> None:
    schema, whole = body_schema(operation), BODIES[operation]
    item = COMPONENTS["schemas"]["BulkItem"]
    bodies = [without(whole, name) for name in schema["properties"]]
    if operation == "bulkSetStock":
        [update] = whole["updates"]
        bodies += [{"updates": [without(update, name)]} for name in item["properties"]]

    verdicts = {validator(schema).is_valid(body) for body in bodies}
    assert verdicts == {True, False}
    for body in bodies:
        response = await ask(stocked, operation, body=body)
        is_taken = response.status_code == 200
        assert (body, is_taken) == (body, validator(schema).is_valid(body)), response.text


def without(whole: Json, name: str) -> Json:
    """Return an object without a field."""
    return {key: value for key, value in whole.items() if key != name}


@dataclass(frozen=True, slots=True)
class Place:
    """A place of a request whose values a schema describes."""

    operation: str
    where: str
    name: str
    schema: Json

    def __str__(self) -> str:
        return f"{self.operation} {self.where} {self.name}"

    @property
    def is_json(self) -> bool:
        """Whether it takes JSON values, and not only text."""
        return self.where in ("body", "item")


def places() -> Iterator[Place]:
    """Yield every place of every request; what makes a cursor good is not its shape."""
    for operation, (_, _, described) in OPERATIONS.items():
        for it in described["parameters"]:
            if it["name"] != "cursor":
                yield Place(operation, it["in"], it["name"], it["schema"])
    for operation in WRITES:
        for name, schema in body_schema(operation)["properties"].items():
            yield Place(operation, "body", name, schema)
    for name, schema in COMPONENTS["schemas"]["BulkItem"]["properties"].items():
        yield Place("bulkSetStock", "item", name, schema)


NUMBERS: Final = [-1, 0, 1, 200, 201, 10**12, 10**12 + 1]
COUNTS: Final = [0, 1, 500, 501]
TEXTS: Final = [
    *("a" * length for length in (1, 64, 65, 255, 256, 1000, 1001)),
    *("", "A", "1", "_", "-", "a1_", "a b", "a-b", "ä", "~!", "a\x00"),
]
INSTANTS: Final = [
    *("2026-03-12", "2026-03-12T14:00:00Z", "2026-03-12t14:00:00.123456z"),
    *("2026-03-12T14:00:00.5+05:30", "2026-03-12T14:00:00-00:00", "", "yesterday", "20260312"),
    *("2026-3-12", "2026-02-30", "2026-13-01", "12.03.2026", "2026-03-12T14:00:00"),
    *("2026-03-12T14:00Z", "2026-03-12 14:00:00Z", "2026-03-12T24:00:00Z", "1773324000"),
]


def edges(place: Place) -> list[Any]:
    """Return values at and beyond every bound, the description's and the service's."""
    schema = place.schema
    types = schema["type"]
    steps = (-1, 0, 1)
    counts = [
        schema[it] + step for it in ("minItems", "maxItems") if it in schema for step in steps
    ]
    values: list[Any] = []
    if "integer" in types:
        bounds = schema.keys() & {"minimum", "maximum"}
        values += [*NUMBERS, *(schema[bound] + step for bound in sorted(bounds) for step in steps)]
    if "minLength" in schema:
        lengths = {schema[it] + step for it in ("minLength", "maxLength") for step in steps}
        values += ["a" * length for length in sorted(lengths | {0, 64, 65})]
    if "enum" in schema:
        values += [*schema["enum"], "other", ""]
    if "pattern" in schema:
        values += TEXTS
    if "anyOf" in schema:
        values += INSTANTS
    if types == "array":
        values += [
            [{**GOOD, "sku": f"unknown {number}"} for number in range(count)]
            for count in sorted({*COUNTS, *counts})
        ]
    if place.is_json:
        values += [None, True, 1.5, [], {}, "5" if "integer" in types else 5]
    return values


BOUNDED: Final = [place for place in places() if edges(place)]


@pytest.mark.parametrize("place", BOUNDED, ids=str)
async def test_a_value_is_taken_if_the_description_allows_it(
    stocked: Service, place: Place
) -> None:
    check = validator(place.schema)
    values = edges(place)
    is_allowed = [check.is_valid(value) for value in values]
    found = [await is_taken(stocked, place, value) for value in values]

    differing = [
        (repr(value)[:80], allowed)
        for value, allowed, taken in zip(values, is_allowed, found, strict=True)
        if allowed != taken
    ]
    assert differing == []
    assert False in is_allowed


def test_every_bound_of_a_request_is_tried() -> None:
    assert {(it.operation, it.where, it.name) for it in BOUNDED if not it.is_json} == {
        *((operation, "query", "limit") for operation in ("listInventory", "listAdjustments")),
        *((name, "path", "sku") for name in ("getInventory", "setStock", "listAdjustments")),
        *(("listAdjustments", "query", name) for name in ("start_date", "end_date", "reason")),
        *((operation, "header", "Idempotency-Key") for operation in WRITES),
        ("listInventory", "query", "status"),
    }
    assert {it.name for it in BOUNDED if it.is_json} == {*GOOD, *BULK_ITEM, "updates", "on_error"}


async def is_taken(service: Service, place: Place, value: Any) -> bool:  # noqa: ANN401
    """Tell whether a request with a value in a place is answered with success."""
    operation = place.operation
    if place.where == "path":
        response = await ask(service, operation, sku=value)
    elif place.where == "query":
        query = f"?{httpx.QueryParams({place.name: value})}"
        response = await ask(service, operation, query=query)
    elif place.where == "header":
        response = await ask(service, operation, headers={place.name: value.encode()})
    else:
        if place.name == "expected_quantity" and validator(place.schema).is_valid(value):
            answered(await ask(service, "setStock", body={**GOOD, "quantity": value or 0}))
        whole = BODIES[operation]
        if place.where == "item":
            body: Json = {"updates": [{**whole["updates"][0], place.name: value}]}
        elif place.name == "updates":
            body = {"updates": value, "on_error": "continue"}
        else:
            body = {**whole, place.name: value}
        response = await ask(service, operation, body=body)
    return response.status_code == 200


async def test_a_default_is_what_a_missing_value_means(stocked: Service) -> None:
    [limit] = [
        it["schema"] for it in OPERATIONS["listInventory"][2]["parameters"] if it["name"] == "limit"
    ]
    assert answered(await ask(stocked, "listInventory"))["meta"]["limit"] == limit["default"]

    on_error = body_schema("bulkSetStock")["properties"]["on_error"]["default"]
    refused = {"updates": [{**GOOD, "sku": code} for code in ("A", "unknown")]}
    implied = await ask(stocked, "bulkSetStock", body=refused)
    said = await ask(stocked, "bulkSetStock", body={**refused, "on_error": on_error})
    assert refusal(implied) == refusal(said) == (404, "INVENTORY_NOT_FOUND")


async def test_a_body_is_closed_as_described(stocked: Service) -> None:
    for operation in WRITES:
        body = {**BODIES[operation], "unknown": 1}
        assert not validator(body_schema(operation)).is_valid(body)
        assert refused_fields(await ask(stocked, operation, body=body)) == ["unknown"]
