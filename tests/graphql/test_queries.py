"""Lists: every filter, order and page, compared with a model in plain Python."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import Any, Final
from unittest.mock import AsyncMock

import pytest

from app.graphql.schema import dataloaders
from app.graphql.schema.filters import EMPTY_TEXT
from tests.graphql.answers import Json, refused, walk
from tests.graphql.lists import (
    LEDGER,
    LEVEL_LEDGER,
    LEVELS,
    PERIODS,
    SKU_LEDGER,
    SKUS,
    Stocked,
    as_entry,
)
from tests.graphql.model import CODES, REASONS, catalogue
from tests.service import Service, counted, level, sku, warehouse


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
    for id_ in [None, *(each.id for each in stocked.model.warehouses)]:
        variables = {"filter": {"status": status, "warehouseId": id_}, "order": order}
        nodes = await walk(stocked.service, SKUS, ["skus"], variables, first=2)
        expected = stocked.model.list_skus(status=status, warehouse_id=id_)
        assert nodes == (expected if order == "SKU_ASC" else expected[::-1])


def test_the_model_has_skus_of_every_status() -> None:
    model = catalogue()

    result = {record["status"] for record in model.list_skus()}
    assert result == {"NORMAL", "LOW", "CRITICAL", "OUT_OF_STOCK"}
    assert [len(model.list_levels(each.id)) for each in model.warehouses] == [9, 6, 3, 0]
    assert len({(e.created_at, e.sequence) for e in model.list_entries()}) == len(
        model.list_entries()
    )


@pytest.mark.parametrize("code", [*CODES, "B", "%", "a%", "A_", "\x00", "x" * 5000])
async def test_sku_filter_matches_the_exact_code(stocked: Stocked, code: str) -> None:
    main = stocked.model.warehouses[0].id
    for status in (None, "LOW"):
        for id_ in (None, main):
            filter_ = {"sku": code, "status": status, "warehouseId": id_}
            nodes = await walk(stocked.service, SKUS, ["skus"], {"filter": filter_}, first=1)
            assert nodes == stocked.model.list_skus(code=code, status=status, warehouse_id=id_)


def value_of(record: Mapping[str, Any], order: str) -> Any:
    return record["totalAvailable"] if order.startswith("AVAILABLE") else record["sku"]


FILTERS: Final[list[Json]] = [
    {},
    *({"codePrefix": prefix} for prefix in ("A", "A-", "日", "x", "\x00", "\U0010ffff")),
    *({"statusIn": statuses} for statuses in (["LOW"], ["LOW", "NORMAL"], ["CRITICAL"] * 9)),
    {"statusIn": ["LOW", "NORMAL"], "status": "LOW"},
    {"statusIn": ["NORMAL"], "status": "LOW"},
    {"statusIn": ["OUT_OF_STOCK", "CRITICAL"], "codePrefix": "A", "warehouseId": "MAIN"},
    {"statusIn": ["OUT_OF_STOCK", "NORMAL"], "warehouseId": "MAIN"},
    {"codePrefix": "A", "sku": "A"},
    {"codePrefix": "B", "sku": "A"},
    {"codePrefix": "A", "updatedSince": "2020-01-01", "statusIn": ["NORMAL", "LOW"]},
    {"updatedSince": "2099-01-01"},
]


@pytest.mark.parametrize("first", [1, 4])
@pytest.mark.parametrize("order", ["AVAILABLE_ASC", "AVAILABLE_DESC", "SKU_ASC", "SKU_DESC"])
async def test_skus_are_ordered_and_filtered_by_prefix_and_statuses(
    stocked: Stocked, order: str, first: int
) -> None:
    main = stocked.model.warehouses[0].id
    for case in FILTERS:
        filter_ = {**case, "warehouseId": main} if "warehouseId" in case else case
        records = stocked.model.list_skus(
            status=filter_.get("status"),
            warehouse_id=filter_.get("warehouseId"),
            code=filter_.get("sku"),
        )
        expected = [
            record
            for record in records
            if record["status"] in filter_.get("statusIn", [record["status"]])
            and str(record["sku"]).startswith(filter_.get("codePrefix", ""))
            and filter_.get("updatedSince", "2000") < "2030"
        ]
        expected.sort(key=lambda record: (value_of(record, order), record["sku"]))
        if order.endswith("DESC"):
            expected.reverse()
        variables = {"filter": filter_, "order": order}
        nodes = await walk(stocked.service, SKUS, ["skus"], variables, first=first)
        assert nodes == expected, filter_


async def test_changed_skus_are_listed_in_the_order_of_their_changes(service: Service) -> None:
    main = warehouse()
    codes = ["D", "A", "C", "B", "E"]
    await service.load([main], [sku(code, level(main, 5)) for code in codes])
    instants = []
    adjust = (
        "mutation ($i: AdjustStockInput!) { adjustStock(input: $i) { adjustment { createdAt } } }"
    )
    rename = "mutation ($i: UpdateSkuInput!) { updateSku(input: $i) { replayed } }"
    for code in ("B", "D", "A"):
        content = {"sku": code, "warehouseId": main.id, "delta": 1, "reason": "loss"}
        made = await service.data(adjust, {"i": content})
        instants.append(made["adjustStock"]["adjustment"]["createdAt"])
        await service.data(rename, {"i": {"sku": code, "title": "New"}}, token="admin")

    since = {"updatedSince": instants[0]}
    for first in (1, 2, 200):
        variables: Json = {"filter": since, "order": "UPDATED_DESC"}
        changed = await walk(service, SKUS, ["skus"], variables, first=first)
        assert [node["sku"] for node in changed] == ["A", "D", "B"]
        variables = {"filter": since, "order": "UPDATED_ASC"}
        changed = await walk(service, SKUS, ["skus"], variables, first=first)
        assert [node["sku"] for node in changed] == ["B", "D", "A"]
        everything = await walk(service, SKUS, ["skus"], {"order": "UPDATED_ASC"}, first=first)
        assert [node["sku"] for node in everything] == ["C", "E", "B", "D", "A"]
        variables = {"id": main.id, "filter": since, "order": "SKU_DESC"}
        levels = await walk(service, LEVELS, ["warehouse", "stock"], variables, first=first)
        assert [node["code"] for node in levels] == ["D", "B", "A"]


async def test_many_changed_skus_are_found_among_the_levels_of_a_warehouse(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = warehouse()
    await service.load([main], [sku(code, level(main, 5)) for code in "BCA"])
    variables: Json = {"id": main.id, "order": "SKU_ASC"}
    variables["filter"] = {"updatedSince": "2020-01-01", "codePrefix": "B"}
    path = ["warehouse", "stock"]
    few = await walk(service, LEVELS, path, variables, first=1)
    for codes, expected in ((None, few), (["A"], [])):
        changed = AsyncMock(return_value=codes)
        monkeypatch.setattr(dataloaders, "list_changed_codes", changed)
        assert await walk(service, LEVELS, path, variables, first=1) == expected
        changed.assert_awaited()
    assert [node["code"] for node in few] == ["B"]


@pytest.mark.parametrize("prefix", ["A", "A-", "9", "\x00", "\U0010ffff"])
async def test_levels_of_a_warehouse_are_filtered_by_prefix_and_statuses(
    stocked: Stocked, prefix: str
) -> None:
    for each, statuses in product(stocked.model.warehouses, (["LOW"], ["LOW", "OUT_OF_STOCK"])):
        filter_ = {"codePrefix": prefix, "statusIn": statuses}
        variables = {"id": each.id, "filter": filter_, "order": "SKU_DESC"}
        nodes = await walk(stocked.service, LEVELS, ["warehouse", "stock"], variables, first=2)
        assert [node["code"] for node in nodes] == [
            code
            for code, _, status in reversed(stocked.model.list_levels(each.id))
            if code.startswith(prefix) and status in statuses
        ]


@pytest.mark.parametrize(
    "filter_", [{"sku": ""}, {"codePrefix": ""}, {"statusIn": []}, {"warehouseId": ""}]
)
async def test_an_empty_filter_is_refused_by_its_name(service: Service, filter_: Json) -> None:
    main = warehouse()
    await service.load([main], [])
    variables = {"id": main.id, "filter": filter_, "first": 1}
    lists = [SKUS] if "warehouseId" in filter_ else [SKUS, LEVELS]
    for query in lists:
        answer = await service.graphql(query, variables)
        [field] = filter_
        [detail] = answer["errors"][0]["extensions"]["details"]
        assert detail == {"field": field, "message": EMPTY_TEXT}


async def test_null_filters_match_everything(stocked: Stocked) -> None:
    for filter_ in (None, {}, {"status": None, "warehouseId": None, "sku": None}):
        nodes = await walk(stocked.service, SKUS, ["skus"], {"filter": filter_}, first=200)
        assert nodes == stocked.model.list_skus()


async def test_list_filtered_by_warehouse_leaves_the_figures_of_its_skus_alone(
    stocked: Stocked,
) -> None:
    query = (
        "query ($filter: SkuFilterInput) { skus(filter: $filter) { nodes { id totalOnHand status "
        "stock { id onHand sku { id totalOnHand } } adjustments { totalCount } "
        'stockAsOf(at: "2030-01-01") { totalOnHand } } } }'
    )
    everything = (await stocked.service.data(query))["skus"]["nodes"]
    for id_ in [each.id for each in stocked.model.warehouses]:
        data = await stocked.service.data(query, {"filter": {"warehouseId": id_}})
        assert data["skus"]["nodes"] == [
            node
            for node in everything
            if any(each["id"].startswith(f"level_{id_}_") for each in node["stock"])
        ]


async def test_the_level_of_one_warehouse_is_found_from_its_sku(stocked: Stocked) -> None:
    query = (
        "query ($id: ID!) { skus { nodes { sku stock { id onHand } "
        "stockLevel(warehouseId: $id) { id onHand } } } }"
    )
    for id_ in [*(each.id for each in stocked.model.warehouses), "wh_gone", ""]:
        data = await stocked.service.data(query, {"id": id_})
        for node in data["skus"]["nodes"]:
            levels = [each for each in node["stock"] if each["id"] == f"level_{id_}_{node['sku']}"]
            assert node["stockLevel"] == (levels[0] if levels else None)


@pytest.mark.parametrize("code", [*CODES, "B", "\x00"])
async def test_levels_of_a_warehouse_are_filtered_by_sku(stocked: Stocked, code: str) -> None:
    for each in stocked.model.warehouses:
        for status in (None, "LOW"):
            variables = {"id": each.id, "filter": {"sku": code, "status": status}}
            nodes = await walk(stocked.service, LEVELS, ["warehouse", "stock"], variables, first=1)
            assert [node["code"] for node in nodes] == [
                sku_code
                for sku_code, *_ in stocked.model.list_levels(each.id, status)
                if sku_code == code
            ]


@pytest.mark.parametrize("first", [1, 4, 200])
@pytest.mark.parametrize("status", [None, "NORMAL", "LOW", "CRITICAL", "OUT_OF_STOCK"])
async def test_levels_of_a_warehouse_are_filtered_by_status_and_paged(
    stocked: Stocked, status: str | None, first: int
) -> None:
    for each in stocked.model.warehouses:
        variables = {"id": each.id, "filter": {"status": status}}
        nodes = await walk(stocked.service, LEVELS, ["warehouse", "stock"], variables, first=first)
        result = [(node["sku"]["sku"], node["onHand"], node["status"]) for node in nodes]
        assert result == stocked.model.list_levels(each.id, status)
        texts = [(node["code"], node["title"]) for node in nodes]
        assert texts == [(node["sku"]["sku"], node["sku"]["title"]) for node in nodes]


@pytest.mark.parametrize("first", [1, 3, 200])
@pytest.mark.parametrize("period", PERIODS, ids=[str(list(each)) for each, _ in PERIODS])
async def test_ledger_is_filtered_and_paged(
    stocked: Stocked,
    period: tuple[Mapping[str, str], tuple[datetime | None, datetime | None]],
    first: int,
) -> None:
    dates, (start, end) = period
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
        filter_ = {"sku": code, "warehouseId": id_, "reason": reason, **dates}
        nodes = await walk(
            stocked.service, LEDGER, ["adjustments"], {"filter": filter_}, first=first
        )
        assert [as_entry(node) for node in nodes] == stocked.model.list_entries(
            code=code, warehouse_id=id_, reason=reason, start=start, end=end
        )


@pytest.mark.parametrize("first", [1, 3, 200])
@pytest.mark.parametrize("period", PERIODS, ids=[str(list(each)) for each, _ in PERIODS])
async def test_ledgers_of_skus_and_levels_are_filtered_and_paged(
    stocked: Stocked,
    period: tuple[Mapping[str, str], tuple[datetime | None, datetime | None]],
    first: int,
) -> None:
    dates, (start, end) = period
    [main, amazon, *_] = [each.id for each in stocked.model.warehouses]
    code = CODES[7]
    for id_ in (None, main, amazon):
        for reason in (None, REASONS[0]):
            filter_ = {"warehouseId": id_, "reason": reason, **dates}
            expected = stocked.model.list_entries(
                code=code, warehouse_id=id_, reason=reason, start=start, end=end
            )
            by_sku = {"sku": code, "filter": filter_}
            nodes = await walk(
                stocked.service, SKU_LEDGER, ["sku", "adjustments"], by_sku, first=first
            )
            assert [as_entry(node) for node in nodes] == expected
            if id_ is not None:
                by_level = {"id": f"level_{id_}_{code}", "filter": {"reason": reason, **dates}}
                nodes = await walk(
                    stocked.service, LEVEL_LEDGER, ["node", "adjustments"], by_level, first=first
                )
                assert [as_entry(node) for node in nodes] == expected


async def test_level_ledger_filtered_by_another_warehouse_is_empty(stocked: Stocked) -> None:
    [main, amazon, *_] = [each.id for each in stocked.model.warehouses]
    variables = {"id": f"level_{main}_{CODES[7]}", "filter": {"warehouseId": amazon}}

    assert (
        await walk(stocked.service, LEVEL_LEDGER, ["node", "adjustments"], variables, first=5) == []
    )


async def test_adjustments_of_one_instant_appear_exactly_once(service: Service) -> None:
    warehouses = [warehouse(f"W{number}") for number in range(3)]
    entries = [counted(number, note=str(number)) for number in range(4)]
    skus = [
        sku(code, *(replace(level(each, 0), history=entries) for each in warehouses))
        for code in ("A", "B", "C")
    ]
    await service.load(warehouses, skus)

    for first in (1, 5, 7):
        nodes = await walk(service, LEDGER, ["adjustments"], first=first)
        assert [node["position"] for node in nodes] == [*range(36, 0, -1)]
        assert len({node["id"] for node in nodes}) == 36


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
            "id": each.id,
            "name": each.name,
            "type": each.type.name,
            "address": each.address,
            "marketplace": each.marketplace,
            "isActive": each.is_active,
            "isReadonly": each.type.value in ("FBA", "FBS"),
        }
        for each in sorted(stocked.model.warehouses, key=lambda each: each.id)
    ]

    data = await stocked.service.data(f"{{ warehouses {{ {fields} }} }}")
    assert data["warehouses"] == expected
    query = f"query ($id: ID!) {{ warehouse(id: $id) {{ {fields} }} }}"
    for each in expected:
        assert (await stocked.service.data(query, {"id": each["id"]}))["warehouse"] == each


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
        ({"startDate": "2026-03-12", "endDate": "2026-03-10"}, (422, "VALIDATION_ERROR")),
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
async def test_longest_period_includes_every_entry(
    stocked: Stocked, period: tuple[str, str]
) -> None:
    filter_ = {"startDate": period[0], "endDate": period[1]}
    nodes = await walk(stocked.service, LEDGER, ["adjustments"], {"filter": filter_}, first=200)

    assert [as_entry(node) for node in nodes] == stocked.model.list_entries()


async def test_empty_tenant_has_empty_lists(service: Service) -> None:
    assert await walk(service, SKUS, ["skus"], first=5) == []
    assert await walk(service, LEDGER, ["adjustments"], first=5) == []
    assert await service.data("{ warehouses { id } }") == {"warehouses": []}
