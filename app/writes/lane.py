"""The lane of a tenant: one transaction at a time writes all that waits.

In a process, the writes of a tenant wait in a queue while a batch of them is under way. Processes
take turns by the lock on the tenant's row, so a busy tenant gets larger batches instead of
conflicts. Nothing can deadlock, because a transaction holds no other lock when it waits for that
one. On PostgreSQL no tenant waits for the lock of another. SQLite has one writer, and tenants take
turns.

A refusal changes nothing for the other writes of its batch. A write whose changes the database
refuses, or whose deadline ends the transaction, is found by halving the batch.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from app.database.engine import Database
from app.database.faults import LockTimeout
from app.database.session import Session
from app.domain.stock import Stock
from app.errors import IdempotencyInFlight, InventoryError, Unavailable
from app.runtime.batches import MAX_BATCH_SIZE, Pending
from app.runtime.deadlines import Deadline, OutOfTime, out_of_time
from app.runtime.metrics import BATCH_WRITES
from app.runtime.request_facts import RequestFacts
from app.writes.batch_changes import BatchChanges
from app.writes.batch_reads import read_batch
from app.writes.decisions import Needs, Write
from app.writes.idempotency_keys import (
    KeyId,
    StoredOutcome,
    StoredRow,
    WriteResult,
    replay,
    stored_row,
)
from app.writes.posting import post
from app.writes.stock_for_sale import post_stock_for_sale

# The size of a write that reads a reservation, in SKUs: its lines may name hundreds.
RESERVATION_SIZE: Final = 20
# The size of a write with `find`, which may read hundreds of rows.
FIND_SIZE: Final = 100
# The size of a change of a warehouse, which touches every SKU of its batch.
WAREHOUSE_SIZE: Final = 20
# The size of a write that reads the details of an object: it may have dozens of external ids.
DETAILS_SIZE: Final = 10
# Other requests get a turn of the event loop after the decisions on so many SKUs.
PAUSE_SIZE: Final = 50


class QueuedWrite(NamedTuple):
    """A write in a lane, the deadline of its request, and the monotonic time of its arrival.

    The facts of its request get the position of the feed after the write.
    """

    write: Write[Any]
    deadline: Deadline
    queued_at: float
    facts: RequestFacts | None = None


# The outcome of a write, or an error that is not stored.
WriteOutcome = StoredOutcome[Any] | Exception


def size_of(needs: Needs) -> int:
    """Return the size of a write in a batch."""
    if needs.is_alone:
        return MAX_BATCH_SIZE
    size = 1 + len(needs.skus) + RESERVATION_SIZE * len(needs.reservations)
    size += DETAILS_SIZE * len(needs.details)
    if needs.find is not None:
        size += FIND_SIZE
    if not needs.skus:
        size += WAREHOUSE_SIZE * len(needs.warehouses)
    return size


async def run_batch(database: Database, tenant_id: str, batch: Sequence[Pending]) -> None:
    """Write a batch in one transaction, and give every write its outcome."""
    in_time = []
    for pending in batch:
        deadline = pending.item.deadline
        if deadline.is_over:
            pending.fail(out_of_time(deadline.seconds))
        else:
            in_time.append(pending)
    if not in_time:
        return
    BATCH_WRITES.observe(len(in_time))
    writes = [pending.item.write for pending in in_time]
    deadline = min(pending.item.deadline for pending in in_time)
    work = partial(_decide_and_post, tenant_id, writes)
    try:
        outcomes, position = await database.write(
            work,
            tenant_id,
            deadline,
            queued_at=min(pending.item.queued_at for pending in in_time),
        )
    except OutOfTime:
        # First those with the most time: otherwise one deadline after the other could end every
        # transaction of an overloaded lane.
        by_time = sorted(in_time, key=lambda pending: pending.item.deadline, reverse=True)
        await _run_halves(database, tenant_id, by_time)
        return
    except Unavailable as error:
        await _refuse(database, tenant_id, in_time, error)
        return
    except Exception as error:  # noqa: BLE001 - the caller raises it
        if len(in_time) > 1:
            await _run_halves(database, tenant_id, in_time)
            return
        in_time[0].fail(error)
        return
    _deliver(in_time, outcomes, position)


def _deliver(batch: Sequence[Pending], outcomes: Sequence[WriteOutcome], position: int) -> None:
    """Give every write of a committed batch its outcome, and its request the feed position."""
    for pending, outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, Exception):
            pending.fail(outcome)
            continue
        facts = pending.item.facts
        if facts is not None and not isinstance(outcome.result, InventoryError):
            facts.written_position = position
        pending.succeed(outcome)


async def _refuse(
    database: Database, tenant_id: str, batch: Sequence[Pending], error: Unavailable
) -> None:
    """Refuse a batch; writes that came later may wait longer for a blocked lane."""
    patient = []
    for pending in batch:
        if database.may_wait(tenant_id, pending.item.queued_at):
            patient.append(pending)
        else:
            pending.fail(_refusal_of(pending.item.write, error))
    if patient:
        await run_batch(database, tenant_id, patient)


async def _run_halves(database: Database, tenant_id: str, batch: Sequence[Pending]) -> None:
    half = (len(batch) + 1) // 2
    await run_batch(database, tenant_id, batch[:half])
    await run_batch(database, tenant_id, batch[half:])


def _refusal_of(write: Write[Any], error: Unavailable) -> InventoryError:
    """Return the error of a write whose batch failed by an error of the database."""
    if write.key is not None and isinstance(error, LockTimeout):
        message = (
            "Another write of this tenant has not ended yet, perhaps the first request with this "
            "idempotency key. Send the request again with the same key."
        )
        return IdempotencyInFlight(message)
    return error


async def _decide_and_post(
    tenant_id: str, writes: Sequence[Write[Any]], session: Session
) -> tuple[list[WriteOutcome], int]:
    """Read, decide and write a batch in a transaction that has locked the tenant.

    Returns the outcomes, and the position of the feed after the batch.
    """
    keys = [(write.caller.subject, write.key) for write in writes if write.key is not None]
    stock, stored = await read_batch(
        session,
        tenant_id,
        [write.needs for write in writes],
        emails={write.caller.email for write in writes},
        keys=keys,
    )
    changes = BatchChanges(stock)
    outcomes = []
    size = 0
    for write in writes:
        outcomes.append(_decide(write, stock, changes, stored))
        size += size_of(write.needs)
        if size > PAUSE_SIZE:
            await asyncio.sleep(0)
            size = 0
    await post(session, tenant_id, stock, changes)
    return outcomes, await post_stock_for_sale(session, tenant_id, stock, changes)


def _decide(
    write: Write[Any], stock: Stock, changes: BatchChanges, stored: dict[KeyId, StoredRow]
) -> WriteOutcome:
    """Decide a write, or replay the outcome that is stored under its key."""
    id_ = None if write.key is None else (write.caller.subject, write.key)
    try:
        if id_ is not None and id_ in stored:
            return replay(write.request, stored[id_])
        decision = write.decide_on(stock)
        # Encoded first: an outcome that cannot be stored changes nothing.
        row = stored_row(write.request, decision.outcome) if id_ is not None else None
        changes.add(decision.changes, author=write.caller.email)
        if id_ and row:
            changes.keys[id_] = stored[id_] = row
        return WriteResult(decision.outcome, replayed=False)
    except Exception as error:  # noqa: BLE001 - the caller raises it
        return error
