"""Imports of SKUs and warehouses."""

import hashlib

from msgspec.structs import replace
from ulid import ULID

from app.domain.records import SkuRecord, WarehouseRecord
from app.domain.stock import Changes, Stock
from app.domain.warehouses import WarehouseType, marketplace_problem
from app.files.columns import FileRow
from app.files.import_runs import BatchDecision, FileRows, ImportBatch, ImportRun, ImportTally
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
    warehouses = [(line, warehouse_of_row(run.tenant_id, row)) for line, row in rows]

    def decide(stock: Stock, *, is_final: bool) -> BatchDecision:  # noqa: ARG001 - no rule differs
        decision = BatchDecision()
        changed = {}
        for line, record in warehouses:
            if problem := marketplace_problem(record.marketplace, record.type):
                decision.problems.append((line, f"marketplace {problem}."))
            old = stock.warehouses.get(record.id)
            if old == record:
                decision.tally.unchanged += 1
                continue
            if old is None:
                decision.tally.created += 1
            elif old.type is record.type:
                decision.tally.updated += 1
            else:
                problem = f"type is {old.type} and cannot change; create another warehouse."
                decision.problems.append((line, problem))
            changed[record.id] = record
        decision.changes = Changes(warehouses=changed)
        return decision

    return ImportBatch(Needs(warehouses=[record.id for _, record in warehouses]), decide)


def warehouse_of_row(tenant_id: str, row: FileRow) -> WarehouseRecord:
    """Return the warehouse of a row; without an id it gets one that depends on its name only."""
    by_name = hashlib.sha256(f"{tenant_id}\n{row['name']}".encode()).digest()
    is_active = row["is_active"]
    return WarehouseRecord(
        row["id"] or f"wh_{ULID.from_bytes(by_name[:16])}",
        row["name"],
        WarehouseType(row["type"]),
        row["address"],
        row["marketplace"],
        is_active=True if is_active is None else is_active,
    )
