"""Reads of the feed of changes."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from msgspec import json
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    func,
    literal_column,
    select,
    true,
)

from app.database.parameters import TENANT, in_key_array
from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import change, tenant
from app.domain.changes import MAX_POSITION, ChangeBody, ChangeRecord, ChangeType
from app.errors import ChangesGone, Unauthenticated
from app.reads.conditions import Filters, filters_of, shaped
from app.reads.paging import PAGE_LIMIT

# The most positions that one read examines for the changes that match its filters.
MOST_EXAMINED: Final = 1_000
_DECODE_BODY: Final = json.Decoder(ChangeBody).decode
_COLUMNS: Final = tuple(
    change.c[name] for name in ("position", "type", "created_at", "sku", "warehouse_id", "body")
)


class FeedPage(NamedTuple):
    """Changes of the feed, the position up to which they were read, and the newest position."""

    records: Sequence[ChangeRecord]
    read_to: int
    newest: int


async def list_changes(
    session: Session,
    tenant_id: str,
    *,
    after: int | None,
    limit: int,
    types: Collection[ChangeType] | None = None,
    warehouse_ids: Collection[str] | None = None,
) -> FeedPage:
    """Read the changes after a position, oldest first; without it, from the oldest that is kept.

    With a filter, a read ends after MOST_EXAMINED positions, and `read_to` tells how far it came.

    Raises:
        ChangesGone: the changes after the position are deleted, or it is beyond the newest one.
        Unauthenticated: the tenant was deleted.

    """
    after = None if after is None else min(after, MAX_POSITION)
    span = limit if types is None and warehouse_ids is None else MOST_EXAMINED
    parameters: dict[str, object] = {
        "tenant_id": tenant_id,
        "after": after,
        "types": None if types is None else sorted(types),
        "warehouse_ids": None if warehouse_ids is None else sorted(warehouse_ids),
    }
    statement = _page_of_changes(session.dialect, filters_of(parameters))
    parameters |= {"limit": limit, "span": span}
    rows = await session.rows(statement, parameters)
    if not rows:
        message = "The tenant of the token was deleted."
        raise Unauthenticated(message)
    newest, deleted_until = rows[0][:2]
    if after is not None and not deleted_until <= after <= newest:
        raise _gone(after, oldest=deleted_until + 1, newest=newest)
    records = [_record_of(*row[2:]) for row in rows if row[2] is not None]
    start = deleted_until if after is None else after
    is_full = len(records) == limit
    return FeedPage(records, records[-1].position if is_full else min(start + span, newest), newest)


async def get_feed_position(session: Session | Snapshot, tenant_id: str) -> int:
    """Read the newest position of the feed."""
    rows = await session.rows(_feed_position(), {"tenant_id": tenant_id})
    return int(rows[0][0] or 0)


def _record_of(*values: Any) -> ChangeRecord:  # noqa: ANN401 - a row of _COLUMNS
    position, type_, created_at, sku, warehouse_id, body = values
    return ChangeRecord(
        position, ChangeType(type_), created_at, sku, warehouse_id, _DECODE_BODY(body)
    )


def _gone(after: int, *, oldest: int, newest: int) -> ChangesGone:
    problem = f"is beyond the newest position, {newest}"
    if after < oldest:
        problem = f"is too old: the changes before position {oldest} are deleted"
    return ChangesGone(
        f"The position {after} {problem}. Read the lists again, and follow the feed from the "
        "position that comes with them.",
        details=[{"oldest": oldest, "newest": newest}],
    )


@shaped
def _page_of_changes(dialect: str, filters: Filters) -> Select[Any]:
    start = _start(filters)
    until = start + bindparam("span", type_=BigInteger)
    conditions = [change.c.tenant_id == TENANT, change.c.position > start]
    conditions.append(change.c.position <= until)
    if "types" in filters:
        conditions.append(in_key_array(dialect, change.c.type, "types"))
    if "warehouse_ids" in filters:
        conditions.append(in_key_array(dialect, change.c.warehouse_id, "warehouse_ids"))
    page = (
        select(*_COLUMNS)
        .where(*conditions)
        .order_by(change.c.position)
        .limit(PAGE_LIMIT)
        .subquery("page")
    )
    return (
        select(newest_position().label("newest"), tenant.c.changes_deleted_until, *page.c)
        .select_from(tenant.join(page, true(), isouter=True))
        .where(tenant.c.tenant_id == TENANT)
        .order_by(page.c.position)
    )


def _start(filters: Filters) -> ColumnElement[int]:
    if "after" in filters:
        return bindparam("after", type_=BigInteger)
    return _deleted_until()


def newest_position() -> ColumnElement[int]:
    """Return the newest position of the feed; without a change that is kept, the last deleted."""
    newest = (
        select(change.c.position)
        .where(change.c.tenant_id == TENANT)
        .order_by(change.c.position.desc())
        .limit(literal_column("1"))
        .scalar_subquery()
    )
    return func.coalesce(newest, _deleted_until())


def _deleted_until() -> ColumnElement[int]:
    of_tenant = tenant.c.tenant_id == TENANT
    return select(tenant.c.changes_deleted_until).where(of_tenant).scalar_subquery()


@cache
def _feed_position() -> Select[Any]:
    return select(newest_position())
