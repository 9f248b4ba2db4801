"""Reads of tenants and their tokens."""

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, select

from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import api_token
from app.database.tables import tenant as tenant_table
from app.domain.instants import format_instant
from app.reads.conditions import equals


async def permits_oversell(session: Session, tenant: str, *, locked: bool) -> bool:
    """Whether a tenant permits overselling; `locked`: until the transaction ends."""
    statement = _permission(locked=locked and session.dialect == "postgresql")
    rows = await session.rows(statement, {"tenant_id": tenant})
    return rows[0].permits_oversell_since is not None


async def list_tenants(snapshot: Snapshot) -> list[str]:
    """Return the ids of all tenants: for operators, never for a tenant."""
    rows = await snapshot.rows(
        select(tenant_table.c.tenant_id).order_by(tenant_table.c.tenant_id), {}
    )
    return [row.tenant_id for row in rows]


async def list_tokens(snapshot: Snapshot, tenant_id: str) -> list[dict[str, object]]:
    """Return what is kept of a tenant's tokens, oldest first."""
    statement = (
        select(
            api_token.c.id,
            api_token.c.name,
            api_token.c.email,
            api_token.c.scopes,
            api_token.c.created_at,
            api_token.c.expires_at,
            api_token.c.revoked_at,
            api_token.c.last_used_at,
        )
        .where(equals("tenant_id")(api_token.c))
        .order_by(api_token.c.created_at, api_token.c.id)
    )
    rows = await snapshot.rows(statement, {"tenant_id": tenant_id})
    return [
        {
            name: format_instant(value) if isinstance(value, datetime) else value
            for name, value in zip(statement.selected_columns.keys(), row, strict=True)
        }
        for row in rows
    ]


@cache
def _permission(*, locked: bool) -> Select[Any]:
    found = select(tenant_table.c.permits_oversell_since).where(equals("tenant_id")(tenant_table.c))
    return found.with_for_update(read=True) if locked else found
