"""Reversals: counter-entries that undo ledger entries and link to them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.database.session import Session
from app.domain.ids import ulid
from app.domain.records import AdjustmentRecord, StockChange
from app.domain.stock import AdjustmentLinks, Stock, StockUpdate, decide, refusal_of_all
from app.domain.validation import MAX_BULK_UPDATES, note_problem, reason_problem
from app.errors import (
    AdjustmentNotFound,
    AlreadyReversed,
    InventoryError,
    invalid_field,
    invalid_fields,
)
from app.reads.adjustments import get_reversals, list_adjustments_of_group
from app.writes.decisions import Decision, Needs
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import WriteContext, run_write
from app.writes.stock import decision_of, needs_of, refusals_of

# A transfer has two entries for each of its lines.
MAX_REVERSED = 2 * MAX_BULK_UPDATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """An adjustment, a bulk or a transfer to undo, exactly one of them, with a reason."""

    adjustment_id: str | None = None
    bulk_id: str | None = None
    transfer_id: str | None = None
    reason: str
    note: str | None = None


async def reverse_adjustments(
    context: WriteContext, reversal: Reversal
) -> WriteResult[list[StockChange]]:
    """Undo adjustments by counter-entries, all or none.

    Raises:
        ValidationFailed: not exactly one id is given, it stands for more than 1,000 adjustments or
            for one half of a transfer, or a field is malformed.
        AdjustmentNotFound, AlreadyReversed.
        InventoryError: the first refusal of a stock rule, with every refusal in its details; or an
            error of `run_write`.

    """
    column, id_ = _column_and_id(reversal)
    caller = context.caller

    entries: list[AdjustmentRecord] = []

    async def find_entries(session: Session) -> Needs:
        entries[:] = await list_adjustments_of_group(
            session, caller.tenant_id, name=column, id_=id_, limit=MAX_REVERSED + 1
        )
        ids = [entry.id for entry in entries]
        reversals = await get_reversals(session, caller.tenant_id, ids=ids)
        return replace(needs_of(entries), reversals=reversals)

    def decide_reversal(stock: Stock) -> Decision[list[StockChange]]:
        if refusal := _refusal(column, id_, entries) or _already_reversed(entries, stock):
            return Decision(refusal)
        updates = [
            StockUpdate(
                sku=entry.sku,
                warehouse_id=entry.warehouse_id,
                delta=-entry.delta,
                reason=reversal.reason,
                note=reversal.note,
                reference=entry.reference,
                reversal_of=entry.id,
            )
            for entry in entries
        ]
        outcomes = decide(caller, updates, stock, _part_of(column))
        if refusals := refusals_of(updates, outcomes):
            return Decision(refusal_of_all(refusals, len(updates), "adjustments"))
        changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
        return decision_of(changes, outcomes)

    request = WriteRequest("reverseAdjustments", reversal, list[StockChange])
    return await run_write(context, request, Needs(find=find_entries), decide_reversal)


def _column_and_id(reversal: Reversal) -> tuple[str, str]:
    """Return the ledger column that the given id belongs to, and the id."""
    given = [
        (column, id_)
        for column, id_ in [
            ("id", reversal.adjustment_id),
            ("bulk_id", reversal.bulk_id),
            ("transfer_id", reversal.transfer_id),
        ]
        if id_ is not None
    ]
    if len(given) != 1:
        message = "or bulkId or transferId must be given, exactly one of them"
        raise invalid_field("adjustmentId", message)
    problems = {"reason": reason_problem(reversal.reason), "note": note_problem(reversal.note)}
    if malformed := [(field, problem) for field, problem in problems.items() if problem]:
        raise invalid_fields(malformed)
    return given[0]


def _refusal(column: str, id_: str, entries: Sequence[AdjustmentRecord]) -> InventoryError | None:
    if not entries:
        return AdjustmentNotFound(
            f"There is no adjustment with the {column} {id_!r}.", details=[{column: id_}]
        )
    if len(entries) > MAX_REVERSED:
        message = f"has more than {MAX_REVERSED} adjustments; reverse them one by one"
        return invalid_field("bulkId", message)
    transfer_id = entries[0].transfer_id
    if column == "id" and transfer_id is not None:
        message = f"is one half of transfer {transfer_id}; reverse the whole by transferId"
        return invalid_field("adjustmentId", message)
    return None


def _part_of(column: str) -> AdjustmentLinks:
    """Return a new bulk for the entries that reverse a bulk, a new transfer for a transfer."""
    if column == "transfer_id":
        return AdjustmentLinks(transfer_id=f"trf_{ulid()}")
    return AdjustmentLinks(bulk_id=f"blk_{ulid()}") if column == "bulk_id" else AdjustmentLinks()


def _already_reversed(entries: Sequence[AdjustmentRecord], stock: Stock) -> AlreadyReversed | None:
    reversed_by = [
        (entry.id, stock.reversals[entry.id]) for entry in entries if entry.id in stock.reversals
    ]
    if not reversed_by:
        return None
    [(first, by), *_] = reversed_by
    return AlreadyReversed(
        f"Adjustment {first} was reversed before, by {by}; nothing was changed.",
        details=[{"id": reversed_, "reversed_by": id_} for reversed_, id_ in reversed_by],
    )
