"""The databases: an embedded PostgreSQL with equal settings for all contenders, and SQLite."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.database.engine import Database
from app.ledger.rollup import roll_up_ledger
from app.settings import Settings
from benchmarks.data import TENANT, Size, fill
from tests.databases import PostgreSQL, migrated, own_postgresql
from tests.engines import transact

# No setting makes a commit less durable. A checkpoint in a sample would slow one contender only.
SETTINGS: Final = (
    "max_connections = 300",
    "shared_buffers = '1GB'",
    "max_wal_size = '8GB'",
    "checkpoint_timeout = '1h'",
)
REPORTED_SETTINGS: Final = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "max_connections",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
)
Progress = Callable[[str], None]


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run an embedded PostgreSQL."""
    with own_postgresql(*SETTINGS) as server:
        yield server


def filled(database_url: str, size: Size, progress: Progress) -> str:
    """Fill an empty database, roll up its ledger, and return its URL."""

    async def work() -> None:
        database = Database(Settings(database_url=database_url))
        try:
            async for skus in fill(database, size):
                progress(f"filled {skus:,} of {size.skus:,} SKUs ({database.dialect})")
            while await roll_up_ledger(database, TENANT):
                progress(f"rolling up its ledger ({database.dialect})")
            if database.dialect == "postgresql":
                await transact(database, allow_plain_entries)
        finally:
            await database.dispose()

    asyncio.run(work())
    return database_url


async def allow_plain_entries(connection: AsyncConnection) -> None:
    """Allow contenders to write adjustments without a hash, at any position after the others."""
    for statement in (
        "ALTER TABLE adjustment ALTER COLUMN hash DROP NOT NULL",
        "CREATE SEQUENCE next_position",
        "SELECT setval('next_position', max(position)) FROM adjustment",
        "ALTER TABLE adjustment ALTER COLUMN position SET DEFAULT nextval('next_position')",
    ):
        await connection.execute(text(statement))


def empty_sqlite(directory: Path, name: str) -> str:
    """Return the URL of a migrated SQLite file."""
    return migrated(f"sqlite+aiosqlite:///{directory / name}")


def copy_sqlite(directory: Path, *, source: str, name: str) -> str:
    """Copy a SQLite file that no process has open, and return the URL of the copy."""
    shutil.copyfile(directory / source, directory / name)
    return f"sqlite+aiosqlite:///{directory / name}"


def copy_postgresql(server: URL, *, source: str, name: str) -> str:
    """Copy a database without connections, and return the URL of the copy."""

    async def work() -> None:
        engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{source}"'))
            await connection.execute(text("CHECKPOINT"))
        await engine.dispose()

    asyncio.run(work())
    return server.set(database=name).render_as_string(hide_password=False)


def run_script(database_url: str, script: str) -> None:
    """Run statements without parameters on PostgreSQL."""

    async def work() -> None:
        # Only the driver takes several statements in one call.
        connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
        await connection.execute(script)
        await connection.close()

    asyncio.run(work())


def settings_of(server: URL) -> Mapping[str, str]:
    """Return the version of a PostgreSQL and its settings by name, durability first."""

    async def work() -> dict[str, str]:
        engine = create_async_engine(server)
        async with engine.connect() as connection:
            values = {}
            for name in ("server_version", *REPORTED_SETTINGS):
                values[name] = str(await connection.scalar(text(f"SHOW {name}")))
        await engine.dispose()
        return values

    return asyncio.run(work())
