"""Changes of stock: set or adjust one level, or many in a bulk."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.quantities import delta_problem, expected_quantity_problem, quantity_problem
from app.domain.records import AdjustmentRecord, SkuRecord, StockChange, UnchangedStock
from app.domain.stock import (
    NO_PROBLEMS,
    AdjustmentLinks,
    Changes,
    FieldProblem,
    HasLevel,
    LevelKey,
    OnError,
    RefusedItem,
    RowProblems,
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


@dataclass(frozen=True, slots=True)
class Refusal:
    """Error code, message and details of a refused update."""

    code: str
    message: str
    details: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, error: InventoryError) -> Self:
        """Build the refusal of an error."""
        return cls(error.code, error.message, error.details)


@dataclass(frozen=True, slots=True)
class UpdatedStock:
    """The entry of an update, unless nothing changed, and the SKU with all its levels."""

    adjustment: AdjustmentRecord | None
    sku: SkuRecord

    @classmethod
    def of(cls, outcome: StockChange | UnchangedStock) -> Self:
        """Build the result of an update that was not refused."""
        entry = outcome.adjustment if isinstance(outcome, StockChange) else None
        return cls(entry, outcome.sku)


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """The outcome of one update of a bulk: the updated stock or a refusal."""

    change: UpdatedStock | None
    refusal: Refusal | None


async def change_stock(
    database: Database,
    caller: Caller,
    change: StockUpdate,
    *,
    key: str | None = None,
    dry_run: bool = False,
) -> WriteResult[UpdatedStock]:
    """Set or adjust the `on_hand` of one stock level.

    Raises:
        ValidationFailed, InventoryNotFound, WarehouseNotFound, ReadonlyWarehouse,
        NegativeQuantity, WarehouseInactive, StaleVersion: checked in this order.
        InventoryError: an error of `run_write`.

    """
    if problems := _problems(change):
        raise invalid_fields(problems)

    def decide_change(stock: Stock) -> Decision[UpdatedStock]:
        [outcome] = decide(caller, [change], stock)
        if isinstance(outcome, InventoryError):
            return Decision(outcome)
        return decision_of(UpdatedStock.of(outcome), [outcome])

    context = WriteContext(database=database, caller=caller, key=key, dry_run=dry_run)
    request = WriteRequest("changeStock", change, UpdatedStock)
    return await run_write(context, request, needs_of([change]), decide_change)


async def bulk_change_stock(
    database: Database,
    caller: Caller,
    updates: Sequence[StockUpdate],
    *,
    on_error: OnError,
    row_problems: RowProblems = NO_PROBLEMS,
    key: str | None = None,
    dry_run: bool = False,
) -> WriteResult[list[BulkOutcome]]:
    """Change many stock levels in one transaction; outcomes in the order of the updates.

    `row_problems` are problems that the parser of the request found in updates. The values at
    fault are absent from these updates.

    Raises:
        ValidationFailed: not 1 to 500 updates; or, with ABORT, one is malformed, or two are for
            the same level.
        InventoryError: with ABORT, the first refusal, with every refusal in its details; or an
            error of `run_write`.

    """
    if not 1 <= len(updates) <= MAX_BULK_UPDATES:
        message = f"must hold 1 to {MAX_BULK_UPDATES} updates, and holds {len(updates)}"
        raise invalid_field("updates", message)
    malformed = _malformed_updates(updates, row_problems, on_error)
    if malformed and on_error is OnError.ABORT:
        raise invalid_fields(
            [
                (".".join(filter(None, ("updates", str(index), field))), message)
                for index, problems in sorted(malformed.items())
                for field, message in problems
            ]
        )
    refused = {
        index: invalid_fields([(field or "update", message) for field, message in problems])
        for index, problems in malformed.items()
    }
    well_formed = [update for index, update in enumerate(updates) if index not in refused]

    def decide_bulk(stock: Stock) -> Decision[list[BulkOutcome]]:
        links = AdjustmentLinks(bulk_id=f"blk_{ulid()}")
        decided = iter(decide(caller, well_formed, stock, links))
        outcomes: list[UpdateOutcome] = [
            refused[index] if index in refused else next(decided) for index in range(len(updates))
        ]
        refusals = refusals_of(updates, outcomes)
        if on_error is OnError.ABORT and refusals:
            return Decision(refusal_of_all(refusals, len(updates), "updates"))
        results = [
            BulkOutcome(None, Refusal.of(outcome))
            if isinstance(outcome, InventoryError)
            else BulkOutcome(UpdatedStock.of(outcome), None)
            for outcome in outcomes
        ]
        return decision_of(results, outcomes)

    context = WriteContext(database=database, caller=caller, key=key, dry_run=dry_run)
    content = [on_error, list(updates), {str(index): row_problems[index] for index in row_problems}]
    request = WriteRequest("bulkChangeStock", content, list[BulkOutcome])
    return await run_write(context, request, needs_of(well_formed), decide_bulk)


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


def _malformed_updates(
    updates: Sequence[StockUpdate], row_problems: RowProblems, on_error: OnError
) -> dict[int, list[FieldProblem]]:
    """Return the problems of malformed updates by index, each with all problems of its fields.

    With CONTINUE, every update of a repeated level is malformed: none of them is the right one.
    """
    malformed: dict[int, list[FieldProblem]] = {}
    indexes: dict[LevelKey, list[int]] = {}
    for index, update in enumerate(updates):
        parsed = row_problems.get(index, ())
        absent = {field for field, _ in parsed}
        # An empty field stands for a row that is not an object, which has no fields to check.
        own = [] if "" in absent else [each for each in _problems(update) if each[0] not in absent]
        if problems := [*parsed, *own]:
            malformed[index] = problems
        if absent.isdisjoint(("", "sku", "warehouseId")):
            indexes.setdefault(update.level, []).append(index)
    for repeated in (each for each in indexes.values() if len(each) > 1):
        first, second, *_ = repeated
        for index in repeated if on_error is OnError.CONTINUE else repeated[1:]:
            other = second if index == first else first
            problem = ("", f"is for the same level as updates.{other}")
            malformed.setdefault(index, []).append(problem)
    return malformed


def _problems(change: StockUpdate) -> list[FieldProblem]:
    """Return the malformed fields of an update, each with its problem."""
    checks = {
        "quantity": quantity_problem(change.quantity),
        "delta": delta_problem(change.delta),
        "reason": reason_problem(change.reason),
        "note": note_problem(change.note),
        "reference": reference_problem(change.reference),
        "expectedQuantity": expected_quantity_problem(change.expected_quantity),
    }
    return [(field, problem) for field, problem in checks.items() if problem]
