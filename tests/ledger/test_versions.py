"""A write whose expectations do not match the stock is refused, and no other."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import httpx
import pytest

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.stock import StockUpdate
from app.errors import StaleVersion, Unavailable
from app.settings import Settings
from app.writes.stock import change_stock
from tests.graphql.operations import bulk_item
from tests.ledger.writes import BULK, SET, Json, assert_proven, entries, ledger
from tests.rest.answers import answered, refusal
from tests.service import Service, level, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
CLIENTS: Final = 8
INCREMENTS: Final = 1_000
Result = TypeVar("Result")


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service whose SKU A has 5 in the main warehouse, and B no stock."""
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 5)), sku("B")])
    return service


def update(
    quantity: int, *, sku: str = "A", warehouse_id: str = MAIN.id, **expected: object
) -> Json:
    """GraphQL input of an update."""
    return {
        "sku": sku,
        "warehouseId": warehouse_id,
        "quantity": quantity,
        "reason": "cycle_count",
        **expected,
    }


async def put(
    service: Service, quantity: int, headers: dict[str, str] | None = None, **more: object
) -> httpx.Response:
    """Set A in the main warehouse through REST."""
    body = {"warehouse_id": MAIN.id, "quantity": quantity, "reason": "cycle_count", **more}
    return await service.rest("PUT", "/api/inventory/A", json=body, headers=headers or {})


EXPECTATIONS: Final = {
    "the quantity": ({"expectedQuantity": 5}, True),
    "another quantity": ({"expectedQuantity": 6}, False),
    "the version": ({"expectedVersion": 1}, True),
    "another version": ({"expectedVersion": 2}, False),
    "no version yet": ({"expectedVersion": 0}, False),
    "both": ({"expectedQuantity": 5, "expectedVersion": 1}, True),
    "only the quantity": ({"expectedQuantity": 5, "expectedVersion": 2}, False),
    "only the version": ({"expectedQuantity": 6, "expectedVersion": 1}, False),
    "nothing": ({"expectedQuantity": None, "expectedVersion": None}, True),
}
expectations = pytest.mark.parametrize(
    ("expected", "holds"), EXPECTATIONS.values(), ids=EXPECTATIONS
)


@expectations
async def test_a_set_checks_the_expected_level(
    stocked: Service, expected: Json, *, holds: bool
) -> None:
    answer = await stocked.graphql(SET, {"input": update(7, **expected)})

    assert await ledger(stocked, "A") == (entries(5, 7) if holds else entries(5))
    if not holds:
        facts = answer["errors"][0]["extensions"]
        assert (facts["status"], facts["code"]) == (409, "STALE_VERSION")
        for detail in facts["details"]:
            assert detail["field"].removeprefix("input.") in expected
            assert (detail["on_hand"], detail["version"]) == (5, 1)


@expectations
async def test_a_bulk_item_checks_its_expected_level(
    stocked: Service, expected: Json, *, holds: bool
) -> None:
    updates = [
        bulk_item(each)
        for each in (update(9, warehouse_id=OTHER.id), update(7, **expected), update(8, sku="B"))
    ]
    aborted = await stocked.graphql(BULK, {"input": {"updates": updates}})
    assert ("errors" in aborted) is not holds
    if holds:
        return
    [error] = aborted["errors"]
    assert error["extensions"]["code"] == "STALE_VERSION"
    [detail] = error["extensions"]["details"]
    assert (detail["index"], detail["error"]["code"]) == (1, "STALE_VERSION")
    assert await ledger(stocked, "A") == entries(5)

    data = await stocked.data(BULK, {"input": {"updates": updates, "onError": "CONTINUE"}})
    results = data["bulkSetStock"]["results"]
    assert [result["status"] for result in results] == ["UPDATED", "FAILED", "UPDATED"]
    assert results[1]["error"]["code"] == "STALE_VERSION"
    assert "holds 5 at version 1" in results[1]["error"]["message"]


async def test_a_missing_level_has_version_0_and_quantity_0(stocked: Service) -> None:
    for name in ("expectedVersion", "expectedQuantity"):
        content = {**update(7, sku="B"), name: 1}
        answer = await stocked.graphql(SET, {"input": content})
        assert answer["errors"][0]["extensions"]["code"] == "STALE_VERSION"
    await stocked.data(SET, {"input": update(7, sku="B", expectedVersion=0, expectedQuantity=0)})
    assert await ledger(stocked, "B") == entries(7)


async def test_rest_takes_the_expected_quantity_in_its_bodies(stocked: Service) -> None:
    stale = await put(stocked, 7, expected_quantity=6)
    assert refusal(stale) == (409, "STALE_VERSION")
    [detail] = stale.json()["error"]["details"]
    assert (detail["field"], detail["on_hand"], detail["version"]) == ("expected_quantity", 5, 1)
    answered(await put(stocked, 7, expected_quantity=5))

    item = {"sku": "A", "warehouse_id": MAIN.id, "quantity": 8, "reason": "loss"}
    for expected, status in ((5, 409), (7, 200)):
        body = {"updates": [{**item, "expected_quantity": expected}]}
        response = await stocked.rest("POST", "/api/inventory/bulk", json=body)
        assert response.status_code == status
    assert await ledger(stocked, "A") == entries(5, 7, 8)


async def etag(service: Service) -> str:
    """Entity tag of A."""
    tag: str = (await service.rest("GET", "/api/inventory/A")).headers["ETag"]
    assert tag.startswith('"')
    assert tag.endswith('"')
    return tag


async def test_if_match_accepts_one_of_two_writers(stocked: Service) -> None:
    tag = await etag(stocked)
    first = await put(stocked, 7, {"If-Match": tag})
    second = await put(stocked, 8, {"If-Match": tag})

    answered(first)
    assert refusal(second) == (412, "STALE_VERSION")
    assert second.json()["error"]["details"][0]["field"] == "If-Match"
    assert first.headers["ETag"] == await etag(stocked) != tag
    answered(await put(stocked, 8, {"If-Match": first.headers["ETag"]}))
    assert await ledger(stocked, "A") == entries(5, 7, 8)


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("{tag}", 200),
        ("*", 200),
        ('"999", {tag}', 200),
        ('{tag} , "999"', 200),
        ('"999"', 412),
        ("W/{tag}", 412),
        ("999", 412),
        ("", 412),
        ('"nonsense"', 412),
        ('"99999999999999999999999999"', 412),
        ('"-1"', 412),
    ],
)
async def test_if_match_compares_strong_tags(stocked: Service, condition: str, status: int) -> None:
    tag = await etag(stocked)
    response = await put(stocked, 7, {"If-Match": condition.format(tag=tag)})

    assert response.status_code == status, response.text
    assert await ledger(stocked, "A") == (entries(5, 7) if status == 200 else entries(5))


async def test_if_match_of_a_missing_sku_is_not_found(stocked: Service) -> None:
    body = {"warehouse_id": MAIN.id, "quantity": 1, "reason": "loss"}
    response = await stocked.rest(
        "PUT", "/api/inventory/NOPE", json=body, headers={"If-Match": "*"}
    )
    assert refusal(response) == (404, "INVENTORY_NOT_FOUND")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("known", ["{tag}", "W/{tag}", '"999", {tag}', "*"])
async def test_if_none_match_returns_304_for_a_known_tag(
    stocked: Service, method: str, known: str
) -> None:
    tag = await etag(stocked)
    headers = {"If-None-Match": known.format(tag=tag)}
    spared = await stocked.rest(method, "/api/inventory/A", headers=headers)
    await put(stocked, 7)
    changed = await stocked.rest(method, "/api/inventory/A", headers=headers)

    assert (spared.status_code, spared.content, spared.headers["ETag"]) == (304, b"", tag)
    assert changed.status_code == (304 if known == "*" else 200)
    assert changed.headers["ETag"] != tag
    for response in (spared, changed):
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.headers["Vary"] == "Authorization"


async def test_the_tag_changes_only_with_levels_of_the_sku(
    stocked: Service,
) -> None:
    tags = [await etag(stocked)]
    for warehouse_id in (OTHER.id, MAIN.id, MAIN.id):
        await stocked.data(SET, {"input": update(3, warehouse_id=warehouse_id)})
        tags.append(await etag(stocked))
    await stocked.data(SET, {"input": update(3, sku="B")})
    tags.append(await etag(stocked))

    assert tags[3] == tags[4]
    assert len(set(tags)) == 4


async def until_available(write: Callable[[], Awaitable[Result]]) -> Result:
    while True:
        with suppress(Unavailable):
            return await write()


async def test_the_final_quantity_equals_the_accepted_increments(
    stocked: Service, database_url: str
) -> None:
    # Within a process, writers of one SKU wait for each other.
    other_process = Database(Settings(database_url=database_url))
    processes = [stocked.database, other_process]

    async def client(number: int) -> tuple[int, int]:
        caller = Caller(stocked.tenant_id, f"client {number}", "a@b.example")
        version, quantity, done, refused = 0, 0, 0, 0
        dice = random.Random(number)
        for _ in range(INCREMENTS):
            by_version = dice.random() < 0.5
            change = StockUpdate(
                sku="B",
                warehouse_id=MAIN.id,
                quantity=quantity + 1,
                reason="correction",
                expected_version=version if by_version else None,
                expected_quantity=None if by_version else quantity,
            )
            try:
                # Processes poll for SQLite's lock: one of them may wait too long.
                done_once = await until_available(
                    partial(change_stock, processes[number % 2], caller, change)
                )
            except StaleVersion as error:
                present: Any = error.details[0]
                version, quantity = present["version"], present["on_hand"]
                refused += 1
            else:
                made = done_once.result.adjustment
                assert made is not None
                version, quantity = made.sequence, made.after_quantity
                done += 1
        return done, refused

    counts = await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    await other_process.dispose()
    made = sum(done for done, _ in counts)
    data = await stocked.data('{ sku(sku: "B") { totalOnHand adjustments { totalCount } } }')

    assert made + sum(refused for _, refused in counts) == CLIENTS * INCREMENTS
    assert any(refused for _, refused in counts)
    assert made >= INCREMENTS
    assert data["sku"]["totalOnHand"] == made == data["sku"]["adjustments"]["totalCount"]
    await assert_proven(stocked)
