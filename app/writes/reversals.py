"""Reversals: entries that undo others, linked to them; the ledger itself is never changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.database.session import Session
from app.domain.ids import ulid
from app.domain.records import AdjustmentRecord, StockChange
from app.domain.stock import AdjustmentLinks, RefusedItem, StockUpdate, decide, refusal_of_all
from app.domain.validation import MAX_BULK_UPDATES, note_problem, reason_problem
from app.errors import (
    AdjustmentNotFound,
    AlreadyReversed,
    InventoryError,
    invalid_field,
    invalid_fields,
)
from app.reads.adjustments import get_reversals, list_adjustments_of_group
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import PlannedWrite, Writing, carry_out
from app.writes.stock import planned
from app.writes.stock_reading import read_stock

# A transfer has two entries for each of its lines.
MAX_REVERSED = 2 * MAX_BULK_UPDATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """What is undone: exactly one of an adjustment, a bulk and a transfer; and why."""

    adjustment_id: str | None
    bulk_id: str | None
    transfer_id: str | None
    reason: str
    note: str | None = None


async def reverse_adjustments(writing: Writing, wanted: Reversal) -> WriteResult[list[StockChange]]:
    """Undo adjustments by counter-entries, all or none.

    Raises:
        ValidationFailed: not exactly one thing is named, it is more than 1,000 adjustments, one
            half of a transfer, or something is malformed.
        AdjustmentNotFound, AlreadyReversed.
        InventoryError: the first refusal of a stock rule, with every refusal in its details. And
            what `write_once` raises.

    """
    name, id_ = _checked(wanted)
    caller = writing.caller

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[list[StockChange]]:
        entries = await list_adjustments_of_group(
            session, caller.tenant_id, name=name, id_=id_, limit=MAX_REVERSED + 1
        )
        if refusal := _refusal(name, id_, entries):
            return PlannedWrite(refusal)
        levels = [(entry.sku, entry.warehouse_id) for entry in entries]
        before = await read_stock(session, caller.tenant_id, levels, locked=locked)
        # Only now that nobody else can be reversing them.
        ids = [entry.id for entry in entries]
        if reversals := await get_reversals(session, caller.tenant_id, ids=ids):
            return PlannedWrite(_already(reversals))
        updates = [
            StockUpdate(
                sku=entry.sku,
                warehouse_id=entry.warehouse_id,
                delta=-entry.delta,
                reason=wanted.reason,
                note=wanted.note,
                reference=entry.reference,
                reversal_of=entry.id,
            )
            for entry in entries
        ]
        outcomes = decide(caller, updates, before, _part_of(name))
        refusals = [
            RefusedItem(index, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
            if isinstance(outcome, InventoryError)
        ]
        if refusals:
            return PlannedWrite(refusal_of_all(refusals, len(updates), "adjustments"))
        changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
        return planned(changes, outcomes, caller, before)

    request = WriteRequest("reverseAdjustments", wanted, list[StockChange])
    return await carry_out(writing, request, plan, locking=True)


def _checked(wanted: Reversal) -> tuple[str, str]:
    """Return the column that names what is undone, and its value."""
    named = [
        (column, id_)
        for column, id_ in [
            ("id", wanted.adjustment_id),
            ("bulk_id", wanted.bulk_id),
            ("transfer_id", wanted.transfer_id),
        ]
        if id_ is not None
    ]
    if len(named) != 1:
        message = "or bulkId or transferId is to be given, exactly one of them"
        raise invalid_field("adjustmentId", message)
    problems = {"reason": reason_problem(wanted.reason), "note": note_problem(wanted.note)}
    if found := [(field, problem) for field, problem in problems.items() if problem]:
        raise invalid_fields(found)
    return named[0]


def _refusal(name: str, id_: str, entries: Sequence[AdjustmentRecord]) -> InventoryError | None:
    if not entries:
        return AdjustmentNotFound(
            f"There is no adjustment with the {name} {id_!r}.", details=[{name: id_}]
        )
    if len(entries) > MAX_REVERSED:
        message = f"has more than {MAX_REVERSED} adjustments; reverse them one by one"
        return invalid_field("bulkId", message)
    transfer = entries[0].transfer_id
    if name == "id" and transfer is not None:
        message = f"is one half of transfer {transfer}; reverse the whole by transferId"
        return invalid_field("adjustmentId", message)
    return None


def _part_of(name: str) -> AdjustmentLinks:
    """Return what the counter-entries are a part of: the same kind of thing."""
    if name == "transfer_id":
        return AdjustmentLinks(transfer_id=f"trf_{ulid()}")
    return AdjustmentLinks(bulk_id=f"blk_{ulid()}") if name == "bulk_id" else AdjustmentLinks()


def _already(reversals: Sequence[tuple[str, str]]) -> AlreadyReversed:
    [(first, by), *_] = reversals
    return AlreadyReversed(
        f"Adjustment {first} was reversed before, by {by}; nothing was changed.",
        details=[{"id": reversed_, "reversed_by": id_} for reversed_, id_ in reversals],
    )
