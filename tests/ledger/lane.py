"""Writes that wait for a lane and are gathered in one batch, and the transactions of a lane."""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import patch

from app.database.engine import Database
from app.database.session import DriverSession, Session
from app.domain.caller import Caller
from app.domain.stock import Stock, StockUpdate
from app.errors import InventoryError
from app.settings import Settings
from app.writes.decisions import Decision, Needs
from app.writes.idempotency_keys import WriteRequest
from app.writes.pipeline import WriteContext, run_write
from tests.faults.injection import MakeError
from tests.service import Service, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
# Long enough that a busy machine causes no timeouts.
PATIENCE: Final[Mapping[str, Any]] = {
    "database_pool_timeout_seconds": 60,
    "database_lock_timeout_ms": 60_000,
    "database_statement_timeout_ms": 60_000,
}

Writing = Coroutine[Any, Any, Any]


def caller(service: Service, subject: str = "client") -> Caller:
    return Caller(service.tenant_id, subject, "a@b.example")


def context(
    service: Service, key: str | None = None, database: Database | None = None
) -> WriteContext:
    return WriteContext(
        database=database or service.database, caller=caller(service), key=key, dry_run=False
    )


def setting(quantity: int, code: str = "A", warehouse_id: str = MAIN.id) -> StockUpdate:
    return StockUpdate(sku=code, warehouse_id=warehouse_id, quantity=quantity, reason="cycle_count")


def adding(delta: int, code: str = "A", warehouse_id: str = MAIN.id) -> StockUpdate:
    return StockUpdate(sku=code, warehouse_id=warehouse_id, delta=delta, reason="correction")


@asynccontextmanager
async def another_process(database_url: str) -> AsyncIterator[Database]:
    """Open the database as another process does."""
    database = Database(Settings(database_url=database_url, **PATIENCE))
    yield database
    await database.dispose()


async def decided(
    writing: WriteContext,
    decide_: Callable[[Stock], Decision[Any]] = lambda _: Decision(0),
    needs: Needs = Needs(),  # noqa: B008 - never changed
    *,
    content: object = None,
) -> Any:
    """Run a write with a decision of the test, and return its result."""
    request = WriteRequest("test", content, object)
    return (await run_write(writing, request, needs, decide_)).result


@asynccontextmanager
async def holding_lane(service: Service, database: Database | None = None) -> AsyncIterator[None]:
    """Hold a transaction of the tenant's lane open, so that other writes wait."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def wait(_session: Session) -> Needs:
        began.set()
        await may_end.wait()
        return Needs()

    holder = asyncio.create_task(
        decided(context(service, database=database), needs=Needs(find=wait))
    )
    await began.wait()
    try:
        yield
    finally:
        may_end.set()
        await holder


def waiting(database: Database, tenant_id: str) -> int:
    """Return the number of writes that wait for the lane of a tenant."""
    return len(database.lanes._queues.get(tenant_id, ()))


async def queued(
    service: Service, writes: Sequence[Writing], database: Database | None = None
) -> list[asyncio.Task[Any]]:
    """Start writes that wait for a lane, which is held, in their order."""
    database = database or service.database
    tasks = []
    for write in writes:
        number = waiting(database, service.tenant_id)
        task = asyncio.create_task(write)
        while waiting(database, service.tenant_id) == number and not task.done():
            await asyncio.sleep(0)
        tasks.append(task)
    return tasks


async def together(
    service: Service, *writes: Writing, database: Database | None = None
) -> list[Any]:
    """Gather writes in one batch, in their order. Returns their outcomes or errors."""
    async with holding_lane(service, database):
        tasks = await queued(service, writes, database)
    return await asyncio.gather(*tasks, return_exceptions=True)


def codes_of(outcomes: Sequence[Any]) -> list[str | None]:
    """Return the error codes of outcomes; None for a success."""
    return [it.code if isinstance(it, InventoryError) else None for it in outcomes]


@contextmanager
def counted_commits() -> Iterator[list[DriverSession]]:
    """Note every commit of a lane."""
    commits: list[DriverSession] = []
    commit = DriverSession.commit

    async def noted(self: DriverSession) -> None:
        await commit(self)
        commits.append(self)

    with patch.object(DriverSession, "commit", noted):
        yield commits


@dataclass
class HeldCommit:
    """A commit that waits."""

    is_reached: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)


@contextmanager
def held_commit() -> Iterator[HeldCommit]:
    """Hold every commit until it may go on."""
    held = HeldCommit()
    commit = DriverSession.commit

    async def wait(self: DriverSession) -> None:
        held.is_reached.set()
        await held.may_go_on.wait()
        await commit(self)

    with patch.object(DriverSession, "commit", wait):
        yield held


@contextmanager
def broken_call(
    name: str, make: MakeError, *, after: int = 0, is_done: bool = False
) -> Iterator[None]:
    """Raise an error once at a call of a method of sessions, after some calls without it.

    If `is_done`, the call is executed before, and its response is lost.
    """
    call: Callable[..., Awaitable[Any]] = getattr(DriverSession, name)
    left = after

    async def broken(self: DriverSession, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left != -1:
            return await call(self, *arguments)
        if is_done:
            await call(self, *arguments)
        return await self._note_errors(_raised(make()))

    with patch.object(DriverSession, name, broken):
        yield


async def _raised(error: BaseException) -> None:
    raise error
