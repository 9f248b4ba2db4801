"""Transactions of driver connections, and their retry after transient faults."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final, TypeVar

import structlog

from app.database.connections import DatabaseConnections
from app.database.faults import (
    BUSY,
    DatabaseFault,
    Fault,
    FaultKind,
    RolledBack,
    pause_seconds,
    spoils_connection,
)
from app.database.session import DriverSession
from app.errors import InventoryError, Unavailable
from app.runtime.batches import Batches
from app.runtime.deadlines import Deadline, OutOfTime, Uncertain
from app.runtime.metrics import RETRIES
from app.settings import Settings

log = structlog.get_logger()
Result = TypeVar("Result")
# Returns the statements that begin a transaction, from the milliseconds to wait for its lock.
Beginning = Callable[[int], str]
ATTEMPTS: Final = 5
# A write with less time left does not wait for a lock again.
LAST_MS: Final = 50
REPEATABLE: Final = {FaultKind.REPEATABLE, FaultKind.LOST}
CONTENDED: Final = {FaultKind.REPEATABLE, FaultKind.LOCKED}


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


@dataclass
class LockWait:
    """The wait of transactions for other ones, since the first that failed."""

    # When the first attempt began that failed; infinite after a success.
    since: float = math.inf
    # Whether the last attempt failed because of another transaction.
    is_blocked: bool = False


@dataclass
class LockTime:
    """The time of a write for a lock. It starts with the wait, or when the write comes later."""

    wait: LockWait
    queued_at: float
    limit_ms: int
    # When the last attempt began; infinite if it did not get a connection.
    began: float = math.inf

    @property
    def left_ms(self) -> int:
        """The milliseconds that are left."""
        waited = time.monotonic() - max(self.wait.since, self.queued_at)
        return self.limit_ms - math.ceil(1000 * max(waited, 0))

    async def begin(self, session: DriverSession, beginning: Beginning) -> None:
        """Begin a transaction within the time that is left."""
        self.began = time.monotonic()
        await session.begin(beginning(max(self.left_ms, 1)))

    def end(self, fault: Fault | None = None) -> None:
        """Note the end of an attempt, by a fault or without one."""
        began, self.began = self.began, math.inf
        self.wait.since = min(self.wait.since, began) if fault else math.inf
        self.wait.is_blocked = fault is not None and fault.kind in CONTENDED


AttemptOnce = Callable[[Commit, LockTime], Awaitable[Result]]


class Transactions(DatabaseConnections):
    """The transactions of a database."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # The waits of the lanes that are blocked or under way. SQLite has one lock for all.
        self._lock_waits: dict[str, LockWait] = {}
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
        beginning = partial(self._beginnings.write, tenant_id)
        once = partial(self._once, work, beginning, tenant_id)
        lock = self._lock_time(LockWait(), time.monotonic())
        return await self.shielded(self._repeated(once, self.deadline(), lock))

    async def write(
        self,
        work: Callable[[DriverSession], Awaitable[Result]],
        tenant_id: str,
        deadline: Deadline | None = None,
        *,
        queued_at: float | None = None,
    ) -> Result:
        """Lock a tenant, and execute and commit work on its rows.

        Transient faults repeat the work, so its only effects must be on its session. The
        transaction continues to its end if the caller is cancelled. The lock timeout begins at the
        monotonic time `queued_at`, by default now, if the lock could not be got since then.

        Raises:
            Unavailable: the database is unreachable or overloaded.
            OutOfTime: the deadline, by default that of the request, ended the transaction.
            Uncertain: the outcome of the commit is unknown.

        """
        ends = self.deadline() if deadline is None else deadline
        once = partial(self._once, work, partial(self._beginnings.lane, tenant_id), tenant_id)
        since = time.monotonic() if queued_at is None else queued_at
        return await self.shielded(self._write(once, tenant_id, ends, since))

    async def _write(
        self, once: AttemptOnce[Result], tenant_id: str, deadline: Deadline, queued_at: float
    ) -> Result:
        key = self._lock_key(tenant_id)
        wait = self._lock_waits.setdefault(key, LockWait())
        try:
            return await self._repeated(once, deadline, self._lock_time(wait, queued_at))
        finally:
            if not wait.is_blocked:
                self._lock_waits.pop(key, None)

    def may_wait(self, tenant_id: str, queued_at: float) -> bool:
        """Whether a write may wait longer for the lock of a tenant, which is blocked."""
        wait = self._lock_waits.get(self._lock_key(tenant_id))
        if wait is None or not wait.is_blocked:
            return False
        return self._lock_time(wait, queued_at).left_ms > LAST_MS

    def _lock_key(self, tenant_id: str) -> str:
        """Return the key of a lock: SQLite has one for all tenants."""
        return tenant_id if self.dialect == "postgresql" else ""

    def _lock_time(self, wait: LockWait, queued_at: float) -> LockTime:
        return LockTime(wait, queued_at, self.settings.database_lock_timeout_ms)

    @asynccontextmanager
    async def writing(self, tenant_id: str) -> AsyncIterator[DriverSession]:
        """Lock a tenant, and write in one session that may take long; commit at the end.

        A fault or a cancellation ends the transaction, and nothing is written.

        Raises:
            Uncertain: the outcome of the commit is unknown.

        """
        commit = Commit()
        with commit, self.fault_translation:
            lock_ms = self.settings.database_lock_timeout_ms
            session = await self.write_session(self._beginnings.lane(tenant_id, lock_ms), tenant_id)
            try:
                await session.lift_time_limits()
                yield session
                commit.is_under_way = True
                await session.commit()
            finally:
                await session.close()

    async def _repeated(
        self,
        attempt_once: AttemptOnce[Result],
        deadline: Deadline,
        lock: LockTime,
    ) -> Result:
        """Attempt a transaction until a deadline; repeat it after transient faults.

        The lock timeout limits the attempts that fail because of other transactions, and ATTEMPTS
        those that fail otherwise.
        """
        commit = Commit()
        with commit, self.watch.until(deadline):
            for attempt in count(1):
                commit.is_under_way = False
                try:
                    with self.fault_translation:
                        result = await attempt_once(commit, lock)
                except DatabaseFault as error:
                    lock.end(error.fault)
                    is_last = attempt >= ATTEMPTS and not lock.wait.is_blocked
                    if is_last or not commit.may_repeat(error.fault) or lock.left_ms <= 0:
                        raise
                    cause = str(error.fault)
                else:
                    lock.end()
                    return result
                RETRIES.inc()
                log.warning("transaction_retried", attempt=attempt, cause=cause)
                # After a wait for another transaction, the lock may be free only for a moment.
                await asyncio.sleep(pause_seconds(1 if lock.wait.is_blocked else attempt))
        raise Unavailable(BUSY)

    async def _once(
        self,
        work: Callable[[DriverSession], Awaitable[Result]],
        beginning: Beginning,
        tenant_id: str | None,
        commit: Commit,
        lock: LockTime,
    ) -> Result:
        session = await self.write_session("", tenant_id)
        try:
            await lock.begin(session, beginning)
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
