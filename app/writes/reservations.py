"""Reservations: stock that is held for somebody, in two phases.

A reservation holds its lines until it ends, once: it is committed (what is taken leaves `on_hand`,
the rest is free again), it is released, or its time is over. What it holds is part of `reserved`
of its levels all that time, so that is always the sum over open reservations.

Whoever needs reservations and SKUs locks the former first.
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
from app.database.session import EngineSession, Session
from app.database.transactions import Conflict
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
    inventory_not_found,
    refusal_of_all,
)
from app.domain.validation import MAX_BULK_UPDATES, note_problem, reason_problem, reference_problem
from app.domain.warehouses import warehouse_not_found
from app.errors import (
    InventoryError,
    OversellNotPermitted,
    ReservationEnded,
    ReservationNotFound,
    invalid_field,
    invalid_fields,
)
from app.reads.reservations import list_due_reservations
from app.reads.tenants import permits_oversell
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import PlannedWrite, Writing, carry_out
from app.writes.posting import Posting, post_reservations
from app.writes.stock_reading import read_reservations, read_stock

EXPIRED_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Line:
    """How many of a stock level are reserved, or committed."""

    sku: str
    warehouse_id: str
    quantity: int

    @property
    def level(self) -> LevelKey:
        """The stock level that it is for."""
        return self.sku, self.warehouse_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserving:
    """What is to be held, for how many seconds, and for what."""

    lines: tuple[Line, ...]
    seconds: int
    reference: str | None = None
    note: str | None = None
    may_oversell: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Committing:
    """What is taken of a reservation (None: all that it holds), and why."""

    id: str
    lines: tuple[Line, ...] | None
    reason: str
    note: str | None = None


async def reserve_stock(writing: Writing, wanted: Reserving) -> WriteResult[ReservationChange]:
    """Hold stock, all lines or none; lines of one level are summed before the check.

    Reservations whose time is over hold nothing: they end first.

    Raises:
        ValidationFailed: not 1 to 500 lines, or something is malformed.
        OversellNotPermitted: it was asked for.
        InventoryError: the first refusal, with every refusal in its details. And what `write_once`
            raises.

    """
    _check(
        wanted.lines,
        expiresIn=hold_problem(wanted.seconds),
        reference=reference_problem(wanted.reference),
        note=note_problem(wanted.note),
    )
    caller = writing.caller
    lines = _summed(wanted.lines)
    await expire_reservations(writing.database, caller.tenant_id)

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[ReservationChange]:
        levels = [line.level for line in lines]
        before = await read_stock(session, caller.tenant_id, levels, locked=locked)
        if wanted.may_oversell and not await permits_oversell(
            session, caller.tenant_id, locked=locked
        ):
            return PlannedWrite(_oversell_not_permitted())
        after = dict(before.skus)
        refusals = []
        for line in lines:
            outcome = _held(line, after.get(line.sku), before, may_oversell=wanted.may_oversell)
            if isinstance(outcome, InventoryError):
                index = [it.level for it in wanted.lines].index(line.level)
                refusals.append(RefusedItem(index, line, outcome))
            else:
                after[line.sku] = outcome
        if refusals:
            return PlannedWrite(refusal_of_all(refusals, len(wanted.lines), "lines"))
        now, id_ = before.now, f"rsv_{ulid(before.now)}"
        reservation = ReservationRecord(
            id=id_,
            status=ReservationStatus.OPEN,
            reference=wanted.reference,
            note=wanted.note,
            created_by=caller.email,
            created_at=now,
            expires_at=now + timedelta(seconds=wanted.seconds),
            ended_at=None,
            version=1,
            lines=[
                ReservationLineRecord(id_, *line.level, line.quantity, line.quantity, 0)
                for line in sorted(lines, key=lambda line: line.level)
            ],
        )
        return _planned(caller.tenant_id, reservation, before, after)

    request = WriteRequest("reserveStock", wanted, ReservationChange)
    return await carry_out(writing, request, plan, locking=True)


async def commit_reservation(
    writing: Writing, wanted: Committing
) -> WriteResult[ReservationChange]:
    """Take what a reservation holds, or a part of it, from `on_hand`; the rest is free again.

    Raises:
        ValidationFailed: something is malformed, or more is taken than the reservation holds.
        ReservationNotFound, ReservationEnded.
        InventoryError: the first refusal of a stock rule, with every refusal in its details. And
            what `write_once` raises.

    """
    _check(
        wanted.lines,
        reason=reason_problem(wanted.reason),
        note=note_problem(wanted.note),
    )
    caller = writing.caller

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[ReservationChange]:
        opened = await _open(session, caller.tenant_id, wanted.id, locked=locked)
        if isinstance(opened, InventoryError):
            return PlannedWrite(opened)
        reservation, _ = opened
        taken = _taken(reservation, wanted.lines)
        if isinstance(taken, InventoryError):
            return PlannedWrite(taken)
        before, freed = await _freed(session, caller.tenant_id, [reservation], locked=locked)
        updates = [
            StockUpdate(
                sku=line.sku,
                warehouse_id=line.warehouse_id,
                delta=-line.quantity,
                reason=wanted.reason,
                note=wanted.note,
                reference=reservation.reference,
            )
            for line in taken
        ]
        part_of = AdjustmentLinks(reservation_id=reservation.id)
        outcomes = decide(caller, updates, replace(before, skus=freed), part_of)
        refusals = [
            RefusedItem(index, update, outcome)
            for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True))
            if isinstance(outcome, InventoryError)
        ]
        if refusals:
            return PlannedWrite(refusal_of_all(refusals, len(updates), "lines"))
        changes = [outcome for outcome in outcomes if isinstance(outcome, StockChange)]
        after = {**freed, **{change.sku.sku: change.sku for change in changes}}
        ended = _ended(
            reservation,
            ReservationStatus.COMMITTED,
            before.now,
            {line.level: line.quantity for line in taken},
        )
        return _planned(caller.tenant_id, ended, before, after, changes)

    request = WriteRequest("commitReservation", wanted, ReservationChange)
    return await carry_out(writing, request, plan, locking=True)


async def release_reservation(writing: Writing, id_: str) -> WriteResult[ReservationChange]:
    """Give back what a reservation holds.

    Raises:
        ReservationNotFound, ReservationEnded. And what `write_once` raises.

    """
    tenant = writing.caller.tenant_id

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[ReservationChange]:
        opened = await _open(session, tenant, id_, locked=locked)
        if isinstance(opened, InventoryError):
            return PlannedWrite(opened)
        reservation, _ = opened
        before, after = await _freed(session, tenant, [reservation], locked=locked)
        ended = _ended(reservation, ReservationStatus.RELEASED, before.now)
        return _planned(tenant, ended, before, after)

    request = WriteRequest("releaseReservation", id_, ReservationChange)
    return await carry_out(writing, request, plan, locking=True)


async def extend_reservation(
    writing: Writing, id_: str, seconds: int
) -> WriteResult[ReservationChange]:
    """Have a reservation hold for at least so many seconds from now on.

    Raises:
        ValidationFailed: too few or too many.
        ReservationNotFound, ReservationEnded. And what `write_once` raises.

    """
    if problem := hold_problem(seconds):
        raise invalid_field("expiresIn", problem)
    tenant = writing.caller.tenant_id

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[ReservationChange]:
        opened = await _open(session, tenant, id_, locked=locked)
        if isinstance(opened, InventoryError):
            return PlannedWrite(opened)
        reservation, now = opened
        expires_at = now + timedelta(seconds=seconds)
        if reservation.expires_at is None or reservation.expires_at >= expires_at:
            return PlannedWrite(ReservationChange(reservation))
        extended = replace(reservation, expires_at=expires_at, version=reservation.version + 1)
        return _planned(tenant, extended, Stock({}, {}, {}, is_locked=True, now=now, read_at=0), {})

    request = WriteRequest("extendReservation", [id_, seconds], ReservationChange)
    return await carry_out(writing, request, plan, locking=True)


async def expire_reservations(database: Database, tenant: str) -> int:
    """End the open reservations of a tenant whose time is over, and return how many."""

    async def work(connection: AsyncConnection) -> int:
        session = EngineSession(connection)
        ids = await list_due_reservations(session, tenant, limit=EXPIRED_AT_ONCE)
        found, now = await read_reservations(session, tenant, ids, locked=True)
        due = [each for each in found.values() if _is_due(each, now)]
        if due:
            before, after = await _freed(session, tenant, due, locked=True)
            if not await post_reservations(
                session,
                None,
                tenant=tenant,
                before=before,
                posting=Posting(after=after, entries=[], at=before.now),
                reservations=[_ended(each, ReservationStatus.EXPIRED, before.now) for each in due],
            ):
                raise Conflict
        return len(due)

    expired = 0
    while True:
        async with database.snapshot(single=True, tenant_id=tenant) as snapshot:
            if not await list_due_reservations(snapshot, tenant, limit=1):
                return expired
        expired += await database.transaction(work, tenant_id=tenant)


def _check(lines: Sequence[Line] | None, **problems: str | None) -> None:
    found = [(field, problem) for field, problem in problems.items() if problem]
    if lines is not None:
        if not 1 <= len(lines) <= MAX_BULK_UPDATES:
            message = f"must hold 1 to {MAX_BULK_UPDATES} lines, and holds {len(lines)}"
            raise invalid_field("lines", message)
        found += [
            (f"lines.{index}.quantity", problem)
            for index, line in enumerate(lines)
            if (problem := moved_quantity_problem(line.quantity))
        ]
    if found:
        raise invalid_fields(found)


def _summed(lines: Iterable[Line]) -> list[Line]:
    """Return one line for each level, in the order of the first that is for it."""
    quantities: Counter[LevelKey] = Counter()
    for line in lines:
        quantities[line.level] += line.quantity
    return [Line(*level, quantity) for level, quantity in quantities.items()]


def _held(
    line: Line, record: SkuRecord | None, before: Stock, *, may_oversell: bool
) -> SkuRecord | InventoryError:
    """Return the SKU when a line of it is held."""
    if record is None:
        return inventory_not_found(line.sku)
    place = before.warehouses.get(line.warehouse_id)
    if place is None:
        return warehouse_not_found(line.warehouse_id)
    level = record.level_at(place)
    refusal = check_reservable(
        line.quantity,
        code=record.sku,
        level=level,
        warehouse_id=place.id,
        warehouse_type=place.type,
        is_active=place.is_active,
        is_archived=record.archived_at is not None,
        may_oversell=may_oversell,
    )
    return refusal or record.with_level(
        structs.replace(level, reserved=level.reserved + line.quantity)
    )


async def _open(
    session: Session, tenant: str, id_: str, *, locked: bool
) -> tuple[ReservationRecord, datetime] | InventoryError:
    """Return an open reservation and the present."""
    found, now = await read_reservations(session, tenant, [id_], locked=locked)
    if now is None or id_ not in found:
        message = f"Reservation {id_!r} does not exist."
        return ReservationNotFound(message, details=[{"id": id_}])
    reservation = found[id_]
    status, ended_at = reservation.status, reservation.ended_at
    if _is_due(reservation, now):
        status, ended_at = ReservationStatus.EXPIRED, reservation.expires_at
    if ended_at is None:
        return reservation, now
    at = format_instant(ended_at)
    return ReservationEnded(
        f"Reservation {id_} was {status} at {at}. Reserve anew if it is needed."
        if status is not ReservationStatus.EXPIRED
        else f"Reservation {id_} expired at {at}. Reserve anew if it is needed.",
        details=[{"id": id_, "status": status.value, "ended_at": at}],
    )


def _is_due(reservation: ReservationRecord, now: datetime | None) -> bool:
    if reservation.status is not ReservationStatus.OPEN or reservation.expires_at is None:
        return False
    return now is not None and reservation.expires_at <= now


def _taken(
    reservation: ReservationRecord, lines: Sequence[Line] | None
) -> list[Line] | InventoryError:
    """Return what is taken of each level that a reservation holds."""
    held = {(line.sku, line.warehouse_id): line.held for line in reservation.lines}
    if lines is None:
        return [Line(*level, quantity) for level, quantity in held.items()]
    taken = _summed(lines)
    problems = [
        (
            f"lines.{[it.level for it in lines].index(line.level)}",
            f"takes {line.quantity}, and the reservation holds {held.get(line.level, 0)} there",
        )
        for line in taken
        if line.quantity > held.get(line.level, 0)
    ]
    return invalid_fields(problems) if problems else taken


async def _freed(
    session: Session, tenant: str, reservations: Iterable[ReservationRecord], *, locked: bool
) -> tuple[Stock, dict[str, SkuRecord]]:
    """Return the stock that reservations are about, and the SKUs as they are without these."""
    lines = [line for each in reservations for line in each.lines]
    levels = [(line.sku, line.warehouse_id) for line in lines]
    before = await read_stock(session, tenant, levels, locked=locked)
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


def _planned(
    tenant: str,
    reservation: ReservationRecord,
    before: Stock,
    after: Mapping[str, SkuRecord],
    changes: Sequence[StockChange] = (),
) -> PlannedWrite[ReservationChange]:
    entries = [change.adjustment for change in changes]
    outcome = ReservationChange(reservation, [after[code] for code in sorted(after)], entries)
    at = max([before.now, *(entry.created_at for entry in entries)])
    post = partial(
        post_reservations,
        tenant=tenant,
        before=before,
        posting=Posting(after=after, entries=entries, at=at),
        reservations=[reservation],
    )
    return PlannedWrite(outcome, post)


def _oversell_not_permitted() -> OversellNotPermitted:
    return OversellNotPermitted(
        "This tenant does not permit to reserve more than is available. An operator can permit it "
        "with `inventory tenant update --permit-oversell`."
    )
