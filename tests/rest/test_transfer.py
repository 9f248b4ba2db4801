"""Transfers between warehouses: both halves or none, and unchanged totals."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from tests.ledger.writes import Json, assert_proven, ledger
from tests.rest.answers import answered, refusal, refused_fields
from tests.service import EMAIL, Service, level, sku, warehouse

PATH: Final = "/api/inventory/transfers"
MAIN: Final = warehouse("Main")
OTHER: Final = warehouse("Other")
OLD: Final = warehouse("Old", is_active=False)
FBA: Final = warehouse("FBA", WarehouseType.FBA)
SKUS: Final = ("A", "B", "C")
FIGURES: Final = ("before_quantity", "after_quantity", "delta")


@pytest.fixture
async def stocked(service: Service) -> Service:
    await service.load(
        [MAIN, OTHER, OLD, FBA],
        [sku(code, level(MAIN, 10), level(OLD, 5), level(FBA, 5)) for code in SKUS],
    )
    return service


def body(
    lines: Mapping[str, object],
    *,
    source: WarehouseRecord = MAIN,
    destination: WarehouseRecord = OTHER,
    **more: object,
) -> Json:
    return {
        "from_warehouse_id": source.id,
        "to_warehouse_id": destination.id,
        "lines": [{"sku": code, "quantity": quantity} for code, quantity in lines.items()],
        **more,
    }


async def post(service: Service, content: Json, **more: Any) -> Any:
    return await service.rest("POST", PATH, json=content, **more)


async def held(service: Service, code: str) -> dict[str, int]:
    record = answered(await service.rest("GET", f"/api/inventory/{code}"))["data"]
    return {each["name"]: each["on_hand"] for each in record["warehouses"]}


async def test_a_transfer_writes_two_adjustments_for_each_line(stocked: Service) -> None:
    content = body({"B": 10, "A": 3}, note="Truck 7")
    moved = answered(await post(stocked, content))["data"]

    halves = [half for line in moved["lines"] for half in (line["outgoing"], line["incoming"])]
    common = {"reason": "transfer", "note": "Truck 7", "created_by": EMAIL}
    assert [without(half, "id", "created_at") for half in halves] == [
        {
            "sku": code,
            "warehouse_id": each.id,
            **dict(zip(FIGURES, figures, strict=True)),
            **common,
        }
        for code, each, *figures in [
            ("B", MAIN, 10, 0, -10),
            ("B", OTHER, 0, 10, 10),
            ("A", MAIN, 10, 7, -3),
            ("A", OTHER, 0, 3, 3),
        ]
    ]
    assert len({half["id"] for half in halves}) == 4
    assert await held(stocked, "A") == {"Main": 7, "Other": 3, "Old": 5, "FBA": 5}
    data = await stocked.data(
        '{ adjustments(first: 4) { nodes { id transferId } } sku(sku: "A") { totalOnHand } }'
    )
    assert {it["transferId"] for it in data["adjustments"]["nodes"]} == {moved["transfer_id"]}
    assert {it["id"] for it in data["adjustments"]["nodes"]} == {half["id"] for half in halves}
    assert data["sku"]["totalOnHand"] == 20
    await assert_proven(stocked)


def zipped(figures: Sequence[int]) -> dict[str, int]:
    return dict(zip(FIGURES, figures, strict=True))


def without(result: Json, *names: str) -> Json:
    return {name: value for name, value in result.items() if name not in names}


@pytest.mark.parametrize(
    ("content", "expected", "failing"),
    [
        (body({"A": 1, "B": 11, "C": 12}), (422, "NEGATIVE_QUANTITY"), [1, 2]),
        (body({"A": 1, "NOPE": 1}), (404, "INVENTORY_NOT_FOUND"), [1, 1]),
        (body({"A": 1}, source=warehouse()), (404, "WAREHOUSE_NOT_FOUND"), [0]),
        (body({"A": 1}, destination=warehouse()), (404, "WAREHOUSE_NOT_FOUND"), [0]),
        (body({"A": 1}, source=FBA), (403, "READONLY_WAREHOUSE"), [0]),
        (body({"A": 1}, destination=FBA), (403, "READONLY_WAREHOUSE"), [0]),
        (body({"A": 1}, destination=OLD), (422, "WAREHOUSE_INACTIVE"), [0]),
        (body({"A": 1}, source=OTHER, destination=MAIN), (422, "NEGATIVE_QUANTITY"), [0]),
    ],
)
async def test_transfer_with_a_failed_line_moves_nothing(
    stocked: Service, content: Json, expected: tuple[int, str], failing: list[int]
) -> None:
    response = await post(stocked, content)
    assert refusal(response) == expected
    details = response.json()["error"]["details"]
    assert [detail["index"] for detail in details] == failing
    for code in SKUS:
        assert len(await ledger(stocked, code)) == 3


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (body({}), ["lines"]),
        (body({f"S{number}": 1 for number in range(501)}), ["lines"]),
        (body({"A": 0}), ["lines.0.quantity"]),
        (body({"A": -1, "B": 10**12 + 1}), ["lines.0.quantity", "lines.1.quantity"]),
        (body({"A": 1.0}), ["lines.0.quantity"]),
        (body({"A": None}), ["lines.0.quantity"]),
        (body({"A": 1}, destination=MAIN), ["to_warehouse_id"]),
        (body({"A": 1}, reason="No reason"), ["reason"]),
        (body({"A": 1}, note="x" * 1001), ["note"]),
        (body({"A": 1}, colour="red"), ["colour"]),
        ({**body({}), "lines": [{"sku": "A", "quantity": 1}] * 2}, ["lines.1"]),
    ],
)
async def test_a_malformed_transfer_is_refused(
    stocked: Service, content: Json, fields: list[str]
) -> None:
    response = await post(stocked, content)
    assert refusal(response) == (422, "VALIDATION_ERROR")
    assert refused_fields(response) == fields
    assert len(await ledger(stocked, "A")) == 3


async def test_an_inactive_warehouse_is_emptied_by_a_transfer(stocked: Service) -> None:
    answered(await post(stocked, body({"A": 5}, source=OLD)))
    assert await held(stocked, "A") == {"Main": 10, "Other": 5, "Old": 0, "FBA": 5}


async def test_transfer_with_an_idempotency_key_is_executed_once(stocked: Service) -> None:
    headers = {"Idempotency-Key": "one"}
    responses = await asyncio.gather(
        *(post(stocked, body({"A": 4}), headers=headers) for _ in range(4))
    )
    assert len({response.text for response in responses}) == 1
    assert [response.headers.get("Idempotent-Replayed") for response in responses].count(
        "true"
    ) == 3
    assert (await held(stocked, "A"))["Other"] == 4
    other = await post(stocked, body({"A": 5}), headers=headers)
    assert refusal(other) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_dry_run_of_a_transfer_moves_nothing(stocked: Service) -> None:
    params = {"dry_run": "true"}
    moved = answered(await post(stocked, body({"A": 4}), params=params))["data"]
    assert moved["lines"][0]["outgoing"]["after_quantity"] == 6
    too_many = await post(stocked, body({"A": 11}), params=params)
    assert refusal(too_many) == (422, "NEGATIVE_QUANTITY")
    assert len(await ledger(stocked, "A")) == 3


async def test_transfer_keeps_totals(stocked: Service) -> None:
    """Jepsen's bank test: concurrent transfers in all directions, and readers of the total."""
    warehouses = [MAIN, OTHER]
    is_over = asyncio.Event()

    async def move(number: int) -> int:
        dice = random.Random(number)
        made = 0
        for _ in range(15):
            source, destination = dice.sample(warehouses, 2)
            lines = {code: dice.randint(1, 6) for code in dice.sample(SKUS, 2)}
            response = await post(stocked, body(lines, source=source, destination=destination))
            assert response.status_code == 200 or refusal(response) == (422, "NEGATIVE_QUANTITY")
            made += response.status_code == 200
        return made

    async def read() -> int:
        number = 0
        while not is_over.is_set():
            page = answered(await stocked.rest("GET", "/api/inventory"))["data"]
            assert [record["total_on_hand"] for record in page] == [20, 20, 20]
            number += 1
        return number

    readers = [asyncio.create_task(read()) for _ in range(2)]
    made = await asyncio.gather(*(move(number) for number in range(6)))
    is_over.set()
    assert min(await asyncio.gather(*readers)) > 0
    assert sum(made) > 0
    await assert_proven(stocked)
