"""The service works under the isolation level that a server or a platform forces."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import asyncpg
import pytest
from sqlalchemy import URL, make_url
from ulid import ULID

from app.database.address import dsn_of
from app.database.beginnings import Beginnings
from app.database.session import DriverSession
from app.database.sqlite import SqliteConnection
from tests.checks.driver import check_database
from tests.databases import create_database, migrated
from tests.faults.injection import ERRORS, postgresql_error
from tests.rest.answers import answered
from tests.service import Service, level, new_tenant, running, sku, warehouse

MAIN: Final = warehouse()
TWO_STATEMENTS: Final = "{ skus { totalCount nodes { sku } } warehouses { id name } }"


@pytest.fixture(scope="module")
def database_of_module(postgresql: URL) -> str:
    """Migrated database of this module."""
    return migrated(create_database(postgresql, f"test_{ULID()}".lower()))


@asynccontextmanager
async def stocked(database_url: str, **settings: Any) -> AsyncIterator[Service]:
    """Service whose SKU A has 5 in the main warehouse."""
    async with running(database_url, token_cache_seconds=30, **settings) as (app, client):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        answered(await service.rest("GET", "/api/inventory"))
        yield service


@contextmanager
def forced(isolation: str) -> Iterator[None]:
    """Let every transaction have the isolation level, as on a server that knows no other."""
    read, write = Beginnings.read, Beginnings.write

    def forced_read(self: Beginnings, *arguments: Any) -> str:
        return read(self, *arguments).replace("REPEATABLE READ", isolation)

    def forced_write(self: Beginnings, *arguments: Any) -> str:
        return write(self, *arguments).replace("READ COMMITTED", isolation)

    with (
        patch.object(Beginnings, "read", forced_read),
        patch.object(Beginnings, "write", forced_write),
    ):
        yield


@pytest.mark.parametrize("isolation", ["SERIALIZABLE", "REPEATABLE READ"])
async def test_concurrent_requests_are_done_under_a_forced_isolation_level(
    database_of_module: str, isolation: str
) -> None:
    url = make_url(database_of_module)
    administrator = await asyncpg.connect(dsn_of(url))
    await administrator.execute(
        f"ALTER DATABASE \"{url.database}\" SET default_transaction_isolation = '{isolation}'"
    )
    await administrator.close()
    with forced(isolation):
        findings = await check_database(database_of_module, reads=False, requests=80)
    assert findings.failed == {}
    assert set(findings.statuses) <= {200, 201, 422}


@pytest.mark.parametrize("state", ["40001", "40P01"])
@pytest.mark.parametrize("failures", [1, 3])
async def test_a_conflict_at_the_commit_repeats_the_write(
    database_of_module: str, state: str, failures: int
) -> None:
    commit, left = DriverSession.commit, failures

    async def conflicting(session: DriverSession) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            conflict = postgresql_error(state)
            raise conflict()
        await commit(session)

    async with stocked(database_of_module) as service:
        with patch.object(DriverSession, "commit", conflicting):
            update = {"warehouse_id": MAIN.id, "quantity": 7, "reason": "loss"}
            answered(await service.rest("PUT", "/api/inventory/A", json=update))
        history = answered(await service.rest("GET", "/api/inventory/A/adjustments"))["data"]
        assert [entry["after_quantity"] for entry in history] == [7, 5]


@pytest.mark.parametrize("state", ["40001", "40P01"])
@pytest.mark.parametrize("number", [1, 2])
async def test_a_conflict_at_a_statement_repeats_the_query(
    database_of_module: str, state: str, number: int
) -> None:
    fetch, executed = asyncpg.Connection.fetch, 0

    async def conflicting(self: Any, text: str, *values: Any, **options: Any) -> Any:
        nonlocal executed
        executed += "FROM sku" in text or "FROM warehouse" in text
        if executed == number:
            executed += 1
            conflict = postgresql_error(state)
            raise conflict()
        return await fetch(self, text, *values, **options)

    async with stocked(database_of_module) as service:
        expected = await service.data(TWO_STATEMENTS)
        with patch.object(asyncpg.Connection, "fetch", conflicting):
            assert await service.data(TWO_STATEMENTS) == expected
        assert executed > number


async def test_conflicts_without_an_end_are_unavailable(database_of_module: str) -> None:
    async def conflicting(_session: DriverSession) -> None:
        conflict = postgresql_error("40001")
        raise conflict()

    async with stocked(database_of_module, database_lock_timeout_ms=50) as service:
        with patch.object(DriverSession, "commit", conflicting):
            update = {"warehouse_id": MAIN.id, "quantity": 7, "reason": "loss"}
            response = await service.rest("PUT", "/api/inventory/A", json=update)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


async def test_a_read_that_sqlite_refused_as_busy_is_not_repeated(tmp_path: Path) -> None:
    url = await asyncio.to_thread(migrated, f"sqlite+aiosqlite:///{tmp_path}/inventory.db")
    executed = 0
    async with stocked(url) as service:

        async def busy(_self: SqliteConnection, *_statement: Any) -> None:
            nonlocal executed
            executed += 1
            refusal = ERRORS["sqlite"]["SQLITE_BUSY"]()
            raise refusal

        with patch.object(SqliteConnection, "fetch", busy):
            response = await service.rest("GET", "/api/inventory/A")
    assert (response.status_code, executed) == (503, 1)
