"""Imports of SKUs and warehouses."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

from msgspec import structs
from sqlalchemy import Select, select, update
from sqlalchemy.sql.dml import Insert, Update
from ulid import ULID

from app.database.clocks import Present
from app.database.parameters import as_json, in_key_array, rows_from
from app.database.session import Session
from app.database.tables import sku, warehouse
from app.domain.quantities import Status
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files.columns import FileRow
from app.files.import_runs import BatchDecision, FileRows, ImportRun, ImportTally
from app.reads.warehouses import warehouse_record, warehouses_by_id
from app.writes.statements import (
    INSERTS,
    ONE,
    SKU_TYPES,
    TENANT_PARAMETER,
    WAREHOUSE_CHANGES,
    add_sku_counts_statement,
    column_types,
)

NEW_SKU_TYPES: Final = {name: SKU_TYPES[name] for name in ("sku", "title", "status")}
TITLE_TYPES: Final = {name: SKU_TYPES[name] for name in ("sku", "title", "version")}
WAREHOUSE_ROW_TYPES: Final = column_types(warehouse, without=["created_at"])


async def decide_skus(
    session: Session, run: ImportRun, rows: FileRows, *, locked: bool
) -> BatchDecision:
    """Decide on a batch of SKUs: new ones are created, other titles are changed."""
    titles = {row["sku"]: row["title"] for _, row in rows}
    parameters = {"tenant": run.tenant_id, "codes": sorted(titles)}
    statement = _select_titles(session.dialect, locked=locked and session.dialect == "postgresql")
    stored = {row.sku: row for row in await session.rows(statement, parameters)}
    new = [
        {"sku": code, "title": title, "status": Status.OUT_OF_STOCK}
        for code, title in titles.items()
        if code not in stored
    ]
    changed = [
        {"sku": code, "title": title, "version": stored[code].version + 1}
        for code, title in titles.items()
        if code in stored and stored[code].title != title
    ]
    unchanged = len(titles) - len(new) - len(changed)
    tally = ImportTally(created=len(new), updated=len(changed), unchanged=unchanged)
    return BatchDecision(tally, write=partial(_write_skus, run=run, new=new, changed=changed))


async def _write_skus(
    session: Session,
    *,
    run: ImportRun,
    new: Sequence[Mapping[str, object]],
    changed: Sequence[Mapping[str, object]],
) -> bool:
    """Insert and update SKUs; False if another writer has inserted one of them."""
    dialect, tenant = session.dialect, {"tenant": run.tenant_id}
    if new:
        inserted = await session.rows(_insert_skus(dialect), {**tenant, "new": as_json(new)})
        if len(inserted) < len(new):
            return False
    if changed:
        await session.rows(_update_titles(dialect), {**tenant, "changed": as_json(changed)})
    if new:
        counts = [{"warehouse_id": "", "status": Status.OUT_OF_STOCK, "skus": len(new)}]
        parameters = {**tenant, "counts": as_json(counts)}
        await session.rows(add_sku_counts_statement(dialect), parameters)
    return True


async def decide_warehouses(
    session: Session,
    run: ImportRun,
    rows: FileRows,
    *,
    locked: bool,  # noqa: ARG001 - the last writer wins
) -> BatchDecision:
    """Decide on a batch of warehouses: new ones are created, others are changed."""
    warehouses = [(line, warehouse_of_row(run.tenant_id, row)) for line, row in rows]
    parameters = {"tenant_id": run.tenant_id, "ids": [record.id for _, record in warehouses]}
    stored_rows = await session.rows(warehouses_by_id(session.dialect), parameters)
    stored = {record.id: record for record in map(warehouse_record, stored_rows)}
    decision = BatchDecision()
    for line, record in warehouses:
        old = stored.get(record.id)
        if old is not None and old.type is not record.type:
            decision.problems.append(
                (line, f"type is {old.type} and cannot change; create another warehouse.")
            )
    changed = [record for _, record in warehouses if stored.get(record.id) != record]
    decision.tally.created = sum(record.id not in stored for record in changed)
    decision.tally.updated = len(changed) - decision.tally.created
    decision.tally.unchanged = len(warehouses) - len(changed)
    decision.write = partial(_write_warehouses, run=run, warehouses=changed)
    return decision


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


async def _write_warehouses(
    session: Session, *, run: ImportRun, warehouses: Sequence[WarehouseRecord]
) -> bool:
    records = sorted(warehouses, key=lambda record: record.id)
    if records:
        rows = as_json(map(structs.asdict, records))
        parameters = {"tenant": run.tenant_id, "warehouses": rows}
        await session.rows(_upsert_warehouses(session.dialect), parameters)
    return True


@cache
def _select_titles(dialect: str, *, locked: bool) -> Select[Any]:
    skus = (
        select(sku.c.sku, sku.c.title, sku.c.version)
        .where(sku.c.tenant_id == TENANT_PARAMETER, in_key_array(dialect, sku.c.sku, "codes"))
        .order_by(sku.c.sku)
    )
    return skus.with_for_update(key_share=True) if locked else skus


@cache
def _insert_skus(dialect: str) -> Insert:
    rows = rows_from(dialect, "new", NEW_SKU_TYPES)
    names = ["tenant_id", "sku", "title", "status", "version", "created_at", "updated_at"]
    source = select(
        *(TENANT_PARAMETER, rows.c.sku, rows.c.title, rows.c.status),
        *(ONE, Present(), Present().label("updated_at")),
    ).where(rows.c.sku.is_not(None))
    insert: Any = INSERTS[dialect](sku).from_select(names, source.order_by(rows.c.sku))
    statement: Insert = insert.on_conflict_do_nothing().returning(sku.c.sku)
    return statement


@cache
def _update_titles(dialect: str) -> Update:
    rows = rows_from(dialect, "changed", TITLE_TYPES)
    return (
        update(sku)
        .where(sku.c.tenant_id == TENANT_PARAMETER, sku.c.sku == rows.c.sku)
        .values(title=rows.c.title, version=rows.c.version, updated_at=Present())
    )


@cache
def _upsert_warehouses(dialect: str) -> Insert:
    rows = rows_from(dialect, "warehouses", WAREHOUSE_ROW_TYPES)
    names = ["tenant_id", *WAREHOUSE_ROW_TYPES, "created_at"]
    source = (
        select(TENANT_PARAMETER, *rows.c, Present())
        .where(rows.c["id"].is_not(None))
        .order_by(rows.c["id"])
    )
    insert: Any = INSERTS[dialect](warehouse).from_select(names, source)
    statement: Insert = insert.on_conflict_do_update(
        index_elements=["tenant_id", "id"],
        set_={name: insert.excluded[name] for name in WAREHOUSE_CHANGES},
    )
    return statement
