"""GraphQL over HTTP: methods, content types, bodies, statuses and errors."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import httpx
import pytest

from app.errors import InventoryError
from app.graphql.documents import DocumentRules, Documents
from app.graphql.schema import dataloaders
from app.settings import Settings
from tests.graphql.operations import failed_request, refusal, refusals, send_operation
from tests.service import Service, level, running, sku, warehouse

PLAIN: Final = "application/json"
PRECISE: Final = "application/graphql-response+json"
HTML: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
MALFORMED: Final = (400, "MALFORMED_REQUEST")
INVALID: Final = (422, "VALIDATION_ERROR")
TOO_COMPLEX: Final = (422, "QUERY_TOO_COMPLEX")
QUERY: Final = "{ __typename }"
SET: Final = (
    "mutation ($id: ID!) { setStock(input: "
    '{sku: "A", warehouseId: $id, quantity: 7, reason: "loss"}) { sku { totalOnHand } } }'
)


async def post(
    service: Service,
    body: bytes,
    *,
    content_type: str | None = PLAIN,
    accept: str = PRECISE,
    **headers: str,
) -> httpx.Response:
    typed = {} if content_type is None else {"Content-Type": content_type}
    return await service.rest(
        "POST", "/graphql", content=body, headers={"Accept": accept, **typed, **headers}
    )


async def send(service: Service, body: object, *, accept: str = PRECISE) -> httpx.Response:
    return await post(service, json.dumps(body).encode(), accept=accept)


async def get(
    service: Service, parameters: Mapping[str, str], accept: str = PRECISE
) -> httpx.Response:
    return await service.rest("GET", "/graphql", params=parameters, headers={"Accept": accept})


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PRECISE, PRECISE),
        (f"{PRECISE}, {PLAIN};q=0.9", PRECISE),
        (f"{PRECISE}; charset=utf-8", PRECISE),
        (PLAIN, PLAIN),
        ("*/*", PLAIN),
        ("application/*", PLAIN),
        ("text/html", PLAIN),
    ],
)
async def test_response_has_the_accepted_content_type(
    service: Service, accept: str, expected: str
) -> None:
    response = await send_operation(service, QUERY, accept=accept)

    assert response.status_code == 200
    assert response.headers["content-type"] == expected
    assert response.json() == {"data": {"__typename": "Query"}}


REQUEST_ERRORS: Final = {
    "a syntax error": ({"query": "{"}, MALFORMED),
    "no operation": ({"query": ""}, MALFORMED),
    "a comment alone": ({"query": "# {"}, MALFORMED),
    "an unknown field": ({"query": "{ nope }"}, INVALID),
    "an unknown argument": ({"query": '{ sku(code: "A") { id } }'}, INVALID),
    "a missing argument": ({"query": "{ sku { id } }"}, INVALID),
    "no selection": ({"query": "{ warehouses }"}, INVALID),
    "an unknown type": ({"query": "query ($a: Nope) { sku(sku: $a) { id } }"}, INVALID),
    "an unknown directive": ({"query": "{ __typename @defer }"}, INVALID),
    "a fragment that spreads itself": (
        {"query": "fragment F on Query { __typename ...F } { ...F }"},
        INVALID,
    ),
    "a fragment alone": ({"query": "fragment F on Query { __typename }"}, INVALID),
    "a type definition": ({"query": "type Nope { id: ID }"}, INVALID),
    "a missing variable": ({"query": "query ($s: String!) { sku(sku: $s) { id } }"}, INVALID),
    "a bad variable": (
        {"query": "query ($s: String!) { sku(sku: $s) { id } }", "variables": {"s": 5}},
        INVALID,
    ),
    "two operations and no name": ({"query": "query A {__typename} query B {__typename}"}, INVALID),
    "an unknown operation": (
        {"query": "query A {__typename}", "operationName": "B"},
        INVALID,
    ),
    "the name of an unnamed operation": ({"query": QUERY, "operationName": "A"}, INVALID),
    "a subscription": ({"query": "subscription { skus { id } }"}, INVALID),
    "a subscription to nothing": ({"query": "subscription { __typename }"}, INVALID),
    "a subscription beside a query": (
        {"query": "query A {__typename} subscription B {__typename}", "operationName": "A"},
        INVALID,
    ),
}


@pytest.mark.parametrize("name", REQUEST_ERRORS)
async def test_request_error_has_its_status_in_the_graphql_response_type(
    service: Service, name: str
) -> None:
    body, expected = REQUEST_ERRORS[name]

    precise = await send(service, body)
    assert failed_request(precise) == expected
    assert precise.headers["content-type"] == PRECISE
    plain = await send(service, body, accept=PLAIN)
    assert plain.status_code == 200
    assert plain.headers["content-type"] == PLAIN
    assert list(plain.json()) == ["errors"]
    assert refusal(plain.json()) == expected


async def test_request_error_has_its_location(service: Service) -> None:
    for query, line, column in [("{\n  nope }", 2, 3), ("{\n\n sku(", 3, 6)]:
        [error] = (await send_operation(service, query)).json()["errors"]
        [location] = error["extensions"]["details"]
        assert (location["line"], location["column"]) == (line, column)
        assert location["message"]


NOT_WELL_FORMED: Final = {
    "null": b"null",
    "a string": b'"x"',
    "a number": b"1",
    "true": b"true",
    "nothing": b"",
    "blanks": b" \n",
    "half an object": b'{"query": "{ __typename }"',
    "two objects": b'{"query": "{ __typename }"} {}',
    "bad UTF-8": b'{"query": "{ __typename } # \xff"}',
    "UTF-16": '{"query": "{ __typename }"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"query": "{ __typename }"}',
    "a key twice": b'{"query": "{ __typename }", "query": "{ __typename }"}',
    "a key of variables twice": b'{"query": "{ __typename }", "variables": {"a": 1, "a": 2}}',
    "NaN": b'{"query": "{ __typename }", "variables": {"a": NaN}}',
    "Infinity": b'{"query": "{ __typename }", "variables": {"a": -Infinity}}',
    "1e999": b'{"query": "{ __typename }", "variables": {"a": 1e999}}',
    "an endless number": b'{"query": "{ __typename }", "variables": {"a": ' + b"9" * 5_000 + b"}}",
    "a lone surrogate": b'{"query": "{ __typename }", "variables": {"a": "\\ud800"}}',
    "a surrogate in the query": b'{"query": "{ __typename } # \\udfff"}',
    "a trailing comma": b'{"query": "{ __typename }",}',
    "single quotes": b"{'query': '{ __typename }'}",
    "a control character": b'{"query": "{ __typename }\n"}',
    "many brackets": b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * 40_000,
    "deep variables": b'{"query": "{ __typename }", "variables": {"a": '
    + b"[" * 80
    + b"]" * 80
    + b"}}",
    "no query": b"{}",
    "another name for it": b'{"Query": "{ __typename }"}',
    "null for a query": b'{"query": null}',
    "a list for a query": b'{"query": ["{ __typename }"]}',
    "an object for a query": b'{"query": {}}',
    "a list for variables": b'{"query": "{ __typename }", "variables": []}',
    "a string for variables": b'{"query": "{ __typename }", "variables": "{}"}',
    "false for variables": b'{"query": "{ __typename }", "variables": false}',
    "a number for a name": b'{"query": "{ __typename }", "operationName": 0}',
    "a list for a name": b'{"query": "{ __typename }", "operationName": []}',
    "a list for extensions": b'{"query": "{ __typename }", "extensions": []}',
    "a string for extensions": b'{"query": "{ __typename }", "extensions": "x"}',
    "a batch": b'[{"query": "{ __typename }"}]',
    "a batch of two": b'[{"query": "{ __typename }"}, {"query": "{ __typename }"}]',
    "an empty batch": b"[]",
}


@pytest.mark.parametrize("name", NOT_WELL_FORMED)
async def test_invalid_graphql_request_is_malformed_for_every_accept_header(
    service: Service, name: str
) -> None:
    for accept in (PLAIN, PRECISE):
        response = await post(service, NOT_WELL_FORMED[name], accept=accept)
        assert failed_request(response) == MALFORMED


@pytest.mark.parametrize(
    "extra",
    [
        {"variables": None},
        {"variables": {}},
        {"variables": {"unused": [1, 2.5, None, {"a": "b"}]}},
        {"operationName": None},
        {"extensions": None},
        {"extensions": {"persistedQuery": {"version": 1}}},
        {"somethingElse": 1},
    ],
)
async def test_optional_request_members_change_nothing(
    service: Service, extra: Mapping[str, object]
) -> None:
    response = await send(service, {"query": QUERY, **extra})

    assert response.status_code == 200
    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    "content_type",
    [
        PLAIN,
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        'application/json;charset="UTF-8"',
    ],
)
async def test_json_body_is_parsed(service: Service, content_type: str) -> None:
    response = await post(service, json.dumps({"query": QUERY}).encode(), content_type=content_type)

    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/jsonx",
        PRECISE,
    ],
)
async def test_body_of_another_content_type_is_rejected(
    service: Service, content_type: str | None
) -> None:
    response = await post(service, json.dumps({"query": QUERY}).encode(), content_type=content_type)

    assert failed_request(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_operation_name_selects_the_operation(service: Service) -> None:
    query = "query A { a: __typename } query B { b: __typename } mutation C { c: __typename }"

    for name, data in [("A", {"a": "Query"}), ("B", {"b": "Query"}), ("C", {"c": "Mutation"})]:
        response = await send(service, {"query": query, "operationName": name})
        assert response.json() == {"data": data}


async def test_get_executes_queries(service: Service) -> None:
    query = "query A ($s: String!) { sku(sku: $s) { sku } } query B { __typename }"
    await service.load([], [sku("A")])

    parameters = {"query": query, "operationName": "A", "variables": '{"s": "A"}'}
    response = await get(service, parameters)
    assert response.status_code == 200
    assert response.headers["content-type"] == PRECISE
    assert response.json() == {"data": {"sku": {"sku": "A"}}}
    assert (await get(service, {"query": QUERY}, "*/*")).json() == {"data": {"__typename": "Query"}}


async def test_get_rejects_mutations(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])

    variables = json.dumps({"id": main.id})
    for accept in (PLAIN, PRECISE):
        response = await get(service, {"query": SET, "variables": variables}, accept)
        assert failed_request(response) == (405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == "POST"
    named = {"query": f"query Q {QUERY} {SET.replace('mutation', 'mutation M')}"}
    response = await get(service, {**named, "operationName": "M", "variables": variables})
    assert response.status_code == 405
    data = await service.data("{ skus { nodes { totalOnHand } } }")
    assert data == {"skus": {"nodes": [{"totalOnHand": 5}]}}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"operationName": "A"},
        {"query": QUERY, "variables": "{"},
        {"query": QUERY, "variables": "[]"},
        {"query": QUERY, "variables": "null5"},
        {"query": QUERY, "variables": '{"a": 1, "a": 2}'},
        {"query": QUERY, "extensions": "1"},
        {"query": "{"},
    ],
)
async def test_invalid_get_request_is_malformed(
    service: Service, parameters: Mapping[str, str]
) -> None:
    assert failed_request(await get(service, parameters)) == MALFORMED


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_are_not_allowed(service: Service, method: str) -> None:
    response = await service.rest(method, "/graphql", headers={"Accept": HTML})

    assert failed_request(response) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("token", [None, "bad", "inv_nobody-bad"])
async def test_credential_is_checked_before_the_body(service: Service, token: str | None) -> None:
    requests: list[tuple[str, dict[str, Any]]] = [
        ("POST", {"json": {"query": QUERY}}),
        ("POST", {"json": {"query": "{"}}),
        ("POST", {"content": b"{"}),
        ("POST", {"content": b"x" * 5_000_000}),
        ("GET", {"params": {"query": QUERY}}),
        ("GET", {}),
    ]
    for accept in (PLAIN, PRECISE):
        for method, options in requests:
            response = await service.rest(
                method, "/graphql", token=token, headers={"Accept": accept}, **options
            )
            assert failed_request(response) == (401, "UNAUTHENTICATED")
            assert response.headers["www-authenticate"] == "Bearer"


async def test_browser_gets_the_page_without_a_credential(service: Service) -> None:
    for parameters in ({}, {"query": QUERY}):
        response = await service.rest(
            "GET", "/graphql", token=None, params=parameters, headers={"Accept": HTML}
        )
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")
        assert "<!doctype html>" in response.text.lower()


@pytest.mark.parametrize(
    "query",
    [
        "{ " + "a: __typename " * 400 + "}",
        "{ __typename " + "@skip(if: false) " * 300 + "}",
        '{ sku(sku: "A") { id } ' * 300,
        "{" * 40_000,
        "[" * 40_000,
    ],
)
async def test_a_document_of_too_many_tokens_is_malformed(service: Service, query: str) -> None:
    assert failed_request(await send(service, {"query": query})) == MALFORMED


async def test_document_length_limit_is_a_setting(database_url: str, service: Service) -> None:
    spreads = " ".join(f"...F{n}" for n in range(150))
    fragments = " ".join(f"fragment F{n} on Warehouse {{ a{n}: id }}" for n in range(150))
    query = f"{{ warehouses {{ {spreads} }} }} {fragments}"
    assert failed_request(await send(service, {"query": query})) == MALFORMED
    async with running(database_url, max_query_tokens=2_000) as (app, client):
        roomy = Service(app, client, service.database, service.tenant_id)
        assert await roomy.data(query) == {"warehouses": []}


@pytest.mark.parametrize("depth", [10, 60, 90, 120, 160, 240, 330])
@pytest.mark.parametrize(
    ("before", "opened", "closed", "after"),
    [
        ('{ sku(sku: "A") { ', "stock { sku { ", "} } ", "id } }"),
        ("{ ", "... { ", "} ", "__typename }"),
        ("{ ", "... on Query { ", "} ", "nope }"),
        ("{ __schema { types { fields { type { ", "ofType { ", "} ", "name } } } } }"),
        ("{ sku(sku: ", "[", "]", ") { id } }"),
        ("{ skus(filter: ", "{sku: ", "}", ") { nodes { id } } }"),
        ("query ($a: ", "[", "]", ") { sku(sku: $a) { id } }"),
    ],
)
async def test_deep_document_is_executed_or_rejected(
    service: Service, before: str, opened: str, closed: str, after: str, depth: int
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    inner = {"[": "String", "{sku: ": '"A"'}.get(opened, "id " if "sku" in opened else "")
    query = before + opened * depth + (inner or "__typename ") + closed * depth + after

    response = await send(service, {"query": query})
    answer = response.json()
    if "data" in answer:
        assert "errors" not in answer
        assert response.status_code == 200
    else:
        assert failed_request(response) in (MALFORMED, INVALID, TOO_COMPLEX)


async def test_unexpected_error_is_masked_and_sibling_fields_succeed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret dsn")

    monkeypatch.setattr(dataloaders, "get_warehouses", fail)
    response = await send_operation(
        service, '{ a: __typename b: warehouse(id: "wh_1") { id } c: warehouses { id } }'
    )
    assert response.status_code == 200
    assert "secret" not in response.text
    answer = response.json()
    assert answer["data"] == {"a": "Query", "b": None, "c": []}
    assert refusals(answer) == [(500, "INTERNAL")]
    [error] = answer["errors"]
    assert error["path"] == ["b"]
    assert error["extensions"]["request_id"] == response.headers["x-request-id"]


async def test_an_unexpected_error_outside_of_fields_is_masked(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret dsn")

    monkeypatch.setattr(Documents, "operation", fail)
    for accept in (PLAIN, PRECISE):
        response = await send_operation(service, QUERY, accept=accept)
        assert "secret" not in response.text
        assert failed_request(response) == (500, "INTERNAL")


async def test_request_id_of_the_client_is_returned(service: Service) -> None:
    response = await post(service, b'{"query": "{"}', **{"X-Request-ID": "client-1"})

    assert response.headers["x-request-id"] == "client-1"
    assert response.json()["errors"][0]["extensions"]["request_id"] == "client-1"


async def test_field_errors_leave_the_status_200(service: Service) -> None:
    for accept in (PLAIN, PRECISE):
        response = await send_operation(
            service, '{ a: sku(sku: "NOPE") { id } __typename }', accept=accept
        )
        assert response.status_code == 200
        assert response.headers["content-type"] == accept
        assert response.json()["data"] == {"a": None, "__typename": "Query"}
        assert refusals(response.json()) == [(404, "INVENTORY_NOT_FOUND")]


@pytest.mark.parametrize("text", ["{", "{ nope }"])
def test_rejected_document_is_rejected_again_at_the_same_cost(text: str) -> None:
    documents = Documents(DocumentRules.of(Settings()))

    def frames() -> int:
        with pytest.raises(InventoryError) as caught:
            documents.operation(text)
        return length(caught.value.__traceback__)

    first = frames()
    assert [frames() for _ in range(5)] == [first] * 5


def length(traceback: TracebackType | None) -> int:
    return 0 if traceback is None else 1 + length(traceback.tb_next)
