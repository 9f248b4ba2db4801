"""Summing up the ledger (`app.sums`), some hundred adjustments in a transaction.

They are read without a lock, however long that takes; then what they come to is kept if nothing has
come to them meanwhile, or to what is before them. So any number of workers may do it at once, and
be ended at any point.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.clocks import Present
from app.database.columns import UtcDateTime
from app.database.engine import Database
from app.database.tables import adjustment, ledger_sum, tenant
from app.domain.instants import MILLISECOND
from app.ledger.totals import (
    BEGINNING,
    COMBINATION,
    EMPTY,
    FIGURES,
    IN_COMMON,
    ZERO,
    Group,
    beginning,
    closed,
    entry,
    is_of_group,
)

# A sum follows so many adjustments of its group, at least, and several for each row of the one
# before: so all sums have a quarter of the rows of the ledger, at most.
ENOUGH: Final = 500
PER_ROW: Final = 4
# To look at a group for each of its adjustments would read its last ones again and again: one of
# 32 draws it, by the last character of its id.
DRAWN: Final = "%0"
# There may be more than a request may take the time to read.
UNHURRIED: Final = text("SET LOCAL statement_timeout = 0")
ROLLUP_TENANT: Final = bindparam("tenant_id", type_=Text)
# Until when the ledger is summed up, and until when it is to be.
SINCE: Final = bindparam("since", type_=UtcDateTime)
UNTIL: Final = bindparam("until", type_=UtcDateTime)
# Until when a group was summed up before.
LAST: Final = bindparam("last", type_=UtcDateTime)


async def sum_up(database: Database, tenant_id: str) -> bool:
    """Sum up the next adjustments that nothing comes to any more.

    False: there are too few of them, or somebody else was faster.
    """
    async with database.snapshot(tenant_id=tenant_id) as snapshot:
        if database.dialect == "postgresql":
            await snapshot.rows(UNHURRIED, {})
        asked: dict[str, Any] = {"tenant_id": tenant_id}
        [(known, now, last, kept)] = await snapshot.rows(_progress(), asked)
        if known is not None and known > closed(now):
            # The clock was set back.
            await database.transaction(partial(reopen, tenant_id, closed(now)), tenant_id=tenant_id)
            return True
        asked |= {"since": known or BEGINNING, "last": last or BEGINNING}
        asked["passed"] = max(ENOUGH, PER_ROW * kept) - 1
        found = await snapshot.rows(_instant_of_last(), asked)
        if not found or found[0].created_at >= closed(now) - MILLISECOND:
            return False
        asked["until"] = found[0].created_at + MILLISECOND
        [(entries,)] = await snapshot.rows(_number(), asked)
        asked |= {"drawn": DRAWN, "enough": ENOUGH, "per_row": PER_ROW}
        sums: list[Mapping[str, object]] = []
        for kind in Group:
            for group in await snapshot.rows(grown_groups(kind), asked):
                name = {"reference": group.reference, "sku": group.sku}
                of_group = {**asked, **name, "last": group.last or BEGINNING}
                key = {"tenant_id": tenant_id, "kind": kind, **name, "until": asked["until"]}
                sums += [
                    {**key, **dict(zip((*COMBINATION, *FIGURES), row, strict=True))}
                    for row in await snapshot.rows(next_sums(kind), of_group)
                ]
    work = partial(_keep, asked, known, entries, sums)
    return await database.transaction(work, tenant_id=tenant_id)


async def summed_alone(tenant_id: str, connection: AsyncConnection) -> datetime | None:
    """Return until when the ledger is summed up, and keep others from changing that.

    What follows in a statement of its own sees what this one waited for.
    """
    mine = select(tenant.c.summed_until).where(tenant.c.tenant_id == tenant_id)
    known: datetime | None = await connection.scalar(mine.with_for_update(key_share=True))
    return known


async def reopen(tenant_id: str, until: datetime | None, connection: AsyncConnection) -> None:
    """Have the ledger summed up anew from an instant on, or from its beginning."""
    mine = tenant.c.tenant_id == tenant_id
    if until is not None:
        mine &= tenant.c.summed_until > until
    await connection.execute(update(tenant).where(mine).values(summed_until=until))


async def _keep(
    asked: Mapping[str, Any],
    known: datetime | None,
    entries: int,
    sums: Sequence[Mapping[str, object]],
    connection: AsyncConnection,
) -> bool:
    if connection.dialect.name == "postgresql":
        await connection.execute(UNHURRIED)
    mine = tenant.c.tenant_id == asked["tenant_id"]
    if await summed_alone(asked["tenant_id"], connection) != known:
        return False
    # Somebody may have come to the same instant again, with what came late before it.
    if await connection.scalar(_number(), asked) != entries:
        return False
    sums_of_tenant = ledger_sum.c.tenant_id == asked["tenant_id"]
    last = select(func.max(ledger_sum.c.until)).where(
        sums_of_tenant, *is_of_group(Group.LEDGER, {})
    )
    latest = await connection.scalar(last)
    if latest is not None and latest > asked["since"]:
        # Those were kept before an adjustment came late. To find them reads all that there are.
        stale = ledger_sum.c.until > asked["since"]
        await connection.execute(delete(ledger_sum).where(sums_of_tenant, stale))
    await connection.execute(ledger_sum.insert(), sums)
    await connection.execute(update(tenant).where(mine).values(summed_until=asked["until"]))
    return True


@cache
def _progress() -> Select[Any]:
    """Return until when there are sums, the present, and of when and how long the last sum is.

    The present is the database's.
    """
    mine = [ledger_sum.c.tenant_id == tenant.c.tenant_id, *is_of_group(Group.LEDGER, {})]
    until = func.coalesce(tenant.c.summed_until, beginning(), type_=UtcDateTime)
    last = (
        select(func.max(ledger_sum.c.until))
        .where(*mine, ledger_sum.c.until <= until)
        .correlate(tenant)
        .scalar_subquery()
    )
    kept = select(func.count()).where(*mine, ledger_sum.c.until == last).correlate(tenant)
    return select(
        tenant.c.summed_until,
        Present().label("now"),
        last.label("last"),
        kept.scalar_subquery().label("kept"),
    ).where(tenant.c.tenant_id == ROLLUP_TENANT)


@cache
def _instant_of_last() -> Select[Any]:
    """Return the instant of the last adjustment that is to be summed up, after some are passed."""
    at = adjustment.c.created_at
    return (
        select(at)
        .where(adjustment.c.tenant_id == ROLLUP_TENANT, at >= SINCE)
        .order_by(at)
        .offset(bindparam("passed", type_=BigInteger))
        .limit(literal_column("1"))
    )


@cache
def _number() -> Select[Any]:
    """Return how many adjustments there are: those that the last sum has, and what follows."""
    is_last = *is_of_group(Group.LEDGER, {}), ledger_sum.c.until == LAST
    summed = select(func.coalesce(func.sum(ledger_sum.c.entries), ZERO))
    more = select(func.count()).select_from(adjustment).where(*_is_within(LAST))
    return select(
        summed.where(ledger_sum.c.tenant_id == ROLLUP_TENANT, *is_last).scalar_subquery()
        + more.scalar_subquery()
    )


@cache
def grown_groups(kind: Group) -> Select[Any]:
    """Return the groups that are drawn and have grown enough, and until when each is summed up."""
    common = IN_COMMON[kind]
    found = select(
        *(
            (adjustment.c[name] if name in common else EMPTY).label(name)
            for name in ("reference", "sku")
        )
    )
    if common:
        are_there = [adjustment.c[name].is_not(None) for name in common]
        is_drawn = adjustment.c.id.like(bindparam("drawn", type_=Text))
        found = found.where(*_is_within(SINCE), is_drawn, *are_there).distinct()
    groups = found.subquery("groups")
    mine = [ledger_sum.c.tenant_id == ROLLUP_TENANT, *is_of_group(kind, groups.c)]
    last = (
        select(func.max(ledger_sum.c.until))
        .where(*mine, ledger_sum.c.until <= SINCE)
        .correlate(groups)
        .scalar_subquery()
    )
    per_row = bindparam("per_row", type_=BigInteger)
    kept = select(func.count() * per_row).where(*mine, ledger_sum.c.until == last)
    since = func.coalesce(last, beginning(), type_=UtcDateTime)
    more = _in_order(
        select(adjustment.c.created_at).where(
            *_is_within(since), *(adjustment.c[name] == groups.c[name] for name in common)
        )
    )
    entries = more.correlate(groups).subquery("entries")
    rows = kept.correlate(groups).scalar_subquery()
    grown = select(func.count()).select_from(entries).scalar_subquery()
    enough = bindparam("enough", type_=BigInteger)
    is_grown = grown >= case((rows > enough, rows), else_=enough)
    return select(*groups.c, last.label("last")).where(is_grown)


@cache
def next_sums(kind: Group) -> Select[Any]:
    """Return what a group comes to: what it came to before, and what has come since then."""
    names = {name: bindparam(name, type_=Text) for name in IN_COMMON[kind]}
    before = select(*(ledger_sum.c[name] for name in (*COMBINATION, *FIGURES))).where(
        ledger_sum.c.tenant_id == ROLLUP_TENANT,
        *is_of_group(kind, names),
        ledger_sum.c.until == LAST,
    )
    entries = _in_order(
        select(*entry()).where(
            *_is_within(LAST), *(adjustment.c[name] == it for name, it in names.items())
        )
    )
    both = union_all(before, select(entries.subquery("entries"))).subquery("both")
    keys = [both.c[name] for name in COMBINATION]
    sums = [cast(func.sum(both.c[name]), BigInteger) for name in FIGURES]
    return select(*keys, *sums).group_by(*keys)


def _in_order(entries: Select[Any]) -> Select[Any]:
    """Return adjustments in order, lest PostgreSQL takes an index without time for a SKU."""
    return entries.order_by(adjustment.c.created_at, adjustment.c.sequence, adjustment.c.id)


def _is_within(start: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
    at = adjustment.c.created_at
    return [adjustment.c.tenant_id == ROLLUP_TENANT, at >= start, at < UNTIL]
