"""Reservations: reserve, commit, release, extend and expire.

A reservation holds stock until it ends once: it is committed, released or expires. A commit takes
quantities from `on_hand` and frees the rest. `reserved` of a level is always the sum over its open
reservations.

Reservations are locked before SKUs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.faults import Conflict
from app.database.session import EngineSession, Session
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
    inventory_not_found,
    reservation_not_found,
    warehouse_not_found,
)
from app.reads.reservations import MOST_LINES, list_due_reservations
from app.reads.tenants import permits_oversell
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.locked_reads import read_reservations, read_stock
from app.writes.pipeline import Decision, WriteContext, run_write
from app.writes.posting import post_reservations
from app.writes.rows import Posting
from app.writes.stock import refusals_of

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
    lines = _summed(request.lines)
    await expire_reservations(context.database, caller.tenant_id)

    async def decide_reservation(session: Session, *, locked: bool) -> Decision[ReservationChange]:
        levels = [line.level for line in lines]
        before = await read_stock(session, caller.tenant_id, levels, locked=locked)
        if request.may_oversell and not await permits_oversell(
            session, caller.tenant_id, locked=locked
        ):
            return Decision(_oversell_not_permitted())
        after = dict(before.skus)
        refusals = []
        for line in lines:
            outcome = _with_hold(
                line, after.get(line.sku), before, may_oversell=request.may_oversell
            )
            if isinstance(outcome, InventoryError):
                refusals.append(RefusedItem(_first_index(request.lines, line.level), line, outcome))
            else:
                after[line.sku] = outcome
        if refusals:
            return Decision(refusal_of_all(refusals, len(request.lines), "lines"))
        reservation = _new_reservation(request, lines, created_by=caller.email, now=before.now)
        return _decision(caller.tenant_id, reservation, before, after)

    write_request = WriteRequest("reserveStock", request, ReservationChange)
    return await run_write(context, write_request, decide_reservation, needs_locks=True)


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

    async def decide_commit(session: Session, *, locked: bool) -> Decision[ReservationChange]:
        opened = await _read_open(session, caller.tenant_id, request.id, locked=locked)
        if isinstance(opened, InventoryError):
            return Decision(opened)
        reservation, _ = opened
        taken = _taken(reservation, request.lines)
        if isinstance(taken, InventoryError):
            return Decision(taken)
        before, freed = await _freed(session, caller.tenant_id, [reservation], locked=locked)
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
        part_of = AdjustmentLinks(reservation_id=reservation.id)
        outcomes = decide(caller, updates, replace(before, skus=freed), part_of)
        if refusals := refusals_of(updates, outcomes):
            return Decision(refusal_of_all(refusals, len(updates), "lines"))
        changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
        after = {**freed, **{change.sku.sku: change.sku for change in changes}}
        ended = _ended(
            reservation,
            ReservationStatus.COMMITTED,
            before.now,
            {line.level: line.quantity for line in taken},
        )
        return _decision(caller.tenant_id, ended, before, after, changes)

    write_request = WriteRequest("commitReservation", request, ReservationChange)
    return await run_write(context, write_request, decide_commit, needs_locks=True)


async def release_reservation(context: WriteContext, id_: str) -> WriteResult[ReservationChange]:
    """Free the held stock of a reservation.

    Raises:
        ReservationNotFound, ReservationEnded.
        InventoryError: an error of `run_write`.

    """
    tenant_id = context.caller.tenant_id

    async def decide_release(session: Session, *, locked: bool) -> Decision[ReservationChange]:
        opened = await _read_open(session, tenant_id, id_, locked=locked)
        if isinstance(opened, InventoryError):
            return Decision(opened)
        reservation, _ = opened
        before, after = await _freed(session, tenant_id, [reservation], locked=locked)
        ended = _ended(reservation, ReservationStatus.RELEASED, before.now)
        return _decision(tenant_id, ended, before, after)

    request = WriteRequest("releaseReservation", id_, ReservationChange)
    return await run_write(context, request, decide_release, needs_locks=True)


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
    tenant_id = context.caller.tenant_id

    async def decide_extension(session: Session, *, locked: bool) -> Decision[ReservationChange]:
        opened = await _read_open(session, tenant_id, id_, locked=locked)
        if isinstance(opened, InventoryError):
            return Decision(opened)
        reservation, now = opened
        expires_at = now + timedelta(seconds=seconds)
        if reservation.expires_at is None or reservation.expires_at >= expires_at:
            return Decision(ReservationChange(reservation))
        extended = replace(reservation, expires_at=expires_at, version=reservation.version + 1)
        no_stock = Stock({}, {}, {}, is_locked=True, now=now, read_at=0)
        return _decision(tenant_id, extended, no_stock, {})

    request = WriteRequest("extendReservation", [id_, seconds], ReservationChange)
    return await run_write(context, request, decide_extension, needs_locks=True)


async def expire_reservations(database: Database, tenant_id: str) -> int:
    """End the open reservations of a tenant that are due, in batches; return their number."""

    async def work(connection: AsyncConnection) -> int:
        session = EngineSession(connection)
        ids = await list_due_reservations(session, tenant_id, limit=EXPIRE_BATCH_ROWS)
        reservations, now = await read_reservations(session, tenant_id, ids, locked=True)
        due = [reservation for reservation in reservations.values() if _is_due(reservation, now)]
        if due:
            before, after = await _freed(session, tenant_id, due, locked=True)
            if not await post_reservations(
                session,
                None,
                tenant_id=tenant_id,
                before=before,
                posting=Posting(after=after, entries=[], at=before.now),
                reservations=[_ended(each, ReservationStatus.EXPIRED, before.now) for each in due],
            ):
                raise Conflict
        return len(due)

    expired = 0
    while True:
        async with database.snapshot(single=True, tenant_id=tenant_id) as snapshot:
            if not await list_due_reservations(snapshot, tenant_id, limit=1):
                return expired
        expired += await database.transaction(work, tenant_id=tenant_id)


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


def _first_index(lines: Sequence[RequestedLine], level: LevelKey) -> int:
    return [line.level for line in lines].index(level)


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
    line: RequestedLine, record: SkuRecord | None, before: Stock, *, may_oversell: bool
) -> SkuRecord | InventoryError:
    """Return the SKU with a line held, or the refusal of the line."""
    if record is None:
        return inventory_not_found(line.sku)
    warehouse = before.warehouses.get(line.warehouse_id)
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


async def _read_open(
    session: Session, tenant_id: str, id_: str, *, locked: bool
) -> tuple[ReservationRecord, datetime] | InventoryError:
    """Return an open reservation and the database's time, or the refusal of the id."""
    reservations, now = await read_reservations(session, tenant_id, [id_], locked=locked)
    if now is None or id_ not in reservations:
        return reservation_not_found(id_)
    reservation = reservations[id_]
    status, ended_at = reservation.status, reservation.ended_at
    if _is_due(reservation, now):
        status, ended_at = ReservationStatus.EXPIRED, reservation.expires_at
    if ended_at is None:
        return reservation, now
    ending = "expired" if status is ReservationStatus.EXPIRED else f"was {status}"
    return ReservationEnded(
        f"Reservation {id_} {ending} at {format_instant(ended_at)}. "
        "Create a new one if the stock is "
        "still needed.",
        details=[{"id": id_, "status": status.value, "ended_at": format_instant(ended_at)}],
    )


def _is_due(reservation: ReservationRecord, now: datetime | None) -> bool:
    if reservation.status is not ReservationStatus.OPEN or reservation.expires_at is None:
        return False
    return now is not None and reservation.expires_at <= now


def _taken(
    reservation: ReservationRecord, lines: Sequence[RequestedLine] | None
) -> list[RequestedLine] | InventoryError:
    """Return the quantities to take, or the refusal of lines beyond the held quantity."""
    held = {(line.sku, line.warehouse_id): line.held for line in reservation.lines}
    if lines is None:
        return [RequestedLine(*level, quantity) for level, quantity in held.items()]
    taken = _summed(lines)
    problems = [
        (
            f"lines.{_first_index(lines, line.level)}",
            f"takes {line.quantity}, and the reservation holds {held.get(line.level, 0)} there",
        )
        for line in taken
        if line.quantity > held.get(line.level, 0)
    ]
    return invalid_fields(problems) if problems else taken


async def _freed(
    session: Session, tenant_id: str, reservations: Iterable[ReservationRecord], *, locked: bool
) -> tuple[Stock, dict[str, SkuRecord]]:
    """Return the stock of reservations, and its SKUs without their holds."""
    lines = [line for reservation in reservations for line in reservation.lines]
    levels = [(line.sku, line.warehouse_id) for line in lines]
    before = await read_stock(session, tenant_id, levels, locked=locked)
    after = dict(before.skus)
    for line in lines:
        record = after[line.sku]
        level = record.level_in(line.warehouse_id)
        if level is not None:
            reserved = level.reserved - line.held
            after[line.sku] = record.with_level(structs.replace(level, reserved=reserved))
    return before, after


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
    tenant_id: str,
    reservation: ReservationRecord,
    before: Stock,
    after: Mapping[str, SkuRecord],
    changes: Sequence[StockChange] = (),
) -> Decision[ReservationChange]:
    entries = [change.adjustment for change in changes]
    outcome = ReservationChange(reservation, [after[code] for code in sorted(after)], entries)
    at = max([before.now, *(entry.created_at for entry in entries)])
    write = partial(
        post_reservations,
        tenant_id=tenant_id,
        before=before,
        posting=Posting(after=after, entries=entries, at=at),
        reservations=[reservation],
    )
    return Decision(outcome, write)


def _oversell_not_permitted() -> OversellNotPermitted:
    return OversellNotPermitted(
        "This tenant does not permit reservations beyond the available stock. An operator can "
        "permit them with `inventory tenant update --permit-oversell`."
    )
