"""What was on hand at any instant is what had been recorded then."""

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
# A level's stock and the sequence of the adjustment that made it, by SKU and warehouse.
Stock = dict[tuple[str, str], tuple[int, int]]


@pytest.mark.parametrize("seed", range(4))
async def test_the_past_is_what_was_recorded_at_every_instant(service: Service, seed: int) -> None:
    dice = random.Random(seed)
    places = [warehouse(f"W{number}") for number in range(3)]
    keys = [
        (code, place.id) for code in ("A", "B", "C/d") for place in places[: dice.choice((2, 3))]
    ]
    histories: dict[tuple[str, str], list[LoadedCount]] = {key: [] for key in keys}
    now: Stock = {}
    recorded: list[tuple[datetime, Stock]] = [(START - MILLISECOND, {})]
    clock = START
    for _ in range(40):
        # Often several in one millisecond, of one level too.
        clock += MILLISECOND * dice.choice((0, 0, 0, 1, 2, 50_000_000))
        key, quantity = dice.choice(keys[:-1]), dice.randrange(9)
        histories[key].append(
            LoadedCount(quantity=quantity, reason="cycle_count", created_by=EMAIL, created_at=clock)
        )
        now[key] = quantity, len(histories[key])
        recorded.append((clock, dict(now)))
    await service.load(
        places,
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
    found: Stock = {}
    for node in data["skus"]["nodes"]:
        levels: list[Any] = node["stockAsOf"]["levels"]
        ids = [level["warehouse"]["id"] for level in levels]
        assert ids == sorted(ids)
        assert node["stockAsOf"]["totalOnHand"] == sum(level["onHand"] for level in levels)
        for level in levels:
            key = node["sku"], level["warehouse"]["id"]
            found[key] = level["onHand"], level["adjustment"]["sequence"]
    return found


async def test_a_date_is_its_end_and_an_instant_to_come_is_the_present(service: Service) -> None:
    place = warehouse("Main")
    await service.load([place], [sku("A", LoadedLevel(warehouse_id=place.id, history=counts()))])

    for at, expected in (
        ("2026-03-09", {}),
        ("2026-03-10", {("A", place.id): (1, 1)}),
        ("2026-03-10T23:59:59.999Z", {("A", place.id): (1, 1)}),
        # Between two milliseconds.
        ("2026-03-10T23:59:59.9999Z", {("A", place.id): (1, 1)}),
        ("2026-03-11T01:00:00+01:00", {("A", place.id): (2, 2)}),
        ("9999-12-31", {("A", place.id): (2, 2)}),
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


async def test_the_past_of_a_list_of_one_warehouse_is_of_that_one(service: Service) -> None:
    places = [warehouse("Main"), warehouse("Other")]
    levels = [LoadedLevel(warehouse_id=place.id, history=counts()) for place in places]
    await service.load(places, [sku("A", *levels)])
    query = (
        "query ($id: ID!) { all: skus { nodes { ...Then } } "
        "one: skus(filter: {warehouseId: $id}) { nodes { ...Then } } } "
        'fragment Then on Sku { stockAsOf(at: "2026-03-10") { totalOnHand levels { '
        "warehouse { id } } } }"
    )

    data = await service.data(query, {"id": places[1].id})

    [all_], [one] = data["all"]["nodes"], data["one"]["nodes"]
    assert all_["stockAsOf"]["totalOnHand"] == 2
    assert one["stockAsOf"] == {"totalOnHand": 1, "levels": [{"warehouse": {"id": places[1].id}}]}


async def test_nobody_sees_the_past_of_another_tenant(service: Service) -> None:
    place = warehouse("Main")
    await service.load([place], [sku("A", LoadedLevel(warehouse_id=place.id, history=counts()))])
    other = replace(service, tenant=await new_tenant(service.database))
    await other.load([warehouse("Theirs")], [sku("A")])

    assert await stock_at(other, "2030-01-01") == {}
    assert len(await stock_at(service, "2030-01-01")) == 1


@pytest.mark.parametrize("at", ["", "yesterday", "2026-02-30", "2026-03-10T12:00:00", 5])
async def test_what_is_no_instant_is_refused(service: Service, at: object) -> None:
    assert await refused(service, AS_OF, {"at": at}) == (422, "VALIDATION_ERROR")
