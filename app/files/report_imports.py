"""Imports of the reports of the operators of warehouses, by the rules of `syncStock`."""

from dataclasses import replace

from app.domain.caller import Caller
from app.domain.records import SkuRecord, WarehouseRecord
from app.domain.stock import Changes, OnError, Stock
from app.errors import InventoryError
from app.files.columns import FileRow
from app.files.import_runs import BatchDecision, FileRows, ImportBatch, ImportRun, ImportTally
from app.writes.marketplace_sync import (
    ReportedLevel,
    StockReport,
    SyncedLevel,
    SyncStatus,
    report_time_problem,
    sync_level,
)
from app.writes.stock import needs_of_levels


def batch_of_reports(run: ImportRun, rows: FileRows) -> ImportBatch:
    """Return a batch of reported levels."""

    def decide(stock: Stock, *, is_final: bool) -> BatchDecision:  # noqa: ARG001 - no rule differs
        batch = _ReportBatch(run, stock)
        for line, row in rows:
            batch.apply(line, row)
        batch.decision.changes = Changes(
            skus=batch.after,
            entries=[each.adjustment for each in batch.synced if each.adjustment],
        )
        return batch.decision

    return ImportBatch(
        needs_of_levels([(row["sku"], row["warehouse_id"]) for _, row in rows]), decide
    )


class _ReportBatch:
    """The stock after the rows so far."""

    def __init__(self, run: ImportRun, stock: Stock) -> None:
        self.after: dict[str, SkuRecord] = {}
        self.synced: list[SyncedLevel] = []
        self.decision = BatchDecision()
        self._run = run
        # Several rows may be for one SKU.
        self._stock = replace(stock, skus=dict(stock.skus))
        self._caller = Caller(run.tenant_id, run.created_by, run.created_by)
        self._reported_at = run.reported_at or stock.now

    def apply(self, line: int, row: FileRow) -> None:
        """Apply a row, or add its problem."""
        code = row["sku"]
        warehouse = self._stock.warehouses.get(row["warehouse_id"])
        problem = None
        if time_problem := report_time_problem(self._reported_at, self._stock.now):
            reason = f"is of a report whose time {time_problem}"
            problem = self._run.problem(line, "sku", code, reason, "Correct --reported-at.")
        elif warehouse is None or not warehouse.type.sends_reports:
            problem = self._run.problem(
                line,
                "warehouse_id",
                row["warehouse_id"],
                "is not a warehouse of the type FBA, FBS or 3PL",
                "Import its stock as --kind counts.",
                warehouse_id=row["warehouse_id"],
            )
        elif code not in self._stock.skus and not self._run.creates_skus:
            problem = self._run.unknown_sku(line, code)
        if problem or warehouse is None:
            self.decision.problems += [problem] if problem else []
            return
        outcome = self._sync(row, warehouse)
        if isinstance(outcome, InventoryError):
            reason = f"is refused: {outcome.message.rstrip('.')}"
            self.decision.problems.append(
                self._run.problem(
                    line, "quantity", row["quantity"], reason, warehouse_id=warehouse.id
                )
            )

    def _sync(self, row: FileRow, warehouse: WarehouseRecord) -> SyncedLevel | InventoryError:
        code = row["sku"]
        before = self._stock.skus.get(code)
        if before is None:
            self._stock.skus[code] = SkuRecord(code, row.get("title") or code, 1, None, [])
        report = StockReport(
            warehouse_id=warehouse.id,
            reported_at=self._reported_at,
            levels=(),
            on_error=OnError.CONTINUE,
        )
        level = ReportedLevel(code, row["quantity"])
        outcome = sync_level(self._caller, report, level, warehouse, self._stock)
        if isinstance(outcome, InventoryError) or outcome.sku is None:
            if before is None:
                del self._stock.skus[code]
            return outcome
        if before is None:
            self.decision.new_skus.append(code)
        if outcome.sku is not before:
            self.after[code] = self._stock.skus[code] = outcome.sku
        self.synced.append(outcome)
        self.decision.tally.add(_tally_of(outcome, warehouse, before))
        return outcome


def _tally_of(
    outcome: SyncedLevel, warehouse: WarehouseRecord, before: SkuRecord | None
) -> ImportTally:
    if outcome.status is SyncStatus.IGNORED:
        return ImportTally(superseded=1)
    if outcome.status is SyncStatus.UNCHANGED:
        return ImportTally(unchanged=1)
    is_new = before is None or before.level_in(warehouse.id) is None
    return ImportTally(created=1) if is_new else ImportTally(updated=1)
