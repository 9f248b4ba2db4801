"""Marketplace reports: the only source of the stock in a warehouse that a marketplace runs.

A report states quantities at an instant. A quantity that differs from the stored one becomes a
ledger entry. An equal one only moves the level's `synced_at`. A report older than `synced_at` is
ignored.
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
    refusal_of_all,
)
from app.domain.validation import MAX_BULK_UPDATES
from app.errors import (
    InventoryError,
    WarehouseNotMarketplace,
    invalid_field,
    invalid_fields,
    inventory_not_found,
    warehouse_not_found,
)
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.locked_reads import read_stock
from app.writes.pipeline import Decision, WriteContext, run_write
from app.writes.posting import post
from app.writes.rows import Posting
from app.writes.stock import OnError, Refusal

SYNC_REASON: Final = "marketplace_sync"
# Clocks differ, but a report from the far future would make all later ones ignored.
MAX_CLOCK_LEAD: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class ReportedLevel:
    """Quantity of a SKU that a marketplace reports."""

    sku: str
    on_hand: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReport:
    """Levels of one warehouse as its marketplace saw them at an instant."""

    warehouse_id: str
    reported_at: datetime
    levels: tuple[ReportedLevel, ...]
    on_error: OnError


class SyncStatus(StrEnum):
    """Outcome of one level of a report."""

    UPDATED = "updated"
    UNCHANGED = "unchanged"
    IGNORED = "ignored"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SyncedLevel:
    """Outcome of one level of a report, with the SKU after the whole report."""

    status: SyncStatus
    sku: SkuRecord | None = None
    adjustment: AdjustmentRecord | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class _Level:
    sku: str
    warehouse_id: str


async def sync_stock(context: WriteContext, report: StockReport) -> WriteResult[list[SyncedLevel]]:
    """Set the levels of a warehouse to a marketplace report; outcomes in the order of its levels.

    The SKUs are locked while it decides, because a report without a difference raises no version.

    Raises:
        ValidationFailed: not 1 to 500 levels, one is malformed, two are for the same SKU, or the
            report is from the future.
        WarehouseNotFound, WarehouseNotMarketplace.
        InventoryError: with ABORT, the first refusal, with every refusal in its details; or an
            error of `run_write`.

    """
    _check(report)
    caller = context.caller

    async def decide_sync(session: Session, *, locked: bool) -> Decision[list[SyncedLevel]]:
        keys = [(level.sku, report.warehouse_id) for level in report.levels]
        before = await read_stock(session, caller.tenant_id, keys, locked=locked)
        if report.reported_at > before.now + MAX_CLOCK_LEAD:
            # Raised, so that it is not stored: the report may be valid later, under the same key.
            raise invalid_field("reportedAt", "must not be in the future")
        warehouse = before.warehouses.get(report.warehouse_id)
        if warehouse is None:
            return Decision(warehouse_not_found(report.warehouse_id))
        if not warehouse.type.is_readonly:
            return Decision(_not_marketplace(warehouse))
        outcomes = [_outcome(caller, report, level, warehouse, before) for level in report.levels]
        refusals = [
            RefusedItem(index, _Level(*key), outcome)
            for index, (key, outcome) in enumerate(zip(keys, outcomes, strict=True))
            if isinstance(outcome, InventoryError)
        ]
        if report.on_error is OnError.ABORT and refusals:
            return Decision(refusal_of_all(refusals, len(report.levels), "levels"))
        results = [
            SyncedLevel(SyncStatus.FAILED, refusal=Refusal(outcome.code, outcome.message))
            if isinstance(outcome, InventoryError)
            else outcome
            for outcome in outcomes
        ]
        return _decision(results, caller, before)

    request = WriteRequest("syncStock", report, list[SyncedLevel])
    return await run_write(context, request, decide_sync, needs_locks=True)


def _decision(
    results: list[SyncedLevel], caller: Caller, before: Stock
) -> Decision[list[SyncedLevel]]:
    skus = [result.sku for result in results if result.sku]
    after = {record.sku: record for record in skus if record is not before.skus[record.sku]}
    if not after:
        return Decision(results)
    entries = [result.adjustment for result in results if result.adjustment]
    posting = Posting(after=after, entries=entries, at=before.now)
    return Decision(
        results, partial(post, tenant_id=caller.tenant_id, before=before, posting=posting)
    )


def _outcome(
    caller: Caller,
    report: StockReport,
    level: ReportedLevel,
    warehouse: WarehouseRecord,
    before: Stock,
) -> SyncedLevel | InventoryError:
    record = before.skus.get(level.sku)
    if record is None:
        return inventory_not_found(level.sku)
    stored = record.level_in(warehouse.id)
    old = record.level_at(warehouse)
    if old.synced_at is not None and report.reported_at < old.synced_at:
        return SyncedLevel(SyncStatus.IGNORED, record)
    refusal = check_new_on_hand(
        level.on_hand,
        on_hand=old.on_hand,
        warehouse_id=warehouse.id,
        warehouse_type=warehouse.type,
        is_active=warehouse.is_active,
        by_marketplace=True,
    )
    if refusal is None and record.archived_at:
        refusal = check_archived(record.sku, level.on_hand, on_hand=old.on_hand)
    if refusal:
        return refusal
    if level.on_hand == old.on_hand:
        return SyncedLevel(
            SyncStatus.UNCHANGED, _with_sync(record, stored, old, report.reported_at)
        )
    created_at = max(before.now, old.adjusted_at) if old.adjusted_at else before.now
    new = replace(
        old,
        on_hand=level.on_hand,
        version=old.version + 1,
        adjusted_at=created_at,
        synced_at=report.reported_at,
    )
    entry = AdjustmentRecord(
        id=f"adj_{ulid(before.now)}",
        sku=record.sku,
        warehouse_id=warehouse.id,
        sequence=new.version,
        before_quantity=old.on_hand,
        after_quantity=new.on_hand,
        reason=SYNC_REASON,
        note=None,
        created_by=caller.email,
        created_at=created_at,
    )
    return SyncedLevel(SyncStatus.UPDATED, record.with_level(new), entry)


def _with_sync(
    record: SkuRecord, stored: LevelRecord | None, level: LevelRecord, at: datetime
) -> SkuRecord:
    """Return the SKU with a new `synced_at` of a level; only a new level raises its version."""
    if stored is not None and stored.synced_at == at:
        return record
    after = record.with_level(replace(level, synced_at=at))
    if stored is not None:
        after.version = record.version
    return after


def _not_marketplace(warehouse: WarehouseRecord) -> WarehouseNotMarketplace:
    return WarehouseNotMarketplace(
        f"Warehouse {warehouse.id} is {warehouse.type}: no marketplace runs it. Set its stock with "
        "setStock.",
        details=[{"warehouse_id": warehouse.id, "type": warehouse.type.value}],
    )


def _check(report: StockReport) -> None:
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
