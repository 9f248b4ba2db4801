"""The end of reservations, and their expiry."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from msgspec import structs

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.records import ReservationRecord, ReservationStatus, SkuRecord
from app.domain.stock import Changes, LevelKey, Stock
from app.domain.validation import MAX_BULK_UPDATES
from app.reads.reservations import MOST_LINES, list_due_reservations
from app.runtime.metrics import EXPIRY_DELAY
from app.writes.decisions import Decision, Needs
from app.writes.idempotency_keys import WriteRequest
from app.writes.pipeline import WriteContext, run_write

# Their lines can be read in one statement.
EXPIRE_BATCH_ROWS: Final = MOST_LINES // MAX_BULK_UPDATES


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
        decide = partial(decide_expiry, ids, delays)
        written = await run_write(context, request, Needs(reservations=ids), decide)
        expired += written.result
        for delay in delays:
            EXPIRY_DELAY.observe(delay.total_seconds())
    return expired


def decide_expiry(ids: Sequence[str], delays: list[timedelta], stock: Stock) -> Decision[int]:
    """End the due reservations; `delays` becomes how late each of them is."""
    found = [stock.reservations[id_] for id_ in ids if id_ in stock.reservations]
    due = [reservation for reservation in found if is_due(reservation, stock.now)]
    delays[:] = [stock.now - each.expires_at for each in due if each.expires_at]
    ended = {each.id: ended_reservation(each, ReservationStatus.EXPIRED, stock.now) for each in due}
    return Decision(len(due), Changes(skus=freed_skus(stock, due), reservations=ended))


def is_due(reservation: ReservationRecord, now: datetime) -> bool:
    """Whether an open reservation has to expire."""
    if reservation.status is not ReservationStatus.OPEN or reservation.expires_at is None:
        return False
    return reservation.expires_at <= now


def freed_skus(stock: Stock, reservations: Iterable[ReservationRecord]) -> dict[str, SkuRecord]:
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


def ended_reservation(
    reservation: ReservationRecord,
    status: ReservationStatus,
    now: datetime,
    taken: Mapping[LevelKey, int] | None = None,
) -> ReservationRecord:
    """Return a reservation that has ended now; `taken` are the committed quantities."""
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
