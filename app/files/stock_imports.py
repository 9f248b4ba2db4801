"""Imports of stock levels and counts."""

from dataclasses import replace
from datetime import datetime

from msgspec import structs

from app.database.session import Session
from app.domain.instants import occurrence_problem
from app.domain.periods import parse_instant
from app.domain.records import AdjustmentRecord, LevelRecord, SkuRecord, WarehouseRecord
from app.domain.stock import (
    AdjustmentLinks,
    Changes,
    LevelKey,
    Stock,
    change_on_hand,
    check_new_on_hand,
)
from app.domain.warehouses import readonly_refusal
from app.files.columns import FileKind, FileRow
from app.files.import_runs import BatchDecision, FileRows, ImportBatch, ImportRun
from app.writes.decisions import Needs
from app.writes.stock import needs_of_levels


def batch_of_stock(run: ImportRun, rows: FileRows) -> ImportBatch:
    """Return a batch of levels or counts."""
    levels = [(row["sku"], row["warehouse_id"]) for _, row in rows]
    needs = needs_of_levels(levels)
    imported: set[LevelKey] = set()

    async def find_imported(session: Session) -> Needs:
        imported.update(await run.imported.among(session, run.tenant_id, levels))
        return Needs()

    def decide(stock: Stock, *, is_final: bool) -> BatchDecision:
        batch = _StockBatch(run, stock, is_final=is_final)
        for (line, row), level in zip(rows, levels, strict=True):
            if level in imported:
                batch.decision.tally.already_imported += 1
            else:
                batch.apply(line, row)
        batch.decision.changes = Changes(
            skus=batch.after, warehouses=batch.new_warehouses, entries=batch.entries
        )
        return batch.decision

    return ImportBatch(replace(needs, find=find_imported), decide)


class _StockBatch:
    """The stock after the rows so far, by the rules of every other write."""

    def __init__(self, run: ImportRun, stock: Stock, *, is_final: bool) -> None:
        self.after: dict[str, SkuRecord] = {}
        self.new_warehouses: dict[str, WarehouseRecord] = {}
        self.entries: list[AdjustmentRecord] = []
        self.decision = BatchDecision()
        self._run = run
        self._stock = stock
        self._is_final = is_final

    def apply(self, line: int, row: FileRow) -> None:
        """Apply a row, or add its problem."""
        record = self._sku(row)
        id_ = row["warehouse_id"]
        warehouse = self._stock.warehouses.get(id_) or self._run.new_warehouses.get(id_)
        if record is None:
            self.decision.problems.append(self._run.unknown_sku(line, row["sku"]))
            return
        if warehouse is None:
            reason = "is not the id of a warehouse any more"
            self._refuse(line, row, "warehouse_id", reason)
            return
        if problem := occurrence_problem(_occurred_at(row), self._stock.now):
            self._refuse(line, row, "occurred_at", problem)
            return
        old = record.level_at(warehouse)
        is_count = self._run.kind is FileKind.COUNTS
        quantity = row["quantity"] if is_count else row["on_hand"]
        if self._run.kind is FileKind.LEVELS and old.version > 0:
            # Stock may have been sold between validation and write; the history of a level stays.
            if quantity not in (None, old.on_hand) and not self._is_final:
                reason = (
                    f"is not the {old.on_hand:,} of the stock level, which has a history that an "
                    "opening balance would contradict"
                )
                remedy = "Import a count: --kind counts."
                self._refuse(line, row, "on_hand", reason, remedy)
                return
            quantity = None
        if quantity is None or (self._run.kind is FileKind.LEVELS and quantity == 0):
            self._configure(record, old, row)
        elif warehouse.type.is_readonly and is_count:
            self._count_marketplace(line, row, old)
        elif error := check_new_on_hand(
            quantity,
            record=record,
            level=old,
            # The opening balance of a marketplace's warehouse may be imported once.
            by_marketplace=not is_count,
        ):
            column = "quantity" if is_count else "on_hand"
            self._refuse(line, row, column, f"is refused: {error.message.rstrip('.')}")
        else:
            self._change_on_hand(record, old, row, quantity)

    def _sku(self, row: FileRow) -> SkuRecord | None:
        code = row["sku"]
        record = self.after.get(code) or self._stock.skus.get(code)
        if record is None and self._run.creates_skus:
            return SkuRecord(code, row.get("title") or code, 1, None, [])
        return record

    def _count_marketplace(self, line: int, row: FileRow, old: LevelRecord) -> None:
        """Refuse a count of a marketplace's warehouse unless it changes nothing."""
        if row["quantity"] == old.on_hand:
            self.decision.tally.unchanged += 1
            return
        refusal = readonly_refusal(old.warehouse.id, old.warehouse.type)
        reason = f"is refused: {refusal.message.rstrip('.')}"
        remedy = "Import the report of the marketplace: --kind reports."
        self._refuse(line, row, "quantity", reason, remedy)

    def _refuse(self, line: int, row: FileRow, column: str, reason: str, remedy: str = "") -> None:
        id_ = row["warehouse_id"]
        self.decision.problems.append(
            self._run.problem(line, column, row[column], reason, remedy, warehouse_id=id_)
        )

    def _configure(self, record: SkuRecord, old: LevelRecord, row: FileRow) -> None:
        """Change the fields that have no ledger entry."""
        new = _configured(old, row)
        if new == record.level_in(old.warehouse_id):
            self.decision.tally.unchanged += 1
        else:
            self._store(record, record.with_level(new), new)

    def _change_on_hand(
        self, record: SkuRecord, old: LevelRecord, row: FileRow, quantity: int
    ) -> None:
        """Change `on_hand` with a ledger entry."""
        default_reason = "cycle_count" if self._run.kind is FileKind.COUNTS else "initial_stock"
        change = change_on_hand(
            record,
            _configured(old, row),
            quantity,
            at=self._stock.entry_time,
            reason=row.get("reason") or default_reason,
            note=row.get("note"),
            created_by=self._run.created_by,
            links=AdjustmentLinks(bulk_id=self._run.id),
            occurred_at=_occurred_at(row),
        )
        self.entries.append(change.adjustment)
        self._store(record, change.sku, old)

    def _store(self, record: SkuRecord, after: SkuRecord, level: LevelRecord) -> None:
        warehouse = level.warehouse
        if record.level_in(warehouse.id) is None:
            self.decision.tally.created += 1
        else:
            self.decision.tally.updated += 1
        if record.sku not in self.after and record.sku not in self._stock.skus:
            self.decision.new_skus.append(record.sku)
        if warehouse.id not in self._stock.warehouses:
            self.new_warehouses[warehouse.id] = warehouse
            self.decision.new_warehouses[warehouse.id] = warehouse.name
        self.after[record.sku] = after


def _occurred_at(row: FileRow) -> datetime | None:
    text = row.get("occurred_at")
    return None if text is None else parse_instant(text)


def _configured(level: LevelRecord, row: FileRow) -> LevelRecord:
    """Return a level with the safety stock and the reorder point of a row, if it has them."""
    names = ("safety_stock", "reorder_point")
    values = {name: int(row[name]) for name in names if row.get(name) is not None}
    return structs.replace(level, **values)
