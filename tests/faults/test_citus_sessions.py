"""Sessions of a database with the extension Citus have the settings that it needs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from app.database.beginnings import SEPARATOR, Beginnings
from app.database.citus import CitusConnection
from app.database.engine import Database
from app.database.postgresql import PostgresqlConnection
from app.database.servers import Servers
from app.settings import Settings
from tests.databases import create_database
from tests.engines import transact

# A stand-in: the sessions depend on the name of the extension alone.
EXTENSION: Final = (
    "SET LOCAL allow_system_table_mods = on",
    "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
    " SELECT 4242, 'citus', extowner, extnamespace, extrelocatable, extversion FROM pg_extension"
    " WHERE extname = 'plpgsql'",
)


@pytest.fixture
def empty_url(postgresql: URL) -> str:
    """Return an empty PostgreSQL database."""
    return create_database(postgresql, f"citus_{ULID()}".lower())


@pytest.fixture
async def database(empty_url: str) -> AsyncIterator[Database]:
    """Connect to the empty database."""
    database = Database(Settings(database_url=empty_url))
    yield database
    await database.dispose()


async def name_an_extension(database: Database) -> None:
    """Let the catalogue of the database name the extension."""

    async def work(connection: AsyncConnection) -> None:
        for statement in EXTENSION:
            await connection.execute(text(statement))

    await transact(database, work)


async def mode(connection: PostgresqlConnection) -> str:
    """Return how a session plans."""
    value: str = await connection.fetchval("SHOW plan_cache_mode")
    return value


async def test_plain_sessions_have_generic_plans(database: Database) -> None:
    connection = await Servers(database.url, database.settings).connect()

    assert type(connection) is PostgresqlConnection
    assert await mode(connection) == "force_generic_plan"
    await connection.close()


async def test_sessions_of_citus_plan_for_each_tenant(database: Database) -> None:
    await name_an_extension(database)
    servers = Servers(database.url, database.settings)
    # All of the first connections are opened at once.
    connections = await asyncio.gather(*(servers.connect() for _ in range(4)))

    assert {type(each) for each in connections} == {CitusConnection}
    assert {await mode(each) for each in connections} == {"force_custom_plan"}
    for each in connections:
        propagated = await each.fetchval("SHOW citus.propagate_set_commands")
        assert propagated == "local"
        await each.close()


async def test_statements_of_a_beginning_are_messages_of_their_own(database: Database) -> None:
    await name_an_extension(database)
    connection = await Servers(database.url, database.settings).connect()
    tenant_id = "a; b'; SELECT 1/0; --"
    beginning = Beginnings("postgresql", enters=True).write(tenant_id, lock_ms=50)

    assert len(beginning.split(SEPARATOR)) == 3
    await connection.execute(beginning)
    assert await connection.fetchval("SHOW inventory.tenant") == tenant_id
    assert await connection.fetchval("SHOW lock_timeout") == "50ms"
    assert await connection.execute("SELECT 1; COMMIT") == "COMMIT"
    await connection.close()


async def test_an_insert_on_citus_returns_rows(database: Database) -> None:
    await name_an_extension(database)
    connection = await Servers(database.url, database.settings).connect()
    await connection.execute("CREATE TEMPORARY TABLE inserted (tenant_id text PRIMARY KEY)")
    insert = "INSERT INTO inserted SELECT $1"

    assert await connection.fetch(insert, "a") == [("a",)]
    assert await connection.fetch(f"{insert} ON CONFLICT DO NOTHING", "b") == []
    assert await connection.fetch(f"{insert} RETURNING 7", "c") == [(7,)]
    await connection.close()
