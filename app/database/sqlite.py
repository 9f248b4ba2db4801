"""Connections of SQLite's driver, aiosqlite."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiosqlite
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.clocks import BOOT_PRAGMAS, CLOCK_FUNCTION, Clock
from app.database.faults import CLOSED, DatabaseFault, Fault, FaultKind

# Per connection; each cached statement takes about 20 KB.
MAX_CACHED_STATEMENTS: Final = 50
ROLLBACK: Final = "ROLLBACK"
WRITE_PRAGMA: Final = "journal_mode = WAL"
READ_PRAGMA: Final = "query_only = 1"
PRIVATE_MODE: Final = 0o600


class SqliteConnection:
    """A connection of aiosqlite that executes a statement with one hop to its thread."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._is_closed = False

    async def fetch(self, text: str, /, *values: Any) -> Sequence[Any]:  # noqa: ANN401
        """Execute a statement and return its rows."""
        execute: Any = self._connection._execute  # noqa: SLF001 - no public method checks in time
        rows: list[Any] = await execute(self._fetch, text, values)
        return rows

    def _fetch(self, text: str, values: Sequence[Any]) -> list[Any]:
        return self._open(text, values).fetchall()

    async def execute(self, text: str, /) -> object:
        """Execute statements without rows, separated by semicolons."""
        if text == ROLLBACK and not self._connection.in_transaction:
            # SQLite ends the transaction after some errors.
            return None
        execute: Any = self._connection._execute  # noqa: SLF001 - one hop for all statements
        return await execute(self._run, text.split("; "))

    def _run(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self._fetch(statement, ())

    async def stream(
        self, text: str, values: Sequence[Any], size: int
    ) -> AsyncIterator[Sequence[Any]]:
        """Yield the rows of a statement in batches."""
        execute: Any = self._connection._execute  # noqa: SLF001 - one hop for each batch
        cursor = await execute(self._open, text, values)
        while rows := await execute(cursor.fetchmany, size):
            yield rows

    def _open(self, text: str, values: Sequence[Any]) -> sqlite3.Cursor:
        """Execute a statement in the thread, unless the connection has been closed."""
        if self._is_closed:
            raise sqlite3.ProgrammingError(CLOSED[0])
        return self._connection._conn.execute(text, values)  # noqa: SLF001

    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        return self._is_closed

    async def close(self) -> None:
        """Close the connection."""
        self._is_closed = True
        await self._connection.close()

    def terminate(self) -> asyncio.Future[Any] | None:
        """Close the connection without waiting; the thread aborts its statement."""
        self._is_closed = True
        interrupt_sqlite(self._connection)
        return self._connection.stop()


def interrupt_sqlite(connection: aiosqlite.Connection) -> None:
    """Abort the current statement of a connection, if any."""
    with suppress(ValueError, sqlite3.Error):
        connection._conn.interrupt()  # noqa: SLF001 - the public method waits for the thread


def create_private_file(file: str) -> None:
    """Create a missing file that only its owner can read; SQLite would let other users read it.

    SQLite gives the files beside it the same permissions.
    """
    # The driver reports a file that cannot be created.
    with suppress(OSError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL, PRIVATE_MODE))


async def connect_sqlite(file: str, clock: Clock, *, pragmas: Collection[str]) -> SqliteConnection:
    """Open a connection in autocommit mode."""
    create_private_file(file)
    opening = aiosqlite.connect(file, isolation_level=None, cached_statements=MAX_CACHED_STATEMENTS)
    # An exiting process does not wait for daemon threads.
    opening._thread.daemon = True  # noqa: SLF001
    opened = await opening
    connection = SqliteConnection(opened)
    try:
        await opened.create_function(CLOCK_FUNCTION, 1, clock.sql_function)
        stored = [await connection.fetch(f"PRAGMA {name}") for name in BOOT_PRAGMAS]
        clock.adopt_boot(*(rows[0][0] for rows in stored))
        for pragma in pragmas:
            await connection.execute(f"PRAGMA {pragma}")
        if WRITE_PRAGMA in pragmas and (boot := clock.boot_to_store()):
            for name, number in zip(BOOT_PRAGMAS, boot, strict=True):
                await connection.execute(f"PRAGMA {name} = {number}")
    except BaseException:
        await connection.close()
        raise
    return connection


def prepare_sqlite_engine(
    engine: AsyncEngine, clock: Clock, *, begin: str, pragmas: Iterable[str]
) -> None:
    """Set up the connections and transactions of an engine."""

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - a driver's adapter
        # The driver would begin transactions too late for a lock; `on_begin` begins them.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        connection.create_function(CLOCK_FUNCTION, 1, clock.sql_function)
        stored = []
        for name in BOOT_PRAGMAS:
            cursor.execute(f"PRAGMA {name}")
            stored.append(cursor.fetchone()[0])
        clock.adopt_boot(*stored)
        if begin == "BEGIN IMMEDIATE" and (boot := clock.boot_to_store()):
            for name, number in zip(BOOT_PRAGMAS, boot, strict=True):
                cursor.execute(f"PRAGMA {name} = {number}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def require_writable_file(file: Path) -> None:
    """Require a SQLite file that this process can write.

    Raises:
        DatabaseFault: the file or its directory is missing or read-only.

    """
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        fault = Fault(FaultKind.READONLY, "", "the file is not writable")
        raise DatabaseFault(fault, address=str(file))
