"""Changes of the feed: what a write has changed, as its readers see it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, TypedDict

from msgspec import Struct, structs

from app.domain.object_details import (
    NO_DETAILS,
    ExternalIdRecord,
    MetadataRecord,
    ObjectDetails,
    ObjectKey,
    ObjectKind,
)
from app.domain.quantities import Status
from app.domain.records import (
    AdjustmentRecord,
    LevelRecord,
    ReservationRecord,
    ReservationStatus,
    SkuRecord,
    WarehouseRecord,
    empty_level,
)
from app.domain.stock import Changes, LevelKey, Stock
from app.domain.warehouses import WarehouseType


class ChangeType(StrEnum):
    """The type of a change: what has changed, and how."""

    STOCK_CHANGED = "stock_changed"
    STATUS_CHANGED = "status_changed"
    SKU_CREATED = "sku_created"
    SKU_CHANGED = "sku_changed"
    SKU_ARCHIVED = "sku_archived"
    SKU_RESTORED = "sku_restored"
    WAREHOUSE_CREATED = "warehouse_created"
    WAREHOUSE_CHANGED = "warehouse_changed"
    RESERVATION_OPENED = "reservation_opened"
    RESERVATION_EXTENDED = "reservation_extended"
    RESERVATION_AMENDED = "reservation_amended"
    RESERVATION_COMMITTED = "reservation_committed"
    RESERVATION_RELEASED = "reservation_released"
    RESERVATION_EXPIRED = "reservation_expired"
    WEBHOOK_DISABLED = "webhook_disabled"


# Small enough for the integers of both engines, also after the next changes.
MAX_POSITION: Final = 2**62
# A level before (None: new) and after a write.
ChangedLevel = tuple[LevelRecord | None, LevelRecord]
RESERVATION_ENDS: Final[Mapping[ReservationStatus, ChangeType]] = {
    ReservationStatus.COMMITTED: ChangeType.RESERVATION_COMMITTED,
    ReservationStatus.RELEASED: ChangeType.RESERVATION_RELEASED,
    ReservationStatus.EXPIRED: ChangeType.RESERVATION_EXPIRED,
}

RESERVATION_CHANGES: Final = frozenset(
    {
        ChangeType.RESERVATION_OPENED,
        ChangeType.RESERVATION_EXTENDED,
        ChangeType.RESERVATION_AMENDED,
        *RESERVATION_ENDS.values(),
    }
)


class ChangeState(Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False):
    """The values of the changed object before or after a change; None for those it lacks."""

    # Of a stock level.
    on_hand: int | None = None
    reserved: int | None = None
    safety_stock: int | None = None
    reorder_point: int | None = None
    available: int | None = None
    # Of a stock level or a SKU.
    status: Status | None = None
    # Of a SKU.
    title: str | None = None
    is_archived: bool | None = None
    # Of a warehouse; `is_active` also of a webhook.
    name: str | None = None
    type: WarehouseType | None = None
    address: str | None = None
    marketplace: str | None = None
    is_active: bool | None = None
    is_sellable: bool | None = None
    # Of a SKU or a warehouse; only those that have changed.
    external_ids: list[ExternalIdRecord] | None = None
    metadata: list[MetadataRecord] | None = None
    # Of a reservation.
    reservation_status: ReservationStatus | None = None
    expires_at: datetime | None = None
    # Of a stock level, a SKU or a reservation.
    version: int | None = None


class DetailsState(TypedDict, total=False):
    """The details of a `ChangeState`."""

    external_ids: list[ExternalIdRecord]
    metadata: list[MetadataRecord]


class ChangeBody(Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False):
    """The content of a change, which is stored as JSON."""

    before: ChangeState | None = None
    after: ChangeState
    reservation_id: str | None = None
    webhook_id: str | None = None
    # Of the ledger entry that changed a stock level; `reason` also of the end of a webhook.
    adjustment_id: str | None = None
    reason: str | None = None
    reference: str | None = None
    occurred_at: datetime | None = None


class ChangeEvent(Struct, frozen=True, gc=False):
    """A change before it has a position in the feed."""

    type: ChangeType
    created_at: datetime
    sku: str | None
    warehouse_id: str | None
    body: ChangeBody


class ChangeRecord(Struct, frozen=True, gc=False):
    """A change of the feed of a tenant. Positions count from 1 without gaps."""

    position: int
    type: ChangeType
    created_at: datetime
    sku: str | None
    warehouse_id: str | None
    body: ChangeBody


def events_of(stock: Stock, changes: Changes) -> Iterator[ChangeEvent]:
    """Yield the changes of a write, given the stock before it.

    Changes of stock levels with a ledger entry have the order of the entries.
    """
    at = stock.entry_time
    for id_, warehouse in changes.warehouses.items():
        differences = _differences(stock, changes, (ObjectKind.WAREHOUSE, id_))
        yield from _warehouse_events(stock.warehouses.get(id_), warehouse, at, differences)
    skus = [
        (stock.skus.get(code), record)
        for code, record in changes.skus.items()
        if record is not stock.skus.get(code)
    ]
    for before, after in skus:
        differences = _differences(stock, changes, (ObjectKind.SKU, after.sku))
        yield from _sku_events(before, after, at, differences)
    yield from _level_events(_changed_levels(skus), changes.entries, at)
    for before, after in skus:
        yield from _status_events(before, after, at)
    for reservation in changes.reservations.values():
        yield _reservation_event(stock.reservations.get(reservation.id), reservation, at)


def _differences(
    stock: Stock, changes: Changes, key: ObjectKey
) -> tuple[DetailsState, DetailsState]:
    """Return the external ids and metadata entries that an object loses and gets."""
    before = stock.details.get(key, NO_DETAILS)
    after = changes.details.get(key, before)
    return _details_missing_in(after, before), _details_missing_in(before, after)


def _details_missing_in(other: ObjectDetails, details: ObjectDetails) -> DetailsState:
    """Return the details that others lack; a kind of details without a difference is absent."""
    state: DetailsState = {}
    if other.external_ids != details.external_ids:
        lost = set(details.external_ids) - set(other.external_ids)
        state["external_ids"] = sorted(lost)
    if other.metadata != details.metadata:
        state["metadata"] = sorted(set(details.metadata) - set(other.metadata))
    return state


def _warehouse_events(
    before: WarehouseRecord | None,
    after: WarehouseRecord,
    at: datetime,
    differences: tuple[DetailsState, DetailsState],
) -> Iterator[ChangeEvent]:
    lost, gained = differences
    if before == after and not lost and not gained:
        return
    type_ = ChangeType.WAREHOUSE_CHANGED if before else ChangeType.WAREHOUSE_CREATED
    body = ChangeBody(
        before=structs.replace(_warehouse_state(before), **lost) if before else None,
        after=structs.replace(_warehouse_state(after), **gained),
    )
    yield ChangeEvent(type_, at, None, after.id, body)


def _warehouse_state(record: WarehouseRecord) -> ChangeState:
    return ChangeState(
        name=record.name,
        type=record.type,
        address=record.address,
        marketplace=record.marketplace,
        is_active=record.is_active,
        is_sellable=record.is_sellable,
    )


def _sku_events(
    before: SkuRecord | None,
    after: SkuRecord,
    at: datetime,
    differences: tuple[DetailsState, DetailsState],
) -> Iterator[ChangeEvent]:
    lost, gained = differences
    if before is None:
        type_ = ChangeType.SKU_CREATED
    elif (before.archived_at is None) != (after.archived_at is None):
        type_ = ChangeType.SKU_ARCHIVED if after.archived_at else ChangeType.SKU_RESTORED
    elif before.title != after.title or lost or gained:
        type_ = ChangeType.SKU_CHANGED
    else:
        return
    body = ChangeBody(
        before=structs.replace(_sku_state(before), **lost) if before else None,
        after=structs.replace(_sku_state(after), **gained),
    )
    yield ChangeEvent(type_, at, after.sku, None, body)


def _sku_state(record: SkuRecord) -> ChangeState:
    is_archived = record.archived_at is not None
    return ChangeState(title=record.title, is_archived=is_archived, version=record.version)


def _changed_levels(
    skus: Sequence[tuple[SkuRecord | None, SkuRecord]],
) -> dict[LevelKey, ChangedLevel]:
    """Return the levels that differ, before (None: new) and after."""
    levels: dict[LevelKey, ChangedLevel] = {}
    for before, after in skus:
        old_levels = {level.warehouse_id: level for level in before.levels} if before else {}
        for level in after.levels:
            old = old_levels.get(level.warehouse_id)
            if old is not level:
                levels[level.sku, level.warehouse_id] = old, level
    return levels


def _level_events(
    levels: Mapping[LevelKey, ChangedLevel], entries: Sequence[AdjustmentRecord], at: datetime
) -> Iterator[ChangeEvent]:
    last_entries = {(entry.sku, entry.warehouse_id): entry for entry in entries}
    states: dict[LevelKey, ChangeState] = {}
    for entry in entries:
        key = entry.sku, entry.warehouse_id
        old, level = levels[key]
        before = states.get(key) or (_level_state(old) if old else None)
        # All but the last entry of the level change its quantity on hand alone.
        is_last = entry is last_entries[key]
        states[key] = _level_state(level if is_last else _after_entry(old, level, entry))
        yield _level_event(level, before, states[key], at, entry)
    for key, (old, level) in levels.items():
        if key not in states:
            before, after = _level_state(old) if old else None, _level_state(level)
            if before != after:
                yield _level_event(level, before, after, at)


def _level_event(
    level: LevelRecord,
    before: ChangeState | None,
    after: ChangeState,
    at: datetime,
    entry: AdjustmentRecord | None = None,
) -> ChangeEvent:
    body = ChangeBody(
        before=before,
        after=after,
        reservation_id=entry.reservation_id if entry else None,
        adjustment_id=entry.id if entry else None,
        reason=entry.reason if entry else None,
        reference=entry.reference if entry else None,
        occurred_at=entry.occurred_at if entry else None,
    )
    return ChangeEvent(ChangeType.STOCK_CHANGED, at, level.sku, level.warehouse_id, body)


def _level_state(level: LevelRecord) -> ChangeState:
    return ChangeState(
        on_hand=level.on_hand,
        reserved=level.reserved,
        safety_stock=level.safety_stock,
        reorder_point=level.reorder_point,
        available=level.available,
        status=level.status,
        version=level.version,
    )


def _after_entry(
    old: LevelRecord | None, level: LevelRecord, entry: AdjustmentRecord
) -> LevelRecord:
    """Return a level after an entry that is not the last one of the write."""
    return structs.replace(
        old or empty_level(level.sku, level.warehouse),
        on_hand=entry.after_quantity,
        version=entry.sequence,
    )


def _status_events(
    before: SkuRecord | None, after: SkuRecord, at: datetime
) -> Iterator[ChangeEvent]:
    """Yield the change of the status of a SKU; a new one without stock is out of stock."""
    old = before.figures.status if before else Status.OUT_OF_STOCK
    new = after.figures.status
    if old is not new:
        body = ChangeBody(before=ChangeState(status=old), after=ChangeState(status=new))
        yield ChangeEvent(ChangeType.STATUS_CHANGED, at, after.sku, None, body)


def _reservation_event(
    before: ReservationRecord | None, after: ReservationRecord, at: datetime
) -> ChangeEvent:
    if after.status in RESERVATION_ENDS:
        type_ = RESERVATION_ENDS[after.status]
    elif before is None:
        type_ = ChangeType.RESERVATION_OPENED
    elif before.lines != after.lines:
        type_ = ChangeType.RESERVATION_AMENDED
    else:
        type_ = ChangeType.RESERVATION_EXTENDED
    body = ChangeBody(
        before=_reservation_state(before) if before else None,
        after=_reservation_state(after),
        reservation_id=after.id,
        reference=after.reference,
    )
    return ChangeEvent(type_, at, None, None, body)


def _reservation_state(record: ReservationRecord) -> ChangeState:
    return ChangeState(
        reservation_status=record.status, expires_at=record.expires_at, version=record.version
    )
