"""Sessions: connections in use.

SQLAlchemy Core builds and compiles every statement, and its engine manages the write transactions.
Reads, single-statement writes of PostgreSQL and all statements of SQLite are executed directly by
the driver, because the engine's overhead per statement exceeds the time of a short query.
"""

from collections.abc import Awaitable, Sequence
from typing import Final, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable

from app.database.compilation import AnyRow, DriverConnection, Parameters, Statement, fetch_rows
from app.database.faults import spoils_connection
from app.database.pool import DriverPool
from app.database.sqlite import ROLLBACK, SqliteConnection, driver_connection
from app.runtime.shares import Holder

Outcome = TypeVar("Outcome")
# PostgreSQL ends the transaction of a process that stalls while it holds the lock of a tenant.
MAX_STALL_MS: Final = 3_000


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

    async def lock_tenant(self, tenant_id: str, *, enters: bool) -> None:
        """Begin a transaction, and lock the tenant for its writes; SQLite locks the database.

        With `enters`, the transaction gets access to the rows of the tenant alone.
        """
        self._is_in_transaction = True
        await self._note_errors(self._connection.execute(_begin(self.dialect, tenant_id, enters)))

    async def commit(self) -> None:
        """Commit the transaction."""
        status = await self._note_errors(self._connection.execute("COMMIT"))
        self._is_in_transaction = False
        if status == ROLLBACK:
            message = "The transaction was rolled back instead of committed."
            raise RuntimeError(message)

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


def _begin(dialect: str, tenant_id: str, enters: bool) -> str:  # noqa: FBT001
    """Return the text that begins a transaction and locks a tenant, in one round trip."""
    if dialect == "sqlite":
        return "BEGIN IMMEDIATE"
    text = "'{}'".format(tenant_id.replace("'", "''"))
    entering = f"SELECT set_config('inventory.tenant', {text}, true); " if enters else ""
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED; "  # noqa: S608 - the id is quoted
        f"SET LOCAL idle_in_transaction_session_timeout = {MAX_STALL_MS}; {entering}"
        f"SELECT 1 FROM tenant WHERE tenant_id = {text} FOR NO KEY UPDATE"
    )
