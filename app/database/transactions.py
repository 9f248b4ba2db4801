"""Transactions of driver connections, and their retry after transient faults."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import structlog

from app.database.connections import DatabaseConnections
from app.database.faults import BUSY, DatabaseFault, Fault, FaultKind, RolledBack, spoils_connection
from app.database.session import DriverSession
from app.errors import InventoryError, Unavailable
from app.runtime.batches import Batches
from app.runtime.deadlines import Deadline, OutOfTime, Uncertain
from app.runtime.metrics import RETRIES
from app.settings import Settings

log = structlog.get_logger()
Result = TypeVar("Result")
ATTEMPTS: Final = 5
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
        if not self.is_under_way or not isinstance(error, Exception):
            return
        if isinstance(error, OutOfTime) or (
            isinstance(error, DatabaseFault) and error.fault.is_ambiguous
        ):
            raise Uncertain(error.cause) from error
        # An unknown error, for example a fault of the driver, says nothing about the commit.
        if spoils_connection(error) and not isinstance(error, (InventoryError, RolledBack)):
            raise Uncertain(f"{type(error).__name__}: {error}") from error


class Transactions(DatabaseConnections):
    """The transactions of a database."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # The writes of each tenant that wait for its lane.
        self.lanes = Batches()

    async def transaction(
        self,
        work: Callable[[DriverSession], Awaitable[Result]],
        *,
        tenant_id: str | None = None,
    ) -> Result:
        """Execute and commit work without the lock of a tenant.

        Retries, cancellation and errors are those of `write`.
        """
        once = partial(self._once, work, self._beginnings.write(tenant_id), tenant_id)
        return await self.shielded(self._repeated(once, self.deadline()))

    async def write(
        self,
        work: Callable[[DriverSession], Awaitable[Result]],
        tenant_id: str,
        deadline: Deadline | None = None,
    ) -> Result:
        """Lock a tenant, and execute and commit work on its rows.

        Transient faults repeat the work, so its only effects must be on its session. The
        transaction continues to its end if the caller is cancelled.

        Raises:
            Unavailable: the database is unreachable or overloaded.
            OutOfTime: the deadline, by default that of the request, ended the transaction.
            Uncertain: the outcome of the commit is unknown.

        """
        ends = self.deadline() if deadline is None else deadline
        once = partial(self._once, work, self._beginnings.lane(tenant_id), tenant_id)
        return await self.shielded(self._repeated(once, ends))

    @asynccontextmanager
    async def writing(self, tenant_id: str) -> AsyncIterator[DriverSession]:
        """Lock a tenant, and write in one session that may take long; commit at the end.

        A fault or a cancellation ends the transaction, and nothing is written.

        Raises:
            Uncertain: the outcome of the commit is unknown.

        """
        commit = Commit()
        with commit, self.fault_translation:
            session = await self.write_session(self._beginnings.lane(tenant_id), tenant_id)
            try:
                await session.lift_time_limits()
                yield session
                commit.is_under_way = True
                await session.commit()
            finally:
                await session.close()

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
                RETRIES.inc()
                log.warning("transaction_retried", attempt=attempt, cause=cause)
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter
        raise Unavailable(BUSY)

    async def _once(
        self,
        work: Callable[[DriverSession], Awaitable[Result]],
        beginning: str,
        tenant_id: str | None,
        commit: Commit,
    ) -> Result:
        session = await self.write_session(beginning, tenant_id)
        try:
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
