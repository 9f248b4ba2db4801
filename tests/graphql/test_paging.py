"""Page sizes and cursors."""

from dataclasses import replace
from typing import Any, Final

import pytest

from tests.graphql.answers import Json, details_of, errors_of
from tests.graphql.lists import Stocked
from tests.service import new_tenant

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
        '{ warehouse(id: "MAIN") { stock(first: 1, filter: {status: LOW}%s) '
        "{ pageInfo { endCursor } } } }",
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
    [main, amazon, *_] = [each.id for each in stocked.model.warehouses]
    questions = {
        name: query.replace("MAIN", main).replace("AMAZON", amazon)
        for name, (query, _) in CURSORS.items()
    }
    result = {
        name: end_cursor(await stocked.service.data(query % ""), CURSORS[name][1])
        for name, query in questions.items()
    }

    opened = set()
    for name, query in questions.items():
        for other, cursor in result.items():
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
    other = replace(stocked.service, tenant_id=await new_tenant(stocked.service.database))
    await other.load(stocked.model.warehouses, stocked.model.skus)
    [main, amazon, *_] = [each.id for each in stocked.model.warehouses]
    query, path = CURSORS[name]
    query = query.replace("MAIN", main).replace("AMAZON", amazon)

    own = end_cursor(await stocked.service.data(query % ""), path)
    foreign = end_cursor(await other.data(query % ""), path)
    flipped = own[:-1] + ("A" if own[-1] != "A" else "B")
    for cursor in (
        foreign,
        "",
        "cursor_",
        "cursor_AAAA",
        own.removeprefix("cursor_"),
        own.upper(),
        f"{own}=",
        f"{own}A",
        f" {own}",
        flipped,
        own[:20] + ("x" if own[20] != "x" else "y") + own[21:],
        "\\u0000",
        "💩",
        "x" * 10_000,
    ):
        answer = await stocked.service.graphql(query % f', after: "{cursor}"')
        [error] = errors_of(answer)
        assert error["extensions"]["code"] == "INVALID_CURSOR"
        assert error["extensions"]["details"] == [{"field": "after", "message": "is not valid"}]
    await stocked.service.data(query % f', after: "{own}"')
