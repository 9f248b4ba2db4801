"""Idempotency keys: a write that is sent again has no second effect and gets the first answer.

A key is kept with the outcome of its write in one row, which is inserted in the transaction that
writes, so that there are both or neither. Whoever inserts second waits for the first, and then
replays. What is kept are successes and the refusals that the rules gave; whatever ends a write
otherwise (a fault, a timeout) keeps nothing, and a retry starts afresh.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.session import EngineSession, Session
from app.database.transactions import Conflict
from app.domain.caller import Caller
from app.errors import InventoryError
from app.writes.idempotency_keys import (
    FEW,
    KeptOutcome,
    KeyClaim,
    Result,
    WriteRequest,
    WriteResult,
    check_key,
    find_kept_outcome,
    lock_and_find_outcome,
    post_claim,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How a write is done: by whom, under which key, and whether it is only rehearsed."""

    database: Database
    caller: Caller
    key: str | None = None
    dry_run: bool = False


# Writes what was planned and the claim, if there is one; False, and nothing, if it cannot be.
PostWrite = Callable[[Session, KeyClaim | None], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class PlannedWrite(Generic[Result]):
    """What a write comes to, and what posts it, if there is anything to write."""

    outcome: Result | InventoryError
    post: PostWrite | None = None


class WritePlan(Protocol[Result]):
    """Reads what there is, `locked` until the transaction ends if asked for, and decides."""

    async def __call__(self, session: Session, *, locked: bool) -> PlannedWrite[Result]:
        """Return what the write comes to."""


async def carry_out(
    writing: Writing,
    request: WriteRequest[Result],
    plan: WritePlan[Result],
    *,
    skus: Collection[str] = (),
    locking: bool = False,
) -> WriteResult[Result]:
    """Write once, or rehearse it.

    Raises:
        What `write_once` raises.

    """
    if writing.dry_run:
        return await rehearse(writing.database, writing.caller, writing.key, request, plan)
    return await write_once(
        *(writing.database, writing.caller, writing.key, request, plan), skus=skus, locking=locking
    )


async def write_once(
    database: Database,
    caller: Caller,
    key: str | None,
    request: WriteRequest[Result],
    plan: WritePlan[Result],
    *,
    skus: Collection[str],
    locking: bool = False,
) -> WriteResult[Result]:
    """Plan a write and post it; under a key, at most once.

    On PostgreSQL, one that is about few SKUs is first tried without a transaction, unless it is
    `locking`: it needs more than a statement, or that nobody else writes while it decides. Those
    of this process that are about the same SKU go one after the other: they would only get in each
    other's way, and hold connections while they wait.
    The plan returns its refusals, so that they are kept; what it raises is kept by nobody.

    Raises:
        ValidationFailed: the key is malformed.
        IdempotencyKeyReused: it came with another request.
        IdempotencyInFlight: its first request has not ended within the lock timeout.
        InventoryError: what the plan refused, now or then.

    """
    check_key(key)

    async def post(session: Session, planned: PlannedWrite[Result]) -> bool:
        claim = None
        if key is not None:
            claim = KeyClaim(caller, key, request.fingerprint, planned.outcome)
        if planned.post is not None:
            return await planned.post(session, claim)
        return claim is None or await post_claim(session, claim)

    async def under_locks(connection: AsyncConnection) -> KeptOutcome[Result]:
        session = EngineSession(connection)
        if key is not None and (kept := await lock_and_find_outcome(session, caller, key, request)):
            return kept
        planned = await plan(session, locked=True)
        if not await post(session, planned):
            raise Conflict
        return WriteResult(planned.outcome, replayed=False)

    async def at_once() -> KeptOutcome[Result]:
        async with database.write_locks.hold((caller.tenant_id, code) for code in skus):
            planned = await database.write_optimistically(
                partial(plan, locked=False), post, tenant_id=caller.tenant_id
            )
            if planned:
                return WriteResult(planned.outcome, replayed=False)
            return await database.transaction(under_locks, tenant_id=caller.tenant_id)

    if database.dialect == "postgresql" and len(skus) <= FEW and not locking:
        return _told(await at_once())
    return _told(await database.transaction(under_locks, tenant_id=caller.tenant_id))


async def rehearse(
    database: Database,
    caller: Caller,
    key: str | None,
    request: WriteRequest[Result],
    plan: WritePlan[Result],
) -> WriteResult[Result]:
    """Return what `write_once` would answer now, and write nothing.

    Raises:
        What `write_once` raises.

    """
    check_key(key)
    async with database.snapshot(tenant_id=caller.tenant_id) as snapshot:
        if key is not None and (kept := await find_kept_outcome(snapshot, caller, key, request)):
            return _told(kept)
        planned = await plan(snapshot, locked=False)
    return _told(WriteResult(planned.outcome, replayed=False))


def _told(done: KeptOutcome[Result]) -> WriteResult[Result]:
    if isinstance(done.result, InventoryError):
        done.result.replayed = done.replayed
        raise done.result
    return WriteResult(done.result, done.replayed)
