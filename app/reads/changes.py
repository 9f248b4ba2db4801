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
from app.database.snapshot import Snapshot
from app.database.tables import change, feed, tenant
from app.domain.changes import MAX_POSITION, ChangeBody, ChangeRecord, ChangeType
from app.errors import ChangesGone
from app.ledger.totals import ZERO
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
    snapshot: Snapshot,
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

    """
    after = None if after is None else min(after, MAX_POSITION)
    span = limit if types is None and warehouse_ids is None else MOST_EXAMINED
    parameters: dict[str, object] = {
        "tenant_id": tenant_id,
        "after": after,
        "types": None if types is None else sorted(types),
        "warehouse_ids": None if warehouse_ids is None else sorted(warehouse_ids),
    }
    statement = _page_of_changes(snapshot.dialect, filters_of(parameters))
    parameters |= {"limit": limit, "span": span}
    rows = await snapshot.rows(statement, parameters)
    newest, deleted_until = rows[0][:2]
    if after is not None and not deleted_until <= after <= newest:
        raise _gone(after, oldest=deleted_until + 1, newest=newest)
    records = [_record_of(*row[2:]) for row in rows if row[2] is not None]
    start = deleted_until if after is None else after
    is_full = len(records) == limit
    return FeedPage(records, records[-1].position if is_full else min(start + span, newest), newest)


async def get_feed_position(snapshot: Snapshot, tenant_id: str) -> int:
    """Read the newest position of the feed."""
    rows = await snapshot.rows(_feed_position(), {"tenant_id": tenant_id})
    return int(rows[0][0]) if rows else 0


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
    has_feed = feed.c.tenant_id == TENANT
    source = tenant.join(feed, has_feed, isouter=True).join(page, true(), isouter=True)
    newest = func.coalesce(feed.c.position, ZERO)
    deleted_until = func.coalesce(feed.c.deleted_until, ZERO)
    return (
        select(newest.label("newest"), deleted_until.label("deleted_until"), *page.c)
        .select_from(source)
        .where(tenant.c.tenant_id == TENANT)
        .order_by(page.c.position)
    )


def _start(filters: Filters) -> ColumnElement[int]:
    if "after" in filters:
        return bindparam("after", type_=BigInteger)
    deleted = select(feed.c.deleted_until).where(feed.c.tenant_id == TENANT).scalar_subquery()
    return func.coalesce(deleted, literal_column("0", BigInteger))


@cache
def _feed_position() -> Select[Any]:
    return select(feed.c.position).where(feed.c.tenant_id == TENANT)
