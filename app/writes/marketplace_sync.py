"""Stock reports of the operators of warehouses: marketplaces and third parties (3PL).

A report states quantities at an instant. A quantity that differs from the stored one becomes a
ledger entry, which occurred at that instant. An equal one only moves the level's `synced_at`.

A report is ignored at a level that has a later report. The stock of a 3PL warehouse is also changed
by other writes. There a report is ignored too if an adjustment of the level occurred after it: the
report does not contain that change, and would undo it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from app.domain.caller import Caller, Scope, insufficient_scope
from app.domain.instants import occurrence_problem, to_millisecond
from app.domain.quantities import quantity_problem
from app.domain.records import AdjustmentRecord, LevelRecord, SkuRecord, WarehouseRecord
from app.domain.stock import (
    Changes,
    OnError,
    Stock,
    change_on_hand,
    check_new_on_hand,
    refusal_of_all,
)
from app.domain.validation import MAX_BULK_UPDATES
from app.errors import (
    InventoryError,
    WarehouseNotMarketplace,
    invalid_field,
    invalid_fields,
    warehouse_not_found,
)
from app.writes.decisions import Decision
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.pipeline import WriteContext, run_write
from app.writes.stock import Refusal, needs_of, refusals_of

SYNC_REASON: Final = "marketplace_sync"
THIRD_PARTY_REASON: Final = "stock_report"
# Clocks differ, but a report from the far future would make all later ones ignored.
MAX_CLOCK_LEAD: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class ReportedLevel:
    """Quantity of a SKU in a report."""

    sku: str
    on_hand: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReport:
    """Levels of one warehouse as its operator saw them at an instant."""

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


async def sync_stock(
    context: WriteContext, report: StockReport, *, is_admin: bool
) -> WriteResult[list[SyncedLevel]]:
    """Set the levels of a warehouse to a report; outcomes in the order of the levels.

    Only an admin writes to the warehouse of a marketplace. A 3PL warehouse takes other writes too.

    Raises:
        InsufficientScope: a marketplace runs the warehouse, and the caller is not an admin.
        ValidationFailed: not 1 to 500 levels, one is malformed, two are for the same SKU, or the
            report is from the future.
        WarehouseNotFound, WarehouseNotMarketplace.
        InventoryError: with ABORT, the first refusal, with every refusal in its details; or an
            error of `run_write`.

    """
    _check(report)
    caller = context.caller

    levels = [_Level(level.sku, report.warehouse_id) for level in report.levels]

    def decide_sync(stock: Stock) -> Decision[list[SyncedLevel]]:
        if problem := report_time_problem(report.reported_at, stock.now):
            # Raised, so that it is not stored: the report may be valid later, under the same key.
            raise invalid_field("reportedAt", problem)
        warehouse = stock.warehouses.get(report.warehouse_id)
        if warehouse is None or not caller.can_use(warehouse.id):
            return Decision(warehouse_not_found(report.warehouse_id))
        if warehouse.type.is_readonly and not is_admin:
            # Raised, so that it is not stored: another token may have the scope.
            raise insufficient_scope(Scope.ADMIN)
        if not warehouse.type.sends_reports:
            return Decision(_not_marketplace(warehouse))
        outcomes = [sync_level(caller, report, level, warehouse, stock) for level in report.levels]
        refusals = refusals_of(levels, outcomes)
        if report.on_error is OnError.ABORT and refusals:
            return Decision(refusal_of_all(refusals, len(report.levels), "levels"))
        results = [
            SyncedLevel(SyncStatus.FAILED, refusal=Refusal.of(outcome))
            if isinstance(outcome, InventoryError)
            else outcome
            for outcome in outcomes
        ]
        return Decision(results, _changes(results, stock))

    request = WriteRequest("syncStock", report, list[SyncedLevel])
    return await run_write(context, request, needs_of(levels), decide_sync)


def report_time_problem(reported_at: datetime, now: datetime) -> str | None:
    """Describe the fault of the time of a report, if any."""
    return occurrence_problem(reported_at, now, lead=MAX_CLOCK_LEAD)


def _changes(results: Sequence[SyncedLevel], stock: Stock) -> Changes:
    skus = [result.sku for result in results if result.sku]
    return Changes(
        skus={record.sku: record for record in skus if record is not stock.skus[record.sku]},
        entries=[result.adjustment for result in results if result.adjustment],
    )


def sync_level(
    caller: Caller,
    report: StockReport,
    level: ReportedLevel,
    warehouse: WarehouseRecord,
    stock: Stock,
) -> SyncedLevel | InventoryError:
    """Decide on one level of a report."""
    record = stock.skus.get(level.sku)
    if record is None:
        return stock.unknown_sku(level.sku)
    old = record.level_at(warehouse)
    if _is_superseded(report, old):
        return SyncedLevel(SyncStatus.IGNORED, record)
    refusal = check_new_on_hand(level.on_hand, record=record, level=old, by_marketplace=True)
    if refusal:
        return refusal
    reported_at = to_millisecond(report.reported_at)
    synced = replace(old, synced_at=reported_at)
    if level.on_hand == old.on_hand:
        return SyncedLevel(SyncStatus.UNCHANGED, _with_sync(record, synced))
    change = change_on_hand(
        record,
        synced,
        level.on_hand,
        at=stock.entry_time,
        reason=SYNC_REASON if warehouse.type.is_readonly else THIRD_PARTY_REASON,
        created_by=caller.email,
        occurred_at=reported_at,
    )
    return SyncedLevel(SyncStatus.UPDATED, change.sku, change.adjustment)


def _is_superseded(report: StockReport, level: LevelRecord) -> bool:
    """Whether a level has later news than a report."""
    later_news = [level.synced_at]
    if not level.warehouse.type.is_readonly:
        later_news.append(level.occurred_until)
    return any(at is not None and report.reported_at < at for at in later_news)


def _with_sync(record: SkuRecord, synced: LevelRecord) -> SkuRecord:
    """Return the SKU with a new `synced_at` of a level; only a new level raises its version."""
    stored = record.level_in(synced.warehouse_id)
    if stored is not None and stored.synced_at == synced.synced_at:
        return record
    after = record.with_level(synced)
    if stored is not None:
        after.version = record.version
    return after


def _not_marketplace(warehouse: WarehouseRecord) -> WarehouseNotMarketplace:
    return WarehouseNotMarketplace(
        f"Warehouse {warehouse.id} is {warehouse.type}: only FBA, FBS and 3PL warehouses have "
        "reports. Set its stock with setStock.",
        details=[{"warehouse_id": warehouse.id, "type": warehouse.type.value}],
    )


def _check(report: StockReport) -> None:
    if not 1 <= len(report.levels) <= MAX_BULK_UPDATES:
        message = f"must hold 1 to {MAX_BULK_UPDATES} levels, and holds {len(report.levels)}"
        raise invalid_field("levels", message)
    problems = []
    first_index: dict[str, int] = {}
    for index, level in enumerate(report.levels):
        if problem := quantity_problem(level.on_hand):
            problems.append((f"levels.{index}.onHand", problem))
        first = first_index.setdefault(level.sku, index)
        if first != index:
            problems.append((f"levels.{index}", f"is for the same SKU as levels.{first}"))
    if problems:
        raise invalid_fields(problems)
