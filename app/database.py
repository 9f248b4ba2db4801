"""The engines: consistent reads, retried transactions, and the only place that commits.

Statements are SQLAlchemy Core. `texts_in` and `rows_from` are the two ways in which many values
travel as one bind parameter on either engine.
"""

import asyncio
import random
import sqlite3
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import orjson
import structlog
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
    Row,
    Text,
    TypeDecorator,
    any_,
    bindparam,
    cast,
    column,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql import Executable
from sqlalchemy.types import TypeEngine

from app.errors import Unavailable
from app.settings import Settings

log = structlog.get_logger()

Result = TypeVar("Result")
Parameters = Mapping[str, object]

ATTEMPTS: Final = 5
# Serialization failure, deadlock; SQLite's one write lock.
RETRIED: Final = {"40001", "40P01", "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED"}
# Lock not available, query cancelled by a timeout; no such file, no space, no reading or writing.
UNAVAILABLE: Final = {
    "55P03",
    "57014",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
}
# Connection exceptions, credentials, no such database, resources, operator intervention.
UNAVAILABLE_CLASSES: Final = ("08", "28", "3D", "53", "57P")


class ConnectionLost(Unavailable):
    """A connection broke while it was in use."""


class Database:
    """One database of either engine, as a process uses it."""

    def __init__(self, settings: Settings) -> None:
        url = make_url(settings.database_url)
        options: dict[str, Any] = {
            "pool_size": settings.database_pool_size,
            "max_overflow": 0,
            "pool_timeout": settings.database_pool_timeout_seconds,
            "query_cache_size": 2_000,
        }
        if url.get_backend_name() == "postgresql":
            limits = {
                "application_name": "inventory",
                "idle_in_transaction_session_timeout": "10000",
                "jit": "off",
                "lock_timeout": str(settings.database_lock_timeout_ms),
                "statement_timeout": str(settings.database_statement_timeout_ms),
            }
            self.writer = create_async_engine(
                url, **options, connect_args={"server_settings": limits, "timeout": 5}
            )
            self.reader = self.writer.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        else:
            # SQLite has one writer at a time: waiting in a pool is fairer than polling its lock.
            self.writer = create_async_engine(url, **{**options, "pool_size": 1})
            self.reader = create_async_engine(url, **options)
            wait = settings.database_lock_timeout_ms
            _prepare_sqlite(self.writer, begin="BEGIN IMMEDIATE", wait=wait, query_only=False)
            _prepare_sqlite(self.reader, begin="BEGIN", wait=wait, query_only=True)
        self._transactions: set[asyncio.Task[Any]] = set()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.writer.dialect.name

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["Snapshot"]:
        """Read in transactions that each see one state of the database from first to last."""
        snapshot = Snapshot(self)
        try:
            yield snapshot
        finally:
            await snapshot.close()

    async def transaction(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        """Do the work and commit it; start over where the database says that this may help.

        The work may run several times, so it may have no effect but on its connection. A caller
        that is cancelled leaves the transaction to end by itself, one way or the other.
        """
        task = asyncio.create_task(self._transact(work))
        self._transactions.add(task)
        task.add_done_callback(self._transactions.discard)
        return await asyncio.shield(task)

    async def _transact(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        for attempt in range(1, ATTEMPTS + 1):
            is_committing = False
            try:
                with translated():
                    async with self.writer.connect() as connection:
                        result = await work(connection)
                        # From here on nobody knows whether it happened.
                        is_committing = True
                        await connection.commit()
                        return result
            except DBAPIError as error:
                if is_committing or state_of(error) not in RETRIED:
                    raise
                log.warning("transaction_retried", attempt=attempt, state=state_of(error))
            except ConnectionLost:
                if is_committing or attempt == ATTEMPTS:
                    raise
                log.warning("transaction_retried", attempt=attempt, state="connection lost")
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter
        message = "The database is busy with other writes; try again."
        raise Unavailable(message)

    async def dispose(self) -> None:
        """Let the transactions under way end, then close every connection."""
        await asyncio.gather(*self._transactions, return_exceptions=True)
        await self.reader.dispose()
        await self.writer.dispose()


class Snapshot:
    """One consistent view of the database, opened by its first statement.

    Sibling fields of a GraphQL operation run concurrently and a connection does one thing at a
    time, so statements queue here.
    """

    def __init__(self, database: Database) -> None:
        self.dialect = database.dialect
        self._reader = database.reader
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[Row[Any]]:
        """Return all rows of a SELECT."""
        async with self._turn:
            is_first = self._connection is None
            try:
                return await self._execute(statement, parameters)
            except ConnectionLost:
                # A pooled connection may have died since it was used. Who has seen nothing yet
                # may look again; with one gone, the pool opens all of them anew.
                if not is_first:
                    raise
            await self._give_back()
            return await self._execute(statement, parameters)

    async def close(self) -> None:
        """Give the connection back; the next statement sees a later state."""
        async with self._turn:
            await self._give_back()

    async def _execute(self, statement: Executable, parameters: Parameters) -> Sequence[Row[Any]]:
        with translated():
            if self._connection is None:
                self._connection = await self._reader.connect()
            return (await self._connection.execute(statement, parameters)).all()

    async def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with translated():
                await connection.close()


def state_of(error: DBAPIError) -> str:
    """Return the SQLSTATE of PostgreSQL or the error name of SQLite; empty when there is none."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorname", "")
    return getattr(error.orig, "sqlstate", None) or ""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the ways in which a database is out of reach into `Unavailable`."""
    try:
        yield
    except PoolTimeout as error:
        message = "Every database connection is in use; try again."
        raise Unavailable(message) from error
    except DBAPIError as error:
        state = state_of(error)
        if error.connection_invalidated:
            message = "The connection to the database broke; try again."
            raise ConnectionLost(message) from error
        if state in UNAVAILABLE or state.startswith((*UNAVAILABLE_CLASSES, "SQLITE_IOERR")):
            message = "The database cannot answer now; try again."
            raise Unavailable(message) from error
        raise
    except (OSError, TimeoutError) as error:
        message = "The database cannot be reached; try again."
        raise Unavailable(message) from error


def _prepare_sqlite(engine: AsyncEngine, *, begin: str, wait: int, query_only: bool) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - a driver's adapter
        # Python's driver begins transactions in its own way, too late for a lock; ours are below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {wait}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA query_only = {int(query_only)}")
        if not query_only:
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


class Key(TypeDecorator[str]):
    """A text to look up. PostgreSQL cannot take NUL; no key has it, and no key is empty."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Give the engine what it takes."""
        return "" if value is not None and "\x00" in value else value


class Keys(TypeDecorator[Sequence[str]]):
    """A list of texts to look up as one parameter: an array, or JSON in SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the engine's own type."""
        return dialect.type_descriptor(ARRAY(Text) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:  # noqa: ANN401
        """Give the engine what it takes."""
        keys = [text for text in value or () if "\x00" not in text]
        return keys if dialect.name == "postgresql" else orjson.dumps(keys).decode()


def texts(name: str) -> BindParameter[Sequence[str]]:
    """Return a parameter that takes a list of texts."""
    return bindparam(name, type_=Keys)


def texts_in(dialect: str, subject: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Return the condition that a column is one of the texts of a parameter."""
    if dialect == "postgresql":
        return subject == any_(texts(name))
    each = func.json_each(texts(name)).table_valued(column("value", Text))
    return subject.in_(select(each.c.value))


def rows_from(dialect: str, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """Return a relation from one parameter, the JSON text of a list of objects."""
    document = bindparam(name, type_=Text)
    if dialect == "postgresql":
        typed = [column(key, type_) for key, type_ in columns.items()]
        return (
            func.json_to_recordset(cast(document, JSON))
            .table_valued(*typed)
            .render_derived(name=name, with_types=True)
        )
    each = func.json_each(document).table_valued(column("value", Text))
    fields = [
        func.json_extract(each.c.value, f"$.{key}", type_=type_).label(key)
        for key, type_ in columns.items()
    ]
    return select(*fields).subquery(name)


def as_json(rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as the text that `rows_from` reads."""
    return orjson.dumps(list(rows)).decode()
