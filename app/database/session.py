"""Connections in use.

SQLAlchemy Core builds every statement and compiles it. Its engine begins, commits and keeps apart
the transactions that write. Reads, writes of PostgreSQL that are one statement, and the statements
of SQLite go to the driver itself: the engine's work around a statement costs several times what the
driver's does, and more than a short query takes the database.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

import aiosqlite
import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable

from app.database.clocks import FUNCTION, NOTE, Clock
from app.database.compilation import AnyRow, DriverConnection, Parameters, Statement, fetched
from app.database.faults import CLOSED, spoils_connection
from app.database.pool import DriverPool
from app.runtime.shares import Tenant

Used = TypeVar("Used")

# Of SQLite, per connection; each takes some 20 KB.
MAX_CACHED_STATEMENTS: Final = 50
ROLLBACK: Final = "ROLLBACK"


class Session(Protocol):
    """A connection in use, of either engine."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows, if it has any."""

    async def close(self) -> None:
        """Give the connection back, and end what was begun."""


class EngineSession:
    """A connection of SQLAlchemy's engine; of SQLite, the driver's own executes what it is told."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.dialect = connection.dialect.name
        self.close = connection.close
        self._connection = connection
        self._driver: SqliteConnection | None = None

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows, if it has any."""
        if self.dialect == "sqlite":
            if self._driver is None:
                pooled: Any = await self._connection.get_raw_connection()
                self._driver = SqliteConnection(pooled.driver_connection)
            return await fetched(self._driver, self.dialect, statement, parameters)
        result = await self._connection.execute(statement, parameters)
        return result.all() if result.returns_rows else []


class PostgresqlConnection(asyncpg.Connection):
    """A connection of asyncpg that closes without an answer, which a frozen server never gives."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - as its base
        """Close it without waiting."""
        self.terminate()


class SqliteConnection:
    """A connection of SQLite's driver, which takes one hop to its thread for a statement."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._is_closed = False

    async def fetch(self, text: str, /, *values: Any) -> Sequence[Any]:  # noqa: ANN401
        """Execute a statement and return its rows."""
        execute: Any = self._connection._execute  # noqa: SLF001 - nothing public checks in time
        rows: list[Any] = await execute(self._fetch, text, values)
        return rows

    def _fetch(self, text: str, values: Sequence[Any]) -> list[Any]:
        """Execute a statement in the thread, unless the connection was closed meanwhile."""
        if self._is_closed:
            raise sqlite3.ProgrammingError(CLOSED[0])
        return self._connection._conn.execute(text, values).fetchall()  # noqa: SLF001

    async def execute(self, text: str, /) -> object:
        """Execute what has no rows."""
        if text == ROLLBACK and not self._connection.in_transaction:
            # After some errors SQLite has ended the transaction by itself.
            return None
        return await self.fetch(text)

    def is_closed(self) -> bool:
        """Whether it is of no more use."""
        return self._is_closed

    async def close(self) -> None:
        """Close it."""
        self._is_closed = True
        await self._connection.close()

    def terminate(self) -> asyncio.Future[Any] | None:
        """Close it without waiting: its thread ends the statement that it executes."""
        self._is_closed = True
        interrupt_sqlite(self._connection)
        return self._connection.stop()


def interrupt_sqlite(connection: aiosqlite.Connection) -> None:
    """End the statement that the thread of a connection executes, if there is one."""
    with suppress(ValueError, sqlite3.Error):
        connection._conn.interrupt()  # noqa: SLF001 - its own waits for the thread


async def connect_sqlite(file: str, clock: Clock, *, pragmas: Iterable[str]) -> SqliteConnection:
    """Return a new connection to a file, which begins no transaction by itself."""
    opening = aiosqlite.connect(file, isolation_level=None, cached_statements=MAX_CACHED_STATEMENTS)
    # No process that ends waits for its connections; SQLAlchemy sees to the same.
    opening._thread.daemon = True  # noqa: SLF001
    opened = await opening
    connection = SqliteConnection(opened)
    try:
        await opened.create_function(FUNCTION, 1, clock.as_function)
        kept = [await connection.fetch(f"PRAGMA {name}") for name in NOTE]
        clock.take_over(*(rows[0][0] for rows in kept))
        for pragma in pragmas:
            await connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        await connection.close()
        raise
    return connection


class DriverSession:
    """A connection of a driver, which counts for a share."""

    def __init__(
        self, pool: DriverPool, connection: DriverConnection, dialect: str, share: Tenant
    ) -> None:
        self.dialect = dialect
        self._pool = pool
        self._share = share
        self._connection = connection
        self._is_in_transaction = False
        self._is_spoiled = False

    async def begin(self, how: str) -> None:
        """Begin a transaction, which `close` ends without effect."""
        # An answer that is lost may leave a transaction open.
        self._is_in_transaction = True
        await self._used(self._connection.execute(f"BEGIN {how}"))

    async def enter(self, tenant: str | None) -> None:
        """Open the rows of the tenant to this transaction alone."""
        statement = "SELECT set_config('inventory.tenant', $1, true)"
        await self._used(self._connection.fetch(statement, tenant or ""))

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows, if it has any."""
        return await self._used(fetched(self._connection, self.dialect, statement, parameters))

    async def close(self) -> None:
        """Give the connection back, and end what was begun; drop a connection that failed."""
        try:
            is_open = not self._is_spoiled and not self._connection.is_closed()
            if self._is_in_transaction and is_open:
                await self._used(self._connection.execute(ROLLBACK))
        except BaseException:
            self._is_spoiled = True
            raise
        finally:
            self._pool.release(self._connection, self._share, drop=self._is_spoiled)

    async def _used(self, work: Awaitable[Used]) -> Used:
        try:
            return await work
        except BaseException as error:
            self._is_spoiled = self._is_spoiled or spoils_connection(error)
            raise
