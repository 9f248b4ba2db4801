"""Changes of stock: set or adjust one level, or many in a bulk."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar

from app.database.engine import Database
from app.database.session import Session
from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.quantities import delta_problem, expected_quantity_problem, quantity_problem
from app.domain.records import StockChange
from app.domain.stock import (
    AdjustmentLinks,
    LevelKey,
    RefusedItem,
    Stock,
    StockUpdate,
    UpdateOutcome,
    decide,
    refusal_of_all,
)
from app.domain.validation import MAX_BULK_UPDATES, note_problem, reason_problem, reference_problem
from app.errors import InventoryError, invalid_field, invalid_fields
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.locked_reads import lock_stock, read_stock
from app.writes.pipeline import Decision, WriteContext, run_write
from app.writes.posting import post
from app.writes.rows import Posting, SkuRows, rows_by_sku

Result = TypeVar("Result")

NO_ROWS: Final[Mapping[str, SkuRows]] = {}


class OnError(StrEnum):
    """Whether a bulk with refused updates is refused as a whole or carries out the others."""

    ABORT = "abort"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Error code and message of a refused update."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """The outcome of one update of a bulk: a change or a refusal."""

    change: StockChange | None
    refusal: Refusal | None


async def change_stock(
    database: Database,
    caller: Caller,
    change: StockUpdate,
    *,
    key: str | None = None,
    dry_run: bool = False,
) -> WriteResult[StockChange]:
    """Set or adjust the `on_hand` of one stock level.

    Raises:
        ValidationFailed, InventoryNotFound, WarehouseNotFound, ReadonlyWarehouse,
        NegativeQuantity, WarehouseInactive, StaleVersion: checked in this order.
        InventoryError: an error of `run_write`.

    """
    if problems := _problems(change):
        raise invalid_fields(problems)

    async def decide_change(session: Session, *, locked: bool) -> Decision[StockChange]:
        before = await read_stock(session, caller.tenant_id, [change.level], locked=locked)
        [outcome] = decide(caller, [change], before)
        return decision_of(outcome, [outcome], caller, before)

    context = WriteContext(database=database, caller=caller, key=key, dry_run=dry_run)
    request = WriteRequest("changeStock", change, StockChange)
    return await run_write(context, request, decide_change, skus=[change.sku])


async def bulk_change_stock(
    database: Database,
    caller: Caller,
    updates: Sequence[StockUpdate],
    *,
    on_error: OnError,
    key: str | None = None,
    dry_run: bool = False,
) -> WriteResult[list[BulkOutcome]]:
    """Change many stock levels in one transaction; outcomes in the order of the updates.

    Raises:
        ValidationFailed: not 1 to 500 updates, one is malformed, or two are for the same level.
        InventoryError: with ABORT, the first refusal, with every refusal in its details; or an
            error of `run_write`.

    """
    _check_bulk(updates)

    async def decide_bulk(session: Session, *, locked: bool) -> Decision[list[BulkOutcome]]:
        part_of = AdjustmentLinks(bulk_id=f"blk_{ulid()}")
        before, outcomes, rows = await decide_updates(
            session, caller, updates, part_of, locked=locked
        )
        refusals = refusals_of(updates, outcomes)
        if on_error is OnError.ABORT and refusals:
            return Decision(refusal_of_all(refusals, len(updates), "updates"))
        results = [
            BulkOutcome(outcome, None)
            if isinstance(outcome, StockChange)
            else BulkOutcome(None, Refusal(outcome.code, outcome.message))
            for outcome in outcomes
        ]
        return decision_of(results, outcomes, caller, before, rows)

    context = WriteContext(database=database, caller=caller, key=key, dry_run=dry_run)
    request = WriteRequest("bulkChangeStock", [on_error, list(updates)], list[BulkOutcome])
    codes = {change.sku for change in updates}
    return await run_write(context, request, decide_bulk, skus=codes)


async def decide_updates(
    session: Session,
    caller: Caller,
    updates: Sequence[StockUpdate],
    part_of: AdjustmentLinks,
    *,
    locked: bool,
) -> tuple[Stock, list[UpdateOutcome], Mapping[str, SkuRows]]:
    """Return the stock of updates, their outcomes, and the rows prepared for them by SKU.

    Under locks on PostgreSQL, the decision and the rows are made before the locks are taken,
    because many updates wait long for locks and make others wait. SKUs that have changed by then
    are decided again.
    """
    levels = [update.level for update in updates]
    prepares = locked and session.dialect == "postgresql"
    before = await read_stock(session, caller.tenant_id, levels, locked=locked and not prepares)
    outcomes = decide(caller, updates, before, part_of)
    # Other requests get a turn of the event loop between deciding and making rows.
    await asyncio.sleep(0)
    if not prepares:
        return before, outcomes, NO_ROWS
    changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
    prepared = rows_by_sku(caller.tenant_id, before, _posting(changes)) if changes else {}
    before, changed = await lock_stock(session, caller.tenant_id, levels, before)
    changed_updates = [update for update in updates if update.sku in changed]
    redecided = iter(decide(caller, changed_updates, before, part_of))
    outcomes = [
        next(redecided) if update.sku in changed else outcome
        for update, outcome in zip(updates, outcomes, strict=True)
    ]
    return before, outcomes, {code: rows for code, rows in prepared.items() if code not in changed}


def decision_of(
    result: Result | InventoryError,
    outcomes: Sequence[UpdateOutcome],
    caller: Caller,
    before: Stock,
    prepared: Mapping[str, SkuRows] = NO_ROWS,
) -> Decision[Result]:
    """Return the decision that posts the changes among some outcomes."""
    changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
    if not changes:
        return Decision(result)
    posting = _posting(changes, prepared)
    return Decision(
        result, partial(post, tenant_id=caller.tenant_id, before=before, posting=posting)
    )


def refusals_of(
    updates: Sequence[StockUpdate], outcomes: Sequence[UpdateOutcome]
) -> list[RefusedItem]:
    """Return the refusals among the outcomes of updates, in their order."""
    return [
        RefusedItem(index, update, outcome)
        for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
        if isinstance(outcome, InventoryError)
    ]


def _posting(changes: Sequence[StockChange], prepared: Mapping[str, SkuRows] = NO_ROWS) -> Posting:
    return Posting(
        after={change.sku.sku: change.sku for change in changes},
        entries=[change.adjustment for change in changes],
        at=max(change.adjustment.created_at for change in changes),
        prepared=prepared,
    )


def _check_bulk(updates: Sequence[StockUpdate]) -> None:
    if not 1 <= len(updates) <= MAX_BULK_UPDATES:
        message = f"must hold 1 to {MAX_BULK_UPDATES} updates, and holds {len(updates)}"
        raise invalid_field("updates", message)
    problems = [
        (f"updates.{index}.{field}", message)
        for index, change in enumerate(updates)
        for field, message in _problems(change)
    ]
    first_index: dict[LevelKey, int] = {}
    for index, change in enumerate(updates):
        first = first_index.setdefault(change.level, index)
        if first != index:
            problems.append((f"updates.{index}", f"is for the same level as updates.{first}"))
    if problems:
        raise invalid_fields(problems)


def _problems(change: StockUpdate) -> list[tuple[str, str]]:
    """Return the malformed fields of an update, each with its problem."""
    checks = {
        "quantity": quantity_problem(change.quantity, change.delta),
        "delta": delta_problem(change.delta),
        "reason": reason_problem(change.reason),
        "note": note_problem(change.note),
        "reference": reference_problem(change.reference),
        "expectedQuantity": expected_quantity_problem(change.expected_quantity),
    }
    return [(field, problem) for field, problem in checks.items() if problem]
