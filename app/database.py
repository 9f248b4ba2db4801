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
    Coroutine,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from weakref import WeakValueDictionary

import asyncpg
import orjson
import structlog
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
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
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql import Executable
from sqlalchemy.types import TypeEngine

from app.clocks import FUNCTION, NOTE, Clock
from app.errors import Unavailable
from app.sessions import (
    ALL_IN_USE,
    CONNECT_SECONDS,
    AnyRow,
    ConnectionLost,
    DriverPool,
    DriverSession,
    LockTimeout,
    Parameters,
    Record,
    Session,
    connect_sqlite,
    fetched,
    state_of,
    translated,
)
from app.settings import Settings
from app.shares import Shares, Tenant

log = structlog.get_logger()

Result = TypeVar("Result")
Found = TypeVar("Found")
ATTEMPTS: Final = 5
# How a transaction begins that sees one state of the database.
SNAPSHOT: Final = {"postgresql": "ISOLATION LEVEL REPEATABLE READ READ ONLY", "sqlite": ""}
WAL: Final = "journal_mode = WAL"
QUERY_ONLY: Final = "query_only = 1"
# Opens what is the tenant's to a transaction, and to it alone.
ENTER: Final = select(func.set_config("inventory.tenant", bindparam("tenant", type_=Text), True))  # noqa: FBT003
# Serialization failure, deadlock; SQLite's one write lock.
RETRIED: Final = {"40001", "40P01", "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED"}


class Conflict(Exception):
    """The work of a transaction found that it has to start over."""


class Database:
    """One database of either engine, as a process uses it."""

    def __init__(self, settings: Settings) -> None:
        url = make_url(settings.database_url)
        # `sqlite` or `postgresql`.
        self.dialect = url.get_backend_name()
        self.clock = Clock(url.database if self.dialect == "sqlite" else None)
        self.is_walled = settings.row_level_security and self.dialect == "postgresql"
        options: dict[str, Any] = {
            "pool_size": settings.database_pool_size,
            "max_overflow": 0,
            "pool_timeout": settings.database_pool_timeout_seconds,
            "query_cache_size": 2_000,
            # What clients wrote is none of the log's business, when a statement fails.
            "hide_parameters": True,
        }
        if self.dialect == "postgresql":
            limits = {
                "application_name": "inventory",
                # In which JSON tells instants.
                "timezone": "UTC",
                "idle_in_transaction_session_timeout": "10000",
                "jit": "off",
                # That of disks without arms, so that what a bulk names is looked up.
                "random_page_cost": "1.1",
                # A plan for all parameters: to plan each time takes longer than what is planned.
                "plan_cache_mode": "force_generic_plan",
                "lock_timeout": str(settings.database_lock_timeout_ms),
                "statement_timeout": str(settings.database_statement_timeout_ms),
            }
            connect: dict[str, Any] = {"server_settings": limits, "timeout": CONNECT_SECONDS}
            self.writer = create_async_engine(url, **options, connect_args=connect)
            address = self.writer.dialect.create_connect_args(url)[1]
            open_one = partial(asyncpg.connect, **{**address, **connect}, record_class=Record)
            self.reader = self.writer.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        else:
            directory = Path(url.database or "").parent
            if not directory.is_dir():
                message = f"There is no directory {directory} for the database; create it first."
                raise Unavailable(message)
            # SQLite has one writer at a time: waiting in a pool is fairer than polling its lock.
            self.writer = create_async_engine(url, **{**options, "pool_size": 1})
            self.reader = create_async_engine(url, **options)
            pragmas = [
                f"busy_timeout = {settings.database_lock_timeout_ms}",
                "foreign_keys = ON",
                "synchronous = FULL",
            ]
            _prepare_sqlite(
                self.writer, self.clock, begin="BEGIN IMMEDIATE", pragmas=[*pragmas, WAL]
            )
            _prepare_sqlite(self.reader, self.clock, begin="BEGIN", pragmas=[*pragmas, QUERY_ONLY])
            open_one = partial(
                connect_sqlite, url.database or "", self.clock, pragmas=[*pragmas, QUERY_ONLY]
            )
        self._pool = DriverPool(
            open_one,
            size=settings.database_pool_size,
            within=settings.database_pool_timeout_seconds,
        )
        # In front of the engine's own pool, whose queue knows no tenants.
        self._writing = Shares(
            settings.database_pool_size if self.dialect == "postgresql" else 1,
            seconds=settings.database_pool_timeout_seconds,
            refusal=ALL_IN_USE,
        )
        self.turns = Turns(settings.database_pool_timeout_seconds)
        self._under_way: set[asyncio.Task[Any]] = set()

    def snapshot(
        self,
        *,
        single: bool = False,
        alone: bool = False,
        tenant: str | None = None,
        is_proven: bool = True,
    ) -> "Snapshot":
        """Read in transactions that each see one state of the database from first to last.

        A `single` statement needs no transaction for that, and no time to begin and end one; if it
        is `alone`, there is nothing beside it that could fail and have it cancelled.
        Behind the wall of row-level security there is nothing but what is the tenant's.
        Its connection counts for the share of the tenant; not if the tenant is only claimed, and
        its credential is yet to be checked.
        """
        share = tenant if is_proven else None
        return Snapshot(self, single=single, alone=alone, tenant=tenant, share=share)

    async def rows(
        self, statement: Executable, parameters: Parameters, *, share: Tenant
    ) -> Sequence[AnyRow]:
        """Return the rows of a statement that is a snapshot by itself."""
        connection = await self._pool.acquire(share)
        try:
            return await fetched(connection, self.dialect, statement, parameters)
        finally:
            self._pool.release(connection, share)

    async def session(
        self, *, single: bool, tenant: str | None = None, share: Tenant = None
    ) -> Session:
        """Return a connection that reads; in a transaction, unless it is for one statement."""
        session = DriverSession(self._pool, await self._pool.acquire(share), self.dialect, share)
        if not single or self.is_walled:
            try:
                await session.begin(SNAPSHOT[self.dialect])
                if self.is_walled:
                    await session.enter(tenant)
            except BaseException:
                await session.close()
                raise
        return session

    async def transaction(
        self,
        work: Callable[[AsyncConnection], Awaitable[Result]],
        *,
        tenant: str | None = None,
    ) -> Result:
        """Do the work and commit it; start over where the database says that this may help.

        The work may run several times, so it may have no effect but on its connection. A caller
        that is cancelled leaves the transaction to end by itself, one way or the other.
        """
        return await self.shielded(self._transact(work, tenant))

    async def optimistically(
        self,
        read: Callable[[Session], Awaitable[Found]],
        write: Callable[[Session, Found], Awaitable[bool]],
        *,
        tenant: str,
    ) -> Found | None:
        """Read, and write in a single statement, on PostgreSQL; return what was read.

        Each statement commits by itself. None: nothing was written, because what was read has
        changed since, or because locks are in the way; so it needs a transaction. Behind the wall
        of row-level security everything does.
        """
        if self.is_walled:
            return None

        async def attempt() -> Found | None:
            is_writing = False
            try:
                with translated():
                    session = await self.session(single=True, share=tenant)
                    try:
                        found = await read(session)
                        # From here on nobody knows whether it happened, unless it is told.
                        is_writing = True
                        return found if await write(session, found) else None
                    finally:
                        await session.close()
            except asyncpg.PostgresError as error:
                if state_of(error) not in RETRIED:
                    raise
            except ConnectionLost:
                if is_writing:
                    raise
            except LockTimeout:
                pass
            return None

        return await self.shielded(attempt())

    async def shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work that ends by itself when its caller is cancelled."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _transact(
        self, work: Callable[[AsyncConnection], Awaitable[Result]], tenant: str | None
    ) -> Result:
        for attempt in range(1, ATTEMPTS + 1):
            is_committing = False
            try:
                with translated():
                    async with self._writing.place(tenant), self.writer.connect() as connection:
                        await connection.begin()
                        if self.is_walled:
                            await connection.execute(ENTER, {"tenant": tenant or ""})
                        result = await work(connection)
                        # From here on nobody knows whether it happened.
                        is_committing = True
                        await connection.commit()
                        return result
            except (DBAPIError, sqlite3.Error) as error:
                if is_committing or state_of(error) not in RETRIED:
                    raise
                log.warning("transaction_retried", attempt=attempt, state=state_of(error))
            except Conflict:
                log.warning("transaction_retried", attempt=attempt, state="conflict")
            except ConnectionLost:
                if is_committing or attempt == ATTEMPTS:
                    raise
                log.warning("transaction_retried", attempt=attempt, state="connection lost")
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter
        message = "The database is busy with other writes; try again."
        raise Unavailable(message)

    async def dispose(self) -> None:
        """Let what is under way end, then close every connection."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.reader.dispose()
        await self.writer.dispose()
        await self._pool.close()


class Turns:
    """Has those who want the same thing go one after the other, within this process."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, things: Iterable[Any]) -> AsyncIterator[None]:
        """Wait for the turn of all of these things, which are taken in one order.

        Raises:
            Unavailable: it took too long.

        """
        wanted = sorted(things)
        is_free = not any(thing in self._locks for thing in wanted)
        async with AsyncExitStack() as turns:
            try:
                # There is a lock only as long as somebody has it or waits for it.
                async with nullcontext() if is_free else asyncio.timeout(self._seconds):
                    for thing in wanted:
                        lock = self._locks.setdefault(thing, asyncio.Lock())
                        await turns.enter_async_context(lock)
            except TimeoutError as error:
                message = "Too many writes wait for the same SKU; try again."
                raise Unavailable(message) from error
            yield


class NotSingle(Exception):
    """A snapshot of a single statement was asked for another one."""


class Snapshot:
    """One consistent view of the database, opened by its first statement.

    Sibling fields of a GraphQL operation run concurrently and a connection does one thing at a
    time, so statements queue here.
    """

    def __init__(
        self,
        database: Database,
        *,
        single: bool,
        alone: bool = False,
        tenant: str | None = None,
        share: Tenant = None,
    ) -> None:
        self.dialect = database.dialect
        self.statements = 0
        self._database = database
        self._single = single
        self._is_alone = single and alone
        self._tenant = tenant
        self._share = share
        self._session: Session | None = None
        self._turn = asyncio.Lock()

    @property
    def is_for_one(self) -> bool:
        """Whether a statement is to come, and nothing beside it: one field asks, and is alone."""
        return self._is_alone and not self.statements

    async def __aenter__(self) -> Self:
        """Open when asked for the first time."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        """Return all rows of a SELECT.

        Raises:
            NotSingle: it is not the first, and was to be the only one.

        A field that fails has its siblings cancelled. A statement cut short would cost the
        connection, and the rest of the operation its snapshot, so it runs to its end.

        """
        if self._is_alone:
            return await self._rows(statement, parameters)
        return await self._database.shielded(self._in_turn(statement, parameters))

    async def _in_turn(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        async with self._turn:
            return await self._rows(statement, parameters)

    async def _rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        self.statements += 1
        if self._single and self.statements > 1:
            raise NotSingle
        is_first = self._session is None
        try:
            return await self._execute(statement, parameters)
        except ConnectionLost:
            # A pooled connection may have died since it was used. Who has seen nothing yet may look
            # again; with one gone, the pool opens all of them anew.
            if not is_first:
                raise
            await self._give_back()
            return await self._execute(statement, parameters)
        finally:
            if self._single and self._session is not None:
                await self._give_back()

    async def close(self) -> None:
        """Give the connection back, also when cancelled; the next statement sees a later state."""
        if self._session is not None or self._turn.locked():
            await self._database.shielded(self._close())

    async def _close(self) -> None:
        async with self._turn:
            await self._give_back()

    async def _execute(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        with translated():
            if self._single and not self._database.is_walled:
                return await self._database.rows(statement, parameters, share=self._share)
            if self._session is None:
                self._session = await self._database.session(
                    single=self._single, tenant=self._tenant, share=self._share
                )
            return await self._session.rows(statement, parameters)

    async def _give_back(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with translated():
                await session.close()


def _prepare_sqlite(
    engine: AsyncEngine, clock: Clock, *, begin: str, pragmas: Iterable[str]
) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - a driver's adapter
        # Python's driver begins transactions in its own way, too late for a lock; ours are below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        connection.create_function(FUNCTION, 1, clock.as_function)
        kept = []
        for name in NOTE:
            cursor.execute(f"PRAGMA {name}")
            kept.append(cursor.fetchone()[0])
        clock.take_over(*kept)
        if begin == "BEGIN IMMEDIATE" and (note := clock.note()):
            for name, number in zip(NOTE, note, strict=True):
                cursor.execute(f"PRAGMA {name} = {number}")
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
    # Kept apart by its limit, it is made once and looked up in; else it is read for every row.
    return select(*fields).limit(-1).subquery(name)


def as_json(rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as the text that `rows_from` reads."""
    return orjson.dumps(list(rows)).decode()
