"""Reads of tenants and their tokens."""

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import Column, Select, func, select

from app.database.clocks import Present
from app.database.parameters import TENANT
from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import adjustment, api_token, tenant
from app.domain.instants import format_instant

# Spelled out, because a token's hash must not be listed.
TOKEN_COLUMNS: Final = (
    api_token.c.id,
    api_token.c.name,
    api_token.c.email,
    api_token.c.scopes,
    api_token.c.warehouse_ids,
    api_token.c.created_at,
    api_token.c.expires_at,
    api_token.c.revoked_at,
    api_token.c.last_used_at,
)

TENANT_COLUMNS: Final = (
    tenant.c.tenant_id,
    tenant.c.name,
    tenant.c.created_at,
    tenant.c.permits_oversell_since,
    tenant.c.permits_no_expiry_since,
    tenant.c.availability_limit,
    tenant.c.deleted_since,
)
TENANT_ROWS: Final = select(*TENANT_COLUMNS).order_by(tenant.c.tenant_id)
TENANT_IDS: Final = (
    select(tenant.c.tenant_id).where(tenant.c.deleted_since.is_(None)).order_by(tenant.c.tenant_id)
)


async def list_tenants(snapshot: Snapshot) -> list[str]:
    """List the ids of all tenants, for operators and background jobs only.

    A tenant that is being deleted is left out.
    """
    rows = await snapshot.rows(TENANT_IDS, {})
    return [row.tenant_id for row in rows]


async def list_tenants_ahead(session: Session, *, seconds: int) -> list[str]:
    """List the tenants whose newest adjustment is dated more than `seconds` ahead, for operators.

    The times of a ledger never decrease, so the newest adjustment has the latest one.
    """
    newest = (
        select(func.max(adjustment.c.created_at, type_=adjustment.c.created_at.type))
        .where(adjustment.c.tenant_id == tenant.c.tenant_id)
        .scalar_subquery()
    )
    statement = TENANT_IDS.where(newest > Present(seconds))
    return [row.tenant_id for row in await session.rows(statement, {})]


async def list_tenant_rows(snapshot: Snapshot) -> list[dict[str, object]]:
    """List all tenants without their cursor keys, for operators only; instants are text."""
    rows = await snapshot.rows(TENANT_ROWS, {})
    return [_with_names(TENANT_COLUMNS, row) for row in rows]


async def list_tokens(snapshot: Snapshot, tenant_id: str) -> list[dict[str, object]]:
    """List the tokens of a tenant without their hashes, oldest first; instants are text."""
    rows = await snapshot.rows(_tokens(), {"tenant_id": tenant_id})
    return [_with_names(TOKEN_COLUMNS, row) for row in rows]


def _with_names(columns: Iterable[Column[Any]], row: Iterable[Any]) -> dict[str, object]:
    return {
        column.name: format_instant(value) if isinstance(value, datetime) else value
        for column, value in zip(columns, row, strict=True)
    }


@cache
def _tokens() -> Select[Any]:
    return (
        select(*TOKEN_COLUMNS)
        .where(api_token.c.tenant_id == TENANT)
        .order_by(api_token.c.created_at, api_token.c.id)
    )
