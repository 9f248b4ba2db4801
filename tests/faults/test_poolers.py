"""A pooler in front of PostgreSQL: used where it is fit, and refused with a sentence otherwise."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import asyncpg
import pytest
from sqlalchemy import URL, make_url
from ulid import ULID

from app.database.address import dsn_of
from app.database.engine import Database
from app.database.poolers import UnfitPooler, require_fit_pooler
from app.database.postgresql import PostgresqlConnection, server_settings
from app.settings import Settings
from tests.checks.driver import check_database
from tests.databases import create_database, migrated
from tests.faults.test_faults import MAIN, UNAVAILABLE, assert_serves_soon, put
from tests.poolers import pooled, pooler_version
from tests.processes import run
from tests.rest.answers import refusal
from tests.service import Service, level, new_tenant, running, sku

# The first version that keeps the prepared statements of its clients apart.
SEPARATING: Final = (1, 21)
# Longer than any request takes on any machine.
PATIENCE_SECONDS: Final = 60


@pytest.fixture(scope="module")
def pooled_database(postgresql: URL) -> str:
    """Migrated database whose sessions have the settings of the service by default."""
    url = migrated(create_database(postgresql, f"test_{ULID()}".lower()))
    asyncio.run(set_defaults(url))
    return url


async def set_defaults(database_url: str) -> None:
    url = make_url(database_url)
    connection = await asyncpg.connect(dsn_of(url))
    for name, value in server_settings(Settings()).items():
        if name != "application_name":
            await connection.execute(f"ALTER DATABASE \"{url.database}\" SET {name} = '{value}'")
    await connection.close()


@pytest.fixture
def bare_database(postgresql: URL) -> str:
    """Database whose sessions have the settings of the server."""
    return create_database(postgresql, f"test_{ULID()}".lower())


async def unfitness(database_url: str) -> str:
    """Return the sentence of the refusal; empty if the pooler is fit."""
    database = Database(Settings(database_url=database_url))
    try:
        await require_fit_pooler(database)
    except UnfitPooler as error:
        return error.message
    else:
        return ""
    finally:
        await database.dispose()


@pytest.mark.parametrize("words", [("serve", "--port", "0"), ("doctor",)], ids=" ".join)
def test_commands_name_the_settings_that_a_pooler_refuses(
    bare_database: str, words: tuple[str, ...]
) -> None:
    with pooled(bare_database, ignore_startup_parameters="") as address:
        done = run(*words, database_url=address)
    assert done.returncode == 1
    [line] = [line for line in (done.stdout + done.stderr).splitlines() if "pooler" in line]
    assert "unsupported startup parameter: " in line
    ignored = line.partition("ignore_startup_parameters = ")[2].partition(".")[0]
    assert set(ignored.split(", ")) == server_settings(Settings()).keys() - {
        "application_name",
        "timezone",
    }
    assert "ALTER ROLE .. SET lock_timeout = '2000';" in line


async def test_limits_that_a_pooler_swallows_are_noticed(bare_database: str) -> None:
    with pooled(bare_database) as address:
        sentence = await unfitness(address)
    assert "lock_timeout is 0 instead of 2000" in sentence
    assert "ALTER ROLE .. SET statement_timeout = '5000';" in sentence


async def test_a_direct_connection_and_a_session_are_fit(pooled_database: str) -> None:
    assert await unfitness(pooled_database) == ""
    with pooled(pooled_database, pool_mode="session") as address:
        assert await unfitness(address) == ""


async def test_a_pooler_that_mixes_prepared_statements_is_refused(pooled_database: str) -> None:
    options = {"max_prepared_statements": 0} if pooler_version() >= SEPARATING else {}
    with pooled(pooled_database, **options) as address:
        sentence = await unfitness(address)
    assert "prepared statement of one client to another" in sentence


def test_processes_give_their_prepared_statements_different_names() -> None:
    program = (
        "from app.database.postgresql import PostgresqlConnection as C;"
        "print(C._get_unique_id(None, 'stmt'))"
    )
    other = subprocess.run(  # noqa: S603 - a program of this test
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    own = PostgresqlConnection._get_unique_id(None, "stmt")  # type: ignore[arg-type]
    assert other.startswith("inventory_")
    assert other.split("_")[:2] != own.split("_")[:2]


async def test_every_check_passes_behind_a_pooler_in_transaction_mode(
    pooled_database: str,
) -> None:
    if pooler_version() < SEPARATING:
        pytest.skip("It needs PgBouncer 1.21 or newer; name its program in PGBOUNCER.")
    with pooled(pooled_database, max_prepared_statements=200) as address:
        assert await unfitness(address) == ""
        findings = await check_database(address, reads=False, requests=80)
    assert findings.failed == {}
    assert set(findings.statuses) <= {200, 201, 422}


@pytest.fixture(params=["session", "transaction"])
def starving_pooler(request: pytest.FixtureRequest, pooled_database: str) -> Iterator[str]:
    """Pooler with a single connection of the server."""
    options = {"max_prepared_statements": 200} if pooler_version() >= SEPARATING else {}
    with pooled(
        pooled_database, pool_mode=str(request.param), default_pool_size=1, **options
    ) as address:
        yield address


async def test_every_request_ends_behind_a_starved_pooler(
    pooled_database: str, starving_pooler: str
) -> None:
    async with running(pooled_database) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
    limits = {"request_timeout_seconds": 1, "database_pool_size": 2, "token_cache_seconds": 30}
    async with running(starving_pooler, **limits) as (app, client):
        starved = Service(app, client, app.state.database, service.tenant_id)
        holder = await asyncpg.connect(starving_pooler)
        holding = holder.transaction()
        await holding.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = await asyncio.gather(
                starved.rest("GET", "/api/inventory/A"),
                starved.rest("GET", "/api/inventory"),
                put(starved, 6, "starved"),
                starved.rest("GET", "/readyz", token=None),
            )
        assert [refusal(answer) for answer in answers] == [UNAVAILABLE] * len(answers)
        holder.terminate()
        await assert_serves_soon(starved)
