"""Reads of the rows that a batch of writes needs."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, select

from app.database.clocks import Present
from app.database.parameters import TENANT
from app.database.session import Session
from app.database.tables import stock_level, tenant
from app.domain.stock import Stock
from app.reads.reservations import get_reservations
from app.reads.skus import sku_records, skus_by_code
from app.reads.warehouses import get_warehouses
from app.writes.decisions import Needs


async def read_stock(session: Session, tenant_id: str, needs: Sequence[Needs]) -> Stock:
    """Return the stock that some writes need.

    Raises:
        QueryTooComplex: the reservations have too many lines.

    """
    codes = {code for need in needs for code in need.skus}
    warehouse_ids = {id_ for need in needs for id_ in need.warehouses}
    reservation_ids = {id_ for need in needs for id_ in need.reservations}
    reservations = {}
    if reservation_ids:
        reservations = await get_reservations(session, tenant_id, ids=sorted(reservation_ids))
        for reservation in reservations.values():
            codes |= {line.sku for line in reservation.lines}
            warehouse_ids |= {line.warehouse_id for line in reservation.lines}
    reversals: dict[str, str] = {}
    for need in needs:
        if need.find is not None:
            found = await need.find(session)
            codes |= set(found.skus)
            warehouse_ids |= set(found.warehouses)
            reversals |= found.reversals
    stock = await _read_skus(session, tenant_id, codes)
    stock.reservations = reservations
    stock.reversals = reversals
    if missing := warehouse_ids - stock.warehouses.keys():
        stock.warehouses |= await get_warehouses(session, tenant_id, ids=sorted(missing))
    return stock


async def _read_skus(session: Session, tenant_id: str, codes: Collection[str]) -> Stock:
    parameters = {"tenant_id": tenant_id, "codes": sorted(codes)}
    [row] = await session.rows(_select_stock(session.dialect), parameters)
    stock = Stock(now=row.now, permits_oversell=row.permits_oversell_since is not None)
    for record in sku_records(row):
        code = record.sku
        stock.skus[code] = record
        for level in record.levels:
            stock.warehouses[level.warehouse_id] = level.warehouse
            if level.last_hash:
                stock.hashes[code, level.warehouse_id], level.last_hash = level.last_hash, None
    return stock


@cache
def _select_stock(dialect: str) -> Select[Any]:
    """Return the SELECT of SKUs with their levels, and of the time and the tenant's permission."""
    skus = skus_by_code(dialect, more=(stock_level.c.last_hash,))
    permission = select(tenant.c.permits_oversell_since).where(tenant.c.tenant_id == TENANT)
    return skus.add_columns(
        Present().label("now"), permission.scalar_subquery().label("permits_oversell_since")
    )
