"""Concurrent writers: no lost update, no partial read, no deadlock error."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from sqlalchemy import text

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.stock import OnError, StockUpdate
from app.domain.validation import MAX_BULK_UPDATES
from app.settings import Settings
from app.writes.catalogue import SafetyStock, set_safety_stock
from app.writes.pipeline import WriteContext
from app.writes.stock import bulk_change_stock, change_stock
from tests.effort import EFFORT
from tests.engines import writer_of
from tests.graphql.recorder import recorded
from tests.ledger.rollup import HAS_ME_BLOCKING
from tests.ledger.writes import Update, assert_proven, graphql_set, ledger
from tests.service import Service, level, running, sku, warehouse
from tests.statements import BrokenOff, broken_off

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
WRITERS: Final = 16
KEYS: Final = 1_000 * EFFORT
READS: Final = 1_000 * EFFORT
WALKS: Final = 100 * EFFORT
MOVED: Final = text("UPDATE sku SET version = version + 1 WHERE tenant_id = :tenant AND sku = :sku")
# What another process does in the lane of a tenant.
LOCKED: Final = text("SELECT 1 FROM tenant WHERE tenant_id = :tenant FOR NO KEY UPDATE")
DEACTIVATED: Final = text(
    "UPDATE warehouse SET is_active = false WHERE tenant_id = :tenant AND id = :id"
)
RENAMED: Final = text(
    "UPDATE warehouse SET name = 'Renamed' WHERE tenant_id = :tenant AND id = :id"
)


def codes(number: int) -> list[str]:
    return [f"SKU-{index:04}" for index in range(number)]


def caller(service: Service, number: int = 0) -> Caller:
    return Caller(service.tenant_id, f"client {number}", "a@b.example")


def shuffled(dice: random.Random, skus: Sequence[str], quantity: int) -> list[StockUpdate]:
    """Bulk over some SKUs in random order."""
    return [
        StockUpdate(
            sku=code,
            warehouse_id=dice.choice((MAIN.id, OTHER.id)),
            quantity=quantity,
            reason="correction",
        )
        for code in dice.sample(skus, min(len(skus), MAX_BULK_UPDATES))
    ]


async def test_overlapping_bulks_in_any_order_all_succeed(service: Service) -> None:
    skus = codes(600)
    await service.load([MAIN, OTHER], [sku(code) for code in skus])
    # Long timeouts: no writer may be refused for waiting.
    patience = {
        "database_pool_timeout_seconds": 60,
        "database_lock_timeout_ms": 60_000,
        "database_statement_timeout_ms": 60_000,
    }
    url = service.database.url.render_as_string(hide_password=False)
    async with running(url, **patience) as (app, _client):

        async def writer(number: int) -> None:
            dice = random.Random(number)
            for turn in range(3):
                updates = shuffled(dice, skus, number * 10 + turn)
                done = await bulk_change_stock(
                    app.state.database, caller(service, number), updates, on_error=OnError.ABORT
                )
                entries = [outcome.change and outcome.change.adjustment for outcome in done.result]
                assert [(it.sku, it.warehouse_id, it.after_quantity) for it in entries if it] == [
                    (it.sku, it.warehouse_id, it.quantity) for it in updates
                ]

        await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    data = await service.data("{ adjustments { totalCount } }")
    assert data["adjustments"]["totalCount"] == WRITERS * 3 * MAX_BULK_UPDATES
    await assert_proven(service)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_bulk_that_waited_reads_the_committed_rows_without_a_retry(
    service: Service,
) -> None:
    skus = codes(20)
    await service.load([MAIN, OTHER], [sku(code) for code in skus])
    updates = [
        StockUpdate(sku=code, warehouse_id=record.id, quantity=5, reason="loss")
        for record, code in [(OTHER, skus[-1]), *((MAIN, code) for code in skus)]
    ]
    with recorded() as recorder:
        async with writer_of(service.database).connect() as other:
            await other.execute(LOCKED, {"tenant": service.tenant_id})
            await other.execute(MOVED, {"tenant": service.tenant_id, "sku": skus[-1]})
            bulk = asyncio.create_task(
                bulk_change_stock(
                    service.database, caller(service), updates, on_error=OnError.ABORT
                )
            )
            while not await other.scalar(HAS_ME_BLOCKING):
                assert not bulk.done()
            await other.commit()
        done = await bulk
    changes = [outcome.change for outcome in done.result if outcome.change]
    assert [it.sku.version for it in changes] == [4, *[2] * 19, 4]
    entries = [it.adjustment for it in changes if it.adjustment]
    assert [it.warehouse_id for it in entries] == [it.warehouse_id for it in updates]
    assert sum("INSERT INTO adjustment" in statement for statement in recorder.statements) == 1
    data = await service.data(f'{{ sku(sku: "{skus[-1]}") {{ version totalOnHand }} }}')
    assert data["sku"] == {"version": 4, "totalOnHand": 10}


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_bulk_that_waited_is_refused_by_a_warehouse_deactivated_in_between(
    service: Service,
) -> None:
    skus = codes(20)
    await service.load([MAIN, OTHER], [sku(code) for code in skus])
    updates = shuffled(random.Random(1), skus, 5)
    async with writer_of(service.database).connect() as other:
        await other.execute(LOCKED, {"tenant": service.tenant_id})
        bulk = asyncio.create_task(
            bulk_change_stock(service.database, caller(service), updates, on_error=OnError.CONTINUE)
        )
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not bulk.done()
        await other.execute(DEACTIVATED, {"tenant": service.tenant_id, "id": MAIN.id})
        await other.commit()
    outcomes = (await bulk).result
    refused = [it.refusal.code if it.refusal else None for it in outcomes]
    assert refused == [
        "WAREHOUSE_INACTIVE" if it.warehouse_id == MAIN.id else None for it in updates
    ]
    assert 0 < refused.count(None) < len(updates)
    await assert_proven(service)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_bulk_that_waited_shows_a_warehouse_renamed_in_between(service: Service) -> None:
    skus = codes(20)
    await service.load([MAIN, OTHER], [sku(code) for code in skus])
    updates = shuffled(random.Random(1), skus, 5)
    async with writer_of(service.database).connect() as other:
        await other.execute(LOCKED, {"tenant": service.tenant_id})
        bulk = asyncio.create_task(
            bulk_change_stock(service.database, caller(service), updates, on_error=OnError.ABORT)
        )
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not bulk.done()
        await other.execute(RENAMED, {"tenant": service.tenant_id, "id": MAIN.id})
        await other.commit()
    changes = [outcome.change for outcome in (await bulk).result if outcome.change]
    names = {level.warehouse_id: level.warehouse.name for it in changes for level in it.sku.levels}
    assert names == {MAIN.id: "Renamed", OTHER.id: OTHER.name}


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_write_to_many_skus_reads_the_rows_it_waited_for(service: Service) -> None:
    skus = codes(20)
    await service.load([MAIN], [sku(code) for code in skus])
    levels = [SafetyStock(code, MAIN.id, 5) for code in skus]
    async with writer_of(service.database).connect() as other:
        await other.execute(LOCKED, {"tenant": service.tenant_id})
        await other.execute(MOVED, {"tenant": service.tenant_id, "sku": skus[-1]})
        writing = WriteContext(database=service.database, caller=caller(service))
        write = asyncio.create_task(set_safety_stock(writing, levels))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not write.done()
        await other.commit()
    assert [record.version for record in (await write).result] == [*[2] * 19, 3]
    data = await service.data(f'{{ sku(sku: "{skus[-1]}") {{ version safetyStock }} }}')
    assert data["sku"] == {"version": 3, "safetyStock": 5}


@pytest.mark.parametrize("index", [0, 1, 249, 498, 499])
async def test_a_bulk_of_500_with_one_bad_item_is_all_or_nothing(
    service: Service, index: int
) -> None:
    skus = codes(MAX_BULK_UPDATES)
    await service.load([MAIN, OTHER], [sku(code) for code in skus])
    updates = [
        {"sku": code, "warehouse_id": MAIN.id, "quantity": 5, "reason": "loss"} for code in skus
    ]
    updates[index]["sku"] = "NOPE"
    body = {"updates": updates}
    aborted = await service.rest("POST", "/api/inventory/bulk", json=body)
    empty = await service.data("{ adjustments { totalCount } }")
    continued = await service.rest(
        "POST", "/api/inventory/bulk", json={**body, "on_error": "continue"}
    )
    full = await service.data("{ adjustments { totalCount } }")

    assert aborted.status_code == 404, aborted.text
    assert empty == {"adjustments": {"totalCount": 0}}
    results = continued.json()["data"]
    assert [result["sku"] for result in results] == [update["sku"] for update in updates]
    failed = [number for number, result in enumerate(results) if result["status"] == "failed"]
    assert failed == [index]
    assert full == {"adjustments": {"totalCount": 499}}
    await assert_proven(service)


async def test_a_bulk_interrupted_at_any_statement_writes_nothing(
    service: Service,
) -> None:
    skus = codes(50)
    await service.load([MAIN, OTHER], [sku(code) for code in skus])
    updates = shuffled(random.Random(1), skus, 5)
    broken = 0
    while True:
        try:
            with broken_off(after=broken):
                await bulk_change_stock(
                    service.database,
                    caller(service),
                    updates,
                    on_error=OnError.ABORT,
                    key=f"{broken}",
                )
            is_whole = True
        except BrokenOff:
            is_whole = False
        data = await service.data("{ adjustments { totalCount } }")
        assert data["adjustments"]["totalCount"] == (len(updates) if is_whole else 0)
        if is_whole:
            break
        broken += 1
    assert broken >= 6
    assert await ledger(service, updates[0].sku) == [(1, 0, 5)]
    await assert_proven(service)


async def test_keys_sent_two_to_eight_times_have_one_effect_each(
    service: Service, database_url: str
) -> None:
    # Within a process, writers of one SKU wait for each other.
    other_process = Database(Settings(database_url=database_url, database_pool_timeout_seconds=60))
    processes = [service.database, other_process]
    skus = codes(200)
    await service.load([MAIN, OTHER], [sku(code) for code in skus])
    answers: dict[int, list[Any]] = {}
    work: asyncio.Queue[list[int]] = asyncio.Queue()
    dice = random.Random(1)
    for first in range(0, KEYS, 50):
        keys = range(first, first + 50)
        sent = [
            key for key in keys for _ in range(1 if dice.random() < 0.7 else dice.randint(2, 8))
        ]
        dice.shuffle(sent)
        work.put_nowait(sent)

    async def once(key: int, copy: int) -> None:
        update = StockUpdate(
            sku=skus[key % len(skus)], warehouse_id=MAIN.id, quantity=key, reason="correction"
        )
        done = await change_stock(processes[copy % 2], caller(service), update, key=f"key-{key}")
        answers.setdefault(key, []).append(done)

    while not work.empty():
        sent = work.get_nowait()
        for start in range(0, len(sent), WRITERS):
            copies = enumerate(sent[start : start + WRITERS])
            await asyncio.gather(*(once(key, copy) for copy, key in copies))
    await other_process.dispose()

    assert len(answers) == KEYS
    for same in answers.values():
        assert [done.replayed for done in same].count(False) == 1
        assert all(done.result == same[0].result for done in same)
    assert max(len(same) for same in answers.values()) >= 7
    data = await service.data("{ adjustments { totalCount } }")
    assert data["adjustments"]["totalCount"] == KEYS
    await assert_proven(service)


PAGE: Final = """
{
  skus(first: 30) { nodes { sku totalOnHand totalAvailable status stock { onHand available } } }
  OUT_OF_STOCK: skus(filter: {status: OUT_OF_STOCK}, first: 1) { totalCount }
  LOW: skus(filter: {status: LOW}, first: 1) { totalCount }
  CRITICAL: skus(filter: {status: CRITICAL}, first: 1) { totalCount }
  NORMAL: skus(filter: {status: NORMAL}, first: 30) { totalCount nodes { sku } }
}
"""


@asynccontextmanager
async def writers(service: Service, skus: Sequence[str]) -> AsyncIterator[Counter[str]]:
    """Write sets and bulks, from zero to large quantities, until the block ends."""
    stop = asyncio.Event()
    done: Counter[str] = Counter()

    async def write(number: int) -> None:
        dice = random.Random(number)
        while not stop.is_set():
            updates = shuffled(dice, skus, dice.choice((0, 0, 1, 50)))[: dice.choice((1, 1, 7))]
            await bulk_change_stock(
                service.database, caller(service, number), updates, on_error=OnError.ABORT
            )
            done["writes"] += 1

    tasks = [asyncio.create_task(write(number)) for number in range(3)]
    try:
        yield done
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_every_response_shows_one_state_of_the_stock(service: Service) -> None:
    skus = codes(10)
    await service.load([MAIN, OTHER], [sku(code, level(MAIN, 5), level(OTHER, 0)) for code in skus])
    seen = set()
    async with writers(service, skus) as done:
        for number in range(READS):
            if number % 10 == 0:
                _assert_one_state(await service.data(PAGE))
                continue
            response = await service.rest("GET", f"/api/inventory/{skus[number % 10]}")
            record = response.json()["data"]
            levels = record["warehouses"]
            for figure in ("on_hand", "reserved", "available"):
                assert record[f"total_{figure}"] == sum(it[figure] for it in levels)
            seen.add((record["sku"], record["total_on_hand"]))
    assert done["writes"] > READS // 20
    assert len(seen) > len(skus) * 3


def _assert_one_state(data: dict[str, Any]) -> None:
    nodes = data["skus"]["nodes"]
    for node in nodes:
        assert node["totalOnHand"] == sum(it["onHand"] for it in node["stock"])
        assert node["totalAvailable"] == sum(it["available"] for it in node["stock"])
    statuses = Counter(node["status"] for node in nodes)
    for status in ("OUT_OF_STOCK", "LOW", "CRITICAL", "NORMAL"):
        assert data[status]["totalCount"] == statuses[status]
    normal = [{"sku": node["sku"]} for node in nodes if node["status"] == "NORMAL"]
    assert data["NORMAL"]["nodes"] == normal


async def test_paging_returns_every_sku_once_during_writes(service: Service) -> None:
    skus = codes(25)
    # Warehouse Other always has stock, so that every SKU stays in its list.
    await service.load([MAIN, OTHER], [sku(code, level(OTHER, 5)) for code in skus])
    async with writers(service, skus) as done:
        for walk in range(WALKS):
            read: list[str] = []
            filters = {"warehouse_id": OTHER.id} if walk % 2 else {}
            cursor: dict[str, str] = {}
            while True:
                response = await service.rest(
                    "GET", "/api/inventory", params={"limit": 10, **filters, **cursor}
                )
                page = response.json()
                read += [record["sku"] for record in page["data"]]
                if page["meta"]["nextCursor"] is None:
                    break
                cursor = {"cursor": page["meta"]["nextCursor"]}
            assert read == skus
    assert done["writes"] > WALKS // 10


async def test_paging_a_growing_ledger_returns_every_older_entry_once(
    service: Service,
) -> None:
    skus = codes(5)
    await service.load([MAIN, OTHER], [sku(code, level(MAIN, 5), level(OTHER, 5)) for code in skus])
    for number in range(100):
        await graphql_set(service, Update(skus[number % 5], MAIN.id, number))
    before = await _walk_ledger(service)
    async with writers(service, skus) as done:
        for _ in range(20):
            read = await _walk_ledger(service)
            assert len(set(read)) == len(read)
            assert [entry for entry in read if entry in set(before)] == before
    assert done["writes"]


async def _walk_ledger(service: Service) -> list[str]:
    read: list[str] = []
    after = None
    # Newest first: entries added during the walk stand before its position.
    while True:
        data = await service.data(
            "query ($after: String) { adjustments(first: 30, after: $after) "
            "{ nodes { id } pageInfo { hasNextPage endCursor } } }",
            {"after": after},
        )
        page = data["adjustments"]
        read += [node["id"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            return read
        after = page["pageInfo"]["endCursor"]
