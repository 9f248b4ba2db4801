"""A tenant moves to another database with its history, ids and answers, or not at all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from app.database.engine import Database
from app.domain.hash_chain import parse_head
from app.files.tenant_files import MOVED_TABLES, moved_columns
from app.ledger.verification import verify_tenant
from app.settings import Settings
from tests.conftest import ENGINES
from tests.databases import create_database, migrated
from tests.files.moves import (
    add_tokens,
    content_of,
    exported_to,
    imported_from,
    rows_of,
    used,
    walked,
)
from tests.service import Service, running


@pytest.fixture(scope="session")
def target_urls(postgresql: URL, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return a migrated database of each engine; tests import tenants of different ids."""
    file = tmp_path_factory.mktemp("target") / "inventory.db"
    urls = f"sqlite+aiosqlite:///{file}", create_database(postgresql, "test_target")
    return dict(zip(ENGINES, map(migrated, urls), strict=True))


@pytest.fixture(params=ENGINES)
async def target(
    request: pytest.FixtureRequest, target_urls: dict[str, str]
) -> AsyncIterator[Database]:
    """Connect to the database of one engine to which tenants move."""
    database = Database(Settings(database_url=target_urls[request.param]))
    yield database
    await database.dispose()


def assert_full(directory: Path) -> None:
    """Check that an export has rows of every kind, and a value in every column."""
    for table in MOVED_TABLES:
        rows = rows_of(directory, table.name)
        for column in moved_columns(table):
            values = {row[column.name] for row in rows}
            assert values - {None}, column
            assert not column.nullable or None in values or table.name == "tenant", column
    assert {table.name for table in MOVED_TABLES} | {"manifest"} == {
        path.name.partition(".")[0] for path in directory.iterdir()
    }


async def test_a_moved_tenant_has_the_same_answers_history_and_files(
    service: Service, target: Database, tmp_path: Path
) -> None:
    await used(service)
    before = await walked(service)
    head = (await verify_tenant(service.database, service.tenant_id)).head

    directory = await exported_to(service, tmp_path / "first")
    proof = await imported_from(directory, target)

    assert proof.head == head
    assert_full(directory)
    url = target.url.render_as_string(hide_password=False)
    async with running(url) as (app, client):
        moved = Service(app, client, app.state.database, service.tenant_id)
        await add_tokens(moved.database, moved.tenant_id)
        assert await walked(moved) == before
        again = await exported_to(moved, tmp_path / "second")
        assert content_of(again) == content_of(directory)
        await verify_tenant(moved.database, moved.tenant_id, head=parse_head(head))
