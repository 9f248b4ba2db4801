"""Summing up the days of the ledger that are over (`app.days`), a day in a transaction.

A day is read without a lock, however long that takes; then it is kept if nothing has come to it
meanwhile. So any number of workers may do it at once, and be ended at any point.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import Database
from app.days import BEGINNING, DAY, closed, start_of_day, sums_by_day
from app.models import UtcDateTime, adjustment, ledger_day, tenant
from app.sessions import AnyRow

# A day may have more entries than a request may take the time to read.
UNHURRIED: Final = text("SET LOCAL statement_timeout = 0")


async def sum_up_day(database: Database, tenant_id: str) -> bool:
    """Sum up the first day that is over and is not summed up.

    False: there is none, or somebody else was faster.
    """
    async with database.snapshot(tenant=tenant_id) as snapshot:
        if database.dialect == "postgresql":
            await snapshot.rows(UNHURRIED, {})
        asked = {"tenant_id": tenant_id, "now": datetime.now(UTC), "beginning": BEGINNING}
        [(known, oldest, now)] = await snapshot.rows(_open_days(database.dialect), asked)
        if known is not None and known > closed(now):
            # The clock was set back.
            await database.transaction(partial(reopen, tenant_id, closed(now)), tenant=tenant_id)
            return True
        if oldest is None or oldest >= closed(now):
            return False
        day = start_of_day(oldest)
        asked = {"tenant_id": tenant_id, "start": day, "end": day + DAY}
        sums = await snapshot.rows(_sums_of_day(database.dialect), asked)
    return await database.transaction(partial(_keep, tenant_id, known, day, sums), tenant=tenant_id)


async def reopen(tenant_id: str, day: datetime, connection: AsyncConnection) -> None:
    """Have a day, and those after it, summed up anew."""
    mine = (tenant.c.tenant_id == tenant_id) & (tenant.c.summed_until > day)
    await connection.execute(update(tenant).where(mine).values(summed_until=day))


async def _keep(
    tenant_id: str,
    known: datetime | None,
    day: datetime,
    sums: Sequence[AnyRow],
    connection: AsyncConnection,
) -> bool:
    if connection.dialect.name == "postgresql":
        await connection.execute(UNHURRIED)
    mine = tenant.c.tenant_id == tenant_id
    locked = select(tenant.c.summed_until).where(mine).with_for_update(key_share=True)
    if await connection.scalar(locked) != known:
        return False
    # A statement of its own: it sees what the one before waited for.
    asked = {"tenant_id": tenant_id, "start": day, "end": day + DAY}
    if await connection.scalar(_count_of_day(), asked) != sum(row.entries for row in sums):
        return False
    # What was kept before an adjustment came late.
    await connection.execute(
        delete(ledger_day).where(ledger_day.c.tenant_id == tenant_id, ledger_day.c.day >= day)
    )
    rows = [dict(zip(ledger_day.c.keys(), (tenant_id, *row), strict=True)) for row in sums]
    await connection.execute(ledger_day.insert(), rows)
    await connection.execute(update(tenant).where(mine).values(summed_until=day + DAY))
    return True


@cache
def _open_days(dialect: str) -> Select[Any]:
    """Return until when there are sums, the first adjustment after that, and the present.

    That is the database's, wherever it has a clock of its own.
    """
    beginning = bindparam("beginning", type_=UtcDateTime)
    known = tenant.c.summed_until
    oldest = (
        select(func.min(adjustment.c.created_at))
        .where(
            adjustment.c.tenant_id == tenant.c.tenant_id,
            adjustment.c.created_at >= func.coalesce(known, beginning),
        )
        .correlate(tenant)
        .scalar_subquery()
    )
    now = func.now() if dialect == "postgresql" else bindparam("now", type_=UtcDateTime)
    mine = tenant.c.tenant_id == bindparam("tenant_id", type_=Text)
    return select(known, oldest.label("oldest"), now.label("now")).where(mine)


@cache
def _sums_of_day(dialect: str) -> Select[Any]:
    return sums_by_day(dialect).where(*_is_of_day())


@cache
def _count_of_day() -> Select[Any]:
    return select(func.count()).select_from(adjustment).where(*_is_of_day())


def _is_of_day() -> list[ColumnElement[bool]]:
    return [
        adjustment.c.tenant_id == bindparam("tenant_id", type_=Text),
        adjustment.c.created_at >= bindparam("start", type_=UtcDateTime),
        adjustment.c.created_at < bindparam("end", type_=UtcDateTime),
    ]
