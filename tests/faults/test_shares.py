"""A tenant cannot starve another: shares of connections, and turns on the event loop."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing

import httpx
import pytest
import uvicorn
from sqlalchemy import text
from starlette.applications import Starlette

from app.cli.listening import server_options
from app.errors import Unavailable
from app.runtime import batches
from app.runtime import fair_loop as scheduling
from app.runtime.fair_loop import PIECE, FairLoop, charge, in_pieces
from app.runtime.shares import Shares
from app.settings import Settings
from tests.engines import writer_of
from tests.service import Service, level, new_tenant, running, sku, warehouse

PATIENCE = 60.0
MAIN = warehouse()
GREEDY_READS = 12


def shares(slots: int, *, seconds: float = PATIENCE) -> Shares:
    return Shares(slots, seconds=seconds, refusal="Full.")


async def settled() -> None:
    """Run every task as far as it can go."""
    for _ in range(5):
        await asyncio.sleep(0)


class Waiting:
    """Tasks that wait for slots, and the order in which they got them."""

    def __init__(self, pool: Shares) -> None:
        self.served: list[str] = []
        self._pool = pool

    def enter(self, tenant_id: str) -> asyncio.Task[None]:
        async def enter() -> None:
            await self._pool.enter(tenant_id)
            self.served.append(tenant_id)

        return asyncio.create_task(enter())


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (2, 1), (3, 2), (5, 3), (10, 6)])
async def test_a_lone_tenant_gets_its_share(slots: int, most: int) -> None:
    pool = shares(slots)
    waiting = Waiting(pool)
    tasks = [waiting.enter("greedy") for _ in range(2 * slots)]
    await settled()

    assert pool.held == most
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert pool.held == most


async def test_an_idle_tenant_gets_a_slot_beside_busy_ones() -> None:
    pool = shares(10)
    waiting = Waiting(pool)
    tasks = [waiting.enter(tenant_id) for _ in range(64) for tenant_id in ("greedy", "greedier")]
    await settled()
    await asyncio.wait_for(pool.enter("quiet"), PATIENCE)

    assert sorted(waiting.served) == ["greedier"] * 4 + ["greedy"] * 4
    for task in tasks:
        task.cancel()


async def test_waiting_tenants_are_served_in_turn() -> None:
    pool = shares(1)
    await pool.enter("first")
    waiting = Waiting(pool)
    for tenant_id in ["a", "a", "a", "b", "b", "c"]:
        waiting.enter(tenant_id)
    await settled()
    pool.leave("first")
    await settled()
    while len(waiting.served) < 6:
        pool.leave(waiting.served[-1])
        await settled()

    assert waiting.served == ["a", "b", "c", "a", "b", "a"]
    pool.leave("a")
    assert pool.held == 0


async def test_cancelled_waiters_leave_no_state() -> None:
    pool = shares(1)
    await pool.enter("first")
    waiting = Waiting(pool)
    gone, granted, last = waiting.enter("a"), waiting.enter("b"), waiting.enter("c")
    await settled()
    gone.cancel()
    await settled()
    pool.leave("first")
    # The slot was granted, but the task has not run yet.
    granted.cancel()
    await settled()

    assert waiting.served == ["c"]
    assert last.done()
    pool.leave("c")
    assert pool.held == 0
    assert not pool._held
    assert not pool._waiting


async def test_a_refused_waiter_leaves_no_state() -> None:
    pool = shares(1, seconds=0.01)
    await pool.enter("first")
    with pytest.raises(Unavailable, match="Full"):
        await pool.enter("second")
    pool.leave("first")

    assert pool.held == 0
    assert not pool._waiting


@asynccontextmanager
async def two_tenants(url: str) -> AsyncIterator[tuple[Starlette, Service, Service]]:
    """Serve a busy and a quiet tenant, each with one SKU."""
    patience = {"database_lock_timeout_ms": 60_000, "database_statement_timeout_ms": 60_000}
    async with running(url, token_cache_seconds=30, **patience) as (app, client):
        database = app.state.database
        tenants = []
        for _ in range(2):
            service = Service(app, client, database, await new_tenant(database))
            await service.load([MAIN], [sku("A", level(MAIN, 5)), sku("B", level(MAIN, 5))])
            assert (await service.rest("GET", "/api/inventory/A")).is_success
            tenants.append(service)
        yield app, tenants[0], tenants[1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_stuck_reads_of_one_tenant_leave_connections_for_another(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("Reads of SQLite wait for no lock.")
    async with two_tenants(database_url) as (app, greedy, quiet):
        database = app.state.database
        async with writer_of(database).connect() as connection:
            # Only statements on adjustments wait for this lock.
            await connection.execute(text("LOCK TABLE adjustment IN ACCESS EXCLUSIVE MODE"))
            stuck = [
                asyncio.create_task(greedy.rest("GET", "/api/inventory/A/adjustments?limit=1"))
                for _ in range(GREEDY_READS)
            ]
            await until(lambda: database._pool.in_use == 6)
            async with asyncio.timeout(PATIENCE / 2):
                for _ in range(GREEDY_READS):
                    assert (await quiet.rest("GET", "/api/inventory/A")).status_code == 200
            assert not any(task.done() for task in stuck)
        assert {response.status_code for response in await asyncio.gather(*stuck)} == {200}
        assert database._pool.in_use == 0


async def test_a_set_goes_before_the_waiting_bulks_of_another_tenant(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("PostgreSQL has more than one writer.")
    # Every bulk is a batch of its own.
    monkeypatch.setattr(batches, "MAX_BATCH_SIZE", 1)
    served: list[str] = []
    counted = {"warehouse_id": MAIN.id, "quantity": 7, "reason": "cycle_count"}
    updates = [{"sku": code, **counted} for code in ("A", "B")]

    async with two_tenants(database_url) as (app, greedy, quiet):
        database = app.state.database

        async def noted(name: str, service: Service, *words: str, body: object) -> httpx.Response:
            response = await service.rest(*words, json=body)
            served.append(name)
            return response

        with closing(sqlite3.connect(str(database.url.database))) as other:
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")
            path = "/api/inventory/bulk"
            writes = [
                asyncio.create_task(noted("bulk", greedy, "POST", path, body={"updates": updates}))
                for _ in range(8)
            ]
            queues, waiting = database.lanes._queues, database._write_pool._shares._waiting
            await until(lambda: len(queues.get(greedy.tenant_id, ())) == 7)
            path = "/api/inventory/A"
            writes.append(asyncio.create_task(noted("set", quiet, "PUT", path, body=counted)))
            await until(lambda: quiet.tenant_id in waiting)
            other.execute("ROLLBACK")
        responses = await asyncio.gather(*writes)

    assert {response.status_code for response in responses} == {200}
    assert served.index("set") == 1


class Clock:
    """A clock that tests advance."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def on_fair_loop(work: Callable[[FairLoop], Awaitable[None]]) -> None:
    """Run a coroutine on a new loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FairLoop)
        await work(loop)

    with asyncio.Runner(loop_factory=FairLoop) as runner:
        runner.run(main())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(scheduling, "time", clock)
    return clock


def test_the_tenant_that_has_used_least_goes_first(clock: Clock) -> None:
    steps: list[str] = []

    async def spend(tenant_id: str, *, seconds: float, times: int) -> None:
        await charge(tenant_id)
        for _ in range(times):
            steps.append(tenant_id)
            clock.now += seconds
            await asyncio.sleep(0)

    async def work(loop: FairLoop) -> None:
        await charge("quiet")
        loop.note_request("greedy")
        greedy = [spend("greedy", seconds=0.01, times=3) for _ in range(16)]
        await asyncio.gather(*greedy, spend("quiet", seconds=0.001, times=10))

    on_fair_loop(work)

    first = steps.index("quiet")
    assert first <= 1
    # Ten steps of the cheap tenant take as long as one step of the expensive one.
    assert steps[first : first + 11].count("greedy") <= 1
    assert steps.count("greedy") == 3 * 16


def test_a_returning_tenant_has_no_credit_for_idle_time(clock: Clock) -> None:
    steps: list[str] = []

    async def spend(tenant_id: str, *, times: int) -> None:
        await charge(tenant_id)
        for _ in range(times):
            steps.append(tenant_id)
            clock.now += 0.01
            await asyncio.sleep(0)

    async def work(loop: FairLoop) -> None:
        loop.note_request("a")
        loop.note_request("b")
        early = [asyncio.create_task(spend("a", times=100)) for _ in range(2)]
        while len(steps) < 50:
            await asyncio.sleep(0)
        await asyncio.gather(spend("b", times=20), *early)

    on_fair_loop(work)

    first = steps.index("b")
    assert first >= 50
    # They alternate from then on; b has no credit for its idle time.
    assert 9 <= steps[first : first + 20].count("b") <= 11


def test_a_tenant_alone_is_neither_queued_nor_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "ALONE_AFTER_SECONDS", -1.0)

    async def work(loop: FairLoop) -> None:
        await charge("a")
        assert not loop.is_shared
        await charge("b")
        assert loop.is_shared
        await charge("b")
        assert not loop.is_shared
        await asyncio.sleep(0)
        assert loop._queues == {}

    on_fair_loop(work)


def test_a_callback_that_is_cancelled_in_its_queue_does_not_run() -> None:
    ran: list[str] = []

    async def work(loop: FairLoop) -> None:
        loop.note_request("a")
        await charge("b")
        loop.call_soon(ran.append, "cancelled").cancel()
        loop.call_soon(ran.append, "kept")
        await asyncio.sleep(0)
        assert loop._queues == {}

    on_fair_loop(work)

    assert ran == ["kept"]


async def test_long_lists_are_converted_in_chunks_with_other_tasks_between() -> None:
    pieces: list[int] = []
    seen: list[int] = []

    def convert(items: Sequence[int]) -> list[int]:
        pieces.append(len(items))
        return [item + 1 for item in items]

    async def look() -> None:
        while len(pieces) < 3:
            seen.append(len(pieces))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    converted = await in_pieces(convert, range(2 * PIECE + 1))
    await looking

    assert converted == [*range(1, 2 * PIECE + 2)]
    assert pieces == [PIECE, PIECE, 1]
    assert seen == [1, 2]


def test_the_command_serves_on_the_fair_loop() -> None:
    config = uvicorn.Config("app.__main__:create_app", **server_options(Settings()))

    assert config.get_loop_factory() is FairLoop
