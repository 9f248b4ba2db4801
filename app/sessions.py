"""Connections in use, and what it means when one fails.

SQLAlchemy Core builds every statement and compiles it. Its engine begins, commits and keeps apart
the transactions that write. Reads, writes of PostgreSQL that are one statement, and the statements
of SQLite go to the driver itself: the engine's work around a statement costs several times what the
driver's does, and more than a short query takes the database.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import Any, Final, Protocol, cast

import aiosqlite
import asyncpg
from sqlalchemy import Dialect, Row, TypeDecorator
from sqlalchemy.dialects.postgresql import asyncpg as postgresql_driver
from sqlalchemy.dialects.sqlite import aiosqlite as sqlite_driver
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ClauseElement, Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from app.clocks import FUNCTION, NOTE, Clock
from app.errors import Unavailable
from app.scheduling import in_pieces
from app.shares import Shares, Tenant

Parameters = Mapping[str, object]
AnyRow = Row[*tuple[Any, ...]]

CONNECT_SECONDS: Final = 5
ROLLBACK: Final = "ROLLBACK"
ALL_IN_USE: Final = "Every database connection is in use; try again."
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

DIALECTS: Final[dict[str, Dialect]] = {
    "postgresql": postgresql_driver.dialect(),  # type: ignore[no-untyped-call]
    "sqlite": sqlite_driver.dialect(paramstyle="qmark"),
}
# From the rows that a driver returns to what rows are.
RowsOf = Callable[[Sequence[Any]], list[Any]]
# A statement's text, what takes its positional values from named parameters, and its rows.
Compiled = tuple[str, Sequence[Callable[[Parameters], Any]], RowsOf | None]


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


class DriverConnection(Protocol):
    """A connection of a driver, as asyncpg has it."""

    async def fetch(self, text: str, /, *values: Any) -> Sequence[Any]:  # noqa: ANN401
        """Execute a statement and return its rows."""

    async def execute(self, text: str, /) -> object:
        """Execute what has no rows."""

    def is_closed(self) -> bool:
        """Whether it is of no more use."""

    async def close(self) -> None:
        """Close it."""


class SqliteConnection:
    """A connection of SQLite's driver, which takes one hop to its thread for a statement."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._is_closed = False

    async def fetch(self, text: str, /, *values: Any) -> Sequence[Any]:  # noqa: ANN401
        """Execute a statement and return its rows."""
        return list(await self._connection.execute_fetchall(text, values))

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


async def connect_sqlite(file: str, clock: Clock, *, pragmas: Iterable[str]) -> SqliteConnection:
    """Return a new connection to a file, which begins no transaction by itself."""
    opening = aiosqlite.connect(file, isolation_level=None)
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


async def fetched(
    connection: DriverConnection, dialect: str, statement: Executable, parameters: Parameters
) -> Sequence[AnyRow]:
    """Execute a statement on a driver's connection and return its rows, if it has any.

    They have what rows of SQLAlchemy have, as far as it is used.
    """
    text, binds, rows_of = _compiled(statement, dialect)
    found = await connection.fetch(text, *[bind(parameters) for bind in binds])
    return found if rows_of is None else await in_pieces(rows_of, found)


class DriverPool:
    """Connections of a driver, of which so many are open at most.

    asyncpg's own pool makes two tasks and a timer for each use of a connection, and asks the server
    to reset it: that costs more than a short query. A session leaves nothing behind.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[DriverConnection]], *, size: int, within: float
    ) -> None:
        self._connect = connect
        self._idle: list[DriverConnection] = []
        self._shares = Shares(size, seconds=within, refusal=ALL_IN_USE)

    @property
    def in_use(self) -> int:
        """The number of connections in use."""
        return self._shares.held

    async def acquire(self, share: Tenant = None) -> DriverConnection:
        """Return an idle or new connection, which counts for a share.

        Raises:
            Unavailable: none came free in time.

        """
        await self._shares.enter(share)
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self._connect()
        except BaseException:
            self._shares.leave(share)
            raise

    def release(self, connection: DriverConnection, share: Tenant = None) -> None:
        """Take a connection back, which counted for a share."""
        if not connection.is_closed():
            self._idle.append(connection)
        self._shares.leave(share)

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().close()


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

    async def begin(self, how: str) -> None:
        """Begin a transaction, which `close` ends without effect."""
        await self._connection.execute(f"BEGIN {how}")
        self._is_in_transaction = True

    async def enter(self, tenant: str | None) -> None:
        """Open the rows of the tenant to this transaction alone."""
        statement = "SELECT set_config('inventory.tenant', $1, true)"
        await self._connection.fetch(statement, tenant or "")

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows, if it has any."""
        return await fetched(self._connection, self.dialect, statement, parameters)

    async def close(self) -> None:
        """Give the connection back, and end what was begun."""
        try:
            if self._is_in_transaction and not self._connection.is_closed():
                await self._connection.execute(ROLLBACK)
        finally:
            self._pool.release(self._connection, self._share)


class Record(asyncpg.Record):
    """A row whose columns are attributes, too."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return a column."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@lru_cache(maxsize=1_000)
def _compiled(statement: Executable, dialect: str) -> Compiled:
    """Return a statement as a driver takes it."""
    known = DIALECTS[dialect]
    compiled = cast("SQLCompiler", cast("ClauseElement", statement).compile(dialect=known))
    binds = [_bind(compiled, name, known) for name in compiled.positiontup or ()]
    return compiled.string, binds, _rows_of(compiled, known) if dialect == "sqlite" else None


def _bind(compiled: SQLCompiler, name: str, dialect: Dialect) -> Callable[[Parameters], Any]:
    default = compiled.params[name]
    type_ = compiled.binds[name].type
    if isinstance(type_, TypeDecorator):
        # What it gives, the driver takes; SQLAlchemy would look at every item of an array.
        convert = partial(type_.process_bind_param, dialect=dialect)
        return lambda parameters: convert(parameters.get(name, default))
    process = type_.dialect_impl(dialect).bind_processor(dialect)
    if process is None:
        return lambda parameters: parameters.get(name, default)
    return lambda parameters: process(parameters.get(name, default))


def _rows_of(compiled: SQLCompiler, dialect: Dialect) -> RowsOf | None:
    """Return what makes rows of those of SQLite, which stores fewer types than there are."""
    columns = compiled._result_columns  # noqa: SLF001 - nothing public has the types
    if not columns:
        return None
    names = [column.keyname for column in columns]
    named: Any = namedtuple("named", names, rename=True)  # type: ignore[misc]  # noqa: PYI024
    converters = [_converter(column.type, dialect) for column in columns]
    converted = [(i, convert) for i, convert in enumerate(converters) if convert]

    def row(values: Sequence[Any]) -> Any:  # noqa: ANN401
        changed = [*values]
        for i, convert in converted:
            changed[i] = convert(values[i])
        return named._make(changed)

    return lambda rows: list(map(row if converted else named._make, rows))


def _converter(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if isinstance(type_, TypeDecorator):
        return partial(type_.process_result_value, dialect=dialect)
    return type_.dialect_impl(dialect).result_processor(dialect, None)


def state_of(error: DBAPIError | asyncpg.PostgresError | sqlite3.Error) -> str:
    """Return the SQLSTATE of PostgreSQL or the error name of SQLite; empty when there is none."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorname", "")
    return getattr(original, "sqlstate", None) or ""


class Translated(AbstractContextManager[None]):
    """Turns the ways in which a database is out of reach into `Unavailable`."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Say what an error means, if it is one of these."""
        if error is None:
            return
        if isinstance(error, PoolTimeout):
            raise Unavailable(ALL_IN_USE) from error
        if isinstance(error, (DBAPIError, asyncpg.PostgresError, sqlite3.Error)):
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
        elif isinstance(error, asyncpg.InterfaceError):
            # The driver says so of a connection that it found closed.
            raise _lost() from error
        elif isinstance(error, OSError):
            message = "The database cannot be reached; try again."
            raise Unavailable(message) from error


_TRANSLATED: Final = Translated()


def translated() -> Translated:
    """Turn the ways in which a database is out of reach into `Unavailable`."""
    return _TRANSLATED


def _lost() -> ConnectionLost:
    return ConnectionLost("The connection to the database broke; try again.")
