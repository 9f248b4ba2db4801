"""Sessions: connections in use.

SQLAlchemy Core builds and compiles every statement, and its engine manages the write transactions.
Reads, single-statement writes of PostgreSQL and all statements of SQLite are executed directly by
the driver, because the engine's overhead per statement exceeds the time of a short query.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable

from app.database.compilation import AnyRow, DriverConnection, Parameters, Statement, fetch_rows
from app.database.faults import spoils_connection
from app.database.pool import DriverPool
from app.database.sqlite import ROLLBACK, SqliteConnection, driver_connection
from app.runtime.shares import Holder

Outcome = TypeVar("Outcome")


class Session(Protocol):
    """A connection in use, of either database."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows."""

    async def close(self) -> None:
        """End the transaction, if any, and release the connection."""


class EngineSession:
    """A connection of SQLAlchemy's engine. Statements of SQLite go directly to the driver."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.dialect = connection.dialect.name
        self.close = connection.close
        self._connection = connection
        self._driver: SqliteConnection | None = None

    async def rows(self, statement: Executable, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows."""
        if self.dialect == "sqlite":
            if self._driver is None:
                self._driver = SqliteConnection(await driver_connection(self._connection))
            return await fetch_rows(self._driver, self.dialect, statement, parameters)
        result = await self._connection.execute(statement, parameters)
        return result.all() if result.returns_rows else []


class DriverSession:
    """A pooled driver connection, charged to the share of a holder."""

    def __init__(
        self, pool: DriverPool, connection: DriverConnection, dialect: str, share: Holder
    ) -> None:
        self.dialect = dialect
        self._pool = pool
        self._share = share
        self._connection = connection
        self._is_in_transaction = False
        self._is_spoiled = False

    async def begin(self, options: str) -> None:
        """Begin a transaction; `close` rolls it back."""
        # The transaction may be open even if the response is lost.
        self._is_in_transaction = True
        await self._note_errors(self._connection.execute(f"BEGIN {options}"))

    async def enter_tenant(self, tenant_id: str | None) -> None:
        """Give the transaction access to the rows of a tenant."""
        statement = "SELECT set_config('inventory.tenant', $1, true)"
        await self._note_errors(self._connection.fetch(statement, tenant_id or ""))

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows."""
        return await self._note_errors(
            fetch_rows(self._connection, self.dialect, statement, parameters)
        )

    async def close(self) -> None:
        """Roll back the transaction, if any, and release the connection; drop it after a fault."""
        try:
            is_open = not self._is_spoiled and not self._connection.is_closed()
            if self._is_in_transaction and is_open:
                await self._note_errors(self._connection.execute(ROLLBACK))
        except BaseException:
            self._is_spoiled = True
            raise
        finally:
            self._pool.release(self._connection, self._share, drop=self._is_spoiled)

    async def _note_errors(self, work: Awaitable[Outcome]) -> Outcome:
        try:
            return await work
        except BaseException as error:
            self._is_spoiled = self._is_spoiled or spoils_connection(error)
            raise
