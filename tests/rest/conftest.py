"""The demo's tenant, which tests of this package read together."""

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
    """Return a database that holds the demo: for reading only."""
    if engine == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('demo')}/inventory.db"
    else:
        url = create_database(request.getfixturevalue("postgresql"), f"demo_{ULID()}".lower())
    asyncio.run(_prepare(url))
    return url


@pytest.fixture
async def demo(demo_url: str) -> AsyncIterator[Service]:
    """Run the service on the demo: for reading only."""
    async with running(demo_url) as (app, client):
        yield Service(app, client, app.state.database, "demo")


@pytest.fixture
async def own_demo(empty_database_url: str) -> AsyncIterator[Service]:
    """Run the service on a demo that the test may write to."""
    await _prepare(empty_database_url)
    async with running(empty_database_url) as (app, client):
        yield Service(app, client, app.state.database, "demo")


async def _prepare(url: str) -> None:
    database = Database(Settings(database_url=url))
    await prepare_demo(database)
    await database.dispose()
