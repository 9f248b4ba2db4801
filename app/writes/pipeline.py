"""The pipeline of every write: read, decide, write.

The writes of a tenant wait in a lane (`app.writes.lane`). A batch of them is one transaction that
locks the tenant, reads all rows that the batch needs, decides one write after the other in memory,
and writes all changes and idempotency keys.
"""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from app.database.engine import Database
from app.domain.caller import Caller
from app.errors import InventoryError
from app.runtime.deadlines import NO_DEADLINE, untimed
from app.runtime.request_facts import current_request_facts
from app.writes.batch_reads import read_batch
from app.writes.decisions import Decide, Needs, Write
from app.writes.idempotency_keys import (
    Result,
    StoredOutcome,
    WriteRequest,
    WriteResult,
    check_key,
    replay,
)
from app.writes.lane import QueuedWrite, run_batch, size_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteContext:
    """Database, caller and idempotency key of a write, and whether it is a dry run."""

    database: Database
    caller: Caller
    key: str | None = None
    dry_run: bool = False


async def run_write(
    context: WriteContext,
    request: WriteRequest[Result],
    needs: Needs,
    decide: Decide[Result],
) -> WriteResult[Result]:
    """Run a write or its dry run; under an idempotency key, at most once.

    Raises:
        ValidationFailed: the key is malformed.
        IdempotencyKeyReused: the key belongs to another request.
        IdempotencyInFlight: the tenant's lane stays locked beyond the lock timeout; the first
            request with the key may hold it.
        InventoryError: the refusal, new or stored under the key.

    """
    check_key(context.key)
    write = Write(
        caller=context.caller, key=context.key, request=request, needs=needs, decide=decide
    )
    if context.dry_run:
        outcome = await _dry_run(context.database, write)
    else:
        database, tenant_id = context.database, context.caller.tenant_id
        deadline = NO_DEADLINE if needs.is_alone else database.deadline()
        with untimed() if needs.is_alone else nullcontext():
            outcome = await database.lanes.submit(
                tenant_id,
                QueuedWrite(write, deadline, time.monotonic(), current_request_facts.get()),
                partial(run_batch, database, tenant_id),
                size=size_of(needs),
            )
    if isinstance(outcome.result, InventoryError):
        outcome.result.replayed = outcome.replayed
        raise outcome.result
    return WriteResult(outcome.result, outcome.replayed)


async def _dry_run(database: Database, write: Write[Result]) -> StoredOutcome[Result]:
    """Return the outcome that the write would have now; nothing is written."""
    tenant_id = write.caller.tenant_id
    async with database.snapshot(tenant_id=tenant_id) as snapshot:
        keys = [] if write.key is None else [(write.caller.subject, write.key)]
        stock, stored = await read_batch(snapshot, tenant_id, [write.needs], keys=keys)
    for outcome in stored.values():
        return replay(write.request, outcome)
    return WriteResult(write.decide_on(stock).outcome, replayed=False)
