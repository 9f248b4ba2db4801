"""Connections in use, and what it means when one fails.

SQLAlchemy Core builds every statement and compiles it. Its engine executes what belongs to a
transaction that writes, and all of SQLite. Reads of PostgreSQL, and writes that are one statement,
go to the driver itself: the engine's work around a statement costs several times what the driver's
does, and more than a short query takes the database.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Final, Protocol, cast

import asyncpg
from sqlalchemy import Row, TypeDecorator
from sqlalchemy.dialects.postgresql import asyncpg as driver_dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ClauseElement, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from app.errors import Unavailable

Parameters = Mapping[str, object]
AnyRow = Row[*tuple[Any, ...]]

CONNECT_SECONDS: Final = 5
LOCK_NOT_AVAILABLE: Final = "55P03"
# Query cancelled by a timeout; no such file, no space, no reading or writing.
UNAVAILABLE: Final = {
    "57014",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
}
# Connection exceptions, credentials, no such database, resources, operator intervention.
UNAVAILABLE_CLASSES: Final = ("08", "28", "3D", "53", "57P", "SQLITE_IOERR")
# Connection exceptions; the server shuts down, or ended the connection.
LOST: Final = ("08", "57P01", "57P02")

DIALECT: Final = driver_dialect.dialect()  # type: ignore[no-untyped-call]


class ConnectionLost(Unavailable):
    """A connection broke while it was in use."""


class LockTimeout(Unavailable):
    """Somebody else held a lock for too long."""


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
    """A connection of SQLAlchemy's engine."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.dialect = connection.dialect.name
        self.close = connection.close
        self._connection = connection

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows, if it has any."""
        result = await self._connection.execute(statement, parameters)
        return result.all() if result.returns_rows else []


class DriverPool:
    """Connections of PostgreSQL's driver, of which so many are open at most.

    asyncpg's own pool makes two tasks and a timer for each use of a connection, and asks the server
    to reset it: that costs more than a short query. A session leaves nothing behind.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], *, size: int, within: float
    ) -> None:
        self._connect = connect
        self._within = within
        self.in_use = 0
        self._idle: list[asyncpg.Connection] = []
        self._free = asyncio.Semaphore(size)

    async def acquire(self) -> asyncpg.Connection:
        """Return a connection that nobody uses; wait for one if there may be no more.

        Raises:
            Unavailable: none came free in time.

        """
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        self.in_use += 1
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self._connect()
        except BaseException:
            self._leave()
            raise

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._within):
                await self._free.acquire()
        except TimeoutError as error:
            message = "Every database connection is in use; try again."
            raise Unavailable(message) from error

    def release(self, connection: asyncpg.Connection) -> None:
        """Take a connection back."""
        if not connection.is_closed():
            self._idle.append(connection)
        self._leave()

    def _leave(self) -> None:
        self.in_use -= 1
        self._free.release()

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().close()


class DriverSession:
    """A connection of PostgreSQL's driver."""

    dialect = "postgresql"

    def __init__(self, pool: DriverPool, connection: asyncpg.Connection) -> None:
        self._pool = pool
        self._connection = connection
        self._is_in_transaction = False

    async def begin(self, how: str) -> None:
        """Begin a transaction, which `close` ends without effect."""
        await self._connection.execute(f"BEGIN {how}")
        self._is_in_transaction = True

    async def enter(self, tenant: str | None) -> None:
        """Open what is a tenant's to the transaction, and to it alone."""
        statement = "SELECT set_config('inventory.tenant', $1, true)"
        await self._connection.fetch(statement, tenant or "")

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows, if it has any."""
        text, binds = _compiled(statement)
        values = [bind(parameters) for bind in binds]
        # They have what rows of SQLAlchemy have, as far as it is used.
        found: Sequence[AnyRow] = await self._connection.fetch(text, *values)
        return found

    async def close(self) -> None:
        """Give the connection back, and end what was begun."""
        try:
            if self._is_in_transaction and not self._connection.is_closed():
                await self._connection.execute("ROLLBACK")
        finally:
            self._pool.release(self._connection)


class Record(asyncpg.Record):
    """A row whose columns are attributes, too."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return a column."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@lru_cache(maxsize=1_000)
def _compiled(statement: Executable) -> tuple[str, list[Callable[[Parameters], Any]]]:
    """Return a statement's text and what takes its positional values from named ones."""
    compiled = cast("SQLCompiler", cast("ClauseElement", statement).compile(dialect=DIALECT))
    return compiled.string, [_bind(compiled, name) for name in compiled.positiontup or ()]


def _bind(compiled: SQLCompiler, name: str) -> Callable[[Parameters], Any]:
    default = compiled.params[name]
    type_ = compiled.binds[name].type
    if isinstance(type_, TypeDecorator):
        # What it gives, the driver takes; SQLAlchemy would look at every item of an array.
        convert = partial(type_.process_bind_param, dialect=DIALECT)
        return lambda parameters: convert(parameters.get(name, default))
    process = type_.dialect_impl(DIALECT).bind_processor(DIALECT)
    if process is None:
        return lambda parameters: parameters.get(name, default)
    return lambda parameters: process(parameters.get(name, default))


def state_of(error: DBAPIError | asyncpg.PostgresError) -> str:
    """Return the SQLSTATE of PostgreSQL or the error name of SQLite; empty when there is none."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorname", "")
    return getattr(original, "sqlstate", None) or ""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the ways in which a database is out of reach into `Unavailable`."""
    try:
        yield
    except PoolTimeout as error:
        message = "Every database connection is in use; try again."
        raise Unavailable(message) from error
    except (DBAPIError, asyncpg.PostgresError) as error:
        state = state_of(error)
        if state.startswith(LOST) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        ):
            raise _lost() from error
        if state == LOCK_NOT_AVAILABLE:
            message = "The database is busy with other writes; try again."
            raise LockTimeout(message) from error
        if state in UNAVAILABLE or state.startswith(UNAVAILABLE_CLASSES):
            message = "The database cannot answer now; try again."
            raise Unavailable(message) from error
        raise
    except asyncpg.InterfaceError as error:
        # The driver says so of a connection that it found closed.
        raise _lost() from error
    except (OSError, TimeoutError) as error:
        message = "The database cannot be reached; try again."
        raise Unavailable(message) from error


def _lost() -> ConnectionLost:
    return ConnectionLost("The connection to the database broke; try again.")
