"""Changes of stock: set or adjust one level, or many in a bulk."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.quantities import delta_problem, expected_quantity_problem, quantity_problem
from app.domain.records import StockChange
from app.domain.stock import (
    AdjustmentLinks,
    Changes,
    HasLevel,
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
from app.writes.decisions import Decision, Needs
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import WriteContext, run_write

Result = TypeVar("Result")


class OnError(StrEnum):
    """Whether a bulk with refused updates is refused as a whole or carries out the others."""

    ABORT = "abort"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Error code and message of a refused update, and the numbers in its first detail."""

    code: str
    message: str
    numbers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, error: InventoryError) -> "Refusal":
        """Refusal of an error."""
        first = error.details[0] if error.details else {}
        numbers = {name: value for name, value in first.items() if isinstance(value, int)}
        return cls(error.code, error.message, numbers)


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

    def decide_change(stock: Stock) -> Decision[StockChange]:
        [outcome] = decide(caller, [change], stock)
        return decision_of(outcome, [outcome])

    context = WriteContext(database=database, caller=caller, key=key, dry_run=dry_run)
    request = WriteRequest("changeStock", change, StockChange)
    return await run_write(context, request, needs_of([change]), decide_change)


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

    def decide_bulk(stock: Stock) -> Decision[list[BulkOutcome]]:
        outcomes = decide(caller, updates, stock, AdjustmentLinks(bulk_id=f"blk_{ulid()}"))
        refusals = refusals_of(updates, outcomes)
        if on_error is OnError.ABORT and refusals:
            return Decision(refusal_of_all(refusals, len(updates), "updates"))
        results = [
            BulkOutcome(outcome, None)
            if isinstance(outcome, StockChange)
            else BulkOutcome(None, Refusal.of(outcome))
            for outcome in outcomes
        ]
        return decision_of(results, outcomes)

    context = WriteContext(database=database, caller=caller, key=key, dry_run=dry_run)
    request = WriteRequest("bulkChangeStock", [on_error, list(updates)], list[BulkOutcome])
    return await run_write(context, request, needs_of(updates), decide_bulk)


def needs_of(levels: Iterable[HasLevel]) -> Needs:
    """Return the needs of a write of the stock levels of some items."""
    return needs_of_levels([(level.sku, level.warehouse_id) for level in levels])


def needs_of_levels(levels: Collection[LevelKey]) -> Needs:
    """Return the needs of a write of some stock levels."""
    return Needs(skus={code for code, _ in levels}, warehouses={id_ for _, id_ in levels})


def decision_of(
    result: Result | InventoryError, outcomes: Iterable[UpdateOutcome]
) -> Decision[Result]:
    """Return the decision with the changes among some outcomes."""
    changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
    return Decision(
        result,
        Changes(
            skus={change.sku.sku: change.sku for change in changes},
            entries=[change.adjustment for change in changes],
        ),
    )


def refusals_of(items: Sequence[HasLevel], outcomes: Sequence[object]) -> list[RefusedItem]:
    """Return the refusals among the outcomes of items, in their order."""
    return [
        RefusedItem(index, item, outcome)
        for index, (item, outcome) in enumerate(zip(items, outcomes, strict=True))
        if isinstance(outcome, InventoryError)
    ]


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
