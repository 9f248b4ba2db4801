"""Reads and locks the stock that a write needs."""

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
from app.reads.reservations import reservation_records, reservations_by_id
from app.reads.skus import sku_records, skus_by_code
from app.reads.warehouses import warehouse_record, warehouses_by_id


async def read_stock(
    session: Session, tenant: str, levels: Sequence[LevelKey], *, locked: bool
) -> Stock:
    """Return what there is, and before that, if asked for, lock it."""
    dialect, read_at = session.dialect, uptime()
    codes = sorted({code for code, _ in levels})
    asked = {"tenant_id": tenant, "codes": codes}
    if locked and dialect == "postgresql":
        # A statement of its own: the next one sees what this one waited for.
        await session.rows(_lock_skus(), asked)
    [row] = await session.rows(_stock_by_code(dialect), asked)
    skus = {record.sku: record for record in sku_records(row)}
    hashes = {}
    places = {}
    for code, record in skus.items():
        for level in record.levels:
            places[level.warehouse_id] = level.warehouse
            if level.last_hash:
                hashes[code, level.warehouse_id], level.last_hash = level.last_hash, None
    # No id: it is about the SKU alone.
    if unseen := {id_ for _, id_ in levels if id_} - places.keys():
        places |= await _read_warehouses(session, tenant, unseen)
    return Stock(skus, places, hashes, locked, row.now, read_at)


async def _read_warehouses(
    session: Session, tenant: str, ids: Iterable[str]
) -> dict[str, WarehouseRecord]:
    asked = {"tenant_id": tenant, "ids": sorted(ids)}
    rows = await session.rows(warehouses_by_id(session.dialect), asked)
    return {row.id: warehouse_record(row) for row in rows}


async def lock_stock(
    session: Session, tenant: str, levels: Sequence[LevelKey], known: Stock
) -> tuple[Stock, frozenset[str]]:
    """Lock SKUs on PostgreSQL; return what there is now, and which of them to decide on anew.

    Those are the ones that are not as they are known: all, if a warehouse is not.
    """
    codes = sorted({code for code, _ in levels})
    locked = await session.rows(_lock_skus(), {"tenant_id": tenant, "codes": codes})
    versions = {code: record.version for code, record in known.skus.items()}
    moved = frozenset(row.sku for row in locked if versions.get(row.sku) != row.version)
    ids = known.warehouses.keys() | {id_ for _, id_ in levels}
    if await _read_warehouses(session, tenant, ids) != known.warehouses:
        moved = frozenset(codes)
    now = known
    if moved:
        of_moved = [level for level in levels if level[0] in moved]
        now = await read_stock(session, tenant, of_moved, locked=False)
    return Stock(
        {**known.skus, **now.skus},
        {**known.warehouses, **now.warehouses},
        {**known.hashes, **now.hashes},
        is_locked=True,
        now=now.now,
        read_at=known.read_at,
    ), moved


async def read_reservations(
    session: Session, tenant: str, ids: Sequence[str], *, locked: bool
) -> tuple[dict[str, ReservationRecord], datetime | None]:
    """Return reservations by id, `locked` if nobody else may change them meanwhile.

    And the present, if there are any.

    They are locked before any SKU is, by whoever needs both.
    """
    asked = {"tenant_id": tenant, "ids": ids}
    if locked and session.dialect == "postgresql":
        await session.rows(_lock_reservations(), asked)
    rows = await session.rows(timed_reservations(session.dialect), asked)
    records = reservation_records(row[:-1] for row in rows)
    return {record.id: record for record in records}, rows[0].now if rows else None


async def lock_warehouse(
    session: Session, tenant: str, id_: str, *, locked: bool
) -> WarehouseRecord | None:
    """Return a warehouse, `locked` if nobody else may change it until the transaction ends."""
    statement = warehouses_by_id(session.dialect)
    if locked and session.dialect == "postgresql":
        statement = statement.with_for_update(key_share=True)
    found = await session.rows(statement, {"tenant_id": tenant, "ids": [id_]})
    return warehouse_record(found[0]) if found else None


async def await_writes_into(database: Database, tenant: str, ids: Sequence[str]) -> None:
    """Wait until no write is under way that found warehouses active which no longer are.

    A deactivation is committed first: writes that begin later see it, so this wait has an end.
    A writer that read the row before and locks it after this gets the version that is left here,
    because an UPDATE under FOR UPDATE conflicts with FOR KEY SHARE; a plain UPDATE does not.
    """
    if database.dialect == "sqlite" or not ids:
        return
    rows = warehouse.c.tenant_id == tenant, warehouse.c.id.in_(ids)

    async def work(connection: AsyncConnection) -> None:
        ordered = select(warehouse.c.id).where(*rows).order_by(warehouse.c.id)
        await connection.execute(ordered.with_for_update())
        unchanged = {"is_active": warehouse.c.is_active}
        await connection.execute(update(warehouse).where(*rows).values(unchanged))

    await database.transaction(work, tenant_id=tenant)


@cache
def _stock_by_code(dialect: str) -> Select[Any]:
    """Return what finds SKUs with their levels, and the hashes that only a write needs."""
    found = skus_by_code(dialect, narrowed=False, more=(stock_level.c.last_hash,))
    return found.add_columns(Present().label("now"))


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
def timed_reservations(dialect: str) -> Select[Any]:
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
