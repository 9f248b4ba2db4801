"""The engines: consistent reads, retried transactions, and the only place that commits.

Statements are SQLAlchemy Core. `texts_in` and `rows_from` are the two ways in which many values
travel as one bind parameter on either engine.
"""

import asyncio
import os
import random
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Hashable,
    Iterable,
    Sequence,
)
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from typing import cast as cast_type
from weakref import WeakValueDictionary

import aiosqlite
import asyncpg
import structlog
from sqlalchemy import Connection, Text, bindparam, event, func, make_url, select
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from app.database.clocks import FUNCTION, NOTE, Clock
from app.database.compilation import MAX_STATEMENTS, AnyRow, Parameters, Record, Statement, fetched
from app.database.faults import (
    BUSY,
    MESSAGES,
    ConnectionLost,
    DatabaseFault,
    Fault,
    Kind,
    fault_of,
    spoils_connection,
    unavailable,
)
from app.database.pool import CONNECT_SECONDS, DriverPool
from app.database.session import (
    DriverSession,
    PostgresqlConnection,
    Session,
    connect_sqlite,
    interrupt_sqlite,
)
from app.errors import InventoryError, Unavailable
from app.runtime.deadlines import OutOfTime, Uncertain, Watch
from app.runtime.shares import Shares, Tenant
from app.settings import Settings

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
# Whether PostgreSQL lets a new transaction write: a standby does not.
IS_READONLY: Final = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
READONLY: Final = Fault(Kind.READONLY, "25006", "the server is a standby, or read-only")
REPEATED: Final = {Kind.REPEATABLE, Kind.LOST}
# After these a write without locks is done once more, under locks.
LOCKED_TOO: Final = {*REPEATED, Kind.LOCKED}
GENERATION: Final = "generation"


class Conflict(Exception):
    """The work of a transaction found that it has to start over."""


class Database:
    """One database of either engine, as a process uses it."""

    def __init__(self, settings: Settings) -> None:
        url = make_url(settings.database_url)
        self._url = url
        # Counts how often every open connection was dropped.
        self._generation = 0
        self._watch = Watch()
        # `sqlite` or `postgresql`.
        self.dialect = url.get_backend_name()
        self.clock = Clock(url.database if self.dialect == "sqlite" else None)
        self.is_walled = settings.row_level_security and self.dialect == "postgresql"
        options: dict[str, Any] = {
            "pool_size": settings.database_pool_size,
            "max_overflow": 0,
            "pool_timeout": settings.database_pool_timeout_seconds,
            "query_cache_size": MAX_STATEMENTS,
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
            connect: dict[str, Any] = {
                "server_settings": limits,
                "timeout": CONNECT_SECONDS,
                "connection_class": PostgresqlConnection,
            }
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
            refusal=MESSAGES[Kind.EXHAUSTED],
        )
        for pool in {self.writer.sync_engine.pool, self.reader.sync_engine.pool}:
            self._drop_outdated(pool)
        self.translated = Translation(self)
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
        self, statement: Statement, parameters: Parameters, *, share: Tenant
    ) -> Sequence[AnyRow]:
        """Return the rows of a statement that is a snapshot by itself."""
        connection = await self._pool.acquire(share)
        is_spoiled = False
        try:
            return await fetched(connection, self.dialect, statement, parameters)
        except BaseException as error:
            is_spoiled = spoils_connection(error)
            raise
        finally:
            self._pool.release(connection, share, drop=is_spoiled)

    async def session(
        self, *, single: bool, tenant: str | None = None, share: Tenant = None
    ) -> DriverSession:
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
        attempt = self._optimistically(read, write, tenant)
        return await self.shielded(attempt)

    async def _optimistically(
        self,
        read: Callable[[Session], Awaitable[Found]],
        write: Callable[[Session, Found], Awaitable[bool]],
        tenant: str,
    ) -> Found | None:
        commit = Commit()
        with commit, self.limit(), self.translated:
            session = await self.session(single=True, share=tenant)
            try:
                found = await read(session)
                # From here on it may have happened, unless the server says otherwise.
                commit.is_under_way = True
                return found if await write(session, found) else None
            except BaseException as error:
                fault = fault_of(error)
                if fault and commit.may_repeat(fault, LOCKED_TOO):
                    return None
                raise
            finally:
                await session.close()

    async def shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work that ends by itself when its caller is cancelled."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_note_end)
            raise

    async def _transact(
        self, work: Callable[[AsyncConnection], Awaitable[Result]], tenant: str | None
    ) -> Result:
        commit = Commit()
        with commit, self.limit():
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await self._attempt(work, tenant, commit)
                except Conflict:
                    cause = "conflict"
                except DatabaseFault as error:
                    if attempt == ATTEMPTS or not commit.may_repeat(error.fault, REPEATED):
                        raise
                    cause = str(error.fault)
                log.warning("transaction_retried", attempt=attempt, cause=cause)
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter
        raise Unavailable(BUSY)

    async def _attempt(
        self,
        work: Callable[[AsyncConnection], Awaitable[Result]],
        tenant: str | None,
        commit: "Commit",
    ) -> Result:
        commit.is_under_way = False
        async with self._writing.place(tenant), self.connection(self.writer) as connection:
            await connection.begin()
            if self.is_walled:
                await connection.execute(ENTER, {"tenant": tenant or ""})
            result = await work(connection)
            if self.dialect == "sqlite":
                await _require_open(connection)
            # From here on it may have happened, unless the server says otherwise.
            commit.is_under_way = True
            try:
                await connection.commit()
            except BaseException:
                # SQLAlchemy holds the transaction for ended, and would not roll it back.
                await _drop(connection)
                raise
        return result

    @asynccontextmanager
    async def connection(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Use a connection of an engine, which is dropped if the work leaves it in doubt.

        SQLAlchemy's own context gives it back in a task that a cancellation does not reach.
        """
        with self.translated:
            connection = await engine.connect()
            try:
                yield connection
            except Conflict:
                raise
            except BaseException as error:
                if spoils_connection(error):
                    await _drop(connection)
                raise
            finally:
                await connection.close()

    def limit(self) -> AbstractContextManager[Any]:
        """Limit the time of a block of work by what is left for the current request."""
        return self._watch.for_database()

    @property
    def where(self) -> str:
        """The address without the credentials."""
        if self.dialect == "sqlite":
            return f"sqlite {self._url.database}"
        host = self._url.host or self._url.query.get("host") or "localhost"
        return f"postgresql {host}:{self._url.port or 5432}/{self._url.database}"

    def drop_connections(self) -> None:
        """Drop every open connection: the idle ones at once, the others after their use."""
        self._generation += 1
        self._pool.drop_all()

    def _drop_outdated(self, pool: Pool) -> None:
        """Have an engine's pool open a new connection in place of an outdated one."""

        @event.listens_for(pool, "connect")
        def on_connect(_connection: object, record: ConnectionPoolEntry) -> None:
            record.info[GENERATION] = self._generation

        @event.listens_for(pool, "checkout")
        def on_checkout(_connection: object, record: ConnectionPoolEntry, _fairy: object) -> None:
            if record.info[GENERATION] != self._generation:
                raise DisconnectionError

    async def require_writable(self) -> None:
        """Refuse a database that takes no writes, and drop the connections that lead to it.

        Raises:
            Unavailable: it takes none, or cannot be asked.

        """
        with self.translated:
            if self.dialect == "sqlite":
                require_writable_file(Path(self._url.database or ""))
                return
            connection = await self._pool.acquire()
            is_spoiled = True
            try:
                [[is_readonly]] = await connection.fetch(IS_READONLY)
                is_spoiled = is_readonly
            finally:
                self._pool.release(connection, drop=is_spoiled)
        if is_readonly:
            self.drop_connections()
            raise DatabaseFault(READONLY, where=self.where)

    async def dispose(self) -> None:
        """Let what is under way end, then close every connection."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.reader.dispose()
        await self.writer.dispose()
        await self._pool.close()


class Commit(AbstractContextManager[None]):
    """Whether a commit is under way, so that a failure may hide that it happened.

    Raises:
        Uncertain: on leaving the block, if it may have.

    """

    def __init__(self) -> None:
        self.is_under_way = False

    def may_repeat(self, fault: Fault, kinds: Collection[Kind]) -> bool:
        """Tell whether the work of a transaction may be done once more after a fault."""
        return fault.kind in kinds and not (self.is_under_way and fault.is_ambiguous)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Say if the outcome is not known."""
        if not self.is_under_way:
            return
        if isinstance(error, OutOfTime) or (
            isinstance(error, DatabaseFault) and error.fault.is_ambiguous
        ):
            raise Uncertain(error.cause) from error


class Translation(AbstractContextManager[None]):
    """Turns known faults of a database into `Unavailable`, and notes their cause in the log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Translate an error if it is a known fault."""
        if error is None or isinstance(error, InventoryError):
            return
        fault = fault_of(error)
        if fault is None:
            return
        where = self._database.where
        log.warning("database_fault", where=where, state=fault.state, cause=fault.text)
        if fault.drops_all_connections:
            self._database.drop_connections()
        raise unavailable(fault, where=where) from error


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
        self._session: DriverSession | None = None
        # A statement that failed may have ended the transaction: none is executed after it.
        self._failure: Exception | None = None
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

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        """Return all rows of a SELECT.

        Raises:
            NotSingle: it is not the first, and was to be the only one.

        A field that fails has its siblings cancelled. A statement cut short would cost the
        connection, and the rest of the operation its snapshot, so it runs to its end.

        """
        if self._is_alone:
            return await self._rows(statement, parameters)
        return await self._database.shielded(self._in_turn(statement, parameters))

    async def _in_turn(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        async with self._turn:
            return await self._rows(statement, parameters)

    async def _rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        self.statements += 1
        if self._single and self.statements > 1:
            raise NotSingle
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            with self._database.limit():
                return await self._first_or_next(statement, parameters)
        except Exception as error:
            self._failure = error
            raise
        finally:
            if self._single and self._session is not None:
                await self._give_back()

    async def _first_or_next(
        self, statement: Statement, parameters: Parameters
    ) -> Sequence[AnyRow]:
        is_first = self._session is None
        try:
            return await self._execute(statement, parameters)
        except ConnectionLost:
            # A pooled connection may have died since it was used. Nothing was read yet, so the
            # statement may be executed again; all old connections were dropped.
            if not is_first:
                raise
            await self._give_back()
            return await self._execute(statement, parameters)

    async def close(self) -> None:
        """Give the connection back, also when cancelled; the next statement sees a later state."""
        if self._session is not None or self._turn.locked():
            await self._database.shielded(self._close())

    async def _close(self) -> None:
        async with self._turn:
            self._failure = None
            with self._database.limit():
                await self._give_back()

    async def _execute(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        with self._database.translated:
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
            with self._database.translated:
                await session.close()


def require_writable_file(file: Path) -> None:
    """Refuse a SQLite file that this process cannot write.

    Raises:
        Unavailable: the file or its directory is missing, or read-only.

    """
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        raise DatabaseFault(Fault(Kind.READONLY, "", "the file is not writable"), where=str(file))


def _note_end(abandoned: asyncio.Task[Any]) -> None:
    """Log how work ended whose caller did not wait; a refusal is no news."""
    error = None if abandoned.cancelled() else abandoned.exception()
    if error is not None and not isinstance(error, InventoryError):
        log.error("unexpected_error", exc_info=error)


async def _require_open(connection: AsyncConnection) -> None:
    """Refuse a closed connection, whose commit SQLAlchemy's adapter for SQLite leaves out."""
    pooled = await connection.get_raw_connection()
    _ = cast_type("aiosqlite.Connection", pooled.driver_connection).in_transaction


async def _drop(connection: AsyncConnection) -> None:
    """Drop a connection of an engine; its statement may be under way."""
    if connection.dialect.name == "sqlite" and not connection.invalidated:
        pooled = await connection.get_raw_connection()
        interrupt_sqlite(cast_type("aiosqlite.Connection", pooled.driver_connection))
    await connection.invalidate()


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
