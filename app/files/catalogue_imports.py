"""Imports of SKUs and warehouses."""

import dataclasses

from msgspec.structs import replace

from app.domain.object_details import NO_DETAILS, ObjectDetails, ObjectKey, ObjectKind
from app.domain.records import SkuRecord, WarehouseRecord
from app.domain.stock import Changes, Stock
from app.domain.warehouses import WarehouseType, marketplace_problem
from app.errors import InventoryError
from app.files.columns import FileRow
from app.files.details_cells import change_of_row
from app.files.import_runs import BatchDecision, FileRows, ImportBatch, ImportRun, ImportTally
from app.files.problems import RowProblem
from app.writes.decisions import Needs
from app.writes.object_details import decide_details


def batch_of_skus(run: ImportRun, rows: FileRows) -> ImportBatch:
    """Return a batch of SKUs: new ones are created, others get their title and details."""
    changes = [(line, row, change_of_row(row)) for line, row in rows]

    def decide(stock: Stock, *, is_final: bool) -> BatchDecision:  # noqa: ARG001 - no rule differs
        decision = BatchDecision()
        after: dict[str, SkuRecord] = {}
        details: dict[ObjectKey, ObjectDetails] = {}
        # Each row sees the details that the rows before it leave.
        seen = dataclasses.replace(stock, details={**stock.details}, owners={**stock.owners})
        for line, row, change in changes:
            key = ObjectKind.SKU, row["sku"]
            before = seen.details.get(key, NO_DETAILS)
            new = decide_details(seen, key, change) if not change.is_empty else before
            if isinstance(new, InventoryError):
                reason = f"is refused: {new.message.rstrip('.')}"
                column = "external_ids" if row["external_ids"] else "metadata"
                decision.problems.append(run.problem(line, column, row[column], reason))
                continue
            if new != before:
                details[key] = new
                seen.apply(Changes(details={key: new}))
            record = stock.skus.get(row["sku"])
            if record is None:
                after[row["sku"]] = SkuRecord(row["sku"], row["title"], 1, None, [])
                decision.tally.created += 1
            elif record.title != row["title"] or new != before:
                version = record.version + 1
                after[row["sku"]] = replace(record, title=row["title"], version=version)
                decision.tally.updated += 1
            else:
                decision.tally.unchanged += 1
        decision.changes = Changes(skus=after, details=details)
        return decision

    needs = Needs(
        skus=[row["sku"] for _, row in rows],
        details=[(ObjectKind.SKU, row["sku"]) for _, row, each in changes if not each.is_empty],
        external_ids=[(ObjectKind.SKU, id_) for _, _, each in changes for id_ in each.ids],
    )
    return ImportBatch(needs, decide)


def batch_of_warehouses(run: ImportRun, rows: FileRows) -> ImportBatch:
    """Return a batch of warehouses: new ones are created, others are changed."""

    def decide(stock: Stock, *, is_final: bool) -> BatchDecision:  # noqa: ARG001 - no rule differs
        decision = BatchDecision()
        changed = {}
        for line, row in rows:
            old = stock.warehouses.get(row["id"])
            record = _warehouse_of_row(row, old)
            problems = _problems(run, line, record, old)
            if problems:
                decision.problems += problems
            elif old == record:
                decision.tally.unchanged += 1
            else:
                decision.tally.add(ImportTally(created=old is None, updated=old is not None))
                changed[record.id] = record
        decision.changes = Changes(warehouses=changed)
        return decision

    return ImportBatch(Needs(warehouses=[row["id"] for _, row in rows], is_alone=True), decide)


def _problems(
    run: ImportRun, line: int, record: WarehouseRecord, old: WarehouseRecord | None
) -> list[RowProblem]:
    problems = []
    if problem := marketplace_problem(record.marketplace, record.type):
        problems.append(run.problem(line, "marketplace", record.marketplace, problem))
    if old is not None and old.type is not record.type:
        reason = f"is not the type of the warehouse {old.id}, which is {old.type}"
        remedy = "The type cannot change; create another warehouse."
        problems.append(run.problem(line, "type", record.type, reason, remedy))
    return problems


def _warehouse_of_row(row: FileRow, old: WarehouseRecord | None) -> WarehouseRecord:
    """Return the warehouse of a row. A file of an older version does not say whether it sells."""
    is_active, is_sellable = row["is_active"], row["is_sellable"]
    if is_sellable is None:
        is_sellable = old.is_sellable if old else True
    return WarehouseRecord(
        row["id"],
        row["name"],
        WarehouseType(row["type"]),
        row["address"],
        row["marketplace"],
        is_active=True if is_active is None else is_active,
        is_sellable=is_sellable,
    )
