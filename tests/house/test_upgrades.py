"""Upgrades without a stop: several migrations at once, beside writers, and two versions at once."""

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import migration
from app.database.engine import Database
from app.database.migration import (
    NotCurrent,
    current_revision,
    migrate,
    newest_revision,
    require_current,
    revisions,
)
from app.settings import Settings
from tests.engines import writer_of
from tests.faults.test_faults import MAIN
from tests.rest.answers import answered
from tests.service import Service, level, new_tenant, running, sku

NEXT: Final = "0999"
# Statements of a transaction that keeps a migration waiting. On SQLite, any transaction does.
BLOCKING: Final = {"sqlite": "SELECT 1", "postgresql": "LOCK sku IN ROW EXCLUSIVE MODE"}
STEP: Final = f'''"""A column that the version before ignores."""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{newest_revision()}"
compatible_since = "SINCE"


def upgrade() -> None:
    op.add_column("sku", sa.Column("colour", sa.Text(), nullable=True))
'''


def migrations_with(step: str, directory: Path) -> Path:
    """Return a copy of the migrations with one more, as the next version has them."""
    copy = directory / "migrations"
    shutil.copytree(migration.MIGRATIONS, copy)
    (copy / "versions" / f"{NEXT}_next.py").write_text(step, encoding="utf-8")
    return copy


@pytest.fixture
def following(tmp_path: Path) -> Path:
    """Return the migrations of the next version, compatible with this one."""
    return migrations_with(STEP.replace("SINCE", newest_revision()), tmp_path)


class NextVersion:
    """Runs code as the next version."""

    def __init__(self, migrations: Path, patch: pytest.MonkeyPatch) -> None:
        self._migrations = migrations
        self._patch = patch

    def __enter__(self) -> None:
        self._patch.setattr(migration, "MIGRATIONS", self._migrations)
        revisions.cache_clear()

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
        revisions.cache_clear()


@pytest.fixture
def following_version(following: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NextVersion]:
    yield NextVersion(following, monkeypatch)
    revisions.cache_clear()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(Settings(database_url=url))
    yield database
    await database.dispose()


def migrating(url: str, migrations: Path | None = None) -> "subprocess.Popen[str]":
    """Start the command in a process, perhaps that of the next version."""
    program = (
        "import sys; from pathlib import Path; from app.database import migration as m\n"
        "if sys.argv[1]: m.MIGRATIONS = Path(sys.argv[1])\n"
        "from app.__main__ import main; sys.argv[1:] = ['migrate']; main()"
    )
    return subprocess.Popen(  # noqa: S603 - a program of this test
        [sys.executable, "-c", program, str(migrations or "")],
        env={"DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def block(connection: AsyncConnection) -> None:
    """Keep a migration waiting until the end of the transaction."""
    if connection.dialect.name == "postgresql":
        # Longer than the test may take.
        await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    await connection.execute(text(BLOCKING[connection.dialect.name]))


async def test_several_migrations_at_once_all_succeed(empty_database_url: str) -> None:
    async with opened(empty_database_url) as first, opened(empty_database_url) as second:
        await asyncio.gather(*(migrate(each) for each in (first, second, first, second)))
        await require_current(first)


async def test_a_killed_migration_is_run_again_by_two_at_once(
    own_database_url: str, following: Path, following_version: NextVersion
) -> None:
    async with opened(own_database_url) as database:
        async with writer_of(database).connect() as other:
            await block(other)
            killed = migrating(own_database_url, following)
            assert killed.stderr is not None
            assert "waits for a lock" in await asyncio.to_thread(killed.stderr.readline)
            killed.kill()
            killed.communicate()
            others = [migrating(own_database_url, following) for _ in range(2)]
            for each in others:
                assert each.stderr is not None
                assert re.search(
                    "waits for a lock|Another migration runs",
                    await asyncio.to_thread(each.stderr.readline),
                )
            await other.rollback()
        for each in others:
            output = await asyncio.to_thread(each.communicate)
            assert each.returncode == 0, output
        with following_version:
            await require_current(database)


async def test_a_migration_waits_for_a_lock_names_the_blocker_and_ends(
    own_database_url: str, following_version: NextVersion, engine: str
) -> None:
    reports: list[str] = []
    is_reported = asyncio.Event()

    def report(message: str) -> None:
        reports.append(message)
        is_reported.set()

    async with opened(own_database_url) as database:
        async with writer_of(database).connect() as other:
            await block(other)
            with following_version:
                waiting = asyncio.create_task(migrate(database, report=report))
                async with asyncio.timeout(60):
                    await is_reported.wait()
                await other.rollback()
                await waiting
        assert f"Revision {NEXT} waits for a lock." in reports[0]
        if engine == "postgresql":
            assert "process " in reports[0]
        assert await current_revision(database) == NEXT


async def test_writers_go_on_while_the_next_version_migrates(
    own_database_url: str, following_version: NextVersion
) -> None:
    async with running(own_database_url) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        is_done = asyncio.Event()

        async def write() -> int:
            written = 0
            while not is_done.is_set() or written < 20:
                body = {"warehouse_id": MAIN.id, "delta": 1, "reason": "cycle_count"}
                answered(await service.rest("POST", "/api/inventory/A/adjustments", json=body))
                written += 1
            return written

        writers = [asyncio.create_task(write()) for _ in range(4)]
        with following_version:
            async with opened(own_database_url) as other:
                await migrate(other)
        is_done.set()
        written = sum(await asyncio.gather(*writers))
        record = answered(await service.rest("GET", "/api/inventory/A"))["data"]

        # The version before accepts the schema, and its migration has nothing to do.
        assert await current_revision(database) == NEXT
        assert record["total_on_hand"] == 5 + written
        assert (await client.get("/readyz")).status_code == 200
        await migrate(database)
        assert await current_revision(database) == NEXT


async def test_the_next_version_is_ready_only_after_its_migration(
    own_database_url: str, following_version: NextVersion
) -> None:
    async with running(own_database_url) as (_, client), opened(own_database_url) as database:
        with following_version:
            before = await client.get("/readyz")
            await migrate(database)
            after = await client.get("/readyz")
    assert (before.status_code, after.status_code) == (503, 200)
    assert "Run: inventory migrate" in before.text


async def test_an_incompatible_schema_of_a_newer_version_is_refused(
    own_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = migrations_with(STEP.replace("SINCE", NEXT), tmp_path)
    async with running(own_database_url) as (app, client):
        with NextVersion(later, monkeypatch):
            await migrate(app.state.database)
        assert (await client.get("/readyz")).status_code == 503
        with pytest.raises(NotCurrent, match="newer version"):
            await migrate(app.state.database)
