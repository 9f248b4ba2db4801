"""Transactions: the only code that commits, and the retry after conflicts and transient faults."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final, TypeVar

import structlog
from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.connections import DatabaseConnections, drop_connection
from app.database.faults import BUSY, MESSAGES, DatabaseFault, Fault, FaultKind
from app.database.session import Session
from app.database.sqlite import driver_connection
from app.errors import Unavailable
from app.runtime.batches import Batches
from app.runtime.deadlines import Deadline, OutOfTime, Uncertain
from app.runtime.shares import Shares
from app.settings import Settings

log = structlog.get_logger()
Result = TypeVar("Result")
ATTEMPTS: Final = 5
# Gives the current transaction access to the rows of a tenant.
ENTER_TENANT: Final = select(
    func.set_config("inventory.tenant", bindparam("tenant_id", type_=Text), True)  # noqa: FBT003
)
REPEATABLE: Final = {FaultKind.REPEATABLE, FaultKind.LOST}


class Commit(AbstractContextManager[None]):
    """The progress of a commit: from its start until its response, the outcome is unknown.

    Raises:
        Uncertain: on leaving the block, if the commit may have taken effect.

    """

    def __init__(self) -> None:
        self.is_under_way = False

    def may_repeat(self, fault: Fault) -> bool:
        """Check whether the transaction can be repeated after a fault."""
        return fault.kind in REPEATABLE and not (self.is_under_way and fault.is_ambiguous)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Replace an error that leaves the outcome unknown."""
        if not self.is_under_way:
            return
        if isinstance(error, OutOfTime) or (
            isinstance(error, DatabaseFault) and error.fault.is_ambiguous
        ):
            raise Uncertain(error.cause) from error


class Transactions(DatabaseConnections):
    """The transactions of a database."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # The writes of each tenant that wait for its lane.
        self.lanes = Batches()
        # The pool of the engine has no shares, so writes take a slot before a connection.
        self._write_slots = Shares(
            settings.database_pool_size if self.dialect == "postgresql" else 1,
            seconds=settings.database_pool_timeout_seconds,
            refusal=MESSAGES[FaultKind.EXHAUSTED],
        )

    async def transaction(
        self,
        work: Callable[[AsyncConnection], Awaitable[Result]],
        *,
        tenant_id: str | None = None,
    ) -> Result:
        """Execute and commit the work; repeat it after conflicts and transient faults.

        The work may run several times, so its only effects must be on its connection. The
        transaction continues to its end if the caller is cancelled.

        Raises:
            Unavailable: the database is unreachable or overloaded.
            Uncertain: the outcome of the commit is unknown.

        """
        attempt = partial(self._transact_once, work, tenant_id)
        return await self.shielded(self._repeated(attempt, self.deadline()))

    async def write(
        self,
        work: Callable[[Session], Awaitable[Result]],
        tenant_id: str,
        deadline: Deadline | None = None,
    ) -> Result:
        """Execute and commit work on the rows of a tenant, which is locked meanwhile.

        Transient faults repeat the work, so its only effects must be on its session. The
        transaction continues to its end if the caller is cancelled.

        Raises:
            Unavailable: the database is unreachable or overloaded.
            OutOfTime: the deadline, by default that of the request, ended the transaction.
            Uncertain: the outcome of the commit is unknown.

        """
        ends = self.deadline() if deadline is None else deadline
        attempt = partial(self._write_once, work, tenant_id)
        return await self.shielded(self._repeated(attempt, ends))

    async def _repeated(
        self, attempt_once: Callable[[Commit], Awaitable[Result]], deadline: Deadline
    ) -> Result:
        """Attempt a transaction until a deadline; repeat it after transient faults."""
        commit = Commit()
        with commit, self.watch.until(deadline):
            for attempt in range(1, ATTEMPTS + 1):
                commit.is_under_way = False
                try:
                    with self.fault_translation:
                        return await attempt_once(commit)
                except DatabaseFault as error:
                    if attempt == ATTEMPTS or not commit.may_repeat(error.fault):
                        raise
                    cause = str(error.fault)
                log.warning("transaction_retried", attempt=attempt, cause=cause)
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter
        raise Unavailable(BUSY)

    async def _write_once(
        self, work: Callable[[Session], Awaitable[Result]], tenant_id: str, commit: Commit
    ) -> Result:
        # On PostgreSQL, the pool of the session has the slots.
        slot = self._write_slots.slot(tenant_id) if self.dialect == "sqlite" else nullcontext()
        async with slot:
            session = await self.write_session(tenant_id)
            try:
                await session.lock_tenant(tenant_id, enters=self.has_row_level_security)
                result = await work(session)
                commit.is_under_way = True
                await session.commit()
            finally:
                await session.close()
        return result

    async def dispose(self) -> None:
        """Wait for the work under way, then close all connections."""
        await self.lanes.finish()
        await super().dispose()

    async def _transact_once(
        self,
        work: Callable[[AsyncConnection], Awaitable[Result]],
        tenant_id: str | None,
        commit: Commit,
    ) -> Result:
        async with self._write_slots.slot(tenant_id), self.connection(self.writer) as connection:
            await connection.begin()
            if self.has_row_level_security:
                await connection.execute(ENTER_TENANT, {"tenant_id": tenant_id or ""})
            result = await work(connection)
            if self.dialect == "sqlite":
                await _require_open(connection)
            commit.is_under_way = True
            try:
                await connection.commit()
            except BaseException:
                # SQLAlchemy considers the transaction ended, and would not roll it back.
                await drop_connection(connection)
                raise
        return result


async def _require_open(connection: AsyncConnection) -> None:
    """Require an open connection; SQLAlchemy skips the commit of a closed SQLite connection.

    Raises:
        ValueError: the connection is closed.

    """
    _ = (await driver_connection(connection)).in_transaction
