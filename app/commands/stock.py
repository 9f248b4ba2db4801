"""Changes of stock: what may be asked for, and what comes of it.

Every change goes one way, whatever asked for it: `write_once` has it planned here by the rules of
`app.stock`, from what `app.commands.posting` read, and posted by the latter.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final, Protocol, TypeVar

from msgspec.structs import replace

from app.commands.idempotency import Caller, Done, Planned, Request, rehearse, write_once
from app.commands.posting import (
    LevelKey,
    Posting,
    Rows,
    Stock,
    lock_stock,
    post,
    read_stock,
    rows_of,
)
from app.database import Database
from app.errors import (
    InventoryError,
    InventoryNotFound,
    StaleVersion,
    invalid_field,
    invalid_fields,
)
from app.ids import ulid
from app.records import AdjustmentRecord, LevelRecord, SkuRecord, StockChange, WarehouseRecord
from app.sessions import Session
from app.stock import (
    MAX_BULK_UPDATES,
    check_archived,
    check_new_on_hand,
    delta_problem,
    expected_quantity_problem,
    moved_quantity_problem,
    note_problem,
    quantity_problem,
    reason_problem,
    reference_problem,
    warehouse_not_found,
)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class StockUpdate:
    """What a level's `on_hand` shall be (`quantity`) or by how much it changes (`delta`), and why.

    Exactly one of the two is given.
    """

    sku: str
    warehouse_id: str
    quantity: int | None = None
    delta: int | None = None
    reason: str
    note: str | None = None
    expected_quantity: int | None = None
    expected_version: int | None = None
    # None: any. Any of several: a conditional request may name more than one.
    expected_sku_versions: tuple[int, ...] | None = None
    reference: str | None = None
    reversal_of: str | None = None

    @property
    def level(self) -> LevelKey:
        """The stock level that it is for."""
        return self.sku, self.warehouse_id

    def applied_to(self, on_hand: int) -> int:
        """Return what `on_hand` becomes, which the rules may refuse."""
        return on_hand + self.delta if self.delta is not None else self.quantity or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOf:
    """What the ledger entries of one write are a part of."""

    bulk_id: str | None = None
    transfer_id: str | None = None
    reservation_id: str | None = None


NOTHING_ELSE: Final = PartOf()
NOTHING_AHEAD: Final[Mapping[str, Rows]] = {}


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


@dataclass(frozen=True, slots=True)
class TransferLine:
    """How many of a SKU are moved."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What is moved from one warehouse (`source`) to another, and why."""

    source: str
    destination: str
    lines: tuple[TransferLine, ...]
    reason: str
    note: str | None = None
    reference: str | None = None

    def halves(self, line: TransferLine) -> list[StockUpdate]:
        """Return what a line takes from one level and adds to the other."""
        return [
            StockUpdate(
                sku=line.sku,
                warehouse_id=warehouse_id,
                delta=delta,
                reason=self.reason,
                note=self.note,
                reference=self.reference,
            )
            for warehouse_id, delta in [
                (self.source, -line.quantity),
                (self.destination, line.quantity),
            ]
        ]


@dataclass(frozen=True, slots=True)
class Transferred:
    """What became of one line of a transfer: its two halves."""

    outgoing: StockChange
    incoming: StockChange


class HasLevel(Protocol):
    """What is about one stock level."""

    @property
    def sku(self) -> str:
        """The SKU."""

    @property
    def warehouse_id(self) -> str:
        """The warehouse."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A part of a request that was refused."""

    index: int
    update: HasLevel
    error: InventoryError


Outcome = StockChange | InventoryError


async def change_stock(
    database: Database,
    caller: Caller,
    change: StockUpdate,
    *,
    key: str | None = None,
    dry_run: bool = False,
) -> Done[StockChange]:
    """Set or adjust the `on_hand` of one stock level; under an idempotency key, once.

    A dry run checks and answers as if, and writes nothing.

    Raises:
        ValidationFailed, InventoryNotFound, WarehouseNotFound, ReadonlyWarehouse,
        NegativeQuantity, WarehouseInactive, StaleVersion: checked in this order; nothing is
        written. And what `write_once` raises.

    """
    if problems := _problems(change):
        raise invalid_fields(problems)

    async def plan(session: Session, *, locked: bool) -> Planned[StockChange]:
        before = await read_stock(session, caller.tenant, [change.level], locked=locked)
        [outcome] = decide(caller, [change], before)
        return planned(outcome, [outcome], caller, before)

    request = Request("changeStock", change, StockChange)
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
) -> Done[list[BulkOutcome]]:
    """Change many stock levels in one transaction; outcomes stand in the order of the updates.

    A dry run checks and answers as if, and writes nothing.

    Raises:
        ValidationFailed: not 1 to 500 updates, one is malformed, or two are for the same level.
        InventoryError: with ABORT, the first refusal, with every refusal in its details. And what
            `write_once` raises.

    """
    _check_bulk(updates)

    async def plan(session: Session, *, locked: bool) -> Planned[list[BulkOutcome]]:
        part_of = PartOf(bulk_id=f"blk_{ulid()}")
        before, outcomes, rows = await _decided(session, caller, updates, part_of, locked=locked)
        refusals = [
            Refused(index, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
            if isinstance(outcome, InventoryError)
        ]
        if on_error is OnError.ABORT and refusals:
            return Planned(refusal_of_all(refusals, len(updates), "updates"))
        results = [
            BulkOutcome(outcome, None)
            if isinstance(outcome, StockChange)
            else BulkOutcome(None, Refusal(outcome.code, outcome.message))
            for outcome in outcomes
        ]
        return planned(results, outcomes, caller, before, rows)

    request = Request("bulkChangeStock", [on_error, list(updates)], list[BulkOutcome])
    codes = {change.sku for change in updates}
    if dry_run:
        return await rehearse(database, caller, key, request, plan)
    return await write_once(database, caller, key, request, plan, skus=codes)


async def transfer_stock(
    database: Database,
    caller: Caller,
    transfer: Transfer,
    *,
    key: str | None = None,
    dry_run: bool = False,
) -> Done[list[Transferred]]:
    """Move stock from one warehouse to another, all lines or none; outcomes in their order.

    A dry run checks and answers as if, and writes nothing.

    Raises:
        ValidationFailed: not 1 to 500 lines, one is malformed, two are for the same SKU, or the
            warehouses are the same.
        InventoryError: the first refusal, with every refusal in its details. And what
            `write_once` raises.

    """
    _check_transfer(transfer)

    async def plan(session: Session, *, locked: bool) -> Planned[list[Transferred]]:
        updates = [half for line in transfer.lines for half in transfer.halves(line)]
        part_of = PartOf(transfer_id=f"trf_{ulid()}")
        before, outcomes, rows = await _decided(session, caller, updates, part_of, locked=locked)
        refusals = [
            Refused(index // 2, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
            if isinstance(outcome, InventoryError)
        ]
        if refusals:
            return Planned(refusal_of_all(refusals, len(transfer.lines), "lines"))
        changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
        moved = [Transferred(*pair) for pair in zip(changes[::2], changes[1::2], strict=True)]
        return planned(moved, outcomes, caller, before, rows)

    request = Request("transferStock", transfer, list[Transferred])
    if dry_run:
        return await rehearse(database, caller, key, request, plan)
    codes = {line.sku for line in transfer.lines}
    return await write_once(database, caller, key, request, plan, skus=codes)


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
        problems.append(("toWarehouseId", "must be another one than fromWarehouseId"))
    first_index: dict[str, int] = {}
    for index, line in enumerate(transfer.lines):
        if problem := moved_quantity_problem(line.quantity):
            problems.append((f"lines.{index}.quantity", problem))
        first = first_index.setdefault(line.sku, index)
        if first != index:
            problems.append((f"lines.{index}", f"is for the same SKU as lines.{first}"))
    if problems:
        raise invalid_fields(problems)


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
    outcomes: Sequence[Outcome],
    caller: Caller,
    before: Stock,
    rows: Mapping[str, Rows] = NOTHING_AHEAD,
) -> Planned[Result]:
    """Return what the changes among some outcomes come to."""
    changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
    if not changes:
        return Planned(result)
    posting = _posting(changes, rows)
    return Planned(result, partial(post, tenant=caller.tenant, before=before, posting=posting))


def _posting(changes: Sequence[StockChange], rows: Mapping[str, Rows] = NOTHING_AHEAD) -> Posting:
    return Posting(
        after={change.sku.sku: change.sku for change in changes},
        entries=[change.adjustment for change in changes],
        at=max(change.adjustment.created_at for change in changes),
        rows=rows,
    )


async def _decided(
    session: Session,
    caller: Caller,
    updates: Sequence[StockUpdate],
    part_of: PartOf,
    *,
    locked: bool,
) -> tuple[Stock, list[Outcome], Mapping[str, Rows]]:
    """Read what updates are about, `locked` if asked for, and decide on them.

    On PostgreSQL that is done before the locks are there, and rows are made up: many updates often
    wait for those of others, and make others wait. Then it is done over where something has
    changed.
    """
    levels = [update.level for update in updates]
    is_ahead = locked and session.dialect == "postgresql"
    before = await read_stock(session, caller.tenant, levels, locked=locked and not is_ahead)
    outcomes = decide(caller, updates, before, part_of)
    # Other tasks have their turns between deciding and making rows of hundreds of updates.
    await asyncio.sleep(0)
    if not is_ahead:
        return before, outcomes, NOTHING_AHEAD
    changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
    ahead = rows_of(caller.tenant, before, _posting(changes)) if changes else {}
    before, moved = await lock_stock(session, caller.tenant, levels, before)
    of_moved = [update for update in updates if update.sku in moved]
    anew = iter(decide(caller, of_moved, before, part_of))
    outcomes = [
        next(anew) if update.sku in moved else outcome
        for update, outcome in zip(updates, outcomes, strict=True)
    ]
    return before, outcomes, {code: it for code, it in ahead.items() if code not in moved}


def decide(
    caller: Caller,
    updates: Sequence[StockUpdate],
    before: Stock,
    part_of: PartOf = NOTHING_ELSE,
) -> list[Outcome]:
    """Return what becomes of updates by the rules, in their order, each seeing those before it."""
    now = before.now
    after = dict(before.skus)
    outcomes: list[Outcome] = []
    for change in updates:
        outcome = _decide_one(
            caller, change, after.get(change.sku), before.warehouses, now, part_of
        )
        if isinstance(outcome, StockChange):
            after[change.sku] = outcome.sku
        outcomes.append(outcome)
    return [
        StockChange(outcome.adjustment, after[outcome.sku.sku])
        if isinstance(outcome, StockChange)
        else outcome
        for outcome in outcomes
    ]


def _decide_one(  # noqa: PLR0917 - called five hundred times by a bulk
    caller: Caller,
    change: StockUpdate,
    record: SkuRecord | None,
    warehouses: Mapping[str, WarehouseRecord],
    now: datetime,
    part_of: PartOf,
) -> Outcome:
    if record is None:
        return inventory_not_found(change.sku)
    place = warehouses.get(change.warehouse_id)
    if place is None:
        return warehouse_not_found(change.warehouse_id)
    old = record.level_at(place)
    quantity = change.applied_to(old.on_hand)
    refusal = check_new_on_hand(
        quantity,
        on_hand=old.on_hand,
        warehouse_id=place.id,
        warehouse_type=place.type,
        is_active=place.is_active,
    )
    if refusal is None and record.archived_at:
        refusal = check_archived(record.sku, quantity, on_hand=old.on_hand)
    if refusal or (refusal := _stale(change, record, old)):
        return refusal
    # A clock that is set back must not let the ledger of a level run backwards.
    created_at = max(now, old.adjusted_at) if old.adjusted_at else now
    new = replace(old, on_hand=quantity, version=old.version + 1, adjusted_at=created_at)
    entry = AdjustmentRecord(
        id=f"adj_{ulid(now)}",
        sku=change.sku,
        warehouse_id=change.warehouse_id,
        sequence=new.version,
        before_quantity=old.on_hand,
        after_quantity=quantity,
        reason=change.reason,
        note=change.note,
        created_by=caller.email,
        created_at=created_at,
        bulk_id=part_of.bulk_id,
        transfer_id=part_of.transfer_id,
        reservation_id=part_of.reservation_id,
        reversal_of=change.reversal_of,
        reference=change.reference,
    )
    return StockChange(entry, record.with_level(new))


def _stale(change: StockUpdate, record: SkuRecord, level: LevelRecord) -> StaleVersion | None:
    """Return the refusal of an update that expected other stock than there is."""
    present = {
        "on_hand": level.on_hand,
        "version": level.version,
        "sku_version": record.version,
    }
    skus = change.expected_sku_versions
    stale = {
        "expectedQuantity": change.expected_quantity not in (None, present["on_hand"]),
        "expectedVersion": change.expected_version not in (None, present["version"]),
        "expectedSkuVersions": skus is not None and present["sku_version"] not in skus,
    }
    details = [
        {"field": field, "message": "is not what there is", **present}
        for field, is_stale in stale.items()
        if is_stale
    ]
    if not details:
        return None
    return StaleVersion(
        f"SKU {change.sku!r} is not as expected: warehouse {change.warehouse_id} holds "
        f"{present['on_hand']} at version {present['version']}, and the record's version is "
        f"{present['sku_version']}. Read it again, and decide anew.",
        details=details,
    )


def refusal_of_all(refusals: Sequence[Refused], number: int, items: str) -> InventoryError:
    """Return the first refusal of a request of so many items, with every one in its details."""
    first = refusals[0]
    refused = len({each.index for each in refusals})
    return type(first.error)(
        f"Nothing was changed: {refused} of {number} {items} are refused, "
        f"the first of them {items}[{first.index}]: {first.error.message}",
        details=[
            {
                "index": each.index,
                "sku": each.update.sku,
                "warehouse_id": each.update.warehouse_id,
                "status": "failed",
                "error": {"code": each.error.code, "message": each.error.message},
            }
            for each in refusals
        ],
    )


def inventory_not_found(code: str) -> InventoryNotFound:
    """Return the refusal of a SKU code that the tenant does not have."""
    return InventoryNotFound(f"SKU {code!r} has no inventory record.", details=[{"sku": code}])
