"""Sessions: connections in use.

SQLAlchemy Core builds and compiles every statement, and the driver executes it: the overhead of
SQLAlchemy's engine per statement exceeds the time of a short query.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Table, select, text
from sqlalchemy.sql import Executable

from app.database.compilation import (
    AnyRow,
    DriverConnection,
    Parameters,
    Statement,
    fetch_rows,
    prepare_statement,
    stream_batches,
)
from app.database.faults import RolledBack, spoils_connection
from app.database.parameters import as_json, column_types, rows_from
from app.database.pool import DriverPool
from app.database.postgresql import PostgresqlConnection
from app.database.sqlite import ROLLBACK
from app.runtime.shares import Holder

Outcome = TypeVar("Outcome")
INSERTED_ROWS: Final = 5_000
NO_PARAMETERS: Final[Parameters] = MappingProxyType({})


class Session(Protocol):
    """A connection in use, of either database."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows."""


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

    async def begin(self, statements: str) -> None:
        """Begin a transaction by these statements; `close` rolls it back."""
        # The transaction may be open even if the response is lost.
        self._is_in_transaction = True
        await self._note_errors(self._connection.execute(statements))

    async def lift_statement_limit(self) -> None:
        """Let the statements of the transaction take any time; pauses keep their limit."""
        if self.dialect == "postgresql":
            self._limit_answers(limited=False)
            await self.execute(text("SET LOCAL statement_timeout = 0"))

    async def lift_time_limits(self) -> None:
        """Let the statements of the transaction and the pauses between them take any time."""
        await self.lift_statement_limit()
        if self.dialect == "postgresql":
            await self.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))

    async def commit(self) -> None:
        """Commit the transaction."""
        status = await self._note_errors(self._connection.execute("COMMIT"))
        self._is_in_transaction = False
        if status == ROLLBACK:
            message = "The transaction was rolled back instead of committed."
            raise RolledBack(message)

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a statement and return its rows."""
        return await self._note_errors(
            fetch_rows(self._connection, self.dialect, statement, parameters)
        )

    async def execute(
        self, statement: Executable, parameters: Parameters = NO_PARAMETERS
    ) -> Sequence[AnyRow]:
        """Execute a statement that is built for this use alone, and return its rows."""
        return await self.rows(prepare_statement(statement, self.dialect), parameters)

    async def scalar(self, statement: Executable, parameters: Parameters = NO_PARAMETERS) -> Any:  # noqa: ANN401
        """Execute a statement that is built for this use alone, and return its first value."""
        rows = await self.execute(statement, parameters)
        return rows[0][0] if rows else None

    async def insert(self, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert rows of the same columns, at most INSERTED_ROWS by one statement."""
        if not rows:
            return
        insertion = _insertion(table, self.dialect, tuple(rows[0]))
        statement = prepare_statement(insertion, self.dialect)
        for start in range(0, len(rows), INSERTED_ROWS):
            batch = as_json(rows[start : start + INSERTED_ROWS])
            await self.rows(statement, {"rows": batch})

    async def stream(
        self, statement: Executable, parameters: Parameters, *, size: int
    ) -> AsyncIterator[Sequence[AnyRow]]:
        """Yield the rows of a statement in batches."""
        prepared = prepare_statement(statement, self.dialect)
        batches = stream_batches(self._connection, self.dialect, prepared, parameters, size=size)
        try:
            async for rows in batches:
                yield rows
        except BaseException as error:
            self._is_spoiled = self._is_spoiled or spoils_connection(error)
            raise

    async def close(self) -> None:
        """Roll back the transaction, if any, and release the connection; drop it after a fault."""
        self._limit_answers(limited=True)
        try:
            is_open = not self._is_spoiled and not self._connection.is_closed()
            if self._is_in_transaction and is_open:
                await self._note_errors(self._connection.execute(ROLLBACK))
        except BaseException:
            self._is_spoiled = True
            raise
        finally:
            self._pool.release(self._connection, self._share, drop=self._is_spoiled)

    def _limit_answers(self, *, limited: bool) -> None:
        if isinstance(self._connection, PostgresqlConnection):
            self._connection.limit_answers(limited=limited)

    async def _note_errors(self, work: Awaitable[Outcome]) -> Outcome:
        try:
            return await work
        except BaseException as error:
            self._is_spoiled = self._is_spoiled or spoils_connection(error)
            raise


def _insertion(table: Table, dialect: str, names: Sequence[str]) -> Executable:
    """Return the INSERT of the JSON text `rows` with some columns."""
    types = column_types(table)
    source = rows_from(dialect, "rows", {name: types[name] for name in names})
    return table.insert().from_select(names, select(*source.c))
