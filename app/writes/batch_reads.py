"""Reads of the rows that a batch of writes needs."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Select, literal_column, select

from app.database.clocks import Present
from app.database.parameters import TENANT, in_key_array
from app.database.session import Session
from app.database.tables import adjustment, person, tenant
from app.domain.stock import Stock
from app.reads.json_rows import json_rows_of
from app.reads.reservations import get_reservations
from app.reads.skus import sku_records, skus_by_code
from app.reads.warehouses import get_warehouses
from app.writes.decisions import Needs


async def read_stock(
    session: Session, tenant_id: str, needs: Sequence[Needs], *, emails: Collection[str] = ()
) -> Stock:
    """Return the stock that some writes need, with the ids of their authors.

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
    stock = await _read_skus(session, tenant_id, codes, sorted(emails))
    stock.reservations = reservations
    stock.reversals = reversals
    if missing := warehouse_ids - stock.warehouses.keys():
        stock.warehouses |= await get_warehouses(session, tenant_id, ids=sorted(missing))
    return stock


async def _read_skus(
    session: Session, tenant_id: str, codes: Collection[str], emails: Sequence[str]
) -> Stock:
    parameters = {"tenant_id": tenant_id, "codes": sorted(codes), "emails": emails}
    [row] = await session.rows(_select_stock(session.dialect), parameters)
    stock = Stock(
        now=row.now,
        permits_oversell=row.permits_oversell_since is not None,
        persons=dict(orjson.loads(row.persons or "[]")),
        last_position=row.last_position or 0,
        last_hash=row.last_hash,
        last_entry_at=row.last_entry_at,
    )
    for record in sku_records(row):
        code = record.sku
        stock.skus[code] = record
        for level in record.levels:
            stock.warehouses[level.warehouse_id] = level.warehouse
    return stock


@cache
def _select_stock(dialect: str) -> Select[Any]:
    """Return the SELECT of SKUs with their levels, the time, and the tenant with its last entry."""
    persons = select(person.c.email, person.c.id).where(
        person.c.tenant_id == TENANT, in_key_array(dialect, person.c.email, "emails")
    )
    permission = select(tenant.c.permits_oversell_since).where(tenant.c.tenant_id == TENANT)
    last = (
        select(adjustment.c[name])
        .where(adjustment.c.tenant_id == TENANT)
        .order_by(adjustment.c.position.desc())
        .limit(literal_column("1"))
        for name in ("position", "hash", "created_at")
    )
    columns = [statement.scalar_subquery() for statement in (permission, *last)]
    names = ("permits_oversell_since", "last_position", "last_hash", "last_entry_at")
    labels = [column.label(name) for column, name in zip(columns, names, strict=True)]
    return skus_by_code(dialect).add_columns(
        Present().label("now"), json_rows_of(dialect, persons).label("persons"), *labels
    )
