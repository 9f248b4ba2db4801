"""Attacks on GraphQL: scopes, operations and nodes."""

import base64
from dataclasses import replace
from typing import Final

import pytest

from tests.security.stock_requests import MAIN, PRECISE, SET, code_of, on_hand
from tests.service import Service, new_tenant

NAMES: Final = ["__class__", "__init__", "self", "info", "context", "operation", "None", "__typename", "v0"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_client_names_have_no_special_meaning(stocked: Service, name: str) -> None:
    query = f"query {name}(${name}: String!) {{ {name}: sku(sku: ${name}) {{ {name}: sku }} }}"

    assert await stocked.data(query, {name: "A"}) == {name: {name: "A"}}


BYPASSES: Final = {
    "plainly": f"mutation {{ {SET} }}",
    "in a fragment": f"mutation {{ ...F }} fragment F on Mutation {{ {SET} }}",
    "in a fragment of a fragment": f"mutation {{ ...F }} fragment F on Mutation {{ ...G }} fragment G on Mutation {{ a: {SET} }}",
    "in an inline fragment": f"mutation {{ ... on Mutation {{ ... @include(if: true) {{ {SET} }} }} }}",
    "as an alias of a read": f"mutation {{ __typename warehouses: {SET} }}",
    "named as a query": f"mutation query {{ {SET} }}",
    "after a query": f"query A {{ __typename }} mutation B {{ {SET} }}",
}  # fmt: skip


@pytest.mark.parametrize("how", BYPASSES)
async def test_a_read_token_cannot_write(stocked: Service, how: str) -> None:
    query = BYPASSES[how]
    for name in ("B",) if "mutation B" in query else (None,):
        response = await stocked.rest(
            "POST",
            "/graphql",
            token="read",
            json={"query": query, "operationName": name},
            headers=PRECISE,
        )
        assert code_of(response) == (403, "INSUFFICIENT_SCOPE")
        by_get = await stocked.rest(
            "GET",
            "/graphql",
            params={"query": query, **({"operationName": name} if name else {})},
            headers=PRECISE,
        )
        assert code_of(by_get) == (405, "METHOD_NOT_ALLOWED")
    assert await on_hand(stocked) == 5


async def test_a_skipped_field_still_needs_its_scope(stocked: Service) -> None:
    query = f"mutation ($no: Boolean!) {{ __typename ... @skip(if: $no) {{ {SET} }} }}"
    body = {"query": query, "variables": {"no": True}}
    response = await stocked.rest("POST", "/graphql", token="read", json=body, headers=PRECISE)

    assert code_of(response) == (403, "INSUFFICIENT_SCOPE")


@pytest.mark.parametrize("name", ["", "a", "A ", "B", "__typename", "A\x00"])
async def test_an_operation_is_chosen_by_its_exact_name(stocked: Service, name: str) -> None:
    body = {"query": f"query A {{ __typename }} mutation M {{ {SET} }}", "operationName": name}
    response = await stocked.rest("POST", "/graphql", json=body, headers=PRECISE)

    assert code_of(response) == (422, "VALIDATION_ERROR")
    assert await on_hand(stocked) == 5


@pytest.mark.parametrize(
    "body",
    [
        [{"query": "{ __typename }"}] * 2, [], "query", 5, {"query": ["{ __typename }"]},
        {"query": {"a": 1}}, {"query": "{ __typename }", "variables": [["a", 1]]},
        {"query": "{ __typename }", "variables": "{}"}, {"query": "{ __typename }", "extensions": []},
        {"query": "{ __typename }", "operationName": 5}, {"queries": []}, {"0": {"query": "{a}"}},
    ],
)  # fmt: skip
async def test_a_body_without_a_single_operation_is_malformed(
    stocked: Service, body: object
) -> None:
    response = await stocked.rest("POST", "/graphql", json=body, headers=PRECISE)

    assert code_of(response) == (400, "MALFORMED_REQUEST")


async def test_an_id_of_another_kind_or_tenant_is_null(stocked: Service) -> None:
    other = replace(stocked, tenant_id=await new_tenant(stocked.database))
    data = await stocked.data(
        '{ sku(sku: "A") { id stock { id warehouse { id } adjustments { nodes { id } } } } }'
    )
    stock = data["sku"]["stock"][0]
    real = [
        data["sku"]["id"],
        stock["id"],
        stock["warehouse"]["id"],
        stock["adjustments"]["nodes"][0]["id"],
    ]
    query = "query ($id: ID!) { node(id: $id) { id __typename } }"
    made = [
        "", "_", "sku_", "wh_", "adj_", "level_", "level_wh_", "level_wh__A", f"level_{MAIN.id}",
        f"level_{MAIN.id}_", f"sku_{MAIN.id}", f"level_{MAIN.id}_NOPE", "level_wh_x_A", "sku_\x00", "wh_%",
        "adj_" + "0" * 5_000, base64.b64encode(b"Sku:1").decode(), "sku_a", f"{MAIN.id} ", "user_1", "__class__",
    ]  # fmt: skip

    for id_ in real:
        assert (await stocked.data(query, {"id": id_}))["node"]["id"] == id_
        assert await other.data(query, {"id": id_}) == {"node": None}
        again = await stocked.data("query ($id: ID!) { node(id: $id) { ... on Node { id } } }", {"id": id_})  # fmt: skip
        assert again == {"node": {"id": id_}}
    for id_ in made:
        assert await stocked.data(query, {"id": id_}) == {"node": None}, id_


async def test_a_node_has_only_the_fields_of_its_type(stocked: Service) -> None:
    query = (
        "query ($id: ID!) { node(id: $id) { ... on Sku { a: title } ... on Adjustment { b: note } "
        "... on Node { ... on StockLevel { c: onHand } } ... on Warehouse { d: name } } }"
    )
    assert await stocked.data(query, {"id": MAIN.id}) == {"node": {"d": MAIN.name}}
