"""Objects by their id, and errors of unknown objects."""

from dataclasses import replace
from typing import Final

import pytest

from tests.graphql.answers import Json, errors_of
from tests.graphql.lists import RECORD, Stocked
from tests.graphql.model import CODES
from tests.service import new_tenant


async def test_every_object_can_be_fetched_again_by_its_id(stocked: Stocked) -> None:
    query = (
        "query ($id: ID!) { node(id: $id) { __typename id "
        f"... on Sku {{ {RECORD} }} ... on Warehouse {{ name }} "
        f"... on StockLevel {{ level: onHand in: warehouse {{ id }} of: sku {{ {RECORD} }} }} "
        "... on Adjustment { sequence at: warehouse { id } is: sku { sku } } } }"
    )
    lists = await stocked.service.data(
        "{ skus { nodes { id stock { id onHand } adjustments { nodes { id sequence } } } } "
        "warehouses { id name } }"
    )
    ids = set()

    async def fetched(id_: str) -> Json:
        ids.add(id_)
        node: Json = (await stocked.service.data(query, {"id": id_}))["node"]
        assert node["id"] == id_
        return node

    for item, node in zip(stocked.model.skus, lists["skus"]["nodes"], strict=True):
        again = await fetched(node["id"])
        assert again == {"__typename": "Sku", **stocked.model.record_of(item)}
    some = slice(5, 8)
    for item, node in zip(stocked.model.skus[some], lists["skus"]["nodes"][some], strict=True):
        for each in node["stock"]:
            again = await fetched(each["id"])
            assert (again["__typename"], again["level"]) == ("StockLevel", each["onHand"])
            assert each["id"] == f"level_{again['in']['id']}_{again['of']['sku']}"
            assert again["of"] == stocked.model.record_of(item)
        for each in node["adjustments"]["nodes"]:
            again = await fetched(each["id"])
            assert (again["__typename"], again["sequence"]) == ("Adjustment", each["sequence"])
            assert f"sku_{again['is']['sku']}" == node["id"]
    for node in lists["warehouses"]:
        again = await fetched(node["id"])
        assert again == {"__typename": "Warehouse", "id": node["id"], "name": node["name"]}
    assert len(ids) > 25


GARBAGE: Final = [
    "",
    "_",
    "sku",
    "sku_",
    "SKU_A",
    "A",
    "sku_NOPE",
    "sku_a ",
    "sku_\x00",
    "wh_",
    "wh_1",
    "wh_\x00",
    "adj_",
    "adj_1",
    "adj_\x00",
    "level",
    "level_",
    "level_A",
    "level_wh_",
    "level_wh__A",
    "level_wh_1_A",
    "level_wh_\x00_A",
    "level_\x00",
    "rsv_1",
    "💩" * 1000,
    5,
]


@pytest.mark.parametrize("id_", GARBAGE)
async def test_node_of_an_invalid_id_is_null(stocked: Stocked, id_: object) -> None:
    query = "query ($id: ID!) { node(id: $id) { id } }"

    assert await stocked.service.data(query, {"id": id_}) == {"node": None}


async def test_node_of_a_missing_level_is_null(stocked: Stocked) -> None:
    query = "query ($id: ID!) { node(id: $id) { id } }"
    [main, *_, empty] = [each.id for each in stocked.model.warehouses]

    for id_ in (f"level_{empty}_{CODES[3]}", f"level_{main}", f"level_{main}_", f"level_{main}_B"):
        assert await stocked.service.data(query, {"id": id_}) == {"node": None}


async def test_node_is_null_for_every_id_of_another_tenant(stocked: Stocked) -> None:
    ids = await stocked.service.data(
        "{ skus(first: 200) { nodes { id stock { id warehouse { id } } "
        "adjustments(first: 1) { nodes { id } } } } }"
    )
    other = replace(stocked.service, tenant_id=await new_tenant(stocked.service.database))
    query = "query ($id: ID!) { node(id: $id) { id } }"

    [node] = [node for node in ids["skus"]["nodes"] if node["id"] == f"sku_{CODES[3]}"]
    for id_ in (
        node["id"],
        node["stock"][0]["id"],
        node["stock"][0]["warehouse"]["id"],
        node["adjustments"]["nodes"][0]["id"],
    ):
        assert (await stocked.service.data(query, {"id": id_}))["node"] == {"id": id_}
        assert await other.data(query, {"id": id_}) == {"node": None}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ('{ it: sku(sku: "NOPE") { sku } warehouses { id } }', "INVENTORY_NOT_FOUND"),
        ('{ it: sku(sku: "") { sku } warehouses { id } }', "INVENTORY_NOT_FOUND"),
        ('{ it: sku(sku: "\\u0000") { sku } warehouses { id } }', "INVENTORY_NOT_FOUND"),
        ('{ it: warehouse(id: "wh_1") { id } warehouses { id } }', "WAREHOUSE_NOT_FOUND"),
        ('{ it: warehouse(id: "") { id } warehouses { id } }', "WAREHOUSE_NOT_FOUND"),
        ('{ it: warehouse(id: "\\u0000") { id } warehouses { id } }', "WAREHOUSE_NOT_FOUND"),
        ("{ it: warehouse(id: 5) { id } warehouses { id } }", "WAREHOUSE_NOT_FOUND"),
    ],
)
async def test_unknown_object_is_null_with_an_error_and_siblings_succeed(
    stocked: Stocked, query: str, code: str
) -> None:
    answer = await stocked.service.graphql(query)

    [error] = errors_of(answer)
    assert error["path"] == ["it"]
    assert error["locations"] == [{"line": 1, "column": 3}]
    assert (error["extensions"]["status"], error["extensions"]["code"]) == (404, code)
    assert answer["data"]["it"] is None
    assert len(answer["data"]["warehouses"]) == 4


async def test_skus_by_code_are_in_the_order_of_the_codes(stocked: Stocked) -> None:
    query = f"query ($codes: [String!]!) {{ skusByCode(codes: $codes) {{ {RECORD} }} }}"
    known = {item.sku: stocked.model.record_of(item) for item in stocked.model.skus}
    codes = [*reversed(CODES), "NOPE", "", "\x00", CODES[3], CODES[3], "x" * 5000]

    for chosen in (codes, codes[:1], ["NOPE"], []):
        data = await stocked.service.data(query, {"codes": chosen})
        assert data["skusByCode"] == [known.get(code) for code in chosen]
    single = await stocked.service.data(f'{{ skusByCode(codes: "A") {{ {RECORD} }} }}')
    assert single["skusByCode"] == [known["A"]]


async def test_nodes_are_in_the_order_of_the_ids(stocked: Stocked) -> None:
    lists = await stocked.service.data(
        "{ skus { nodes { id stock { id } adjustments { nodes { id } } } } warehouses { id } "
        "reservations { nodes { id } } }"
    )
    ids = [node["id"] for node in lists["skus"]["nodes"]]
    ids += [level["id"] for node in lists["skus"]["nodes"] for level in node["stock"]]
    ids += [it["id"] for node in lists["skus"]["nodes"] for it in node["adjustments"]["nodes"]]
    ids += [node["id"] for node in (*lists["warehouses"], *lists["reservations"]["nodes"])]
    mixed = [*ids[:: len(ids) // 90], *map(str, GARBAGE), ids[0], ids[0]]
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"

    data = await stocked.service.data(query, {"ids": mixed})
    assert data["nodes"] == [{"id": id_} if id_ in ids else None for id_ in mixed]
    other = replace(stocked.service, tenant_id=await new_tenant(stocked.service.database))
    assert (await other.data(query, {"ids": mixed}))["nodes"] == [None] * len(mixed)


@pytest.mark.parametrize(
    "query", ["skusByCode(codes: $keys) { sku }", "nodes(ids: $keys) { id }"], ids=["codes", "ids"]
)
async def test_more_than_200_keys_are_refused_and_each_key_costs(
    stocked: Stocked, query: str
) -> None:
    field = query.partition("(")[0]
    type_ = "[ID!]!" if field == "nodes" else "[String!]!"
    document = f"query ($keys: {type_}) {{ {query} good: warehouses {{ id }} }}"
    keys = [f"sku_{number}" for number in range(201)]
    answer = await stocked.service.graphql(document, {"keys": keys})
    [error] = errors_of(answer)
    assert (error["path"], error["extensions"]["code"]) == ([field], "VALIDATION_ERROR")
    assert answer["data"][field] is None
    assert len(answer["data"]["good"]) == 4

    costs = []
    for number in (1, 100):
        body = {
            "query": document,
            "variables": {"keys": keys[:number]},
            "extensions": {"cost": True},
        }
        response = await stocked.service.rest("POST", "/graphql", json=body)
        costs.append(response.json()["extensions"]["cost"]["most"])
    literal = query.replace("$keys", '["a", "b", "c"]')
    body = {"query": f"{{ {literal} }}", "extensions": {"cost": True}}
    response = await stocked.service.rest("POST", "/graphql", json=body)
    assert costs[1] - costs[0] == 99
    assert response.json()["extensions"]["cost"]["most"] == 1 + 3
