"""Expensive documents are refused by their measured size."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from graphql import SelectionNode, get_introspection_query, parse

from app.domain.periods import MAX_PERIODS
from app.graphql.documents import DocumentRules, prepared_operations
from app.graphql.limits import Count, QueryLimits, check_document
from app.graphql.schema.schema import schema
from app.graphql.trusted_documents import BadManifest, TrustedDocuments, document_hash
from app.settings import Settings
from app.web.pages import graphiql_tabs
from rest_shim.endpoint import OPERATIONS
from tests.graphql.operations import refusal, send_operation
from tests.security.bombs import BOMBS, TOO_COMPLEX, Bomb, code_of, doubling
from tests.service import Service, running

LIMITS: Final = QueryLimits.of(Settings())
WITHIN: Final = {
    "length": ("# %s\n{ __typename }" % ("x" * 900), "# %s\n{ __typename }" % ("x" * 1_000)),
    "depth": ("{ skus { nodes { id } } }", "{ skus { nodes { stock { id } } } }"),
    "fields": ('{ a: sku(sku: "A") { id } }', "{ skus { nodes { id sku title } } }"),
    "aliases": ("{ a: __typename }", "{ a: __typename b: __typename }"),
    "repeats": ("{ __typename __typename }", "{ __typename __typename __typename }"),
    "root_fields": ("{ __typename __typename }", "{ __typename __typename a: __typename }"),
    "directives": ("{ __typename @skip(if: false) }", "{ __typename @skip(if: false) @include(if: true) }"),
    "cost": ("{ skus(first: 2) { nodes { id } } }", "{ skus(first: 3) { nodes { id } } }"),
}  # fmt: skip
TIGHT: Final = {
    "length": 1_000, "depth": 3, "fields": 4, "aliases": 1, "repeats": 2, "root_fields": 2,
    "directives": 1, "cost": 4,
}  # fmt: skip
HISTORY: Final = (
    'stockHistory(from: "2026-03-%s", to: "2026-03-%s", interval: %s) { opening closing }'
)
PAGES: Final = "query ($n: Int! = 2) { skus(first: $n) { nodes { id } } }"


@pytest.mark.parametrize("bomb", BOMBS, ids=[bomb.name for bomb in BOMBS])
async def test_a_bomb_is_refused_with_a_clear_code(service: Service, bomb: Bomb) -> None:
    code, detail = await code_of(service, bomb)

    assert code == bomb.code
    if bomb.limit is not None:
        assert detail is not None
        assert detail["limit"] == bomb.limit
        assert detail["found"] > detail["most"]


def test_measuring_is_linear_in_the_document_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visits = 0
    count = Count._selection

    def counted(self: Count, node: SelectionNode, parent: Any) -> Any:
        nonlocal visits
        visits += 1
        return count(self, node, parent)

    monkeypatch.setattr(Count, "_selection", counted)
    taken = []
    for times in (50, 100):
        visits = 0
        document = parse(f'{{ sku(sku: "A") {{ ...F0 }} }} {doubling(times, "Sku", "id")}')
        with pytest.raises(Exception, match="selects"):
            check_document(schema._schema, document, LIMITS)
        taken.append(visits)

    # The field, its spread, two spreads of each fragment, and the field of the last one.
    assert taken == [103, 203]


@pytest.mark.parametrize("limit", WITHIN)
async def test_each_limit_accepts_its_maximum(
    monkeypatch: pytest.MonkeyPatch, database_url: str, service: Service, limit: str
) -> None:
    fits, exceeds = WITHIN[limit]
    limits = replace(LIMITS, **{limit: TIGHT[limit]})
    monkeypatch.setattr(QueryLimits, "of", lambda _: limits)
    async with running(database_url) as (app, client):
        tight = Service(app, client, service.database, service.tenant_id)
        assert "data" in await tight.graphql(fits), limit
        answer = await tight.graphql(exceeds)

    assert refusal(answer) == (422, TOO_COMPLEX)
    [detail] = answer["errors"][0]["extensions"]["details"]
    assert (detail["limit"], detail["most"]) == (limit, TIGHT[limit])


def test_limits_of_tokens_depth_and_cost_are_settings() -> None:
    limits = QueryLimits.of(Settings(max_query_tokens=200, max_query_depth=3, max_query_cost=7))

    assert limits == replace(LIMITS, tokens=200, depth=3, cost=7)


async def test_the_cost_uses_page_sizes_from_variables(database_url: str, service: Service) -> None:
    async with running(database_url, max_query_cost=10) as (app, client):
        tight = Service(app, client, service.database, service.tenant_id)
        costs = [
            await cost_of(tight, PAGES, variables)
            for variables in ({}, {"n": 2}, {"n": 8}, {"n": 1}, {"n": 8})
        ]
        answer = await tight.graphql(PAGES, {"n": 9})

    assert costs == [4, 4, 10, 3, 10]
    assert refusal(answer) == (422, TOO_COMPLEX)


@pytest.mark.parametrize("size", [0, -1, 201, 10**30, "5", None, True, 1.5, [], {}])
async def test_an_invalid_page_size_is_refused_as_invalid(service: Service, size: object) -> None:
    answer = await service.graphql(PAGES, {"n": size})

    assert refusal(answer) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ __typename }", 1),
        ("{ skus(first: 10) { nodes { id sku } } }", 22),
        ("{ skus(first: 10) { edges { node { id } } totalCount } }", 23),
        ("{ skus { nodes { id } } }", 52),
        ("{ skus(first: 10) { ...P } } fragment P on SkuConnection { nodes { id } }", 12),
        ("{ skus(first: 10) { ... { nodes { id } } ... { edges { cursor } } } }", 23),
        ("{ skus(first: 10) { nodes { adjustments(first: 20) { nodes { id } } } } }", 222),
        ("{ warehouses { id } }", 6),
        (f"{{ skus(first: 10) {{ nodes {{ {HISTORY % ('01', '03', 'DAY')} }} }} }}", 72),
        (f"{{ skus(first: 10) {{ nodes {{ {HISTORY % ('01', '02', 'HOUR')} }} }} }}", 972),
        (f"{{ skus(first: 1) {{ nodes {{ {HISTORY % ('03', '01', 'DAY')} }} }} }}", 5),
        (f"{{ skus(first: 1) {{ nodes {{ {HISTORY % ('01', '31', 'HOUR')} }} }} }}", 803),
    ],
)
async def test_the_cost_is_returned_on_request(service: Service, query: str, cost: int) -> None:
    assert await cost_of(service, query) == cost


def test_the_cost_of_a_history_uses_periods_from_variables() -> None:
    [operation] = prepared_operations(
        'query ($from: DateOrDateTime! = "2026-03-01", $to: DateOrDateTime! = "2026-03-30", '
        '$interval: StockInterval! = DAY) { sku(sku: "A") { '
        "stockHistory(from: $from, to: $to, interval: $interval) { closing } } }"
    ).values()
    asked_for: list[tuple[dict[str, object], int]] = [
        ({}, 30),
        ({"to": "2026-03-02"}, 2),
        ({"to": "2026-03-01T12:00:00Z"}, 1),
        ({"interval": "HOUR"}, MAX_PERIODS),
        ({"from": "2026-03-30", "interval": "HOUR"}, 24),
        ({"interval": "WEEK"}, MAX_PERIODS),
        ({}, 30),
    ]
    # Invalid times, and those too long to parse, count as MAX_PERIODS.
    wrong: list[object] = ["", "now", None, 5, {}, [], f"2026-03-01{'0' * 99}"]
    asked_for += [({"to": it}, MAX_PERIODS) for it in wrong]

    costs = [operation.costs.cost(variables) for variables, _ in asked_for]

    assert costs == [2 + periods for _, periods in asked_for]


async def test_the_cost_is_absent_without_a_request_for_it(service: Service) -> None:
    assert (await send_operation(service, "{ __typename }")).json() == {
        "data": {"__typename": "Query"}
    }


async def cost_of(
    service: Service, query: str, variables: Mapping[str, object] | None = None
) -> int:
    """Cost in the extensions of a response."""
    body = {"query": query, "variables": variables or {}, "extensions": {"cost": True}}
    answer = (await service.rest("POST", "/graphql", json=body)).json()
    assert answer["extensions"]["cost"]["limit"] >= answer["extensions"]["cost"]["most"], answer
    cost: int = answer["extensions"]["cost"]["most"]
    return cost


async def test_graphiql_queries_are_within_the_limits(service: Service) -> None:
    introspection = get_introspection_query(
        specified_by_url=True, input_value_deprecation=True, directive_is_repeatable=True
    )
    costs = [await cost_of(service, introspection)]
    for tab in graphiql_tabs():
        [operation] = prepared_operations(tab.query).values()
        costs.append(operation.costs.cost(tab.variables))

    assert max(costs) < LIMITS.cost / 10


def test_route_operations_have_no_limit() -> None:
    assert prepared_operations(OPERATIONS)


async def test_introspection_can_be_switched_off(database_url: str, service: Service) -> None:
    async with running(database_url, introspection=False) as (app, client):
        closed = Service(app, client, service.database, service.tenant_id)
        for query in ("{ __schema { types { name } } }", '{ __type(name: "Sku") { name } }'):
            answer = await closed.graphql(f"query {{ __typename ... on Query {query} }}")
            assert refusal(answer) == (422, "VALIDATION_ERROR")
            assert "Sku" not in json.dumps(answer)
        assert await closed.data("{ __typename }") == {"__typename": "Query"}


async def test_suggestions_can_be_switched_off(database_url: str, service: Service) -> None:
    cases: list[tuple[str, dict[str, object]]] = [
        ("{ skuss { nodes { id } } }", {}),
        ("{ skus(frist: 1) { totalCount } }", {}),
        ("{ skus(filter: {staus: NORMAL}) { totalCount } }", {}),
        ("query ($f: SkuFilterInput) { skus(filter: $f) { totalCount } }", {"f": {"staus": "x"}}),
        ("query ($s: SkuStatus) { skus(filter: {status: $s}) { totalCount } }", {"s": "NORMALL"}),
        ("query ($s: SkuStatuss) { skus(filter: {status: $s}) { totalCount } }", {}),
    ]
    async with running(database_url, suggestions=False) as (app, client):
        silent = Service(app, client, service.database, service.tenant_id)
        for query, variables in cases:
            answer = json.dumps(await silent.graphql(query, variables))
            assert "VALIDATION_ERROR" in answer
            assert "Did you mean" not in answer
    assert "Did you mean" in json.dumps(await service.graphql(cases[0][0]))


async def test_graphiql_can_be_switched_off(database_url: str) -> None:
    async with running(database_url, graphiql=False) as (_, client):
        page = await client.get("/graphql", headers={"Accept": "text/html"})
        index = await client.get("/")

    assert page.status_code == 401
    assert "<html" not in page.text
    assert index.headers["location"] == "docs"


TRUSTED: Final = {
    "type": "{ __typename }",
    "count": "query Count { skus { totalCount } }",
    "set": 'mutation { setStock(input: {sku: "A", warehouseId: "w", quantity: 1, reason: "x"}) { replayed } }',
}  # fmt: skip


@pytest.fixture
async def manifest(tmp_path: Path) -> Path:
    """File of registered documents."""
    path = tmp_path / "documents.json"
    path.write_text(json.dumps(TRUSTED))
    return path


async def test_only_registered_documents_are_served(
    database_url: str, service: Service, manifest: Path
) -> None:
    digest = document_hash(TRUSTED["type"])
    good: list[dict[str, object]] = [
        {"query": TRUSTED["type"]},
        {"documentId": "type"},
        {"documentId": f"sha256:{digest}"},
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}},
        {"documentId": "type", "query": TRUSTED["type"]},
        {"documentId": "type", "query": ""},
        {"documentId": "", "query": TRUSTED["type"]},
        {
            "query": "",
            "documentId": "",
            "extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}},
        },
    ]
    bad: list[dict[str, object]] = [
        {"query": "{__typename}"},
        {"query": TRUSTED["type"] + " "},
        {"query": "{ skus { totalCount } }"},
        {"documentId": "nope"},
        {"documentId": digest},
        {"documentId": "type", "query": "{ skus { totalCount } }"},
        {"documentId": "type", "query": TRUSTED["count"]},
        {
            "query": "{ x }",
            "extensions": {"persistedQuery": {"sha256Hash": document_hash("{ x }")}},
        },
        {"documentId": "count", "extensions": {"persistedQuery": {"sha256Hash": digest}}},
        {"extensions": {"persistedQuery": 5}},
        {},
        {"query": "", "documentId": ""},
    ]
    unknown: list[dict[str, object]] = [
        {"extensions": {"persistedQuery": {"sha256Hash": digest.upper()}}},
        {"extensions": {"persistedQuery": {"sha256Hash": document_hash("{ x }")}, "cost": True}},
    ]
    async with running(database_url, trusted_documents=manifest) as (app, client):
        closed = Service(app, client, service.database, service.tenant_id)
        for body in unknown:
            # Clients recognize the message or the code, and send the text.
            answer = (await send(closed, body)).json()
            assert refusal(answer) == (404, "PERSISTED_QUERY_NOT_FOUND"), body
            assert answer["errors"][0]["message"] == "PersistedQueryNotFound"
        for body in good:
            answer = await send(closed, body)
            assert answer.json() == {"data": {"__typename": "Query"}}, body
        for body in bad:
            assert refusal((await send(closed, body)).json()) == (403, "DOCUMENT_NOT_TRUSTED"), body
        by_get = await closed.rest("GET", "/graphql", params={"documentId": "type"})
        writing = await closed.rest("GET", "/graphql", params={"documentId": "set"})

    assert by_get.json() == {"data": {"__typename": "Query"}}
    assert writing.status_code == 405


async def test_a_document_id_is_refused_without_registered_documents(service: Service) -> None:
    assert (await send(service, {"documentId": "type"})).status_code == 400


async def test_documents_of_an_apollo_manifest_are_served(
    database_url: str, service: Service, tmp_path: Path
) -> None:
    digest = document_hash(TRUSTED["type"])
    operation = {"id": digest, "name": "Type", "type": "query", "body": TRUSTED["type"]}
    path = tmp_path / "apollo.json"
    path.write_text(
        json.dumps(
            {"format": "apollo-persisted-query-manifest", "version": 1, "operations": [operation]}
        )
    )
    async with running(database_url, trusted_documents=path) as (app, client):
        closed = Service(app, client, service.database, service.tenant_id)
        named: list[dict[str, object]] = [
            {"documentId": digest},
            {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}},
            {"query": TRUSTED["type"]},
        ]
        for body in named:
            assert (await send(closed, body)).json() == {"data": {"__typename": "Query"}}, body
        refused = await send(closed, {"query": TRUSTED["count"]})

    assert refusal(refused.json()) == (403, "DOCUMENT_NOT_TRUSTED")


async def test_a_probe_for_persisted_queries_gets_the_error_that_clients_recognize(
    service: Service,
) -> None:
    probe = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": document_hash("{ x }")}}}
    for extra in ({}, {"query": ""}, {"variables": {}, "operationName": "X"}):
        answer = await send(service, {**probe, **extra})
        assert answer.status_code == 200
        assert refusal(answer.json()) == (400, "PERSISTED_QUERY_NOT_SUPPORTED")
        assert answer.json()["errors"][0]["message"] == "PersistedQueryNotSupported"
    # With its text, the document is executed.
    answer = await send(service, {**probe, "query": "{ __typename }"})
    assert answer.json() == {"data": {"__typename": "Query"}}


APOLLO: Final = '{"format": "apollo-persisted-query-manifest", "version": %s, "operations": %s}'
MALFORMED: Final = [
    *(None, "", "{", "[]", '{"a": 1}', "5", '{"a": null}'),
    APOLLO % (2, "[]"),
    APOLLO % (1, "null"),
    APOLLO % (1, "{}"),
    APOLLO % (1, "[5]"),
    APOLLO % (1, '[{"id": "a"}]'),
    APOLLO % (1, '[{"body": "{ __typename }"}]'),
    APOLLO % (1, '[{"id": 5, "body": "{ __typename }"}]'),
]


@pytest.mark.parametrize("text", MALFORMED)
def test_an_invalid_manifest_stops_the_start(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "documents.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(BadManifest):
        TrustedDocuments.read(path)


async def send(service: Service, body: dict[str, object]) -> httpx.Response:
    return await service.rest("POST", "/graphql", json=body)


def test_document_rules_follow_the_settings() -> None:
    rules = DocumentRules.of(Settings(max_query_cost=7, introspection=False))

    assert (rules.limits.cost, rules.introspection, rules.suggestions) == (7, False, True)
