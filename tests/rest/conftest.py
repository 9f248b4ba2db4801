"""The tenant of the demo, shared by the read-only tests of this package."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from ulid import ULID

from app.database.engine import Database
from app.demo import prepare_demo
from app.settings import Settings
from tests.databases import create_database
from tests.service import Service, running


@pytest.fixture(scope="session")
def demo_url(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Address of a database with the demo data; tests must not write to it."""
    if engine == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('demo')}/inventory.db"
    else:
        url = create_database(request.getfixturevalue("postgresql"), f"demo_{ULID()}".lower())
    asyncio.run(_prepare(url))
    return url


@pytest.fixture
async def demo(demo_url: str) -> AsyncIterator[Service]:
    """Run the service on the shared demo; tests must not write to it."""
    async with running(demo_url) as (app, client):
        yield Service(app, client, app.state.database, "demo")


@pytest.fixture
async def own_demo(empty_database_url: str) -> AsyncIterator[Service]:
    """Run the service on a demo database of the test."""
    await _prepare(empty_database_url)
    async with running(empty_database_url) as (app, client):
        yield Service(app, client, app.state.database, "demo")


async def _prepare(url: str) -> None:
    database = Database(Settings(database_url=url))
    await prepare_demo(database)
    await database.dispose()
