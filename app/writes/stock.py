"""Changes of stock: what may be asked for, and what comes of it.

Every change goes one way, whatever asked for it: `write_once` has it planned here by the rules of
`app.stock`, from what `app.commands.posting` read, and posted by the latter.
"""

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
from app.errors import (
    InventoryError,
    invalid_field,
    invalid_fields,
)
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import PlannedWrite, rehearse, write_once
from app.writes.posting import Posting, SkuRows, post, rows_of
from app.writes.stock_reading import lock_stock, read_stock

Result = TypeVar("Result")

NOTHING_AHEAD: Final[Mapping[str, SkuRows]] = {}


class OnError(StrEnum):
    """What a bulk does when some of its updates are refused."""

    ABORT = "abort"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an update of a bulk was refused."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What became of one update of a bulk: a change or a refusal."""

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
    """Set or adjust the `on_hand` of one stock level; under an idempotency key, once.

    A dry run checks and answers as if, and writes nothing.

    Raises:
        ValidationFailed, InventoryNotFound, WarehouseNotFound, ReadonlyWarehouse,
        NegativeQuantity, WarehouseInactive, StaleVersion: checked in this order; nothing is
        written. And what `write_once` raises.

    """
    if problems := _problems(change):
        raise invalid_fields(problems)

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[StockChange]:
        before = await read_stock(session, caller.tenant_id, [change.level], locked=locked)
        [outcome] = decide(caller, [change], before)
        return planned(outcome, [outcome], caller, before)

    request = WriteRequest("changeStock", change, StockChange)
    if dry_run:
        return await rehearse(database, caller, key, request, plan)
    return await write_once(database, caller, key, request, plan, skus=[change.sku])


async def bulk_change_stock(
    database: Database,
    caller: Caller,
    updates: Sequence[StockUpdate],
    *,
    on_error: OnError,
    key: str | None = None,
    dry_run: bool = False,
) -> WriteResult[list[BulkOutcome]]:
    """Change many stock levels in one transaction; outcomes stand in the order of the updates.

    A dry run checks and answers as if, and writes nothing.

    Raises:
        ValidationFailed: not 1 to 500 updates, one is malformed, or two are for the same level.
        InventoryError: with ABORT, the first refusal, with every refusal in its details. And what
            `write_once` raises.

    """
    _check_bulk(updates)

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[list[BulkOutcome]]:
        part_of = AdjustmentLinks(bulk_id=f"blk_{ulid()}")
        before, outcomes, rows = await decide_updates(
            session, caller, updates, part_of, locked=locked
        )
        refusals = [
            RefusedItem(index, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
            if isinstance(outcome, InventoryError)
        ]
        if on_error is OnError.ABORT and refusals:
            return PlannedWrite(refusal_of_all(refusals, len(updates), "updates"))
        results = [
            BulkOutcome(outcome, None)
            if isinstance(outcome, StockChange)
            else BulkOutcome(None, Refusal(outcome.code, outcome.message))
            for outcome in outcomes
        ]
        return planned(results, outcomes, caller, before, rows)

    request = WriteRequest("bulkChangeStock", [on_error, list(updates)], list[BulkOutcome])
    codes = {change.sku for change in updates}
    if dry_run:
        return await rehearse(database, caller, key, request, plan)
    return await write_once(database, caller, key, request, plan, skus=codes)


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
    """Return what is wrong with the shape of an update, as (field, what it must be)."""
    checks = {
        "quantity": quantity_problem(change.quantity, change.delta),
        "delta": delta_problem(change.delta),
        "reason": reason_problem(change.reason),
        "note": note_problem(change.note),
        "reference": reference_problem(change.reference),
        "expectedQuantity": expected_quantity_problem(change.expected_quantity),
    }
    return [(field, problem) for field, problem in checks.items() if problem]


def planned(
    result: Result | InventoryError,
    outcomes: Sequence[UpdateOutcome],
    caller: Caller,
    before: Stock,
    rows: Mapping[str, SkuRows] = NOTHING_AHEAD,
) -> PlannedWrite[Result]:
    """Return what the changes among some outcomes come to."""
    changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
    if not changes:
        return PlannedWrite(result)
    posting = _posting(changes, rows)
    return PlannedWrite(
        result, partial(post, tenant=caller.tenant_id, before=before, posting=posting)
    )


def _posting(
    changes: Sequence[StockChange], rows: Mapping[str, SkuRows] = NOTHING_AHEAD
) -> Posting:
    return Posting(
        after={change.sku.sku: change.sku for change in changes},
        entries=[change.adjustment for change in changes],
        at=max(change.adjustment.created_at for change in changes),
        rows=rows,
    )


async def decide_updates(
    session: Session,
    caller: Caller,
    updates: Sequence[StockUpdate],
    part_of: AdjustmentLinks,
    *,
    locked: bool,
) -> tuple[Stock, list[UpdateOutcome], Mapping[str, SkuRows]]:
    """Read what updates are about, `locked` if asked for, and decide on them.

    On PostgreSQL that is done before the locks are there, and rows are made up: many updates often
    wait for those of others, and make others wait. Then it is done over where something has
    changed.
    """
    levels = [update.level for update in updates]
    is_ahead = locked and session.dialect == "postgresql"
    before = await read_stock(session, caller.tenant_id, levels, locked=locked and not is_ahead)
    outcomes = decide(caller, updates, before, part_of)
    # Other tasks have their turns between deciding and making rows of hundreds of updates.
    await asyncio.sleep(0)
    if not is_ahead:
        return before, outcomes, NOTHING_AHEAD
    changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
    ahead = rows_of(caller.tenant_id, before, _posting(changes)) if changes else {}
    before, moved = await lock_stock(session, caller.tenant_id, levels, before)
    of_moved = [update for update in updates if update.sku in moved]
    anew = iter(decide(caller, of_moved, before, part_of))
    outcomes = [
        next(anew) if update.sku in moved else outcome
        for update, outcome in zip(updates, outcomes, strict=True)
    ]
    return before, outcomes, {code: it for code, it in ahead.items() if code not in moved}
