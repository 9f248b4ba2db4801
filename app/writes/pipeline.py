"""The pipeline of every write: read, decide, write; retry.

`run_write` calls the `Decide` function of a use case. It reads the rows that the write needs and
applies the domain rules to them. Its `Decision` is an outcome (a result or a refusal) and a
function that writes the changes. The idempotency key is stored with the outcome in the same
transaction, so either both are stored or neither is.

On PostgreSQL, a write of few SKUs first reads without locks and writes in a single statement. If
the stock has changed in between, nothing is written, and the write is decided again in a
transaction that locks first and reads then. All other writes use such a transaction at once. On
SQLite a transaction excludes all other writers from its start.

`app.database.transactions` begins, commits and retries; nothing else commits.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.faults import Conflict
from app.database.session import EngineSession, Session
from app.domain.caller import Caller
from app.errors import InventoryError
from app.writes.idempotency_keys import (
    KeyRow,
    Result,
    StoredOutcome,
    WriteRequest,
    WriteResult,
    check_key,
    get_outcome,
    lock_key,
    store_key,
)

# A write of more SKUs is likely to conflict with others, and its round trips cost little.
MAX_OPTIMISTIC_SKUS: Final = 10
# Writes changes and the key, if there is one. Returns False, and the caller must roll back, if the
# stock has changed since it was read or the key is taken.
WriteChanges = Callable[[Session, KeyRow | None], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteContext:
    """Database, caller and idempotency key of a write, and whether it is a dry run."""

    database: Database
    caller: Caller
    key: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Decision(Generic[Result]):
    """The outcome of a write and the function that writes its changes; None: nothing changes."""

    outcome: Result | InventoryError
    write: WriteChanges | None = None


class Decide(Protocol[Result]):
    """Reads the rows that a write needs and decides by the rules.

    A refusal that is returned is stored under the idempotency key; one that is raised is not.
    """

    async def __call__(self, session: Session, *, locked: bool) -> Decision[Result]:
        """Decide; if `locked`, the rows are locked until the transaction ends."""


async def run_write(
    context: WriteContext,
    request: WriteRequest[Result],
    decide: Decide[Result],
    *,
    skus: Collection[str] = (),
    needs_locks: bool = False,
) -> WriteResult[Result]:
    """Run a write or its dry run; under an idempotency key, at most once.

    `skus` are the codes that the write changes. A write `needs_locks` if it takes more than one
    statement or must exclude other writers while it decides.

    Raises:
        ValidationFailed: the key is malformed.
        IdempotencyKeyReused: the key belongs to another request.
        IdempotencyInFlight: the first request with the key outlasts the lock timeout.
        InventoryError: the refusal, new or stored under the key.

    """
    check_key(context.key)
    is_optimistic = (
        context.database.dialect == "postgresql"
        and len(skus) <= MAX_OPTIMISTIC_SKUS
        and not needs_locks
    )
    if context.dry_run:
        outcome = await _dry_run(context, request, decide)
    elif is_optimistic:
        outcome = await _write_optimistically(context, request, decide, skus)
    else:
        outcome = await _write_in_transaction(context, request, decide)
    if isinstance(outcome.result, InventoryError):
        outcome.result.replayed = outcome.replayed
        raise outcome.result
    return WriteResult(outcome.result, outcome.replayed)


async def _write_optimistically(
    context: WriteContext,
    request: WriteRequest[Result],
    decide: Decide[Result],
    skus: Collection[str],
) -> StoredOutcome[Result]:
    """Write without locks; on a conflict, in a transaction."""
    database, tenant_id = context.database, context.caller.tenant_id
    # Writes of one SKU in one process take turns: in parallel they would only conflict, and hold
    # connections while they wait.
    async with database.write_locks.hold((tenant_id, code) for code in skus):
        decision = await database.write_optimistically(
            partial(decide, locked=False), partial(_write, context, request), tenant_id=tenant_id
        )
        if decision:
            return WriteResult(decision.outcome, replayed=False)
        return await _write_in_transaction(context, request, decide)


async def _write_in_transaction(
    context: WriteContext, request: WriteRequest[Result], decide: Decide[Result]
) -> StoredOutcome[Result]:
    caller, key = context.caller, context.key

    async def work(connection: AsyncConnection) -> StoredOutcome[Result]:
        session = EngineSession(connection)
        if key is not None:
            await lock_key(session, caller, key)
            if stored := await get_outcome(session, caller, key, request):
                return stored
        decision = await decide(session, locked=True)
        if not await _write(context, request, session, decision):
            raise Conflict
        return WriteResult(decision.outcome, replayed=False)

    return await context.database.transaction(work, tenant_id=caller.tenant_id)


async def _write(
    context: WriteContext,
    request: WriteRequest[Result],
    session: Session,
    decision: Decision[Result],
) -> bool:
    """Write the changes of a decision and its key; False on a conflict."""
    row = None
    if context.key is not None:
        row = KeyRow(context.caller, context.key, request.fingerprint, decision.outcome)
    if decision.write is not None:
        return await decision.write(session, row)
    return row is None or await store_key(session, row)


async def _dry_run(
    context: WriteContext, request: WriteRequest[Result], decide: Decide[Result]
) -> StoredOutcome[Result]:
    """Return the outcome that the write would have now; nothing is written."""
    caller, key = context.caller, context.key
    async with context.database.snapshot(tenant_id=caller.tenant_id) as snapshot:
        if key is not None and (stored := await get_outcome(snapshot, caller, key, request)):
            return stored
        decision = await decide(snapshot, locked=False)
    return WriteResult(decision.outcome, replayed=False)
