"""Requests that wait for the database do not block others."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing

import pytest
from sqlalchemy import text

from app.database.compilation import DriverConnection
from app.database.engine import Database
from app.database.pool import DriverPool
from app.errors import Unavailable
from app.settings import Settings
from tests.engines import writer_of
from tests.ledger.writes import WRITES, Update, assert_proven
from tests.service import Service, level, new_tenant, running, sku, warehouse

# Longer than the steps of a test take on any machine.
PATIENCE_MS = 60_000


@asynccontextmanager
async def locked(database: Database, tenant_id: str) -> AsyncIterator[None]:
    """Hold the lock of the tenant's lane."""
    if database.dialect == "sqlite":
        file = str(database.url.database)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    async with writer_of(database).connect() as connection:
        lock = text("SELECT 1 FROM tenant WHERE tenant_id = :tenant FOR UPDATE")
        await connection.execute(lock, {"tenant": tenant_id})
        yield


@pytest.mark.parametrize("kind", WRITES)
async def test_a_write_that_waits_for_a_lock_does_not_block_other_requests(
    database_url: str, kind: str
) -> None:
    patience = {
        "database_lock_timeout_ms": PATIENCE_MS,
        "database_statement_timeout_ms": PATIENCE_MS,
    }
    async with running(database_url, **patience) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        main = warehouse()
        await service.load([main], [sku("A", level(main, 5))])

        async with locked(database, service.tenant_id):
            write = asyncio.ensure_future(WRITES[kind](service, Update("A", main.id, 7)))
            for _ in range(10):
                assert (await client.get("/healthz")).is_success
                read = await service.rest("GET", "/api/inventory/A")
                assert read.json()["data"]["total_on_hand"] == 5
                data = await service.data("{ skus { nodes { totalOnHand } } }")
                assert data["skus"]["nodes"] == [{"totalOnHand": 5}]
            assert not write.done()
        assert (await write).code is None

        read = await service.rest("GET", "/api/inventory/A")
        assert read.json()["data"]["total_on_hand"] == 7
        await assert_proven(service)


async def test_no_connection_outlives_a_database_whose_reader_hung_up(database_url: str) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)"
    begun = asyncio.Event()

    async def read(database: Database) -> None:
        async with database.snapshot() as snapshot:
            await snapshot.rows(text("SELECT 1"), {})
            begun.set()
            await snapshot.rows(text(f"{numbers} SELECT count(*) FROM n"), {})

    database = Database(Settings(database_url=database_url))
    opened: list[DriverConnection] = []
    connect = database._pool._connect

    async def noted() -> DriverConnection:
        opened.append(await connect())
        return opened[-1]

    database._pool._connect = noted
    reader = asyncio.create_task(read(database))
    await begun.wait()
    while not reader.done():
        reader.cancel()
        await asyncio.sleep(0)
    await database.dispose()

    assert opened
    assert all(connection.is_closed() for connection in opened)


async def test_a_cancelled_read_returns_its_connection(database_url: str) -> None:
    settings = Settings(database_url=database_url, database_pool_size=1)
    database = Database(settings)
    long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)"

    async def read(statement: str) -> int:
        async with database.snapshot(single=True, alone=True) as snapshot:
            [row] = await snapshot.rows(text(statement), {})
            return int(row[0])

    assert await read("SELECT 1") == 1
    reader = asyncio.create_task(read(f"{long} SELECT count(*) FROM n"))
    while not database._pool.in_use:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    assert await read("SELECT 2") == 2
    assert database._pool.in_use == 0
    await database.dispose()


class Connection:
    """A connection without a database."""

    async def fetch(self, text: str, /, *values: object) -> Sequence[object]:
        raise NotImplementedError(text, values)

    async def execute(self, text: str, /) -> object:
        raise NotImplementedError(text)

    def stream(
        self, text: str, values: Sequence[object], size: int
    ) -> AsyncIterator[Sequence[object]]:
        raise NotImplementedError(text, values, size)

    def is_closed(self) -> bool:
        return False

    async def close(self) -> None:
        pass

    def terminate(self) -> None:
        pass


async def connect() -> Connection:
    return Connection()


async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    pool = DriverPool(connect, size=1, within=PATIENCE_MS)
    connection = await pool.acquire()
    gone, cancelled, last = (asyncio.create_task(pool.acquire()) for _ in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    pool.release(connection)
    # Its turn was granted, but the task has not run yet.
    cancelled.cancel()

    assert await asyncio.wait_for(last, timeout=10) is connection
    assert gone.cancelled()
    assert cancelled.cancelled()
    pool.release(connection)
    assert pool.in_use == 0


async def test_a_timed_out_waiter_is_refused_and_frees_its_place() -> None:
    pool = DriverPool(connect, size=1, within=0.01)
    connection = await pool.acquire()
    with pytest.raises(Unavailable):
        await pool.acquire()
    pool.release(connection)

    assert pool.in_use == 0
    assert await pool.acquire() is connection


async def test_a_transaction_ended_by_sqlite_is_not_ended_twice(database_url: str) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("It is about SQLite.")
    database = Database(Settings(database_url=database_url))
    async with database.snapshot() as snapshot:
        await snapshot.rows(text("SELECT 1"), {})
        # As SQLite does when a page cannot be read.
        await snapshot.rows(text("ROLLBACK"), {})

    assert database._pool.in_use == 0
    await database.dispose()
