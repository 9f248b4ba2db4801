"""A refused field is null with its error; every other field of the response keeps its value."""

from typing import Final

import pytest

from tests.graphql.answers import Json, errors_of
from tests.graphql.lists import Stocked
from tests.service import Service, level, sku, warehouse

ADJUST: Final = 'adjustStock(input: {sku: "A", warehouseId: "%s", delta: %d, reason: "sale"})'
ADJUSTED: Final = "{ adjustment { id delta } }"


def refusals_by_path(answer: Json) -> dict[tuple[str | int, ...], str]:
    return {tuple(error["path"]): error["extensions"]["code"] for error in errors_of(answer)}


@pytest.mark.parametrize(
    ("deltas", "done"), [((-2, -50), [-2, None]), ((-50, -2), [None, -2]), ((-9, -9), [-9, None])]
)
async def test_a_refused_mutation_keeps_the_result_of_the_others(
    service: Service, deltas: tuple[int, int], done: list[int | None]
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 10))])

    fields = " ".join(
        f"{name}: {ADJUST % (main.id, delta)} {ADJUSTED}"
        for name, delta in zip("ab", deltas, strict=True)
    )
    answer = await service.graphql(f"mutation {{ {fields} }}")

    results = [answer["data"][name] for name in ("a", "b")]
    assert [it and it["adjustment"]["delta"] for it in results] == done
    refused = "ab"[done.index(None)]
    assert refusals_by_path(answer) == {(refused,): "NEGATIVE_QUANTITY"}
    [record] = (await service.data("{ skus { nodes { totalOnHand } } }"))["skus"]["nodes"]
    assert record["totalOnHand"] == 10 + sum(delta for delta in done if delta)


async def test_a_refused_field_of_a_result_keeps_the_rest_of_the_result(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 10))])

    answer = await service.graphql(
        f"mutation {{ a: {ADJUST % (main.id, -1)} {{ adjustment {{ delta sku {{ sku }} }} "
        'sku { totalOnHand adjustments(after: "x") { totalCount } } } }'
    )

    assert refusals_by_path(answer) == {("a", "sku", "adjustments"): "INVALID_CURSOR"}
    assert answer["data"]["a"] == {
        "adjustment": {"delta": -1, "sku": {"sku": "A"}},
        "sku": {"totalOnHand": 9, "adjustments": None},
    }


REFUSED: Final = {
    'skus(filter: {warehouseId: "wh_gone"}) { totalCount }': "WAREHOUSE_NOT_FOUND",
    "skus(first: 0) { totalCount }": "VALIDATION_ERROR",
    'adjustments(filter: {sku: "gone"}) { totalCount }': "INVENTORY_NOT_FOUND",
    'reservations(after: "zzz") { totalCount }': "INVALID_CURSOR",
    'sku(sku: "gone") { sku }': "INVENTORY_NOT_FOUND",
    'warehouse(id: "wh_gone") { id }': "WAREHOUSE_NOT_FOUND",
    'reservation(id: "rsv_gone") { id }': "RESERVATION_NOT_FOUND",
}


@pytest.mark.parametrize("field", REFUSED)
async def test_a_refused_root_field_keeps_the_others(stocked: Stocked, field: str) -> None:
    answer = await stocked.service.graphql(
        f"{{ bad: {field} good: skus(first: 1) {{ totalCount }} }}"
    )

    assert refusals_by_path(answer) == {("bad",): REFUSED[field]}
    assert answer["data"]["bad"] is None
    assert answer["data"]["good"]["totalCount"] > 0


NESTED: Final = {
    "adjustments(first: 0) { totalCount }",
    'adjustments(after: "x") { nodes { id } }',
    'stockHistory(from: "2026-01-02", to: "2025-01-01", interval: DAY) { closing }',
}


@pytest.mark.parametrize("field", sorted(NESTED))
async def test_a_refused_nested_field_keeps_its_object(stocked: Stocked, field: str) -> None:
    answer = await stocked.service.graphql(
        f"{{ skus(first: 2) {{ nodes {{ sku bad: {field} }} }} warehouses {{ id }} }}"
    )

    nodes = answer["data"]["skus"]["nodes"]
    assert [node["bad"] for node in nodes] == [None, None]
    assert [node["sku"] for node in nodes] == sorted(node["sku"] for node in nodes)
    assert {path[:4] for path in refusals_by_path(answer)} == {
        ("skus", "nodes", number, "bad") for number in range(2)
    }
    assert len(answer["data"]["warehouses"]) == 4
