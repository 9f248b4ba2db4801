"""Stock as of any instant equals the stock recorded by then."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from app.domain.instants import format_instant
from app.files.seeding import LoadedCount, LoadedLevel
from tests.graphql.answers import refused
from tests.service import EMAIL, Service, new_tenant, sku, warehouse

AS_OF: Final = (
    "query ($at: DateOrDateTime!) { skus { nodes { sku stockAsOf(at: $at) { "
    "totalOnHand levels { onHand warehouse { id } adjustment { sequence } } } } } }"
)
START: Final = datetime(2026, 3, 10, 23, 59, 59, 998_000, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
# Quantity and sequence of the latest adjustment, by SKU and warehouse.
Stock = dict[tuple[str, str], tuple[int, int]]


@pytest.mark.parametrize("seed", range(4))
async def test_stock_as_of_an_instant_matches_the_recorded_stock(
    service: Service, seed: int
) -> None:
    dice = random.Random(seed)
    warehouses = [warehouse(f"W{number}") for number in range(3)]
    keys = [
        (code, owner.id)
        for code in ("A", "B", "C/d")
        for owner in warehouses[: dice.choice((2, 3))]
    ]
    histories: dict[tuple[str, str], list[LoadedCount]] = {key: [] for key in keys}
    now: Stock = {}
    recorded: list[tuple[datetime, Stock]] = [(START - MILLISECOND, {})]
    clock = START
    for _ in range(40):
        # Several adjustments, also of one level, in one millisecond.
        clock += MILLISECOND * dice.choice((0, 0, 0, 1, 2, 50_000_000))
        key, quantity = dice.choice(keys[:-1]), dice.randrange(9)
        histories[key].append(
            LoadedCount(quantity=quantity, reason="cycle_count", created_by=EMAIL, created_at=clock)
        )
        now[key] = quantity, len(histories[key])
        recorded.append((clock, dict(now)))
    await service.load(
        warehouses,
        [
            sku(
                code,
                *(
                    LoadedLevel(warehouse_id=id_, history=history)
                    for (name, id_), history in histories.items()
                    if name == code
                ),
            )
            for code in ("A", "B", "C/d")
        ],
    )

    for instant in {each + MILLISECOND * step for each, _ in recorded for step in (-1, 0, 1)}:
        expected = [stock for when, stock in recorded if when <= instant]
        assert await stock_at(service, format_instant(instant)) == (
            expected[-1] if expected else {}
        )


async def stock_at(service: Service, at: str) -> Stock:
    data = await service.data(AS_OF, {"at": at})
    result: Stock = {}
    for node in data["skus"]["nodes"]:
        levels: list[Any] = node["stockAsOf"]["levels"]
        ids = [level["warehouse"]["id"] for level in levels]
        assert ids == sorted(ids)
        assert node["stockAsOf"]["totalOnHand"] == sum(level["onHand"] for level in levels)
        for level in levels:
            key = node["sku"], level["warehouse"]["id"]
            result[key] = level["onHand"], level["adjustment"]["sequence"]
    return result


async def test_date_means_end_of_day_and_future_instant_means_now(service: Service) -> None:
    main = warehouse("Main")
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=counts()))])

    for at, expected in (
        ("2026-03-09", {}),
        ("2026-03-10", {("A", main.id): (1, 1)}),
        ("2026-03-10T23:59:59.999Z", {("A", main.id): (1, 1)}),
        # Between two milliseconds.
        ("2026-03-10T23:59:59.9999Z", {("A", main.id): (1, 1)}),
        ("2026-03-11T01:00:00+01:00", {("A", main.id): (2, 2)}),
        ("9999-12-31", {("A", main.id): (2, 2)}),
    ):
        assert await stock_at(service, at) == expected, at


def counts() -> list[LoadedCount]:
    return [
        LoadedCount(quantity=number, reason="cycle_count", created_by=EMAIL, created_at=instant)
        for number, instant in (
            (1, datetime(2026, 3, 10, 12, tzinfo=UTC)),
            (2, datetime(2026, 3, 11, tzinfo=UTC)),
        )
    ]


async def test_stock_as_of_is_the_same_in_a_list_of_one_warehouse(service: Service) -> None:
    warehouses = [warehouse("Main"), warehouse("Other")]
    levels = [LoadedLevel(warehouse_id=each.id, history=counts()) for each in warehouses]
    await service.load(warehouses, [sku("A", *levels)])
    query = (
        "query ($id: ID!) { all: skus { nodes { ...Then } } "
        "one: skus(filter: {warehouseId: $id}) { nodes { ...Then } } } "
        'fragment Then on Sku { stockAsOf(at: "2026-03-10") { totalOnHand levels { '
        "warehouse { id } } } }"
    )

    data = await service.data(query, {"id": warehouses[1].id})

    [all_], [one] = data["all"]["nodes"], data["one"]["nodes"]
    assert all_["stockAsOf"]["totalOnHand"] == 2
    assert one["stockAsOf"] == all_["stockAsOf"]


async def test_stock_as_of_excludes_another_tenant(service: Service) -> None:
    main = warehouse("Main")
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=counts()))])
    other = replace(service, tenant_id=await new_tenant(service.database))
    await other.load([warehouse("Theirs")], [sku("A")])

    assert await stock_at(other, "2030-01-01") == {}
    assert len(await stock_at(service, "2030-01-01")) == 1


@pytest.mark.parametrize("at", ["", "yesterday", "2026-02-30", "2026-03-10T12:00:00", 5])
async def test_invalid_instant_is_rejected(service: Service, at: object) -> None:
    assert await refused(service, AS_OF, {"at": at}) == (422, "VALIDATION_ERROR")
