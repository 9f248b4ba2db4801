"""Reads: every filter, order and page, compared with a model in plain Python."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from tests.graphql.answers import Json, details_of, errors_of, page_of, refused, walk
from tests.graphql.model import CODES, REASONS, Catalogue, Entry, catalogue, record_of
from tests.service import EMAIL, Service, counted, level, new_tenant, sku, warehouse

RECORD: Final = (
    "id sku title totalOnHand totalReserved totalAvailable safetyStock status "
    "stock { id onHand reserved safetyStock available status version warehouse { id } }"
)
LEVEL: Final = "onHand status sku { sku } warehouse { id }"
ENTRY: Final = (
    "id sequence beforeQuantity afterQuantity delta reason note createdBy createdAt "
    "sku { sku } warehouse { id }"
)
SKUS: Final = (
    "query ($first: Int!, $after: String, $filter: SkuFilterInput, $order: SkuOrder! = SKU_ASC) "
    "{ skus(first: $first, after: $after, filter: $filter, orderBy: $order) "
    f"{{ {page_of(RECORD)} }} }}"
)
LEVELS: Final = (
    "query ($id: ID!, $first: Int!, $after: String, $status: SkuStatus) { warehouse(id: $id) { "
    f"stock(first: $first, after: $after, status: $status) {{ {page_of(LEVEL)} }} }} }}"
)
LEDGER: Final = (
    "query ($first: Int!, $after: String, $filter: LedgerFilterInput) { "
    f"adjustments(first: $first, after: $after, filter: $filter) {{ {page_of(ENTRY)} }} }}"
)
SKU_LEDGER: Final = (
    "query ($sku: String!, $first: Int!, $after: String, $filter: AdjustmentFilterInput) { "
    "sku(sku: $sku) { "
    f"adjustments(first: $first, after: $after, filter: $filter) {{ {page_of(ENTRY)} }} }} }}"
)
LEVEL_LEDGER: Final = (
    "query ($id: ID!, $first: Int!, $after: String, $filter: AdjustmentFilterInput) { "
    "node(id: $id) { ... on StockLevel { "
    f"adjustments(first: $first, after: $after, filter: $filter) {{ {page_of(ENTRY)} }} }} }} }}"
)
PERIODS: Final[list[tuple[Mapping[str, str], tuple[datetime | None, datetime | None]]]] = [
    ({}, (None, None)),
    ({"startDate": "2026-03-11"}, (datetime(2026, 3, 11, tzinfo=UTC), None)),
    ({"endDate": "2026-03-10"}, (None, datetime(2026, 3, 11, tzinfo=UTC))),
    (
        {"startDate": "2026-03-10T06:28:00Z", "endDate": "2026-03-11T02:00:00+02:00"},
        (
            datetime(2026, 3, 10, 6, 28, tzinfo=UTC),
            datetime(2026, 3, 11, 0, 0, 0, 1000, tzinfo=UTC),
        ),
    ),
    (
        {"startDate": "2026-03-12", "endDate": "2026-03-10"},
        (datetime(2026, 3, 12, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC)),
    ),
]


@dataclass(frozen=True)
class Stocked:
    """A service, and what its tenant has."""

    service: Service
    model: Catalogue


@pytest.fixture
async def stocked(service: Service) -> Stocked:
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    return Stocked(service, model)


def entry_of(node: Json) -> Entry:
    assert node["delta"] == node["afterQuantity"] - node["beforeQuantity"]
    assert node["createdBy"] == EMAIL
    assert node["id"].startswith("adj_")
    assert len(node["createdAt"]) == len("2026-03-12T14:00:00.000Z")
    return Entry(
        node["sku"]["sku"],
        node["warehouse"]["id"],
        node["sequence"],
        node["beforeQuantity"],
        node["afterQuantity"],
        node["reason"],
        node["note"],
        datetime.fromisoformat(node["createdAt"]),
    )


@pytest.mark.parametrize("first", [1, 5, 200])
@pytest.mark.parametrize("order", ["SKU_ASC", "SKU_DESC"])
async def test_skus_are_paged_completely_in_both_orders(
    stocked: Stocked, order: str, first: int
) -> None:
    nodes = await walk(stocked.service, SKUS, ["skus"], {"order": order}, first=first)

    expected = stocked.model.list_skus()
    assert [node["sku"] for node in expected] == CODES
    assert nodes == (expected if order == "SKU_ASC" else expected[::-1])


@pytest.mark.parametrize("order", ["SKU_ASC", "SKU_DESC"])
@pytest.mark.parametrize("status", [None, "NORMAL", "LOW", "CRITICAL", "OUT_OF_STOCK"])
async def test_skus_filter_by_status_and_warehouse(
    stocked: Stocked, status: str | None, order: str
) -> None:
    for id_ in [None, *(place.id for place in stocked.model.warehouses)]:
        variables = {"filter": {"status": status, "warehouseId": id_}, "order": order}
        nodes = await walk(stocked.service, SKUS, ["skus"], variables, first=2)
        expected = stocked.model.list_skus(status=status, warehouse_id=id_)
        assert nodes == (expected if order == "SKU_ASC" else expected[::-1])


def test_the_model_has_skus_of_every_status() -> None:
    model = catalogue()

    found = {record["status"] for record in model.list_skus()}
    assert found == {"NORMAL", "LOW", "CRITICAL", "OUT_OF_STOCK"}
    assert [len(model.list_levels(place.id)) for place in model.warehouses] == [9, 6, 3, 0]
    assert len({(e.created_at, e.sequence) for e in model.list_entries()}) == len(
        model.list_entries()
    )


@pytest.mark.parametrize("code", [*CODES, "B", "", "%", "a%", "A_", "\x00", "x" * 5000])
async def test_sku_filter_matches_the_exact_code(stocked: Stocked, code: str) -> None:
    main = stocked.model.warehouses[0].id
    for status in (None, "LOW"):
        for id_ in (None, main):
            filter_ = {"sku": code, "status": status, "warehouseId": id_}
            nodes = await walk(stocked.service, SKUS, ["skus"], {"filter": filter_}, first=1)
            assert nodes == stocked.model.list_skus(code=code, status=status, warehouse_id=id_)


async def test_null_filters_match_everything(stocked: Stocked) -> None:
    for filter_ in (None, {}, {"status": None, "warehouseId": None, "sku": None}):
        nodes = await walk(stocked.service, SKUS, ["skus"], {"filter": filter_}, first=200)
        assert nodes == stocked.model.list_skus()


async def test_list_filtered_by_warehouse_excludes_others_in_nested_fields(
    stocked: Stocked,
) -> None:
    query = (
        "query ($filter: SkuFilterInput) { skus(filter: $filter) { nodes { totalOnHand stock { "
        "sku { totalOnHand status stock { onHand warehouse { id } } } } "
        "adjustments { totalCount nodes { warehouse { id } } } } } }"
    )
    for place in stocked.model.warehouses:
        data = await stocked.service.data(query, {"filter": {"warehouseId": place.id}})
        for node in data["skus"]["nodes"]:
            [mine] = node["stock"]
            assert mine["sku"]["totalOnHand"] == node["totalOnHand"]
            assert [each["warehouse"]["id"] for each in mine["sku"]["stock"]] == [place.id]
            ledger = node["adjustments"]["nodes"]
            assert len(ledger) == node["adjustments"]["totalCount"] > 0
            assert {each["warehouse"]["id"] for each in ledger} == {place.id}


@pytest.mark.parametrize("first", [1, 4, 200])
@pytest.mark.parametrize("status", [None, "NORMAL", "LOW", "CRITICAL", "OUT_OF_STOCK"])
async def test_levels_of_a_warehouse_are_filtered_by_status_and_paged(
    stocked: Stocked, status: str | None, first: int
) -> None:
    for place in stocked.model.warehouses:
        variables = {"id": place.id, "status": status}
        nodes = await walk(stocked.service, LEVELS, ["warehouse", "stock"], variables, first=first)
        found = [(node["sku"]["sku"], node["onHand"], node["status"]) for node in nodes]
        assert found == stocked.model.list_levels(place.id, status)


@pytest.mark.parametrize("first", [1, 3, 200])
@pytest.mark.parametrize("period", PERIODS, ids=[str(list(each)) for each, _ in PERIODS])
async def test_ledger_is_filtered_and_paged(
    stocked: Stocked,
    period: tuple[Mapping[str, str], tuple[datetime | None, datetime | None]],
    first: int,
) -> None:
    asked, (start, end) = period
    main = stocked.model.warehouses[0].id
    combinations: list[tuple[str | None, str | None, str | None]] = [
        (None, None, None),
        (CODES[3], None, None),
        (None, main, None),
        (None, None, REASONS[1]),
        (CODES[3], main, None),
        (CODES[3], main, REASONS[0]),
        (None, main, REASONS[2]),
    ]
    for code, id_, reason in combinations:
        filter_ = {"sku": code, "warehouseId": id_, "reason": reason, **asked}
        nodes = await walk(
            stocked.service, LEDGER, ["adjustments"], {"filter": filter_}, first=first
        )
        assert [entry_of(node) for node in nodes] == stocked.model.list_entries(
            code=code, warehouse_id=id_, reason=reason, start=start, end=end
        )


@pytest.mark.parametrize("first", [1, 3, 200])
@pytest.mark.parametrize("period", PERIODS, ids=[str(list(each)) for each, _ in PERIODS])
async def test_ledgers_of_skus_and_levels_are_filtered_and_paged(
    stocked: Stocked,
    period: tuple[Mapping[str, str], tuple[datetime | None, datetime | None]],
    first: int,
) -> None:
    asked, (start, end) = period
    [main, amazon, *_] = [place.id for place in stocked.model.warehouses]
    code = CODES[7]
    for id_ in (None, main, amazon):
        for reason in (None, REASONS[0]):
            filter_ = {"warehouseId": id_, "reason": reason, **asked}
            expected = stocked.model.list_entries(
                code=code, warehouse_id=id_, reason=reason, start=start, end=end
            )
            by_sku = {"sku": code, "filter": filter_}
            nodes = await walk(
                stocked.service, SKU_LEDGER, ["sku", "adjustments"], by_sku, first=first
            )
            assert [entry_of(node) for node in nodes] == expected
            if id_ is not None:
                by_level = {"id": f"level_{id_}_{code}", "filter": {"reason": reason, **asked}}
                nodes = await walk(
                    stocked.service, LEVEL_LEDGER, ["node", "adjustments"], by_level, first=first
                )
                assert [entry_of(node) for node in nodes] == expected


async def test_level_ledger_filtered_by_another_warehouse_is_empty(stocked: Stocked) -> None:
    [main, amazon, *_] = [place.id for place in stocked.model.warehouses]
    variables = {"id": f"level_{main}_{CODES[7]}", "filter": {"warehouseId": amazon}}

    assert (
        await walk(stocked.service, LEVEL_LEDGER, ["node", "adjustments"], variables, first=5) == []
    )


async def test_adjustments_of_one_instant_appear_exactly_once(service: Service) -> None:
    places = [warehouse(f"W{number}") for number in range(3)]
    entries = [counted(number, note=str(number)) for number in range(4)]
    skus = [
        sku(code, *(replace(level(place, 0), history=entries) for place in places))
        for code in ("A", "B", "C")
    ]
    await service.load(places, skus)

    for first in (1, 5, 7):
        nodes = await walk(service, LEDGER, ["adjustments"], first=first)
        keys = [(node["sequence"], node["id"]) for node in nodes]
        assert keys == sorted(set(keys), reverse=True)
        assert len(keys) == 36


async def test_nested_lists_are_paged_per_parent(stocked: Stocked) -> None:
    query = (
        "{ skus { nodes { sku adjustments(first: 2) { totalCount pageInfo { hasNextPage } "
        "nodes { sku { sku } sequence } } } } "
        "warehouses { id stock(first: 2) { totalCount pageInfo { hasNextPage } "
        "nodes { sku { sku } warehouse { id } } } } }"
    )

    data = await stocked.service.data(query)
    for node in data["skus"]["nodes"]:
        entries = stocked.model.list_entries(code=node["sku"])
        page = node["adjustments"]
        assert page["totalCount"] == len(entries)
        assert page["pageInfo"]["hasNextPage"] is (len(entries) > 2)
        assert page["nodes"] == [
            {"sku": {"sku": entry.sku}, "sequence": entry.sequence} for entry in entries[:2]
        ]
    assert len(data["warehouses"]) == 4
    for node in data["warehouses"]:
        levels = stocked.model.list_levels(node["id"])
        page = node["stock"]
        assert page["totalCount"] == len(levels)
        assert page["pageInfo"]["hasNextPage"] is (len(levels) > 2)
        assert page["nodes"] == [
            {"sku": {"sku": code}, "warehouse": {"id": node["id"]}} for code, *_ in levels[:2]
        ]


async def test_warehouses_are_listed_in_order_of_id(stocked: Stocked) -> None:
    fields = "id name type address marketplace isActive isReadonly"
    expected = [
        {
            "id": place.id,
            "name": place.name,
            "type": place.type.name,
            "address": place.address,
            "marketplace": place.marketplace,
            "isActive": place.is_active,
            "isReadonly": place.type.value in ("FBA", "FBS"),
        }
        for place in sorted(stocked.model.warehouses, key=lambda place: place.id)
    ]

    data = await stocked.service.data(f"{{ warehouses {{ {fields} }} }}")
    assert data["warehouses"] == expected
    query = f"query ($id: ID!) {{ warehouse(id: $id) {{ {fields} }} }}"
    for place in expected:
        assert (await stocked.service.data(query, {"id": place["id"]}))["warehouse"] == place


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
        assert again == {"__typename": "Sku", **record_of(item)}
    some = slice(5, 8)
    for item, node in zip(stocked.model.skus[some], lists["skus"]["nodes"][some], strict=True):
        for each in node["stock"]:
            again = await fetched(each["id"])
            assert (again["__typename"], again["level"]) == ("StockLevel", each["onHand"])
            assert each["id"] == f"level_{again['in']['id']}_{again['of']['sku']}"
            assert again["of"] == record_of(item)
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
    [main, *_, empty] = [place.id for place in stocked.model.warehouses]

    for id_ in (f"level_{empty}_{CODES[3]}", f"level_{main}", f"level_{main}_", f"level_{main}_B"):
        assert await stocked.service.data(query, {"id": id_}) == {"node": None}


async def test_node_is_null_for_every_id_of_another_tenant(stocked: Stocked) -> None:
    ids = await stocked.service.data(
        "{ skus(first: 200) { nodes { id stock { id warehouse { id } } "
        "adjustments(first: 1) { nodes { id } } } } }"
    )
    other = replace(stocked.service, tenant=await new_tenant(stocked.service.database))
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


async def test_nested_error_sets_the_nearest_nullable_parent_to_null(stocked: Stocked) -> None:
    answer = await stocked.service.graphql(
        '{ good: sku(sku: "A") { sku } bad: sku(sku: "A") { sku adjustments(first: 0) '
        "{ totalCount } } warehouses { id } }"
    )

    [error] = errors_of(answer)
    assert error["path"] == ["bad", "adjustments"]
    assert answer["data"]["bad"] is None
    assert answer["data"]["good"] == {"sku": "A"}
    assert len(answer["data"]["warehouses"]) == 4


PAGED: Final = {
    "skus": "query ($first: Int!) { skus(first: $first) { nodes { id } } }",
    "adjustments": "query ($first: Int!) { adjustments(first: $first) { nodes { id } } }",
    "sku.adjustments": (
        'query ($first: Int!) { skus(filter: {sku: "A"}) { nodes { '
        "adjustments(first: $first) { nodes { id } } } } }"
    ),
    "stock.adjustments": (
        'query ($first: Int!) { skus(filter: {sku: "A"}) { nodes { stock { '
        "adjustments(first: $first) { nodes { id } } } } } }"
    ),
    "warehouse.stock": (
        "query ($id: ID!, $first: Int!) { warehouse(id: $id) { "
        "stock(first: $first) { nodes { id } } } }"
    ),
}


@pytest.mark.parametrize("first", [0, 201, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("name", PAGED)
async def test_a_page_has_1_to_200_items(stocked: Stocked, name: str, first: int) -> None:
    variables = {"id": stocked.model.warehouses[0].id, "first": first}
    answer = await stocked.service.graphql(PAGED[name], variables)

    # Each parent that has such a page says so.
    for error in errors_of(answer):
        assert (error["extensions"]["status"], error["extensions"]["code"]) == (
            422,
            "VALIDATION_ERROR",
        )
        [detail] = error["extensions"]["details"]
        assert detail["field"] == "first"
    for size in (1, 200):
        await stocked.service.data(PAGED[name], {**variables, "first": size})


@pytest.mark.parametrize("first", [None, "5", 5.5, True, 2**31, [5], {}])
@pytest.mark.parametrize("name", PAGED)
async def test_page_size_must_be_an_integer(stocked: Stocked, name: str, first: object) -> None:
    variables = {"id": stocked.model.warehouses[0].id, "first": first}
    answer = await stocked.service.graphql(PAGED[name], variables)

    assert "data" not in answer
    assert [detail["field"] for detail in details_of(answer)] == ["first"]


@pytest.mark.parametrize(
    "query",
    [
        "query ($it: Int) { skus(first: $it) { nodes { id } } }",
        "query ($it: Int) { adjustments(first: $it) { nodes { id } } }",
        "query ($it: SkuOrder) { skus(orderBy: $it) { nodes { id } } }",
        'query ($it: Int) { sku(sku: "A") { adjustments(first: $it) { nodes { id } } } }',
        "query ($it: Int) { warehouses { stock(first: $it) { nodes { id } } } }",
    ],
)
async def test_a_null_for_an_argument_with_a_default_is_refused(
    stocked: Stocked, query: str
) -> None:
    answer = await stocked.service.graphql(query, {"it": None})

    for error in errors_of(answer):
        assert (error["extensions"]["status"], error["extensions"]["code"]) == (
            422,
            "VALIDATION_ERROR",
        )
    await stocked.service.data(query, {})


CURSORS: Final = {
    "skus": ("{ skus(first: 1%s) { pageInfo { endCursor } } }", ["skus"]),
    "skus, descending": (
        "{ skus(first: 1, orderBy: SKU_DESC%s) { pageInfo { endCursor } } }",
        ["skus"],
    ),
    "skus by status": (
        "{ skus(first: 1, filter: {status: LOW}%s) { pageInfo { endCursor } } }",
        ["skus"],
    ),
    "skus of a warehouse": (
        '{ skus(first: 1, filter: {warehouseId: "MAIN"}%s) { pageInfo { endCursor } } }',
        ["skus"],
    ),
    "skus by code": (
        '{ skus(first: 1, filter: {sku: "Z"}%s) { pageInfo { endCursor } } }',
        ["skus"],
    ),
    "levels": (
        '{ warehouse(id: "MAIN") { stock(first: 1%s) { pageInfo { endCursor } } } }',
        ["warehouse", "stock"],
    ),
    "levels by status": (
        '{ warehouse(id: "MAIN") { stock(first: 1, status: LOW%s) { pageInfo { endCursor } } } }',
        ["warehouse", "stock"],
    ),
    "levels elsewhere": (
        '{ warehouse(id: "AMAZON") { stock(first: 1%s) { pageInfo { endCursor } } } }',
        ["warehouse", "stock"],
    ),
    "ledger": ("{ adjustments(first: 1%s) { pageInfo { endCursor } } }", ["adjustments"]),
    "ledger by reason": (
        '{ adjustments(first: 1, filter: {reason: "damage"}%s) { pageInfo { endCursor } } }',
        ["adjustments"],
    ),
    "ledger from a day": (
        '{ adjustments(first: 1, filter: {startDate: "2026-03-10"}%s) { pageInfo { endCursor } } }',
        ["adjustments"],
    ),
    "ledger to a day": (
        '{ adjustments(first: 1, filter: {endDate: "2026-03-30"}%s) { pageInfo { endCursor } } }',
        ["adjustments"],
    ),
    "ledger of a sku": (
        '{ sku(sku: "a") { adjustments(first: 1%s) { pageInfo { endCursor } } } }',
        ["sku", "adjustments"],
    ),
    "ledger of a sku by reason": (
        '{ sku(sku: "a") { adjustments(first: 1, filter: {reason: "damage"}%s) '
        "{ pageInfo { endCursor } } } }",
        ["sku", "adjustments"],
    ),
    "ledger of another sku": (
        '{ sku(sku: "Z") { adjustments(first: 1%s) { pageInfo { endCursor } } } }',
        ["sku", "adjustments"],
    ),
    "ledger of a level": (
        '{ node(id: "level_MAIN_a") { ... on StockLevel { '
        "adjustments(first: 1%s) { pageInfo { endCursor } } } } }",
        ["node", "adjustments"],
    ),
    "ledger of a level elsewhere": (
        '{ node(id: "level_AMAZON_a") { ... on StockLevel { '
        "adjustments(first: 1%s) { pageInfo { endCursor } } } } }",
        ["node", "adjustments"],
    ),
}


def end_cursor(data: Json, path: list[str]) -> str:
    page: Any = data
    for step in path:
        page = page[step]
    cursor: str = page["pageInfo"]["endCursor"]
    return cursor


async def test_cursor_is_valid_only_for_its_own_list(stocked: Stocked) -> None:
    [main, amazon, *_] = [place.id for place in stocked.model.warehouses]
    questions = {
        name: query.replace("MAIN", main).replace("AMAZON", amazon)
        for name, (query, _) in CURSORS.items()
    }
    found = {
        name: end_cursor(await stocked.service.data(query % ""), CURSORS[name][1])
        for name, query in questions.items()
    }

    opened = set()
    for name, query in questions.items():
        for other, cursor in found.items():
            answer = await stocked.service.graphql(query % f', after: "{cursor}"')
            if "errors" not in answer:
                opened.add((name, other))
                continue
            [error] = errors_of(answer)
            assert error["extensions"]["code"] == "INVALID_CURSOR"
            assert error["extensions"]["status"] == 422
    assert opened == {(name, name) for name in questions}


@pytest.mark.parametrize("name", CURSORS)
async def test_forged_cursor_and_cursor_of_another_tenant_are_rejected(
    stocked: Stocked, name: str
) -> None:
    other = replace(stocked.service, tenant=await new_tenant(stocked.service.database))
    await other.load(stocked.model.warehouses, stocked.model.skus)
    [main, amazon, *_] = [place.id for place in stocked.model.warehouses]
    query, path = CURSORS[name]
    query = query.replace("MAIN", main).replace("AMAZON", amazon)

    mine = end_cursor(await stocked.service.data(query % ""), path)
    theirs = end_cursor(await other.data(query % ""), path)
    flipped = mine[:-1] + ("A" if mine[-1] != "A" else "B")
    for cursor in (
        theirs,
        "",
        "cursor_",
        "cursor_AAAA",
        mine.removeprefix("cursor_"),
        mine.upper(),
        f"{mine}=",
        f"{mine}A",
        f" {mine}",
        flipped,
        mine[:20] + ("x" if mine[20] != "x" else "y") + mine[21:],
        "\\u0000",
        "💩",
        "x" * 10_000,
    ):
        answer = await stocked.service.graphql(query % f', after: "{cursor}"')
        [error] = errors_of(answer)
        assert error["extensions"]["code"] == "INVALID_CURSOR"
    await stocked.service.data(query % f', after: "{mine}"')


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({"warehouseId": "wh_1"}, (404, "WAREHOUSE_NOT_FOUND")),
        ({"sku": "NOPE"}, (404, "INVENTORY_NOT_FOUND")),
        ({"sku": "NOPE", "warehouseId": "wh_1"}, (404, "INVENTORY_NOT_FOUND")),
        ({"reason": "Bad Reason"}, (422, "VALIDATION_ERROR")),
        ({"reason": ""}, (422, "VALIDATION_ERROR")),
        ({"sku": "NOPE", "reason": "Bad"}, (422, "VALIDATION_ERROR")),
        ({"warehouseId": "wh_1", "reason": "Bad"}, (422, "VALIDATION_ERROR")),
        ({"startDate": "yesterday"}, (422, "VALIDATION_ERROR")),
        ({"startDate": "2026-02-30"}, (422, "VALIDATION_ERROR")),
        ({"endDate": "2026-03-12T25:00:00Z"}, (422, "VALIDATION_ERROR")),
        ({"endDate": "2026-03-12T14:00:00"}, (422, "VALIDATION_ERROR")),
        ({"endDate": 20260312}, (422, "VALIDATION_ERROR")),
        ({"endDate": "0001-01-01T00:00:00+14:00"}, (422, "VALIDATION_ERROR")),
        ({"unknown": 1}, (422, "VALIDATION_ERROR")),
    ],
)
async def test_ledger_rejects_invalid_filters(
    stocked: Stocked, filter_: Json, expected: tuple[int, str]
) -> None:
    query = "query ($filter: LedgerFilterInput) { adjustments(filter: $filter) { totalCount } }"

    assert await refused(stocked.service, query, {"filter": filter_}) == expected


@pytest.mark.parametrize(
    "period", [("0001-01-01", "9999-12-31"), ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z")]
)
async def test_longest_period_includes_every_entry(stocked: Stocked, period: tuple[str, str]) -> None:
    filter_ = {"startDate": period[0], "endDate": period[1]}
    nodes = await walk(stocked.service, LEDGER, ["adjustments"], {"filter": filter_}, first=200)

    assert [entry_of(node) for node in nodes] == stocked.model.list_entries()


async def test_empty_tenant_has_empty_lists(service: Service) -> None:
    assert await walk(service, SKUS, ["skus"], first=5) == []
    assert await walk(service, LEDGER, ["adjustments"], first=5) == []
    assert await service.data("{ warehouses { id } }") == {"warehouses": []}
