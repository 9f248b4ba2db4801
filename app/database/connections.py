"""Connections of a process to one database, SQLite or PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog

from app.database.address import describe_address, parse_address
from app.database.beginnings import Beginnings
from app.database.clocks import Clock
from app.database.compilation import AnyRow, Parameters, Statement, fetch_rows
from app.database.connectors import connectors
from app.database.faults import DatabaseFault, FaultTranslation, spoils_connection
from app.database.pool import DriverPool
from app.database.postgresql import IS_READONLY, READONLY
from app.database.session import DriverSession
from app.database.sqlite import require_writable_file
from app.errors import InventoryError
from app.runtime.batches import Batches
from app.runtime.deadlines import Deadline, Watch, database_deadline
from app.runtime.shares import Holder
from app.settings import Settings

log = structlog.get_logger()
Result = TypeVar("Result")


class DatabaseConnections:
    """The driver pools of one database, with time limits and fault translation."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = parse_address(settings.database_url)
        # `sqlite` or `postgresql`.
        self.dialect = self.url.get_backend_name()
        self.clock = Clock(self.url.database if self.dialect == "sqlite" else None)
        self.has_row_level_security = settings.row_level_security and self.dialect == "postgresql"
        connect, connect_writer = connectors(self.url, settings, self.clock)
        within = settings.database_pool_timeout_seconds
        self._pool = DriverPool(connect, size=settings.database_pool_size, within=within)
        # SQLite has one writer at a time, and a queue is fairer than polling for its lock.
        self._write_pool = (
            DriverPool(connect_writer, size=1, within=within)
            if self.dialect == "sqlite"
            else self._pool
        )
        self._beginnings = Beginnings(self.dialect, enters=self.has_row_level_security)
        self.fault_translation = FaultTranslation(self.address, self.drop_connections)
        self.watch = Watch()
        # Reads of one shape that wait for each other's statement.
        self.reads = Batches()
        self._under_way: set[asyncio.Task[Any]] = set()

    @property
    def address(self) -> str:
        """The address without credentials."""
        return describe_address(self.url)

    @property
    def connections_in_use(self) -> int:
        """The number of connections in use."""
        return sum(pool.in_use for pool in {self._pool, self._write_pool})

    @property
    def connections_awaited(self) -> int:
        """The number of callers that wait for a connection."""
        return sum(pool.awaited for pool in {self._pool, self._write_pool})

    async def rows(
        self, statement: Statement, parameters: Parameters, *, share: Holder
    ) -> Sequence[AnyRow]:
        """Execute a single statement without a transaction, and return its rows."""
        connection = await self._pool.acquire(share)
        is_spoiled = False
        try:
            return await fetch_rows(connection, self.dialect, statement, parameters)
        except BaseException as error:
            is_spoiled = spoils_connection(error)
            raise
        finally:
            self._pool.release(connection, share, drop=is_spoiled)

    async def session(
        self, *, single: bool, tenant_id: str | None = None, share: Holder = None
    ) -> DriverSession:
        """Open a session for reads, in a transaction unless it is for a single statement."""
        beginning = self._beginnings.read(tenant_id)
        if single and not self.has_row_level_security:
            beginning = ""
        return await self._open(self._pool, beginning, share)

    async def write_session(self, beginning: str, share: Holder) -> DriverSession:
        """Open a session for writes, in a transaction that begins by some statements."""
        return await self._open(self._write_pool, beginning, share)

    async def _open(self, pool: DriverPool, beginning: str, share: Holder) -> DriverSession:
        session = DriverSession(pool, await pool.acquire(share), self.dialect, share)
        if beginning:
            try:
                await session.begin(beginning)
            except BaseException:
                await session.close()
                raise
        return session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[DriverSession]:
        """Read one state of the database, in a session that can stream."""
        with self.fault_translation:
            session = await self.session(single=False)
            try:
                yield session
            finally:
                await session.close()

    def limit(self) -> AbstractContextManager[Any]:
        """Limit the database work of a block to the remaining time of the request."""
        return self.watch.for_database()

    def deadline(self) -> Deadline:
        """Return the deadline of database work for the current request."""
        return database_deadline()

    async def shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work that continues to its end if the caller is cancelled."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise

    def drop_connections(self) -> None:
        """Drop all connections: idle ones now, busy ones after their use."""
        for pool in {self._pool, self._write_pool}:
            pool.drop_all()

    async def require_writable(self) -> None:
        """Require a writable database; drop all connections to a read-only one.

        Raises:
            Unavailable: the database is read-only or unreachable.

        """
        with self.fault_translation:
            if self.dialect == "sqlite":
                require_writable_file(Path(self.url.database or ""))
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
            raise DatabaseFault(READONLY, address=self.address)

    async def dispose(self) -> None:
        """Wait for the work under way, then close all connections."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.reads.finish()
        for pool in {self._pool, self._write_pool}:
            await pool.close()


def _log_failure(abandoned: asyncio.Task[Any]) -> None:
    """Log the unexpected error of a task without a waiting caller."""
    error = None if abandoned.cancelled() else abandoned.exception()
    if error is not None and not isinstance(error, InventoryError):
        log.error("unexpected_error", exc_info=error)
