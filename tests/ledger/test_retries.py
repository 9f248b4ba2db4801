"""A transaction is retried where a retry can help, and never where it can do harm."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from unittest.mock import patch

import pytest
from sqlalchemy import URL, text
from ulid import ULID

from app.database.engine import Database
from app.database.session import DriverSession
from app.database.transactions import Beginning, LockTime
from app.errors import Unavailable
from app.runtime.deadlines import Uncertain
from app.settings import Settings
from tests.databases import create_database, migrated
from tests.engines import writer_of
from tests.faults.test_waiting import locked
from tests.ledger.writes import WRITES, Update
from tests.service import Service, level, new_tenant, running, sku, warehouse

INCREMENTS: Final = 50
LOCK_MS: Final = 200
# Longer than a request takes to its lane on a busy machine.
LONG_LOCK_MS: Final = 1_000
READ: Final = text("SELECT name FROM tenant WHERE tenant_id = :tenant")
WRITE: Final = text("UPDATE tenant SET name = :name WHERE tenant_id = :tenant")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Database of one process."""
    opened = Database(Settings(database_url=database_url))
    yield opened
    await opened.dispose()


@pytest.fixture(scope="module")
def postgresql_url(postgresql: URL) -> str:
    """Migrated PostgreSQL database, which has row locks and connections that can break."""
    return migrated(create_database(postgresql, f"test_{ULID()}".lower()))


@pytest.fixture
async def postgresql_database(postgresql_url: str) -> AsyncIterator[Database]:
    """PostgreSQL database of one process."""
    opened = Database(Settings(database_url=postgresql_url))
    yield opened
    await opened.dispose()


async def name_of(database: Database, tenant_id: str) -> str:
    async with database.snapshot() as snapshot:
        [row] = await snapshot.rows(READ, {"tenant": tenant_id})
    return str(row[0])


async def rename(session: DriverSession, tenant_id: str, name: str) -> None:
    await session.execute(WRITE, {"tenant": tenant_id, "name": name})


async def test_the_victim_of_a_deadlock_retries(postgresql_database: Database) -> None:
    database = postgresql_database
    one, another = await new_tenant(database), await new_tenant(database)
    both_hold_one = asyncio.Barrier(2)
    attempts: list[str] = []

    async def crosswise(first: str, second: str) -> None:
        async def work(session: DriverSession) -> None:
            attempts.append(first)
            await rename(session, first, f"{first} first")
            if attempts.count(first) == 1:
                await both_hold_one.wait()
            await rename(session, second, f"{first} second")

        await database.transaction(work)

    await asyncio.gather(crosswise(one, another), crosswise(another, one))

    assert len(attempts) == 3
    names = {await name_of(database, one), await name_of(database, another)}
    last = attempts[-1]
    assert names == {f"{last} first", f"{last} second"}


async def test_a_connection_lost_before_commit_is_replaced(
    postgresql_database: Database,
) -> None:
    database = postgresql_database
    tenant_id = await new_tenant(database)
    attempts = 0

    async def work(session: DriverSession) -> None:
        nonlocal attempts
        attempts += 1
        await rename(session, tenant_id, f"attempt {attempts}")
        if attempts == 1:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    await database.transaction(work)

    assert attempts == 2
    assert await name_of(database, tenant_id) == "attempt 2"


async def test_dead_pooled_connections_are_replaced(
    postgresql_database: Database,
) -> None:
    database = postgresql_database
    tenant_id = await new_tenant(database)
    sessions = [await database.session(single=True, share=str(number)) for number in range(5)]
    pids = [await session.scalar(text("SELECT pg_backend_pid()")) for session in sessions]
    for session in sessions:
        await session.close()

    async with writer_of(database).connect() as connection:
        for pid in pids:
            await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    for _ in range(10):
        assert await name_of(database, tenant_id) == "Test"


async def test_an_uncertain_commit_is_not_retried(
    postgresql_database: Database,
) -> None:
    database = postgresql_database
    tenant_id = await new_tenant(database)
    attempts = 0

    async def work(session: DriverSession) -> None:
        nonlocal attempts
        attempts += 1
        await rename(session, tenant_id, f"attempt {attempts}")
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        await _end(database, pid)

    with pytest.raises(Uncertain):
        await database.transaction(work)

    assert attempts == 1
    assert await name_of(database, tenant_id) == "Test"


async def _end(database: Database, pid: int) -> None:
    """Terminate another connection, and wait until it is gone."""
    async with writer_of(database).connect() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        activity = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        while (await connection.execute(activity, {"pid": pid})).scalar_one():
            await asyncio.sleep(0.01)


async def test_a_write_waits_for_the_lock_of_another_process(tmp_path: Path) -> None:
    path = f"{tmp_path}/inventory.db"
    url = await asyncio.to_thread(migrated, f"sqlite+aiosqlite:///{path}")
    database = Database(Settings(database_url=url, database_lock_timeout_ms=60_000))
    tenant_id = await new_tenant(database)
    with closing(sqlite3.connect(path)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with noted_lock_times() as times:
            write = asyncio.create_task(
                database.transaction(lambda session: rename(session, tenant_id, "done"))
            )
            while not times:
                await asyncio.sleep(0)
            other.execute("ROLLBACK")
            await write
    assert await name_of(database, tenant_id) == "done"
    await database.dispose()


@contextmanager
def noted_lock_times() -> Iterator[list[int]]:
    """Yield the list of the milliseconds that each transaction gets for its lock."""
    times: list[int] = []
    begin = LockTime.begin

    async def noted(lock: LockTime, session: DriverSession, beginning: Beginning) -> None:
        def note(milliseconds: int) -> str:
            times.append(milliseconds)
            return beginning(milliseconds)

        await begin(lock, session, note)

    with patch.object(LockTime, "begin", noted):
        yield times


async def test_the_lock_timeout_is_the_wait_of_all_attempts_together(database_url: str) -> None:
    settings = Settings(database_url=database_url, database_lock_timeout_ms=LOCK_MS)
    database = Database(settings)
    tenant_id = await new_tenant(database)
    async with locked(database, tenant_id):
        with noted_lock_times() as times, pytest.raises(Unavailable, match="busy"):
            await database.write(lambda session: rename(session, tenant_id, "never"), tenant_id)
    assert sum(times) <= LOCK_MS
    assert await name_of(database, tenant_id) == "Test"
    await database.dispose()


async def test_a_write_behind_a_blocked_one_has_waited_already(database_url: str) -> None:
    async with running(database_url, database_lock_timeout_ms=LONG_LOCK_MS) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        main = warehouse()
        await service.load([main], [sku("A", level(main, 5))])
        async with locked(database, service.tenant_id):
            with noted_lock_times() as times:
                update = Update("A", main.id, 7)
                first = asyncio.ensure_future(WRITES["REST set"](service, update, None))
                while not times:
                    await asyncio.sleep(0)
                second = asyncio.ensure_future(WRITES["REST set"](service, update, None))
                answers = await asyncio.gather(first, second)
        assert [answer.code for answer in answers] == ["UNAVAILABLE"] * 2
        # Without the time that it waited behind the first one, the second would get all.
        assert times[0] == LONG_LOCK_MS
        assert all(milliseconds < LONG_LOCK_MS for milliseconds in times[1:])
        assert (await WRITES["REST set"](service, update, None)).code is None


async def test_processes_that_read_and_then_write_do_not_collide(database_url: str) -> None:
    processes = [Database(Settings(database_url=database_url)) for _ in range(2)]
    tenant_id = await new_tenant(processes[0])
    await processes[0].transaction(lambda session: rename(session, tenant_id, "0"))
    attempts = 0
    lock = " FOR UPDATE" if processes[0].dialect == "postgresql" else ""
    read = text(f"{READ.text}{lock}")

    async def work(session: DriverSession) -> None:
        nonlocal attempts
        attempts += 1
        number = await session.scalar(read, {"tenant": tenant_id})
        await rename(session, tenant_id, str(int(number) + 1))

    async def process(database: Database) -> None:
        for _ in range(INCREMENTS):
            await database.transaction(work)

    await asyncio.gather(*(process(database) for database in processes))

    assert await name_of(processes[0], tenant_id) == str(INCREMENTS * 2)
    assert attempts == INCREMENTS * 2
    for database in processes:
        await database.dispose()


async def test_a_cancelled_request_does_not_interrupt_its_transaction(database: Database) -> None:
    tenant_id = await new_tenant(database)
    began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(session: DriverSession) -> None:
        await rename(session, tenant_id, "changed")
        began.set()
        await may_end.wait()
        ended.set()

    client = asyncio.create_task(database.transaction(work))
    await began.wait()
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    assert await name_of(database, tenant_id) == "Test"
    may_end.set()
    # `dispose` waits for running transactions.
    await database.dispose()

    assert ended.is_set()
    assert await name_of(database, tenant_id) == "changed"
