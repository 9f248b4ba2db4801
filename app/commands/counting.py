"""Counting what long histories have of each reason, person and sign, up to their milestones.

A count begins with the one before it, so that it reads what came since then. It says what the
ledger says for good, so any number of workers may make it at once, and be ended at any point.
"""

from functools import cache, partial
from typing import Any, Final, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Table,
    Text,
    bindparam,
    func,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Insert

from app.commands.posting import INSERTS
from app.database import Database
from app.days import sign_of
from app.models import IS_MILESTONE, LEVEL, MILESTONE, adjustment, history_count, stock_level

KNOWN: Final = bindparam("known", type_=BigInteger)
UNTIL: Final = bindparam("until", type_=BigInteger)


async def count_histories(database: Database, tenant_id: str) -> int:
    """Count every history up to its last milestone, and return how many counts that took."""
    async with database.snapshot(tenant=tenant_id) as snapshot:
        behind = await snapshot.rows(_behind(), {"tenant_id": tenant_id})
    counts = 0
    for code, place in behind:
        level = {"tenant_id": tenant_id, "sku": code, "warehouse_id": place}
        while await database.transaction(partial(_count_on, level), tenant=tenant_id):
            counts += 1
    return counts


async def _count_on(level: dict[str, str], connection: AsyncConnection) -> bool:
    """Make the next count of a stock level's history, if it is long enough."""
    [last] = await connection.execute(_last_count(), level)
    # A count takes as many rows as it has combinations: it follows as many entries, at least.
    milestones = max(1, -(-last.combinations // MILESTONE))
    until = last.known + milestones * MILESTONE
    if until > last.version:
        return False
    statement = _count(connection.dialect.name)
    await connection.execute(statement, {**level, "known": last.known, "until": until})
    return True


@cache
def _behind() -> Select[Any]:
    """Return the levels that have a milestone after their last count."""
    counted = (
        select(func.max(history_count.c.sequence))
        .where(*(history_count.c[name] == adjustment.c[name] for name in LEVEL))
        .correlate(adjustment)
        .scalar_subquery()
    )
    level = adjustment.c.sku, adjustment.c.warehouse_id
    milestones = (
        select(*level, func.max(adjustment.c.sequence).label("last"), counted.label("counted"))
        .where(adjustment.c.tenant_id == bindparam("tenant_id", type_=Text), text(IS_MILESTONE))
        .group_by(adjustment.c.tenant_id, *level)
        .subquery("milestones")
    )
    return select(milestones.c.sku, milestones.c.warehouse_id).where(
        milestones.c.last > func.coalesce(milestones.c.counted, 0)
    )


@cache
def _last_count() -> Select[Any]:
    """Return a level's version, until when its history is counted, and in how many rows."""
    mine = _is_of_level(history_count)
    known = select(func.coalesce(func.max(history_count.c.sequence), 0)).where(*mine)
    last = history_count.c.sequence == known.correlate(None).scalar_subquery()
    combinations = select(func.count()).select_from(history_count).where(*mine, last)
    return select(
        stock_level.c.version,
        known.scalar_subquery().label("known"),
        combinations.scalar_subquery().label("combinations"),
    ).where(*_is_of_level(stock_level))


@cache
def _count(dialect: str) -> Insert:
    columns = history_count.c.keys()
    insert = INSERTS[dialect](history_count).from_select(columns, next_count())
    return cast("postgresql.Insert", insert).on_conflict_do_nothing()


@cache
def next_count() -> Select[Any]:
    """Return what a stock level has `until` an adjustment, from what it had until a `known` one."""
    names = ("reason", "created_by", "sign")
    before = select(*(history_count.c[name] for name in (*names, "entries"))).where(
        *_is_of_level(history_count), history_count.c.sequence == KNOWN
    )
    # In their order, lest PostgreSQL takes the index by time, and reads it from end to end.
    entries = (
        select(
            adjustment.c.reason,
            adjustment.c.created_by,
            sign_of(adjustment.c.delta).label("sign"),
            literal_column("1", BigInteger).label("entries"),
        )
        .where(
            *_is_of_level(adjustment), adjustment.c.sequence > KNOWN, adjustment.c.sequence <= UNTIL
        )
        .order_by(adjustment.c.sequence)
        .subquery("entries")
    )
    both = union_all(before, select(entries)).subquery("both")
    keys = [both.c[name] for name in names]
    level = (sql_cast(bindparam(name, type_=Text), Text) for name in LEVEL)
    sums = sql_cast(func.sum(both.c.entries), BigInteger)
    columns: list[ColumnElement[Any]] = [*level, sql_cast(UNTIL, BigInteger), *keys, sums]
    # In their order: two that insert the same rows wait for each other, and not in a circle.
    return select(*columns).group_by(*keys).order_by(*keys)


def _is_of_level(table: Table) -> list[ColumnElement[bool]]:
    return [table.c[name] == bindparam(name, type_=Text) for name in LEVEL]
