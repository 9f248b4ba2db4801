"""Consistent reads."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Self

from app.database.compilation import AnyRow, Parameters, Statement
from app.database.connections import DatabaseConnections
from app.database.faults import (
    READ_ATTEMPTS,
    ConnectionLost,
    DatabaseFault,
    is_serialization_failure,
    pause_seconds,
)
from app.database.session import DriverSession
from app.runtime.batches import MAX_BATCH_SIZE, Pending
from app.runtime.deadlines import Deadline
from app.runtime.shares import Holder

# The size of a joined read in a batch: a statement reads at most a hundred keys.
JOINED_SIZE: Final = MAX_BATCH_SIZE // 100


class QueuedKey(NamedTuple):
    """A key to read, and the deadline of its request."""

    key: Any
    deadline: Deadline


# Reads the results of keys in their order, by one statement.
ReadTogether = Callable[["Snapshot", Sequence[Any]], Awaitable[Sequence[Any]]]


class Snapshot:
    """A single state of the database, fixed by the first statement.

    Sibling fields of a GraphQL operation are resolved concurrently, but a connection executes one
    statement at a time, so their statements wait for each other here.
    """

    def __init__(
        self,
        connections: DatabaseConnections,
        *,
        single: bool,
        alone: bool = False,
        tenant_id: str | None = None,
        share: Holder = None,
    ) -> None:
        self.dialect = connections.dialect
        self.statements = 0
        # Called before each statement. If it raises, the statement is not executed.
        self.guard: Callable[[], None] = _permit
        self._connections = connections
        self._single = single
        self._is_alone = single and alone
        self._tenant_id = tenant_id
        self._share = share
        self._session: DriverSession | None = None
        # A failed statement may have ended the transaction, so later statements fail too.
        self._failure: Exception | None = None
        self._turn = asyncio.Lock()
        # Held by a field from the plan of its statement until the rows are charged. So no other
        # field plans by the part of a budget that this one spends.
        self.planning = asyncio.Lock()

    @property
    def awaits_only_statement(self) -> bool:
        """Whether the next statement is the only one, without concurrent fields."""
        return self._is_alone and not self.statements

    async def __aenter__(self) -> Self:
        """Return the snapshot; its first statement opens a session."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the snapshot."""
        await self.close()

    @property
    def may_join(self) -> bool:
        """Whether the next statement may be shared with other requests of the tenant."""
        return self.awaits_only_statement and not self._connections.has_row_level_security

    async def join(self, shape: Hashable, key: object, read: "ReadTogether") -> Any:  # noqa: ANN401
        """Read the result of a key by one statement with the keys of other requests that wait.

        The statement is sent after the call, so it sees all that was acknowledged before.
        """
        self.statements += 1
        connections, tenant_id = self._connections, self._tenant_id
        read_batch = partial(_read_batch, connections, tenant_id, read)
        deadline = connections.deadline()
        queued = QueuedKey(key, deadline)
        with connections.watch.until(deadline):
            return await connections.reads.submit(
                (tenant_id, shape), queued, read_batch, size=JOINED_SIZE
            )

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        """Execute a SELECT and return its rows.

        The statement is finished even if the caller is cancelled, as siblings of a failed field
        are. An aborted statement would cost the connection and the snapshot of the operation.
        """
        if self._is_alone:
            return await self._rows(statement, parameters)
        return await self._connections.shielded(self._rows_in_turn(statement, parameters))

    async def _rows_in_turn(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        async with self._turn:
            return await self._rows(statement, parameters)

    async def _rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        self.statements += 1
        if self._single and self.statements > 1:
            message = "A snapshot for a single statement cannot execute a second one."
            raise RuntimeError(message)
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        self.guard()
        try:
            with self._connections.limit():
                try:
                    return await self._execute_or_reconnect(statement, parameters)
                finally:
                    if self._single and self._session is not None:
                        await self._release()
        except Exception as error:
            self._failure = error
            raise

    async def _execute_or_reconnect(
        self, statement: Statement, parameters: Parameters
    ) -> Sequence[AnyRow]:
        """Execute a statement; the first one of a snapshot can be repeated.

        An idle connection of the pool may have broken: all are dropped then. Or the isolation level
        of the server does not let the statement run beside a write.
        """
        is_first = self._session is None
        for attempt in range(1, READ_ATTEMPTS):
            try:
                return await self._execute(statement, parameters)
            except DatabaseFault as error:
                is_lost = isinstance(error, ConnectionLost) and attempt == 1
                if not is_first or not (is_lost or is_serialization_failure(error)):
                    raise
            await self._release()
            await asyncio.sleep(pause_seconds(attempt))
        return await self._execute(statement, parameters)

    async def _execute(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        with self._connections.fault_translation:
            if self._single and not self._connections.has_row_level_security:
                return await self._connections.rows(statement, parameters, share=self._share)
            if self._session is None:
                self._session = await self._connections.session(
                    single=self._single, tenant_id=self._tenant_id, share=self._share
                )
            return await self._session.rows(statement, parameters)

    async def close(self) -> None:
        """Release the connection, even if cancelled. A later statement sees a later state."""
        if self._session is not None or self._turn.locked():
            await self._connections.shielded(self._close())

    async def _close(self) -> None:
        async with self._turn:
            self._failure = None
            with self._connections.limit():
                await self._release()

    async def _release(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with self._connections.fault_translation:
                await session.close()


def _permit() -> None:
    """Permit a statement."""


async def _read_batch(
    connections: DatabaseConnections,
    tenant_id: str | None,
    read: ReadTogether,
    batch: Sequence[Pending],
) -> None:
    """Read the results of a batch of keys by one statement."""
    deadline = max(pending.item.deadline for pending in batch)
    with connections.watch.until(deadline):
        async with Snapshot(
            connections, single=True, alone=True, tenant_id=tenant_id, share=tenant_id
        ) as snapshot:
            results = await read(snapshot, [pending.item.key for pending in batch])
    for pending, result in zip(batch, results, strict=True):
        pending.succeed(result)
