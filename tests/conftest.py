"""Fixtures: databases of both engines, and a service with a new tenant per test."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import structlog
from hypothesis import settings
from sqlalchemy import URL
from ulid import ULID

from app.database.engine import Database
from app.demo import prepare_demo
from app.http.logs import configure_logs
from app.settings import Settings
from tests.databases import (
    copied,
    create_database,
    migrated,
    postgresql_server,
    with_fake_clock,
)
from tests.service import Service, new_tenant, running

ENGINES = ["sqlite", "postgresql"]
# A busy machine fails no example.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests: at the end, one would run alone on one worker."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def loggers_follow_the_configuration() -> Iterator[None]:
    """Let no logger keep the stream of the test that used it first; pytest closes it."""
    configure = structlog.configure

    def configured(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    with patch.object(structlog, "configure", configured):
        configure_logs("error")
        yield


@pytest.fixture(autouse=True)
def logs_are_configured_as_before() -> Iterator[None]:
    """Restore the stream and the level of the logs after each test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


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
    """Return a migrated database that tests share; each test has its own tenant."""
    return with_fake_clock(migrated(_fresh(engine, request, tmp_path_factory.mktemp("shared"))))


@pytest.fixture
def empty_database_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return an empty database that no other test uses."""
    return _fresh(engine, request, tmp_path)


@pytest.fixture(scope="session")
def migrated_url(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return a migrated database, to be copied only."""
    return migrated(_fresh(engine, request, tmp_path_factory.mktemp("migrated")))


@pytest.fixture
def own_database_url(migrated_url: str, tmp_path: Path) -> str:
    """Return a migrated database that no other test uses."""
    return copied(migrated_url, tmp_path)


@pytest.fixture(scope="session")
def demo_url(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return a database with the demo data; tests must not write to it."""

    async def prepare(url: str) -> None:
        database = Database(Settings(database_url=url))
        await prepare_demo(database)
        await database.dispose()

    url = _fresh(engine, request, tmp_path_factory.mktemp("demo"))
    asyncio.run(prepare(url))
    return url


@pytest.fixture
def own_demo_url(demo_url: str, tmp_path: Path) -> str:
    """Return a database with the demo data that no other test uses."""
    return copied(demo_url, tmp_path)


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """Run the service with an empty tenant."""
    async with running(database_url) as (app, client):
        database = app.state.database
        yield Service(app, client, database, await new_tenant(database))


def _fresh(engine: str, request: pytest.FixtureRequest, directory: Path) -> str:
    if engine == "sqlite":
        return f"sqlite+aiosqlite:///{directory}/inventory.db"
    return create_database(request.getfixturevalue("postgresql"), f"test_{ULID()}".lower())
