"""Reads of the availability of SKUs, for frontends. Archived SKUs are left out."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Select, select

from app.database.parameters import TENANT, in_key_array
from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import sku, tenant
from app.domain.availability import AvailabilityRecord, availability_of
from app.domain.filters import Order
from app.domain.quantities import Status
from app.reads.conditions import Filters, conditions_of, filters_of, shaped
from app.reads.paging import LARGEST_PAGE, PAGE_LIMIT, after_position, in_sku_order
from app.reads.skus import SKU_CONDITIONS

_COLUMNS: Final = (sku.c.sku, sku.c.title, sku.c.status, sku.c.available)


async def list_availabilities(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    found: Sequence[str] | None = None,
    after: str | None = None,
    limit: int,
) -> list[AvailabilityRecord]:
    """Read a page of availabilities by code, starting after a code; `found` are the only codes."""
    parameters = {"tenant_id": tenant_id, "found": found, "after": after and True, "listed": True}
    statement = _page_of_availabilities(snapshot.dialect, filters_of(parameters))
    return [
        _record_of(row)
        for row in await snapshot.rows(
            statement, {**parameters, "after_sku": after, "limit": limit}
        )
    ]


async def get_availabilities(
    session: Session | Snapshot, tenant_id: str, *, codes: Sequence[str]
) -> dict[str, AvailabilityRecord]:
    """Read availabilities by code; missing and archived SKUs are absent."""
    statement = _availabilities_by_code(session.dialect)
    rows = await session.rows(statement, {"tenant_id": tenant_id, "codes": codes})
    return {row.sku: _record_of(row) for row in rows}


def _record_of(row: Sequence[Any]) -> AvailabilityRecord:
    code, title, status, available, limit = row
    return availability_of(code, title, Status(status), available, limit=limit)


@shaped
def _page_of_availabilities(dialect: str, filters: Filters) -> Select[Any]:
    conditions = conditions_of(SKU_CONDITIONS, filters, sku.c)
    if "found" in filters:
        conditions.append(in_key_array(dialect, sku.c.sku, "found"))
    if "after" in filters:
        conditions.append(after_position(sku.c, Order.CODE_ASCENDING))
    by_code = in_sku_order(sku.c, Order.CODE_ASCENDING)
    page = _availabilities().where(*conditions).order_by(*by_code).limit(LARGEST_PAGE)
    longest = page.subquery("longest")
    return select(longest).order_by(longest.c.sku).limit(PAGE_LIMIT)


@cache
def _availabilities_by_code(dialect: str) -> Select[Any]:
    return _availabilities().where(
        sku.c.tenant_id == TENANT,
        sku.c.archived_at.is_(None),
        in_key_array(dialect, sku.c.sku, "codes"),
    )


def _availabilities() -> Select[Any]:
    """Select the columns of an availability, with the limit of the tenant."""
    limit = (
        select(tenant.c.availability_limit).where(tenant.c.tenant_id == TENANT).scalar_subquery()
    )
    return select(*_COLUMNS, limit.label("limit"))
