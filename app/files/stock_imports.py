"""Imports of stock levels and counts."""

from functools import cache, partial
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Select, Text, bindparam, select

from app.database.parameters import in_key_array
from app.database.session import Session
from app.database.tables import adjustment
from app.domain.ids import ulid
from app.domain.records import AdjustmentRecord, LevelRecord, SkuRecord, WarehouseRecord
from app.domain.stock import Stock, check_archived, check_new_on_hand
from app.errors import InventoryError, warehouse_not_found
from app.files.columns import FileKind, FileRow
from app.files.import_runs import BatchDecision, FileRows, ImportRun
from app.writes.locked_reads import read_stock
from app.writes.posting import post
from app.writes.rows import Posting
from app.writes.statements import TENANT_PARAMETER


async def decide_stock(
    session: Session, run: ImportRun, rows: FileRows, *, locked: bool
) -> BatchDecision:
    """Decide on a batch of levels or counts."""
    levels = [(row["sku"], row["warehouse_id"]) for _, row in rows]
    before = await read_stock(session, run.tenant_id, levels, locked=locked)
    codes = sorted({code for code, _ in levels})
    parameters = {"tenant": run.tenant_id, "codes": codes, "run": run.id}
    statement = _select_imported_levels(session.dialect)
    imported = {tuple(row) for row in await session.rows(statement, parameters)}
    batch = _StockBatch(run, before, is_final=locked)
    for (line, row), level in zip(rows, levels, strict=True):
        if level in imported:
            batch.decision.tally.already_imported += 1
        else:
            batch.apply(line, row)
    if batch.after:
        posting = Posting(after=batch.after, entries=batch.entries, at=before.now)
        batch.decision.write = partial(
            post, key=None, tenant_id=run.tenant_id, before=before, posting=posting
        )
    return batch.decision


class _StockBatch:
    """The stock after the rows so far, by the rules of every other write."""

    def __init__(self, run: ImportRun, before: Stock, *, is_final: bool) -> None:
        self.after: dict[str, SkuRecord] = {}
        self.entries: list[AdjustmentRecord] = []
        self.decision = BatchDecision()
        self._run = run
        self._before = before
        self._is_final = is_final

    def apply(self, line: int, row: FileRow) -> None:
        """Apply a row, or add its problem."""
        record = self.after.get(row["sku"]) or self._before.skus.get(row["sku"])
        warehouse = self._before.warehouses.get(row["warehouse_id"])
        if record is None:
            self._refuse(line, f"SKU {row['sku']!r} does not exist; import SKUs first.")
            return
        if warehouse is None:
            self._refuse(line, warehouse_not_found(row["warehouse_id"]).message)
            return
        old = record.level_at(warehouse)
        quantity = row["quantity"] if self._run.kind is FileKind.COUNTS else row["on_hand"]
        if self._run.kind is FileKind.LEVELS and old.version > 0:
            # Stock may have been sold between validation and write; the history of a level stays.
            if quantity not in (None, old.on_hand) and not self._is_final:
                self._refuse(
                    line,
                    f"the level holds {old.on_hand} and has a history, which an opening balance "
                    "of another quantity would contradict; import a count.",
                )
                return
            quantity = None
        if quantity is None or (self._run.kind is FileKind.LEVELS and quantity == 0):
            self._change_safety_stock(record, warehouse, row)
        elif error := self._refusal(quantity, record, old, warehouse):
            self._refuse(line, error.message)
        else:
            self._change_on_hand(record, warehouse, row, quantity)

    def _refusal(
        self, quantity: int, record: SkuRecord, old: LevelRecord, warehouse: WarehouseRecord
    ) -> InventoryError | None:
        if record.archived_at and (
            error := check_archived(record.sku, quantity, on_hand=old.on_hand)
        ):
            return error
        return check_new_on_hand(
            quantity,
            on_hand=old.on_hand,
            warehouse_id=warehouse.id,
            warehouse_type=warehouse.type,
            is_active=warehouse.is_active,
            # The opening balance of a marketplace's warehouse may be imported once.
            by_marketplace=self._run.kind is FileKind.LEVELS,
        )

    def _refuse(self, line: int, reason: str) -> None:
        self.decision.problems.append((line, reason))

    def _change_safety_stock(
        self, record: SkuRecord, warehouse: WarehouseRecord, row: FileRow
    ) -> None:
        """Change the fields that have no ledger entry."""
        old = record.level_at(warehouse)
        new = replace(old, safety_stock=_safety_stock(row, old))
        if new == record.level_in(warehouse.id):
            self.decision.tally.unchanged += 1
        else:
            self._store(record, new)

    def _change_on_hand(
        self, record: SkuRecord, warehouse: WarehouseRecord, row: FileRow, quantity: int
    ) -> None:
        """Change `on_hand` with a ledger entry."""
        old, now = record.level_at(warehouse), self._before.now
        created_at = max(now, old.adjusted_at) if old.adjusted_at else now
        new = replace(
            old,
            on_hand=quantity,
            safety_stock=_safety_stock(row, old),
            version=old.version + 1,
            adjusted_at=created_at,
        )
        default_reason = "cycle_count" if self._run.kind is FileKind.COUNTS else "initial_stock"
        self.entries.append(
            AdjustmentRecord(
                id=f"adj_{ulid(now)}",
                sku=old.sku,
                warehouse_id=old.warehouse_id,
                sequence=new.version,
                before_quantity=old.on_hand,
                after_quantity=quantity,
                reason=row.get("reason") or default_reason,
                note=row.get("note"),
                created_by=self._run.created_by,
                created_at=created_at,
                bulk_id=self._run.id,
            )
        )
        self._store(record, new)

    def _store(self, record: SkuRecord, new: LevelRecord) -> None:
        if record.level_in(new.warehouse_id) is None:
            self.decision.tally.created += 1
        else:
            self.decision.tally.updated += 1
        self.after[record.sku] = record.with_level(new)


def _safety_stock(row: FileRow, old: LevelRecord) -> int:
    safety_stock = row.get("safety_stock")
    return old.safety_stock if safety_stock is None else int(safety_stock)


@cache
def _select_imported_levels(dialect: str) -> Select[Any]:
    """Return the SELECT of the levels that have an entry of a run.

    The statement reads the history of these SKUs; the index of bulks would read the whole run for
    every batch, so the condition on the run excludes it.
    """
    return select(adjustment.c.sku, adjustment.c.warehouse_id).where(
        adjustment.c.tenant_id == TENANT_PARAMETER,
        in_key_array(dialect, adjustment.c.sku, "codes"),
        (adjustment.c.bulk_id + "") == bindparam("run", type_=Text),
    )
