"""Reads of the rows that a write needs, with locks on PostgreSQL.

Locks are taken in one order: reservations, then SKUs, then warehouses, each sorted by key.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, Text, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.clocks import Present, uptime
from app.database.engine import Database
from app.database.parameters import in_key_array
from app.database.session import Session
from app.database.tables import reservation, sku, stock_level, warehouse
from app.domain.records import ReservationRecord, WarehouseRecord
from app.domain.stock import LevelKey, Stock
from app.reads.reservations import (
    reservation_records,
    reservations_by_id,
    within_line_limit,
)
from app.reads.skus import sku_records, skus_by_code
from app.reads.warehouses import warehouse_record, warehouses_by_id


async def read_stock(
    session: Session, tenant_id: str, levels: Sequence[LevelKey], *, locked: bool
) -> Stock:
    """Return the stock of the SKUs and warehouses of some levels; missing ones are absent.

    A level with an empty warehouse id stands for its SKU alone. If `locked`, the SKUs are locked
    first.
    """
    dialect, read_at = session.dialect, uptime()
    codes = sorted({code for code, _ in levels})
    parameters = {"tenant_id": tenant_id, "codes": codes}
    if locked and dialect == "postgresql":
        # A separate statement, so that the next one sees the commits that this one waited for.
        await session.rows(_lock_skus(), parameters)
    [row] = await session.rows(_select_stock(dialect), parameters)
    skus = {record.sku: record for record in sku_records(row)}
    hashes = {}
    warehouses = {}
    for code, record in skus.items():
        for level in record.levels:
            warehouses[level.warehouse_id] = level.warehouse
            if level.last_hash:
                hashes[code, level.warehouse_id], level.last_hash = level.last_hash, None
    if missing := {id_ for _, id_ in levels if id_} - warehouses.keys():
        warehouses |= await _read_warehouses(session, tenant_id, missing)
    return Stock(skus, warehouses, hashes, locked, row.now, read_at)


async def lock_stock(
    session: Session, tenant_id: str, levels: Sequence[LevelKey], known: Stock
) -> tuple[Stock, frozenset[str]]:
    """Lock SKUs that were read before on PostgreSQL; return their stock and the changed codes.

    If a warehouse has changed, all codes count as changed.
    """
    codes = sorted({code for code, _ in levels})
    locked = await session.rows(_lock_skus(), {"tenant_id": tenant_id, "codes": codes})
    versions = {code: record.version for code, record in known.skus.items()}
    changed = frozenset(row.sku for row in locked if versions.get(row.sku) != row.version)
    ids = known.warehouses.keys() | {id_ for _, id_ in levels}
    if await _read_warehouses(session, tenant_id, ids) != known.warehouses:
        changed = frozenset(codes)
    current = known
    if changed:
        changed_levels = [level for level in levels if level[0] in changed]
        current = await read_stock(session, tenant_id, changed_levels, locked=False)
    return Stock(
        {**known.skus, **current.skus},
        {**known.warehouses, **current.warehouses},
        {**known.hashes, **current.hashes},
        is_locked=True,
        now=current.now,
        read_at=known.read_at,
    ), changed


async def read_reservations(
    session: Session, tenant_id: str, ids: Sequence[str], *, locked: bool
) -> tuple[dict[str, ReservationRecord], datetime | None]:
    """Return reservations by id, and the database's time; None if no reservation exists."""
    parameters = {"tenant_id": tenant_id, "ids": ids}
    if locked and session.dialect == "postgresql":
        await session.rows(_lock_reservations(), parameters)
    rows = within_line_limit(await session.rows(_select_reservations(session.dialect), parameters))
    records = reservation_records(row[:-1] for row in rows)
    return {record.id: record for record in records}, rows[0].now if rows else None


async def read_warehouse(
    session: Session, tenant_id: str, id_: str, *, locked: bool
) -> WarehouseRecord | None:
    """Return a warehouse, locked until the transaction ends if `locked`, or None."""
    statement = warehouses_by_id(session.dialect)
    if locked and session.dialect == "postgresql":
        statement = statement.with_for_update(key_share=True)
    rows = await session.rows(statement, {"tenant_id": tenant_id, "ids": [id_]})
    return warehouse_record(rows[0]) if rows else None


async def _read_warehouses(
    session: Session, tenant_id: str, ids: Iterable[str]
) -> dict[str, WarehouseRecord]:
    parameters = {"tenant_id": tenant_id, "ids": sorted(ids)}
    rows = await session.rows(warehouses_by_id(session.dialect), parameters)
    return {row.id: warehouse_record(row) for row in rows}


async def wait_for_warehouse_writes(database: Database, tenant_id: str, ids: Sequence[str]) -> None:
    """Wait for running writes that read deactivated warehouses as active.

    The deactivation must be committed before. Later writes see it, so the wait ends. A writer that
    read the row earlier and locks it after this update gets the version written here, because an
    UPDATE under FOR UPDATE conflicts with FOR KEY SHARE; a plain UPDATE does not.
    """
    if database.dialect == "sqlite" or not ids:
        return
    conditions = warehouse.c.tenant_id == tenant_id, warehouse.c.id.in_(ids)

    async def work(connection: AsyncConnection) -> None:
        rows = select(warehouse.c.id).where(*conditions).order_by(warehouse.c.id)
        await connection.execute(rows.with_for_update())
        unchanged = {"is_active": warehouse.c.is_active}
        await connection.execute(update(warehouse).where(*conditions).values(unchanged))

    await database.transaction(work, tenant_id=tenant_id)


@cache
def _select_stock(dialect: str) -> Select[Any]:
    """Return the SELECT of SKUs with their levels and the last hash of each level."""
    skus = skus_by_code(dialect, narrowed=False, more=(stock_level.c.last_hash,))
    return skus.add_columns(Present().label("now"))


@cache
def _lock_skus() -> Select[Any]:
    return (
        select(sku.c.sku, sku.c.version)
        .where(
            sku.c.tenant_id == bindparam("tenant_id", type_=Text),
            in_key_array("postgresql", sku.c.sku, "codes"),
        )
        .order_by(sku.c.sku)
        .with_for_update(key_share=True)
    )


@cache
def _select_reservations(dialect: str) -> Select[Any]:
    return reservations_by_id(dialect).add_columns(Present().label("now"))


@cache
def _lock_reservations() -> Select[Any]:
    return (
        select(reservation.c.id)
        .where(
            reservation.c.tenant_id == bindparam("tenant_id", type_=Text),
            in_key_array("postgresql", reservation.c.id, "ids"),
        )
        .order_by(reservation.c.id)
        .with_for_update(key_share=True)
    )
