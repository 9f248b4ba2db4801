"""Transfers of stock between warehouses."""

from dataclasses import dataclass
from datetime import datetime

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.quantities import moved_quantity_problem
from app.domain.records import StockChange
from app.domain.stock import (
    AdjustmentLinks,
    RefusedItem,
    Stock,
    StockUpdate,
    decide,
    refusal_of_all,
)
from app.domain.validation import MAX_BULK_UPDATES, note_problem, reason_problem, reference_problem
from app.errors import InventoryError, invalid_field, invalid_fields
from app.writes.decisions import Decision
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import WriteContext, run_write
from app.writes.stock import decision_of, needs_of


@dataclass(frozen=True, slots=True)
class TransferLine:
    """Quantity of a SKU to move."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Lines of stock to move from warehouse `source` to `destination`, with a reason."""

    source: str
    destination: str
    lines: tuple[TransferLine, ...]
    reason: str
    note: str | None = None
    reference: str | None = None
    occurred_at: datetime | None = None

    def updates(self, line: TransferLine) -> list[StockUpdate]:
        """Return the two updates of a line: a decrease at the source, an increase elsewhere."""
        return [
            StockUpdate(
                sku=line.sku,
                warehouse_id=warehouse_id,
                delta=delta,
                reason=self.reason,
                note=self.note,
                reference=self.reference,
                occurred_at=self.occurred_at,
            )
            for warehouse_id, delta in [
                (self.source, -line.quantity),
                (self.destination, line.quantity),
            ]
        ]


@dataclass(frozen=True, slots=True)
class LineTransfer:
    """The two stock changes of one transferred line."""

    outgoing: StockChange
    incoming: StockChange


async def transfer_stock(
    database: Database,
    caller: Caller,
    transfer: Transfer,
    *,
    key: str | None = None,
    dry_run: bool = False,
) -> WriteResult[list[LineTransfer]]:
    """Move stock from one warehouse to another, all lines or none; results in their order.

    Raises:
        ValidationFailed: not 1 to 500 lines, one is malformed, two are for the same SKU, or the
            warehouses are the same.
        InventoryError: the first refusal, with every refusal in its details; or an error of
            `run_write`.

    """
    _check_transfer(transfer)

    updates = [update for line in transfer.lines for update in transfer.updates(line)]

    def decide_transfer(stock: Stock) -> Decision[list[LineTransfer]]:
        outcomes = decide(caller, updates, stock, AdjustmentLinks(transfer_id=f"trf_{ulid()}"))
        refusals = [
            RefusedItem(index // 2, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
            if isinstance(outcome, InventoryError)
        ]
        if refusals:
            return Decision(refusal_of_all(refusals, len(transfer.lines), "lines"))
        changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
        moved = [LineTransfer(*pair) for pair in zip(changes[::2], changes[1::2], strict=True)]
        return decision_of(moved, outcomes)

    context = WriteContext(database=database, caller=caller, key=key, dry_run=dry_run)
    request = WriteRequest("transferStock", transfer, list[LineTransfer])
    return await run_write(context, request, needs_of(updates), decide_transfer)


def _check_transfer(transfer: Transfer) -> None:
    number = len(transfer.lines)
    if not 1 <= number <= MAX_BULK_UPDATES:
        message = f"must hold 1 to {MAX_BULK_UPDATES} lines, and holds {number}"
        raise invalid_field("lines", message)
    problems = [
        (field, problem)
        for field, problem in {
            "reason": reason_problem(transfer.reason),
            "note": note_problem(transfer.note),
            "reference": reference_problem(transfer.reference),
        }.items()
        if problem
    ]
    if transfer.source == transfer.destination:
        problems.append(("toWarehouseId", "must be another warehouse than the source"))
    first_index: dict[str, int] = {}
    for index, line in enumerate(transfer.lines):
        if problem := moved_quantity_problem(line.quantity):
            problems.append((f"lines.{index}.quantity", problem))
        first = first_index.setdefault(line.sku, index)
        if first != index:
            problems.append((f"lines.{index}", f"is for the same SKU as lines.{first}"))
    if problems:
        raise invalid_fields(problems)
