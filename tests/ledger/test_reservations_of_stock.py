"""Reservations of a SKU, a warehouse or a stock level, and what they hold in sum."""

from typing import Any, Final

import pytest

from tests.ledger.reservations import (
    COMMIT,
    MAIN,
    OTHER,
    RELEASE,
    line,
    reserve,
    stocked,
)
from tests.ledger.writes import assert_proven
from tests.service import Service, new_tenant

LIST: Final = """
query ($first: Int! = 50, $after: String, $filter: ReservationFilterInput) {
  reservations(first: $first, after: $after, filter: $filter) {
    nodes { id lines { sku { sku } held } }
    pageInfo { hasNextPage endCursor }
    totalCount
    held
  }
}
"""


async def page(service: Service, **where: object) -> dict[str, Any]:
    data = await service.data(LIST, {"filter": where})
    found: dict[str, Any] = data["reservations"]
    return found


async def summary(service: Service, **where: object) -> tuple[list[str], int, int | None]:
    """Ids, total and held quantity of a list."""
    found = await page(service, **where)
    return [node["id"] for node in found["nodes"]], found["totalCount"], found["held"]


async def test_reservations_are_listed_by_sku_by_warehouse_and_by_both(service: Service) -> None:
    await stocked(service)
    first = (await reserve(service, line("A", 1), line("A", 2, OTHER.id), line("B", 1)))["id"]
    second = (await reserve(service, line("A", 3, OTHER.id)))["id"]
    third = (await reserve(service, line("B", 2)))["id"]

    assert await summary(service, sku="A") == ([second, first], 2, 6)
    assert await summary(service, warehouseId=MAIN.id) == ([third, first], 2, 4)
    assert await summary(service, sku="A", warehouseId=MAIN.id) == ([first], 1, 1)
    assert await summary(service, sku="B", warehouseId=OTHER.id) == ([], 0, 0)
    assert await summary(service) == ([third, second, first], 3, 9)
    # All lines of a listed reservation are shown.
    [node] = (await page(service, sku="A", warehouseId=MAIN.id))["nodes"]
    assert [each["held"] for each in node["lines"]] == [1, 2, 1]
    await assert_proven(service)


async def test_a_list_by_stock_needs_no_other_field(service: Service) -> None:
    await stocked(service)
    made = await reserve(service, line("A", 1))
    for query in (
        '{ reservations(filter: {sku: "A"}) { nodes { id } } }',
        "query ($id: ID) { reservations(filter: {warehouseId: $id}) { nodes { id } } }",
        "query ($where: ReservationFilterInput) { reservations(filter: $where) { nodes { id } } }",
    ):
        data = await service.data(query, {"id": MAIN.id, "where": {"sku": "A"}})
        assert data == {"reservations": {"nodes": [{"id": made["id"]}]}}, query


async def test_a_hold_that_ended_counts_as_nothing(service: Service) -> None:
    await stocked(service)
    committed, released, kept = [
        (await reserve(service, line("A", quantity), line("B", 1)))["id"] for quantity in (1, 2, 3)
    ]
    part = {"id": committed, "lines": [line("A", 1)], "keepRest": True}
    await service.data(COMMIT, {"input": part})
    await service.data(RELEASE, {"input": {"id": released}})

    # The commit left its line of B to a new reservation.
    ids, total, held = await summary(service, sku="A")
    assert (ids, total, held) == ([kept, released, committed], 3, 3)
    assert await summary(service, sku="A", status="OPEN") == ([kept], 1, 3)
    [successor, *_], _, held = await summary(service, sku="B", status="OPEN")
    assert (successor not in {committed, released, kept}, held) == (True, 2)
    assert await summary(service, warehouseId=MAIN.id, status="OPEN") == ([successor, kept], 2, 5)
    for status in ("RELEASED", "COMMITTED", "EXPIRED"):
        assert (await page(service, status=status))["held"] == 0
    await assert_proven(service)


@pytest.mark.parametrize("status", [None, "OPEN"])
@pytest.mark.parametrize(
    "stock", [{"sku": "A"}, {"warehouseId": MAIN.id}, {"sku": "A", "warehouseId": MAIN.id}]
)
async def test_pages_of_reservations_with_several_lines_have_each_once(
    service: Service, stock: dict[str, object], status: str | None
) -> None:
    await stocked(service)
    lines = [line("A", 1), line("B", 1)]
    made = [(await reserve(service, *lines))["id"] for _ in range(3)]
    where = {**stock, "status": status}
    found: list[str] = []
    after = None
    for _ in made:
        data = await service.data(LIST, {"first": 1, "after": after, "filter": where})
        [node] = data["reservations"]["nodes"]
        found.append(node["id"])
        assert data["reservations"]["totalCount"] == 3
        after = data["reservations"]["pageInfo"]["endCursor"]

    assert found == made[::-1]
    assert not data["reservations"]["pageInfo"]["hasNextPage"]
    # A cursor belongs to the filter.
    answer = await service.graphql(LIST, {"after": after, "filter": {"status": "OPEN"}})
    assert answer["errors"][0]["extensions"]["code"] == "INVALID_CURSOR"


async def test_the_sum_of_a_reference_is_not_known(service: Service) -> None:
    await stocked(service)
    await reserve(service, line("A", 1), reference="order-1")
    assert (await page(service, reference="order-1"))["held"] is None


async def test_other_conditions_cannot_be_combined_with_stock(service: Service) -> None:
    await stocked(service)
    cases: list[tuple[dict[str, object], str]] = [
        ({"sku": "A", "status": "RELEASED"}, "status"),
        ({"warehouseId": MAIN.id, "status": "COMMITTED"}, "status"),
        ({"sku": "A", "reference": "order-1"}, "reference"),
        ({"sku": ""}, "sku"),
        ({"warehouseId": ""}, "warehouseId"),
    ]
    for where, field in cases:
        answer = await service.graphql(LIST, {"filter": where})
        [error] = answer["errors"]
        assert error["extensions"]["code"] == "VALIDATION_ERROR", where
        assert [each["field"] for each in error["extensions"]["details"]] == [field], where


async def test_stock_of_another_tenant_is_like_stock_that_does_not_exist(service: Service) -> None:
    await stocked(service)
    await reserve(service, line("A", 1))
    stranger = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    for name, value in (("sku", "A"), ("warehouseId", MAIN.id)):
        known, unknown = [
            (await stranger.graphql(LIST, {"filter": {name: each}}))["errors"][0]
            for each in (value, f"{value}x")
        ]
        assert known["extensions"]["code"] == unknown["extensions"]["code"]
        assert known["extensions"]["status"] == 404
    assert await summary(stranger) == ([], 0, 0)
