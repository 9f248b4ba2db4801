"""Reads of the rows that a batch of writes needs."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Select, literal_column, select

from app.auth.tokens import INVALID_TOKEN
from app.database.clocks import Present
from app.database.compilation import AnyRow
from app.database.parameters import TENANT, in_key_array
from app.database.session import Session
from app.database.tables import adjustment, person, tenant
from app.domain.object_details import ObjectDetails, ObjectKind
from app.domain.stock import Stock
from app.errors import Unauthenticated
from app.reads.changes import newest_position
from app.reads.json_rows import json_rows_of
from app.reads.object_details import find_by_external_ids, get_external_ids, get_metadata
from app.reads.reservations import get_reservations
from app.reads.similar_codes import find_similar_codes
from app.reads.skus import sku_records, skus_by_code
from app.reads.warehouses import get_warehouses
from app.writes.decisions import Needs
from app.writes.idempotency_keys import KeyId, StoredRow, keys_json, select_outcomes


class BatchRows(NamedTuple):
    """The stock that some writes need, and the stored outcomes of their idempotency keys."""

    stock: Stock
    outcomes: dict[KeyId, StoredRow]


async def read_batch(
    session: Session,
    tenant_id: str,
    needs: Sequence[Needs],
    *,
    emails: Collection[str] = (),
    keys: Collection[KeyId] = (),
) -> BatchRows:
    """Read the rows that some writes need, and the authors with these e-mail addresses.

    Raises:
        Unauthenticated: the tenant has been deleted since its token was checked.
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
    parameters = {"codes": sorted(codes), "emails": sorted(emails), "keys": keys_json(keys)}
    statement = _select_rows(session.dialect)
    [row] = await session.rows(statement, {"tenant_id": tenant_id, **parameters})
    if row.tenant_is_served is None:
        raise Unauthenticated(INVALID_TOKEN)
    stock = _stock_of(row)
    stock.reservations = reservations
    stock.reversals = reversals
    refused = {code for need in needs if need.finds_similar_codes for code in need.skus}
    if unknown := refused - stock.skus.keys():
        stock.similar_codes = await find_similar_codes(session, tenant_id, unknown)
    if missing := warehouse_ids - stock.warehouses.keys():
        stock.warehouses |= await get_warehouses(session, tenant_id, ids=sorted(missing))
    await _read_details(session, tenant_id, needs, stock)
    outcomes = {
        (subject, key): StoredRow(fingerprint, outcome)
        for subject, key, fingerprint, outcome in orjson.loads(row.outcomes or "[]")
    }
    return BatchRows(stock, outcomes)


async def _read_details(
    session: Session, tenant_id: str, needs: Sequence[Needs], stock: Stock
) -> None:
    """Add the details of objects and the objects of external ids to the stock."""
    for kind in ObjectKind:
        ids = sorted({id_ for need in needs for of, id_ in need.details if of is kind})
        if ids:
            found = await get_external_ids(session, tenant_id, kind=kind, ids=ids)
            metadata = await get_metadata(session, tenant_id, kind=kind, ids=ids)
            for id_ in ids:
                details = ObjectDetails(found.get(id_, ()), metadata.get(id_, ()))
                stock.details[kind, id_] = details
        external_ids = {id_ for need in needs for of, id_ in need.external_ids if of is kind}
        if external_ids:
            owners = await find_by_external_ids(
                session, tenant_id, kind=kind, ids=sorted(external_ids)
            )
            stock.owners |= {(kind, id_): owner for id_, owner in owners.items()}


def _stock_of(row: AnyRow) -> Stock:
    stock = Stock(
        now=row.now,
        permits_oversell=row.permits_oversell_since is not None,
        permits_no_expiry=row.permits_no_expiry_since is not None,
        persons=dict(orjson.loads(row.persons or "[]")),
        last_position=row.last_position or 0,
        last_hash=row.last_hash,
        last_entry_at=row.last_entry_at,
        last_change=row.last_change,
    )
    for record in sku_records(row):
        code = record.sku
        stock.skus[code] = record
        for level in record.levels:
            stock.warehouses[level.warehouse_id] = level.warehouse
    return stock


@cache
def _select_rows(dialect: str) -> Select[Any]:
    """Return the SELECT of SKUs with their levels, outcomes, the time, and the last entry."""
    persons = select(person.c.email, person.c.id).where(
        person.c.tenant_id == TENANT, in_key_array(dialect, person.c.email, "emails")
    )
    of_tenant = tenant.c.tenant_id == TENANT
    values = {
        "tenant_is_served": select(literal_column("1")).where(
            of_tenant, tenant.c.deleted_since.is_(None)
        ),
        "permits_oversell_since": select(tenant.c.permits_oversell_since).where(of_tenant),
        "permits_no_expiry_since": select(tenant.c.permits_no_expiry_since).where(of_tenant),
        "last_position": _of_last_entry("position"),
        "last_hash": _of_last_entry("hash"),
        "last_entry_at": _of_last_entry("created_at"),
    }
    return skus_by_code(dialect).add_columns(
        Present().label("now"),
        json_rows_of(dialect, select_outcomes(dialect)).label("outcomes"),
        json_rows_of(dialect, persons).label("persons"),
        *(value.scalar_subquery().label(name) for name, value in values.items()),
        newest_position().label("last_change"),
    )


def _of_last_entry(name: str) -> Select[Any]:
    return (
        select(adjustment.c[name])
        .where(adjustment.c.tenant_id == TENANT)
        .order_by(adjustment.c.position.desc())
        .limit(literal_column("1"))
    )
