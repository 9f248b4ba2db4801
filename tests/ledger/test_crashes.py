"""A process may die at any moment of a write: a retry with the same key completes it, once."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Final

import psutil
import pytest

from app.domain.warehouses import WarehouseType
from tests.graphql.operations import bulk_item
from tests.ledger.dying import SURVIVED, die_at
from tests.ledger.reservations import COMMIT, RESERVE
from tests.ledger.test_reversals import REVERSE
from tests.ledger.writes import (
    ADJUST,
    BULK,
    SAFETY,
    SET,
    SKU,
    SYNC,
    TRANSFER,
    Json,
    assert_proven,
    entries,
    ledger,
)
from tests.service import Service, level, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
MARKET: Final = warehouse("Market", WarehouseType.FBA)
KILLED: Final = -9
# The moment after the lock of a tenant is taken, and before anything is read.
IN_LANE: Final = 1
# The shortest write has a moment after each of: token, lock, stored outcome, read, key, commit.
FEWEST_MOMENTS: Final = 6


def update(code: str, warehouse_id: str, quantity: int, **more: object) -> Json:
    return {
        "sku": code,
        "warehouseId": warehouse_id,
        "quantity": quantity,
        "reason": "cycle_count",
        **more,
    }


MANY: Final = [f"MORE-{number}" for number in range(10)]


def bulk(quantity: int, on_error: str) -> Json:
    updates = [
        update("B", MAIN.id, quantity),
        update("A", OTHER.id, quantity),
        update("A", MAIN.id, quantity),
    ]
    if on_error == "CONTINUE":
        updates.insert(1, update("NOPE", MAIN.id, quantity))
        updates += [update(code, OTHER.id, quantity) for code in MANY]
    return {"updates": [bulk_item(each) for each in updates], "onError": on_error}


# Each sets A in the main warehouse to the quantity, or adjusts it by the quantity, among other
# changes, unless it is refused.
MUTATIONS: Final[dict[str, tuple[str, Callable[[int], Json]]]] = {
    "setStock": (SET, lambda quantity: update("A", MAIN.id, quantity)),
    "setStock, refused": (
        SET,
        lambda quantity: update("A", MAIN.id, quantity, expectedQuantity=3),
    ),
    "adjustStock": (
        ADJUST,
        lambda quantity: {
            "sku": "A",
            "warehouseId": MAIN.id,
            "delta": quantity,
            "reason": "correction",
        },
    ),
    "transferStock": (
        TRANSFER,
        lambda _quantity: {
            "fromWarehouseId": MAIN.id,
            "toWarehouseId": OTHER.id,
            "lines": [{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 1}],
        },
    ),
    "reserveStock": (
        RESERVE,
        lambda _quantity: {"lines": [{"sku": "A", "warehouseId": MAIN.id, "quantity": 1}]},
    ),
    "commitReservation": (COMMIT, lambda _quantity: {}),
    "reverseAdjustments": (REVERSE, lambda _quantity: {}),
    "createSku": (SKU, lambda quantity: {"sku": f"NEW-{quantity}", "title": "New"}),
    "setSafetyStock": (
        SAFETY,
        lambda quantity: {
            "levels": [{"sku": "A", "warehouseId": MAIN.id, "safetyStock": quantity}]
        },
    ),
    "syncStock": (
        SYNC,
        lambda quantity: {
            "warehouseId": MARKET.id,
            "reportedAt": "2026-01-01T00:00:00Z",
            "levels": [{"sku": "A", "onHand": quantity}],
        },
    ),
    "bulkSetStock": (BULK, lambda quantity: bulk(quantity, "ABORT")),
    "bulkSetStock of many, refused in part": (BULK, lambda quantity: bulk(quantity, "CONTINUE")),
}

# Number of new ledger entries of A and B.
MORE: Final = {BULK: (2, 1), TRANSFER: (2, 2), SKU: (0, 0), SAFETY: (0, 0), RESERVE: (0, 0)}


@pytest.fixture(scope="session")
def forked() -> ForkServerContext:
    """Context whose processes have imported everything and have no threads yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ledger.dying"])
    return context


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_mutation_killed_at_any_moment_is_done_once_by_its_retry(
    service: Service, forked: ForkServerContext, name: str
) -> None:
    query, input_of = MUTATIONS[name]
    skus = [sku("A", level(MAIN, 50)), sku("B", level(MAIN, 50)), *map(sku, MANY)]
    await service.load([MAIN, OTHER, MARKET], skus)
    url = service.database.url.render_as_string(hide_password=False)
    moment = 0
    while True:
        quantity = 100 + moment
        about = await made_for(service, query)
        key = f"{name} {moment}".replace(" ", "_")
        content = {**input_of(quantity), **about, "idempotencyKey": key}
        body = {"query": query, "variables": {"input": content}}
        before = await ledger(service, "A"), await ledger(service, "B")
        process = forked.Process(
            target=die_at,
            args=(moment, url, service.token("admin"), body),
            daemon=True,
        )
        process.start()
        process.join()
        assert process.exitcode in (KILLED, SURVIVED)

        answers = [
            await service.graphql(query, {"input": content}, token="admin") for _ in range(2)
        ]
        assert _replayed(answers[1])
        assert _comparable(answers[0]) == _comparable(answers[1])
        after = await ledger(service, "A"), await ledger(service, "B")
        if "expectedQuantity" in content:
            assert after == before
        else:
            more = len(after[0]) - len(before[0]), len(after[1]) - len(before[1])
            assert more == MORE.get(query, (1, 0))
        if query in (SKU, SAFETY, SYNC, RESERVE, COMMIT, REVERSE):
            assert "errors" not in answers[0]
        if query in (SET, ADJUST, BULK) and "expectedQuantity" not in content:
            assert any(quantity in (it[-1], it[-1] - it[-2]) for it in after[0])
        if process.exitcode == SURVIVED:
            assert _replayed(answers[0])
            break
        moment += 1
    assert moment >= FEWEST_MOMENTS
    await assert_proven(service)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_process_that_stands_still_in_the_lane_does_not_keep_others_from_writing(
    service: Service, forked: ForkServerContext
) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 50))])
    url = service.database.url.render_as_string(hide_password=False)
    body = {"query": SET, "variables": {"input": update("A", MAIN.id, 7)}}
    standing = forked.Process(
        target=die_at, args=(IN_LANE, url, service.token("write"), body, signal.SIGSTOP)
    )
    standing.start()
    while psutil.Process(standing.pid).status() != psutil.STATUS_STOPPED:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(60):
        while "errors" in await service.graphql(SET, {"input": update("A", MAIN.id, 8)}):
            pass
    assert await ledger(service, "A") == entries(50, 8)

    os.kill(standing.pid or 0, signal.SIGCONT)
    await asyncio.to_thread(standing.join)

    assert standing.exitcode == SURVIVED
    # Its transaction was ended, so it was decided again.
    assert await ledger(service, "A") == entries(50, 8, 7)
    await assert_proven(service)


async def made_for(service: Service, query: str) -> Json:
    """Create the object that the mutation ends, if it needs a new one each time."""
    if query == COMMIT:
        line = {"sku": "A", "warehouseId": MAIN.id, "quantity": 1}
        made = await service.data(RESERVE, {"input": {"lines": [line]}})
        return {"id": made["reserveStock"]["reservation"]["id"]}
    if query == REVERSE:
        made = await service.data(SET, {"input": update("A", MAIN.id, 50)})
        return {"target": {"adjustmentId": made["setStock"]["adjustment"]["id"]}}
    return {}


def _replayed(answer: Json) -> bool:
    if "errors" in answer:
        return bool(answer["errors"][0]["extensions"].get("replayed"))
    [payload] = answer["data"].values()
    replayed: bool = payload["replayed"]
    return replayed


def _comparable(answer: Json) -> Json:
    if "errors" in answer:
        facts = answer["errors"][0]["extensions"]
        return {name: facts[name] for name in ("code", "details")}
    [payload] = answer["data"].values()
    return {name: value for name, value in payload.items() if name != "replayed"}
