"""Connections in use.

SQLAlchemy Core builds every statement and compiles it. Its engine begins, commits and keeps apart
the transactions that write. Reads, writes of PostgreSQL that are one statement, and the statements
of SQLite go to the driver itself: the engine's work around a statement costs several times what the
driver's does, and more than a short query takes the database.
"""

import asyncio
import sqlite3
from collections import namedtuple
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial, wraps
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, Protocol, TypeVar, cast

import aiosqlite
import asyncpg
from sqlalchemy import Dialect, Row, TypeDecorator
from sqlalchemy.dialects.postgresql import asyncpg as postgresql_driver
from sqlalchemy.dialects.sqlite import aiosqlite as sqlite_driver
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ClauseElement, Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from app.clocks import FUNCTION, NOTE, Clock
from app.faults import CLOSED, MESSAGES, Kind, spoils_connection
from app.scheduling import in_pieces
from app.shares import Shares, Tenant

Parameters = Mapping[str, object]
AnyRow = Row[*tuple[Any, ...]]
Used = TypeVar("Used")
Shape = ParamSpec("Shape")

CONNECT_SECONDS: Final = 5
MAX_STATEMENTS: Final = 300
MAX_SHAPES: Final = 500
# Of SQLite, per connection; each takes some 20 KB.
MAX_CACHED_STATEMENTS: Final = 50
ROLLBACK: Final = "ROLLBACK"

DIALECTS: Final[dict[str, Dialect]] = {
    "postgresql": postgresql_driver.dialect(),  # type: ignore[no-untyped-call]
    "sqlite": sqlite_driver.dialect(paramstyle="qmark"),
}
# From the rows that a driver returns to what rows are.
RowsOf = Callable[[Sequence[Any]], list[Any]]


class Prepared(NamedTuple):
    """A statement as a driver takes it, without the tree that it was compiled from.

    A tree takes 20 to 100 KB, and a client may ask for as many as there are sets of filters.
    """

    text: str
    # These take the positional values from named parameters.
    binds: Sequence[Callable[[Parameters], Any]]
    rows_of: RowsOf | None


Statement = Executable | Prepared


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

    def terminate(self) -> asyncio.Future[Any] | None:
        """Close it without waiting, whatever it is doing; return its end if that takes time."""


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


async def fetched(
    connection: DriverConnection, dialect: str, statement: Statement, parameters: Parameters
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
        self._busy: set[DriverConnection] = set()
        # Busy connections that are dropped when they come back.
        self._outdated: set[DriverConnection] = set()
        self._ending: set[asyncio.Future[Any]] = set()
        self._shares = Shares(size, seconds=within, refusal=MESSAGES[Kind.EXHAUSTED])

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
            connection = self._pop_idle() or await self._connect()
        except BaseException:
            self._shares.leave(share)
            raise
        self._busy.add(connection)
        return connection

    def _pop_idle(self) -> DriverConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def release(
        self, connection: DriverConnection, share: Tenant = None, *, drop: bool = False
    ) -> None:
        """Take a connection back, which counted for a share; `drop` it if it must not be reused."""
        self._busy.discard(connection)
        if drop or connection in self._outdated:
            self._outdated.discard(connection)
            self._terminate(connection)
        elif not connection.is_closed():
            self._idle.append(connection)
        self._shares.leave(share)

    def drop_all(self) -> None:
        """Drop every connection: the idle ones now, the others when they come back."""
        self._outdated |= self._busy
        while self._idle:
            self._terminate(self._idle.pop())

    def _terminate(self, connection: DriverConnection) -> None:
        if end := connection.terminate():
            self._ending.add(end)
            end.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Close the idle connections, and wait a little for terminated ones to end."""
        while self._idle:
            await self._idle.pop().close()
        if self._ending:
            await asyncio.wait(self._ending, timeout=CONNECT_SECONDS)


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


class Record(asyncpg.Record):
    """A row whose columns are attributes, too."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return a column."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _compiled(statement: Statement, dialect: str) -> Prepared:
    """Return a statement as a driver takes it."""
    return statement if isinstance(statement, Prepared) else _prepared(statement, dialect)


def prepare(statement: Executable, dialect: str) -> Prepared:
    """Compile a statement."""
    known = DIALECTS[dialect]
    compiled = cast("SQLCompiler", cast("ClauseElement", statement).compile(dialect=known))
    binds = [_bind(compiled, name, known) for name in compiled.positiontup or ()]
    rows_of = _rows_of(compiled, known) if dialect == "sqlite" else None
    return Prepared(compiled.string, binds, rows_of)


# Statements whose number does not depend on clients.
_prepared: Final = lru_cache(maxsize=MAX_STATEMENTS)(prepare)


class Shapes:
    """Statements of which there is one per set of filters: the latest are kept, compiled."""

    def __init__(self) -> None:
        self._kept = lru_cache(maxsize=MAX_SHAPES)(self._prepare)
        self.cache_info = self._kept.cache_info

    def __call__(
        self, build: Callable[Concatenate[str, Shape], Executable]
    ) -> Callable[Concatenate[str, Shape], Prepared]:
        """Have what a function builds for a dialect kept among the others."""
        find: Any = self._kept

        @wraps(build)
        def kept(dialect: str, /, *shape: Shape.args, **named: Shape.kwargs) -> Prepared:
            found: Prepared = find(build, dialect, *shape, **named)
            return found

        return kept

    @staticmethod
    def _prepare(
        build: Callable[..., Executable], dialect: str, *shape: Hashable, **named: Hashable
    ) -> Prepared:
        return prepare(build(dialect, *shape, **named), dialect)


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
