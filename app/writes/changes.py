"""Deletion of old changes of the feed."""

from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Select, bindparam, delete, func, literal_column, select, update
from sqlalchemy.sql import Executable

from app.database.clocks import Present
from app.database.engine import Database
from app.database.parameters import TENANT
from app.database.session import Session
from app.database.tables import change, feed

# Few enough that other writes of the tenant wait only briefly.
DELETED_POSITIONS: Final = 1_000
DAY_SECONDS: Final = 86_400
_UNTIL: Final = bindparam("until", type_=BigInteger)


async def delete_old_changes(database: Database, tenant_id: str) -> int:
    """Delete the changes that the feed of a tenant need not keep; return their number.

    They are deleted in ranges of positions, each in a transaction of its own.
    """
    days = database.settings.changes_kept_days
    parameters = {"tenant_id": tenant_id}

    async def delete_range(session: Session) -> int:
        rows = await session.rows(_next_range(days), parameters)
        if not rows:
            return 0
        position, deleted_until, first_kept = rows[0]
        until = min(deleted_until + DELETED_POSITIONS, position)
        if first_kept is not None:
            until = first_kept - 1
        if until > deleted_until:
            await session.rows(_delete_changes(), {**parameters, "until": until})
            await session.rows(_update_feed(), {**parameters, "until": until})
        return int(until - deleted_until)

    deleted = 0
    while batch := await database.write(delete_range, tenant_id):
        deleted += batch
    return deleted


@cache
def _next_range(days: int) -> Select[Any]:
    """Select the feed, and the first change that is kept among the next DELETED_POSITIONS."""
    span = literal_column(str(DELETED_POSITIONS), BigInteger)
    first_kept = select(func.min(change.c.position)).where(
        change.c.tenant_id == TENANT,
        change.c.position > feed.c.deleted_until,
        change.c.position <= feed.c.deleted_until + span,
        change.c.created_at >= Present(-days * DAY_SECONDS),
    )
    return select(
        feed.c.position, feed.c.deleted_until, first_kept.correlate(feed).scalar_subquery()
    ).where(feed.c.tenant_id == TENANT)


@cache
def _delete_changes() -> Executable:
    return delete(change).where(change.c.tenant_id == TENANT, change.c.position <= _UNTIL)


@cache
def _update_feed() -> Executable:
    return update(feed).where(feed.c.tenant_id == TENANT).values(deleted_until=_UNTIL)
