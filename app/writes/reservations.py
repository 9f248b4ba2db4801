"""Reservations: reserve, commit, release, extend and expire.

A reservation holds stock until it ends once: it is committed, released or expires. A commit takes
quantities from `on_hand` and frees the rest. `reserved` of a level is always the sum over its open
reservations.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from msgspec import structs

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.instants import format_instant
from app.domain.quantities import moved_quantity_problem
from app.domain.records import (
    ReservationChange,
    ReservationLineRecord,
    ReservationRecord,
    ReservationStatus,
    SkuRecord,
    StockChange,
)
from app.domain.reservations import check_reservable, hold_problem
from app.domain.stock import (
    AdjustmentLinks,
    Changes,
    LevelKey,
    RefusedItem,
    Stock,
    StockUpdate,
    decide,
    refusal_of_all,
)
from app.domain.validation import MAX_BULK_UPDATES, note_problem, reason_problem, reference_problem
from app.errors import (
    InventoryError,
    OversellNotPermitted,
    ReservationEnded,
    invalid_field,
    invalid_fields,
    reservation_not_found,
    warehouse_not_found,
)
from app.reads.reservations import MOST_LINES, list_due_reservations
from app.runtime.metrics import EXPIRY_DELAY
from app.writes.decisions import Decision, Needs
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import WriteContext, run_write
from app.writes.stock import needs_of, refusals_of

# Their lines can be read in one statement.
EXPIRE_BATCH_ROWS: Final = MOST_LINES // MAX_BULK_UPDATES


@dataclass(frozen=True, slots=True)
class RequestedLine:
    """Quantity of a stock level to reserve or to commit."""

    sku: str
    warehouse_id: str
    quantity: int

    @property
    def level(self) -> LevelKey:
        """The key of the stock level."""
        return self.sku, self.warehouse_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveRequest:
    """Lines to hold, the hold time in seconds, and the reference of the order."""

    lines: tuple[RequestedLine, ...]
    seconds: int
    reference: str | None = None
    note: str | None = None
    may_oversell: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """Lines to take of a reservation (None: everything it holds), with a reason."""

    id: str
    lines: tuple[RequestedLine, ...] | None
    reason: str
    note: str | None = None


async def reserve_stock(
    context: WriteContext, request: ReserveRequest
) -> WriteResult[ReservationChange]:
    """Hold stock, all lines or none; lines of one level are summed before the check.

    Expired reservations of the tenant are ended first, so that they hold nothing.

    Raises:
        ValidationFailed: not 1 to 500 lines, or a field is malformed.
        OversellNotPermitted: the request oversells, and the tenant does not permit it.
        InventoryError: the first refusal, with every refusal in its details; or an error of
            `run_write`.

    """
    _check(
        request.lines,
        expiresIn=hold_problem(request.seconds),
        reference=reference_problem(request.reference),
        note=note_problem(request.note),
    )
    caller = context.caller
    lines, first_indexes = _summed(request.lines), _first_indexes(request.lines)
    await expire_reservations(context.database, caller.tenant_id)

    def decide_reservation(stock: Stock) -> Decision[ReservationChange]:
        if request.may_oversell and not stock.permits_oversell:
            return Decision(_oversell_not_permitted())
        after: dict[str, SkuRecord] = {}
        refusals = []
        for line in lines:
            record = after.get(line.sku) or stock.skus.get(line.sku)
            outcome = _with_hold(line, record, stock, may_oversell=request.may_oversell)
            if isinstance(outcome, InventoryError):
                refusals.append(RefusedItem(first_indexes[line.level], line, outcome))
            else:
                after[line.sku] = outcome
        if refusals:
            return Decision(refusal_of_all(refusals, len(request.lines), "lines"))
        reservation = _new_reservation(request, lines, created_by=caller.email, now=stock.now)
        return _decision(reservation, after)

    write_request = WriteRequest("reserveStock", request, ReservationChange)
    return await run_write(context, write_request, needs_of(lines), decide_reservation)


async def commit_reservation(
    context: WriteContext, request: CommitRequest
) -> WriteResult[ReservationChange]:
    """Take the held stock of a reservation, or a part of it, from `on_hand`; the rest is freed.

    Raises:
        ValidationFailed: a field is malformed, or a line takes more than the reservation holds.
        ReservationNotFound, ReservationEnded.
        InventoryError: the first refusal of a stock rule, with every refusal in its details; or an
            error of `run_write`.

    """
    _check(
        request.lines,
        reason=reason_problem(request.reason),
        note=note_problem(request.note),
    )
    caller = context.caller

    def decide_commit(stock: Stock) -> Decision[ReservationChange]:
        reservation = _open_reservation(stock, request.id)
        if isinstance(reservation, Decision):
            return reservation
        taken = _taken(reservation, request.lines)
        if isinstance(taken, InventoryError):
            return Decision(taken)
        freed = _freed(stock, [reservation])
        updates = [
            StockUpdate(
                sku=line.sku,
                warehouse_id=line.warehouse_id,
                delta=-line.quantity,
                reason=request.reason,
                note=request.note,
                reference=reservation.reference,
            )
            for line in taken
        ]
        links = AdjustmentLinks(reservation_id=reservation.id)
        outcomes = decide(caller, updates, stock, links, changed=freed)
        if refusals := refusals_of(updates, outcomes):
            return Decision(refusal_of_all(refusals, len(updates), "lines"))
        changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
        after = {**freed, **{change.sku.sku: change.sku for change in changes}}
        ended = _ended(
            reservation,
            ReservationStatus.COMMITTED,
            stock.now,
            {line.level: line.quantity for line in taken},
        )
        return _decision(ended, after, changes)

    write_request = WriteRequest("commitReservation", request, ReservationChange)
    return await run_write(context, write_request, Needs(reservations=[request.id]), decide_commit)


async def release_reservation(context: WriteContext, id_: str) -> WriteResult[ReservationChange]:
    """Free the held stock of a reservation.

    Raises:
        ReservationNotFound, ReservationEnded.
        InventoryError: an error of `run_write`.

    """

    def decide_release(stock: Stock) -> Decision[ReservationChange]:
        reservation = _open_reservation(stock, id_)
        if isinstance(reservation, Decision):
            return reservation
        ended = _ended(reservation, ReservationStatus.RELEASED, stock.now)
        return _decision(ended, _freed(stock, [reservation]))

    request = WriteRequest("releaseReservation", id_, ReservationChange)
    return await run_write(context, request, Needs(reservations=[id_]), decide_release)


async def extend_reservation(
    context: WriteContext, id_: str, seconds: int
) -> WriteResult[ReservationChange]:
    """Make a reservation hold for at least `seconds` from now.

    Raises:
        ValidationFailed: `seconds` is out of range.
        ReservationNotFound, ReservationEnded.
        InventoryError: an error of `run_write`.

    """
    if problem := hold_problem(seconds):
        raise invalid_field("expiresIn", problem)

    def decide_extension(stock: Stock) -> Decision[ReservationChange]:
        reservation = _open_reservation(stock, id_)
        if isinstance(reservation, Decision):
            return reservation
        expires_at = stock.now + timedelta(seconds=seconds)
        if reservation.expires_at is None or reservation.expires_at >= expires_at:
            return Decision(ReservationChange(reservation))
        extended = replace(reservation, expires_at=expires_at, version=reservation.version + 1)
        return _decision(extended, {})

    request = WriteRequest("extendReservation", [id_, seconds], ReservationChange)
    return await run_write(context, request, Needs(reservations=[id_]), decide_extension)


async def expire_reservations(
    database: Database, tenant_id: str, *, seconds: float = math.inf
) -> int:
    """End the open reservations of a tenant that are due, in batches; return their number.

    No batch begins after `seconds`.
    """
    context = WriteContext(database=database, caller=Caller(tenant_id, "", ""))
    expired, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        async with database.snapshot(single=True, tenant_id=tenant_id) as snapshot:
            ids = await list_due_reservations(snapshot, tenant_id, limit=EXPIRE_BATCH_ROWS)
        if not ids:
            break
        request = WriteRequest("expireReservations", ids, int)
        delays: list[timedelta] = []
        decide_expiry = partial(_decide_expiry, ids, delays)
        written = await run_write(context, request, Needs(reservations=ids), decide_expiry)
        expired += written.result
        for delay in delays:
            EXPIRY_DELAY.observe(delay.total_seconds())
    return expired


def _decide_expiry(ids: Sequence[str], delays: list[timedelta], stock: Stock) -> Decision[int]:
    """End the due reservations; `delays` becomes how late each of them is."""
    found = [stock.reservations[id_] for id_ in ids if id_ in stock.reservations]
    due = [reservation for reservation in found if _is_due(reservation, stock.now)]
    delays[:] = [stock.now - each.expires_at for each in due if each.expires_at]
    ended = {each.id: _ended(each, ReservationStatus.EXPIRED, stock.now) for each in due}
    return Decision(len(due), Changes(skus=_freed(stock, due), reservations=ended))


def _check(lines: Sequence[RequestedLine] | None, **problems: str | None) -> None:
    malformed = [(field, problem) for field, problem in problems.items() if problem]
    if lines is not None:
        if not 1 <= len(lines) <= MAX_BULK_UPDATES:
            message = f"must hold 1 to {MAX_BULK_UPDATES} lines, and holds {len(lines)}"
            raise invalid_field("lines", message)
        malformed += [
            (f"lines.{index}.quantity", problem)
            for index, line in enumerate(lines)
            if (problem := moved_quantity_problem(line.quantity))
        ]
    if malformed:
        raise invalid_fields(malformed)


def _summed(lines: Iterable[RequestedLine]) -> list[RequestedLine]:
    """Return one line for each level with the sum of its quantities, in their order."""
    quantities: Counter[LevelKey] = Counter()
    for line in lines:
        quantities[line.level] += line.quantity
    return [RequestedLine(*level, quantity) for level, quantity in quantities.items()]


def _first_indexes(lines: Sequence[RequestedLine]) -> dict[LevelKey, int]:
    """Return the index of the first line of each level."""
    indexes: dict[LevelKey, int] = {}
    for index, line in enumerate(lines):
        indexes.setdefault(line.level, index)
    return indexes


def _new_reservation(
    request: ReserveRequest, lines: Iterable[RequestedLine], *, created_by: str, now: datetime
) -> ReservationRecord:
    id_ = f"rsv_{ulid(now)}"
    return ReservationRecord(
        id=id_,
        status=ReservationStatus.OPEN,
        reference=request.reference,
        note=request.note,
        created_by=created_by,
        created_at=now,
        expires_at=now + timedelta(seconds=request.seconds),
        ended_at=None,
        version=1,
        lines=[
            ReservationLineRecord(id_, *line.level, line.quantity, line.quantity, 0)
            for line in sorted(lines, key=lambda line: line.level)
        ],
    )


def _with_hold(
    line: RequestedLine, record: SkuRecord | None, stock: Stock, *, may_oversell: bool
) -> SkuRecord | InventoryError:
    """Return the SKU with a line held, or the refusal of the line."""
    if record is None:
        return stock.unknown_sku(line.sku)
    warehouse = stock.warehouses.get(line.warehouse_id)
    if warehouse is None:
        return warehouse_not_found(line.warehouse_id)
    level = record.level_at(warehouse)
    refusal = check_reservable(
        line.quantity,
        code=record.sku,
        level=level,
        warehouse_id=warehouse.id,
        warehouse_type=warehouse.type,
        is_active=warehouse.is_active,
        is_archived=record.archived_at is not None,
        may_oversell=may_oversell,
    )
    return refusal or record.with_level(
        structs.replace(level, reserved=level.reserved + line.quantity)
    )


def _open_reservation(stock: Stock, id_: str) -> ReservationRecord | Decision[ReservationChange]:
    """Return an open reservation, or the refusal of its id.

    A reservation that is due expires with the refusal, so that reads agree with it.
    """
    reservation = stock.reservations.get(id_)
    if reservation is None:
        return Decision(reservation_not_found(id_))
    if _is_due(reservation, stock.now):
        changes = _decide_expiry([id_], [], stock).changes
        return Decision(_reservation_ended(changes.reservations[id_], stock.now), changes)
    if reservation.ended_at is None:
        return reservation
    return Decision(_reservation_ended(reservation, reservation.ended_at))


def _reservation_ended(reservation: ReservationRecord, ended_at: datetime) -> ReservationEnded:
    id_, status = reservation.id, reservation.status
    ending = "expired" if status is ReservationStatus.EXPIRED else f"was {status}"
    return ReservationEnded(
        f"Reservation {id_} {ending} at {format_instant(ended_at)}. "
        "Create a new one if the stock is "
        "still needed.",
        details=[{"id": id_, "status": status.value, "ended_at": format_instant(ended_at)}],
    )


def _is_due(reservation: ReservationRecord, now: datetime) -> bool:
    if reservation.status is not ReservationStatus.OPEN or reservation.expires_at is None:
        return False
    return reservation.expires_at <= now


def _taken(
    reservation: ReservationRecord, lines: Sequence[RequestedLine] | None
) -> list[RequestedLine] | InventoryError:
    """Return the quantities to take, or the refusal of lines beyond the held quantity."""
    held = {(line.sku, line.warehouse_id): line.held for line in reservation.lines}
    if lines is None:
        return [RequestedLine(*level, quantity) for level, quantity in held.items()]
    taken, first_indexes = _summed(lines), _first_indexes(lines)
    problems = [
        (
            f"lines.{first_indexes[line.level]}",
            f"takes {line.quantity}, and the reservation holds {held.get(line.level, 0)} there",
        )
        for line in taken
        if line.quantity > held.get(line.level, 0)
    ]
    return invalid_fields(problems) if problems else taken


def _freed(stock: Stock, reservations: Iterable[ReservationRecord]) -> dict[str, SkuRecord]:
    """Return the SKUs of reservations without their holds."""
    after: dict[str, SkuRecord] = {}
    for line in (line for reservation in reservations for line in reservation.lines):
        record = after.get(line.sku) or stock.skus[line.sku]
        level = record.level_in(line.warehouse_id)
        if level is not None:
            reserved = level.reserved - line.held
            record = record.with_level(structs.replace(level, reserved=reserved))
        after[line.sku] = record
    return after


def _ended(
    reservation: ReservationRecord,
    status: ReservationStatus,
    now: datetime,
    taken: Mapping[LevelKey, int] | None = None,
) -> ReservationRecord:
    taken = taken or {}
    return replace(
        reservation,
        status=status,
        ended_at=now,
        version=reservation.version + 1,
        lines=[
            replace(line, held=0, committed=taken.get((line.sku, line.warehouse_id), 0))
            for line in reservation.lines
        ],
    )


def _decision(
    reservation: ReservationRecord,
    after: Mapping[str, SkuRecord],
    changes: Sequence[StockChange] = (),
) -> Decision[ReservationChange]:
    entries = [change.adjustment for change in changes]
    return Decision(
        ReservationChange(reservation, [after[code] for code in sorted(after)], entries),
        Changes(skus=after, reservations={reservation.id: reservation}, entries=entries),
    )


def _oversell_not_permitted() -> OversellNotPermitted:
    return OversellNotPermitted(
        "This tenant does not permit reservations beyond the available stock. An operator can "
        "permit them with `inventory tenant update --permit-oversell`."
    )
