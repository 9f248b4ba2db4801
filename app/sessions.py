"""Connections in use, and what it means when one fails.

SQLAlchemy Core builds every statement and compiles it. Its engine executes what belongs to a
transaction that writes, and all of SQLite. Reads of PostgreSQL, and writes that are one statement,
go to the driver itself: the engine's work around a statement costs several times what the driver's
does, and more than a short query takes the database.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, Protocol, cast

import asyncpg
from sqlalchemy import Row
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


class DriverSession:
    """A connection of PostgreSQL's driver."""

    dialect = "postgresql"

    def __init__(self, pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
        self._pool = pool
        self._connection = connection
        self._is_in_transaction = False

    @classmethod
    async def opened(cls, pool: asyncpg.Pool, *, within: float) -> "DriverSession":
        """Wait for a connection of the pool.

        Raises:
            Unavailable: none came free in so many seconds.

        """
        # Whoever comes first initializes it.
        await pool
        try:
            return cls(pool, await pool.acquire(timeout=within))
        except TimeoutError as error:
            message = "Every database connection is in use; try again."
            raise Unavailable(message) from error

    async def begin(self, how: str) -> None:
        """Begin a transaction, which `close` ends without effect."""
        await self._connection.execute(f"BEGIN {how}")
        self._is_in_transaction = True

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
            await self._pool.release(self._connection)


class Record(asyncpg.Record):
    """A row whose columns are attributes, too."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return a column."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class DriverConnection(asyncpg.Connection):
    """A connection that is used by sessions alone."""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        """Do nothing: a session leaves nothing behind, and a round trip costs what a query does."""


@lru_cache(maxsize=1_000)
def _compiled(statement: Executable) -> tuple[str, list[Callable[[Parameters], Any]]]:
    """Return a statement's text and what takes its positional values from named ones."""
    compiled = cast("SQLCompiler", cast("ClauseElement", statement).compile(dialect=DIALECT))
    return compiled.string, [_bind(compiled, name) for name in compiled.positiontup or ()]


def _bind(compiled: SQLCompiler, name: str) -> Callable[[Parameters], Any]:
    default = compiled.params[name]
    process = compiled.binds[name].type.dialect_impl(DIALECT).bind_processor(DIALECT)
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
