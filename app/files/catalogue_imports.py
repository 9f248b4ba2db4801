"""Imports of SKUs and warehouses."""

from msgspec.structs import replace

from app.domain.records import SkuRecord, WarehouseRecord
from app.domain.stock import Changes, Stock
from app.domain.warehouses import WarehouseType, marketplace_problem
from app.files.columns import FileRow
from app.files.import_runs import BatchDecision, FileRows, ImportBatch, ImportRun, ImportTally
from app.files.problems import RowProblem
from app.writes.decisions import Needs


def batch_of_skus(_run: ImportRun, rows: FileRows) -> ImportBatch:
    """Return a batch of SKUs: new ones are created, other titles are changed."""
    titles = {row["sku"]: row["title"] for _, row in rows}

    def decide(stock: Stock, *, is_final: bool) -> BatchDecision:  # noqa: ARG001 - no rule differs
        after = {}
        tally = ImportTally()
        for code, title in titles.items():
            record = stock.skus.get(code)
            if record is None:
                after[code] = SkuRecord(code, title, 1, None, [])
                tally.created += 1
            elif record.title != title:
                after[code] = replace(record, title=title, version=record.version + 1)
                tally.updated += 1
            else:
                tally.unchanged += 1
        return BatchDecision(tally, changes=Changes(skus=after))

    return ImportBatch(Needs(skus=titles), decide)


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
