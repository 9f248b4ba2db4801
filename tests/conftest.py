"""Fixtures: databases of both engines, and a service with a tenant of its own per test."""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL
from ulid import ULID

from tests.databases import create_database, migrated, postgresql_server, with_fake_clock
from tests.service import Service, new_tenant, running

ENGINES = ["sqlite", "postgresql"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest: one that came last would be waited for alone."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking at thousands of tests again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[URL]:
    """Run a PostgreSQL server for the session."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Run a test once per engine."""
    return str(request.param)


@pytest.fixture(scope="session")
def database_url(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return a migrated database that tests share, each with a tenant of its own."""
    return with_fake_clock(migrated(_fresh(engine, request, tmp_path_factory.mktemp("shared"))))


@pytest.fixture
def empty_database_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return an empty database that no other test uses."""
    return _fresh(engine, request, tmp_path)


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """Run the service with a tenant that has nothing yet."""
    async with running(database_url) as (app, client):
        database = app.state.database
        yield Service(app, client, database, await new_tenant(database))


def _fresh(engine: str, request: pytest.FixtureRequest, directory: Path) -> str:
    if engine == "sqlite":
        return f"sqlite+aiosqlite:///{directory}/inventory.db"
    return create_database(request.getfixturevalue("postgresql"), f"test_{ULID()}".lower())
