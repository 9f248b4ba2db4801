"""What marketplaces report of the warehouses that they run: the one source of their stock.

A report is a fact of the moment at which it was seen. What differs from what is kept becomes a
ledger entry; what does not only moves the level's `synced_at`; what is older than that is ignored.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Final

from msgspec.structs import replace

from app.database.session import Session
from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.quantities import quantity_problem
from app.domain.records import AdjustmentRecord, LevelRecord, SkuRecord, WarehouseRecord
from app.domain.stock import (
    RefusedItem,
    Stock,
    check_archived,
    check_new_on_hand,
    inventory_not_found,
    refusal_of_all,
)
from app.domain.validation import MAX_BULK_UPDATES
from app.domain.warehouses import warehouse_not_found
from app.errors import InventoryError, WarehouseNotMarketplace, invalid_field, invalid_fields
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import PlannedWrite, Writing, carry_out
from app.writes.posting import Posting, post
from app.writes.stock import OnError, Refusal
from app.writes.stock_reading import read_stock

SYNC_REASON: Final = "marketplace_sync"
# Clocks differ; but a report from far ahead would have all later ones ignored.
AHEAD: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Reported:
    """How many of a SKU a marketplace says it has."""

    sku: str
    on_hand: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a marketplace saw in a warehouse, and when."""

    warehouse_id: str
    reported_at: datetime
    levels: tuple[Reported, ...]
    on_error: OnError


class SyncStatus(StrEnum):
    """What became of one level of a report."""

    UPDATED = "updated"
    UNCHANGED = "unchanged"
    IGNORED = "ignored"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of one level of a report, and the SKU after the whole of it."""

    status: SyncStatus
    sku: SkuRecord | None = None
    adjustment: AdjustmentRecord | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class _About:
    sku: str
    warehouse_id: str


async def sync_stock(writing: Writing, report: Report) -> WriteResult[list[Synced]]:
    """Take over what a marketplace reports; outcomes stand in the order of the report.

    It holds the SKUs while it decides, because a report that changes nothing raises no version.

    Raises:
        ValidationFailed: not 1 to 500 levels, one is malformed, two are for the same SKU, or the
            report is from the future.
        WarehouseNotFound, WarehouseNotMarketplace.
        InventoryError: with ABORT, the first refusal, with every refusal in its details. And what
            `write_once` raises.

    """
    _check(report)
    caller = writing.caller

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[list[Synced]]:
        keys = [(level.sku, report.warehouse_id) for level in report.levels]
        before = await read_stock(session, caller.tenant_id, keys, locked=locked)
        if report.reported_at > before.now + AHEAD:
            # Raised, not returned: the same report is good a little later, under the same key.
            raise invalid_field("reportedAt", "must not be in the future")
        place = before.warehouses.get(report.warehouse_id)
        if place is None:
            return PlannedWrite(warehouse_not_found(report.warehouse_id))
        if not place.type.is_readonly:
            return PlannedWrite(_not_marketplace(place))
        outcomes = [_decided(caller, report, level, place, before) for level in report.levels]
        refusals = [
            RefusedItem(index, _About(*key), outcome)
            for index, (key, outcome) in enumerate(zip(keys, outcomes, strict=True))
            if isinstance(outcome, InventoryError)
        ]
        if report.on_error is OnError.ABORT and refusals:
            return PlannedWrite(refusal_of_all(refusals, len(report.levels), "levels"))
        results = [
            Synced(SyncStatus.FAILED, refusal=Refusal(outcome.code, outcome.message))
            if isinstance(outcome, InventoryError)
            else outcome
            for outcome in outcomes
        ]
        return _planned(results, caller, before)

    request = WriteRequest("syncStock", report, list[Synced])
    return await carry_out(writing, request, plan, locking=True)


def _planned(results: list[Synced], caller: Caller, before: Stock) -> PlannedWrite[list[Synced]]:
    after = {
        it.sku.sku: it.sku for it in results if it.sku and it.sku is not before.skus[it.sku.sku]
    }
    if not after:
        return PlannedWrite(results)
    entries = [it.adjustment for it in results if it.adjustment]
    posting = Posting(after=after, entries=entries, at=before.now)
    return PlannedWrite(
        results, partial(post, tenant=caller.tenant_id, before=before, posting=posting)
    )


def _decided(
    caller: Caller, report: Report, level: Reported, place: WarehouseRecord, before: Stock
) -> Synced | InventoryError:
    record = before.skus.get(level.sku)
    if record is None:
        return inventory_not_found(level.sku)
    found = record.level_in(place.id)
    old = record.level_at(place)
    if old.synced_at is not None and report.reported_at < old.synced_at:
        return Synced(SyncStatus.IGNORED, record)
    refusal = check_new_on_hand(
        level.on_hand,
        on_hand=old.on_hand,
        warehouse_id=place.id,
        warehouse_type=place.type,
        is_active=place.is_active,
        by_marketplace=True,
    )
    if refusal is None and record.archived_at:
        refusal = check_archived(record.sku, level.on_hand, on_hand=old.on_hand)
    if refusal:
        return refusal
    if level.on_hand == old.on_hand:
        return Synced(SyncStatus.UNCHANGED, _seen(record, found, old, report.reported_at))
    now = before.now
    created_at = max(now, old.adjusted_at) if old.adjusted_at else now
    new = replace(
        old,
        on_hand=level.on_hand,
        version=old.version + 1,
        adjusted_at=created_at,
        synced_at=report.reported_at,
    )
    entry = AdjustmentRecord(
        id=f"adj_{ulid(now)}",
        sku=record.sku,
        warehouse_id=place.id,
        sequence=new.version,
        before_quantity=old.on_hand,
        after_quantity=new.on_hand,
        reason=SYNC_REASON,
        note=None,
        created_by=caller.email,
        created_at=created_at,
    )
    return Synced(SyncStatus.UPDATED, record.with_level(new), entry)


def _seen(
    record: SkuRecord, found: LevelRecord | None, level: LevelRecord, at: datetime
) -> SkuRecord:
    """Return a SKU whose level was seen as it is kept: another version if it has a new one."""
    if found is not None and found.synced_at == at:
        return record
    after = record.with_level(replace(level, synced_at=at))
    if found is not None:
        after.version = record.version
    return after


def _not_marketplace(place: WarehouseRecord) -> WarehouseNotMarketplace:
    return WarehouseNotMarketplace(
        f"Warehouse {place.id} is {place.type}: no marketplace runs it. Count what it holds with "
        "setStock.",
        details=[{"warehouse_id": place.id, "type": place.type.value}],
    )


def _check(report: Report) -> None:
    if not 1 <= len(report.levels) <= MAX_BULK_UPDATES:
        message = f"must hold 1 to {MAX_BULK_UPDATES} levels, and holds {len(report.levels)}"
        raise invalid_field("levels", message)
    problems = []
    first_index: dict[str, int] = {}
    for index, level in enumerate(report.levels):
        if problem := quantity_problem(level.on_hand, None):
            problems.append((f"levels.{index}.onHand", problem))
        first = first_index.setdefault(level.sku, index)
        if first != index:
            problems.append((f"levels.{index}", f"is for the same SKU as levels.{first}"))
    if problems:
        raise invalid_fields(problems)
