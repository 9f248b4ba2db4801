"""Reservations: reserve, amend, extend, commit and release.

A reservation holds stock until it ends once: it is committed, released or expires. A commit takes
quantities from `on_hand`, and frees the rest or lets a new reservation hold it. `reserved` of a
level is always the sum over its open reservations.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

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
from app.domain.reservations import (
    RequestedLine,
    StockHolder,
    hold_problem,
    line_warehouses_problem,
)
from app.domain.stock import (
    AdjustmentLinks,
    Changes,
    LevelKey,
    Stock,
    StockUpdate,
    decide,
    refusal_of_all,
)
from app.domain.validation import MAX_BULK_UPDATES, note_problem, reason_problem, reference_problem
from app.errors import (
    ExpiryRequired,
    InventoryError,
    OversellNotPermitted,
    ReservationEnded,
    invalid_field,
    invalid_fields,
    reservation_not_found,
)
from app.writes.decisions import Decision, Needs
from app.writes.expiry import (
    decide_expiry,
    ended_reservation,
    expire_reservations,
    freed_skus,
    is_due,
)
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import WriteContext, run_write
from app.writes.stock import refusals_of


@dataclass(frozen=True, slots=True)
class CommittedLine:
    """Quantity to take from what a reservation holds of a stock level."""

    sku: str
    warehouse_id: str
    quantity: int

    @property
    def level(self) -> LevelKey:
        """The key of the stock level."""
        return self.sku, self.warehouse_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveRequest:
    """Lines to hold, the hold time in seconds (None: no expiry), and the order's reference."""

    lines: tuple[RequestedLine, ...]
    seconds: int | None
    reference: str | None = None
    note: str | None = None
    may_oversell: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """Lines to take of a reservation (None: everything it holds), with a reason.

    With `keep_rest`, a new reservation holds what is not taken.
    """

    id: str
    lines: tuple[CommittedLine, ...] | None
    reason: str
    note: str | None = None
    keep_rest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendRequest:
    """The lines that a reservation is to hold from now on."""

    id: str
    lines: tuple[RequestedLine, ...]
    may_oversell: bool = False


async def reserve_stock(
    context: WriteContext, request: ReserveRequest
) -> WriteResult[ReservationChange]:
    """Hold stock, all lines or none; lines of one level are summed before the check.

    Expired reservations of the tenant are ended first, so that they hold nothing.

    Raises:
        ValidationFailed: not 1 to 500 lines, or a field is malformed.
        OversellNotPermitted: the request oversells, and the tenant does not permit it.
        ExpiryRequired: the reservation would not expire, and the tenant does not permit it.
        InventoryError: the first refusal, with every refusal in its details; or an error of
            `run_write`.

    """
    _check_requested(
        request.lines,
        expiresIn=hold_problem(request.seconds),
        reference=reference_problem(request.reference),
        note=note_problem(request.note),
    )
    caller = context.caller
    await expire_reservations(context.database, caller.tenant_id)

    def decide_reservation(stock: Stock) -> Decision[ReservationChange]:
        if refusal := _permission_refusal(
            stock, may_oversell=request.may_oversell, seconds=request.seconds
        ):
            return Decision(refusal)
        holder = StockHolder(stock, may_oversell=request.may_oversell)
        if refusal := _hold_all(holder, request.lines):
            return Decision(refusal)
        reservation = _new_reservation(
            holder.held,
            reference=request.reference,
            note=request.note,
            created_by=caller.email,
            now=stock.now,
            expires_at=_expiry(stock.now, request.seconds),
        )
        return _decision(reservation, holder.skus)

    write_request = WriteRequest("reserveStock", request, ReservationChange)
    return await run_write(context, write_request, _needs_of(request.lines), decide_reservation)


async def commit_reservation(
    context: WriteContext, request: CommitRequest
) -> WriteResult[ReservationChange]:
    """Take the held stock of a reservation, or a part of it, from `on_hand`.

    The rest is freed or, if asked for, held by a new reservation without a moment in between.

    Raises:
        ValidationFailed: a field is malformed, or a line takes more than the reservation holds.
        ReservationNotFound, ReservationEnded.
        InventoryError: the first refusal of a stock rule, with every refusal in its details; or an
            error of `run_write`.

    """
    _check(
        None if request.lines is None else [line.quantity for line in request.lines],
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
        freed = freed_skus(stock, [reservation])
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
        ended = ended_reservation(
            reservation,
            ReservationStatus.COMMITTED,
            stock.now,
            {line.level: line.quantity for line in taken},
        )
        rest = _rest(reservation, ended) if request.keep_rest else {}
        if not rest:
            return _decision(ended, after, changes)
        holder = StockHolder(stock, may_oversell=True, freed=after)
        for level, quantity in rest.items():
            holder.add(level, quantity)
        successor = _new_reservation(
            rest,
            reference=reservation.reference,
            note=reservation.note,
            created_by=caller.email,
            now=stock.now,
            expires_at=reservation.expires_at,
        )
        return _decision(ended, holder.skus, changes, successor=successor)

    write_request = WriteRequest("commitReservation", request, ReservationChange)
    return await run_write(context, write_request, Needs(reservations=[request.id]), decide_commit)


async def amend_reservation(
    context: WriteContext, request: AmendRequest
) -> WriteResult[ReservationChange]:
    """Replace the lines of a reservation, all or none. What it holds already is never let go.

    Raises:
        ValidationFailed: not 1 to 500 lines, or a field is malformed.
        ReservationNotFound, ReservationEnded.
        OversellNotPermitted: the request oversells, and the tenant does not permit it.
        InventoryError: the first refusal, with every refusal in its details; or an error of
            `run_write`.

    """
    _check_requested(request.lines)

    def decide_amendment(stock: Stock) -> Decision[ReservationChange]:
        if refusal := _permission_refusal(stock, may_oversell=request.may_oversell):
            return Decision(refusal)
        reservation = _open_reservation(stock, request.id)
        if isinstance(reservation, Decision):
            return reservation
        kept = {(line.sku, line.warehouse_id): line.held for line in reservation.lines}
        freed = freed_skus(stock, [reservation])
        holder = StockHolder(stock, may_oversell=request.may_oversell, freed=freed, kept=kept)
        if refusal := _hold_all(holder, request.lines):
            return Decision(refusal)
        if holder.held == kept:
            return Decision(ReservationChange(reservation))
        amended = replace(
            reservation,
            version=reservation.version + 1,
            lines=_lines(reservation.id, holder.held),
        )
        before = stock.skus
        changed = {
            code: record
            for code, record in holder.skus.items()
            if record.levels != before[code].levels
        }
        return _decision(amended, changed)

    write_request = WriteRequest("amendReservation", request, ReservationChange)
    needs = replace(_needs_of(request.lines), reservations=[request.id])
    return await run_write(context, write_request, needs, decide_amendment)


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
        ended = ended_reservation(reservation, ReservationStatus.RELEASED, stock.now)
        return _decision(ended, freed_skus(stock, [reservation]))

    request = WriteRequest("releaseReservation", id_, ReservationChange)
    return await run_write(context, request, Needs(reservations=[id_]), decide_release)


async def extend_reservation(
    context: WriteContext, id_: str, seconds: int | None
) -> WriteResult[ReservationChange]:
    """Make a reservation hold for at least `seconds` from now, or until it is ended (None).

    Raises:
        ValidationFailed: `seconds` is out of range.
        ReservationNotFound, ReservationEnded.
        ExpiryRequired: the reservation would not expire, and the tenant does not permit it.
        InventoryError: an error of `run_write`.

    """
    if problem := hold_problem(seconds):
        raise invalid_field("expiresIn", problem)

    def decide_extension(stock: Stock) -> Decision[ReservationChange]:
        if refusal := _permission_refusal(stock, seconds=seconds):
            return Decision(refusal)
        reservation = _open_reservation(stock, id_)
        if isinstance(reservation, Decision):
            return reservation
        expires_at = _expiry(stock.now, seconds)
        if reservation.expires_at is None or (expires_at and reservation.expires_at >= expires_at):
            return Decision(ReservationChange(reservation))
        extended = replace(reservation, expires_at=expires_at, version=reservation.version + 1)
        return _decision(extended, {})

    request = WriteRequest("extendReservation", [id_, seconds], ReservationChange)
    return await run_write(context, request, Needs(reservations=[id_]), decide_extension)


def _check(quantities: Sequence[int] | None, **problems: str | None) -> None:
    """Check the quantities of the lines, and the problems of the other fields."""
    malformed = [(field, problem) for field, problem in problems.items() if problem]
    if quantities is not None:
        if not 1 <= len(quantities) <= MAX_BULK_UPDATES:
            message = f"must hold 1 to {MAX_BULK_UPDATES} lines, and holds {len(quantities)}"
            raise invalid_field("lines", message)
        malformed += [
            (f"lines.{index}.quantity", problem)
            for index, quantity in enumerate(quantities)
            if (problem := moved_quantity_problem(quantity))
        ]
    if malformed:
        raise invalid_fields(malformed)


def _check_requested(lines: Sequence[RequestedLine], **problems: str | None) -> None:
    """Check the lines of a reservation, and the problems of its other fields."""
    if len(lines) <= MAX_BULK_UPDATES:
        problems |= {
            f"lines.{index}.{field}": problem
            for index, line in enumerate(lines)
            for field, problem in [line_warehouses_problem(line)]
        }
    _check([line.quantity for line in lines], **problems)


def _permission_refusal(
    stock: Stock, *, may_oversell: bool = False, seconds: int | None = 0
) -> InventoryError | None:
    """Return the refusal of what the tenant does not permit, if any."""
    if may_oversell and not stock.permits_oversell:
        return OversellNotPermitted(
            "This tenant does not permit reservations beyond the available stock. An operator can "
            "permit them with `inventory tenant update --permit-oversell`."
        )
    if seconds is None and not stock.permits_no_expiry:
        return ExpiryRequired(
            "This tenant does not permit reservations without an expiry. Say after how many "
            "seconds it expires, or let an operator permit them with `inventory tenant update "
            "--permit-no-expiry`."
        )
    return None


def _hold_all(holder: StockHolder, lines: Sequence[RequestedLine]) -> InventoryError | None:
    if refusals := holder.hold_all(lines):
        return refusal_of_all(refusals, len(lines), "lines")
    if len(holder.held) > MAX_BULK_UPDATES:
        message = f"need stock of {len(holder.held)} levels, and {MAX_BULK_UPDATES} is the most"
        return invalid_field("lines", message)
    return None


def _expiry(now: datetime, seconds: int | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)


def _needs_of(lines: Iterable[RequestedLine]) -> Needs:
    lines = list(lines)
    return Needs(
        skus={line.sku for line in lines},
        warehouses={id_ for line in lines for id_ in line.warehouse_ids},
    )


def _summed(lines: Iterable[CommittedLine]) -> list[CommittedLine]:
    """Return one line for each level with the sum of its quantities, in their order."""
    quantities: Counter[LevelKey] = Counter()
    for line in lines:
        quantities[line.level] += line.quantity
    return [CommittedLine(*level, quantity) for level, quantity in quantities.items()]


def _first_indexes(lines: Sequence[CommittedLine]) -> dict[LevelKey, int]:
    """Return the index of the first line of each level."""
    indexes: dict[LevelKey, int] = {}
    for index, line in enumerate(lines):
        indexes.setdefault(line.level, index)
    return indexes


def _new_reservation(
    held: Mapping[LevelKey, int],
    *,
    reference: str | None,
    note: str | None,
    created_by: str,
    now: datetime,
    expires_at: datetime | None,
) -> ReservationRecord:
    id_ = f"rsv_{ulid(now)}"
    return ReservationRecord(
        id=id_,
        status=ReservationStatus.OPEN,
        reference=reference,
        note=note,
        created_by=created_by,
        created_at=now,
        expires_at=expires_at,
        ended_at=None,
        version=1,
        lines=_lines(id_, held),
    )


def _lines(id_: str, held: Mapping[LevelKey, int]) -> list[ReservationLineRecord]:
    """Return the lines of an open reservation, by SKU code and warehouse id."""
    return [
        ReservationLineRecord(id_, *level, quantity, quantity, 0)
        for level, quantity in sorted(held.items())
    ]


def _rest(reservation: ReservationRecord, committed: ReservationRecord) -> dict[LevelKey, int]:
    """Return the quantities that a reservation held and its commit did not take."""
    taken = {(line.sku, line.warehouse_id): line.committed for line in committed.lines}
    rest = {
        (line.sku, line.warehouse_id): line.held - taken[line.sku, line.warehouse_id]
        for line in reservation.lines
    }
    return {level: quantity for level, quantity in rest.items() if quantity}


def _open_reservation(stock: Stock, id_: str) -> ReservationRecord | Decision[ReservationChange]:
    """Return an open reservation, or the refusal of its id.

    A reservation that is due expires with the refusal, so that reads agree with it.
    """
    reservation = stock.reservations.get(id_)
    if reservation is None:
        return Decision(reservation_not_found(id_))
    if is_due(reservation, stock.now):
        changes = decide_expiry([id_], [], stock).changes
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


def _taken(
    reservation: ReservationRecord, lines: Sequence[CommittedLine] | None
) -> list[CommittedLine] | InventoryError:
    """Return the quantities to take, or the refusal of lines beyond the held quantity."""
    held = {(line.sku, line.warehouse_id): line.held for line in reservation.lines}
    if lines is None:
        return [CommittedLine(*level, quantity) for level, quantity in held.items()]
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


def _decision(
    reservation: ReservationRecord,
    after: Mapping[str, SkuRecord],
    changes: Sequence[StockChange] = (),
    *,
    successor: ReservationRecord | None = None,
) -> Decision[ReservationChange]:
    entries = [change.adjustment for change in changes]
    reservations = {each.id: each for each in (reservation, successor) if each}
    return Decision(
        ReservationChange(reservation, [after[code] for code in sorted(after)], entries, successor),
        Changes(skus=after, reservations=reservations, entries=entries),
    )
