"""Stores rollups of the ledger, each for a few hundred adjustments or more in one transaction.

Sums are read without a lock, which may take long. They are stored under the tenant's lock, unless
another worker stored a rollup or an adjustment was inserted late since they were read. So any
number of workers may run at once, and each may stop at any point.
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

from app.database.clocks import Present
from app.database.columns import UtcDateTime
from app.database.engine import Database
from app.database.parameters import TENANT
from app.database.session import DriverSession
from app.database.snapshot import Snapshot
from app.database.tables import adjustment, ledger_sum, tenant
from app.domain.instants import MILLISECOND
from app.ledger.totals import (
    BEGINNING,
    EMPTY,
    GROUP_COLUMNS,
    SUM_FIGURES,
    SUM_KEY,
    ZERO,
    Group,
    beginning_parameter,
    closed_until,
    entry_columns,
    is_of_group,
)

# A rollup follows the one before it after so many adjustments of its group, and after several per
# row of that one. All rollups together then have at most a quarter as many rows as the ledger.
MIN_ENTRIES: Final = 500
ENTRIES_PER_ROW: Final = 4
# The pattern of the ids of adjustments whose groups are checked for growth: one of 32. A check for
# each adjustment would read the last entries of a group again and again.
SAMPLED_IDS: Final = "%0"
# A rollup may read more than fits in the time limit of a request.
NO_TIMEOUT: Final = text("SET LOCAL statement_timeout = 0")
# The period of the adjustments to roll up.
SINCE: Final = bindparam("since", type_=UtcDateTime)
UNTIL: Final = bindparam("until", type_=UtcDateTime)
# The `until` of the last rollup of a group.
LAST: Final = bindparam("last", type_=UtcDateTime)
_Parameters = Mapping[str, Any]


async def roll_up_ledger(database: Database, tenant_id: str) -> bool:
    """Store the next rollup of a tenant.

    Returns False if there are too few closed adjustments, or if another worker was faster.
    """
    async with database.snapshot(tenant_id=tenant_id) as snapshot:
        if database.dialect == "postgresql":
            await snapshot.rows(NO_TIMEOUT, {})
        [progress] = await snapshot.rows(_progress(), {"tenant_id": tenant_id})
        known, closed = progress.summed_until, closed_until(progress.now)
        if known is not None and known > closed:
            # The clock was set back.
            await database.write(partial(reset_rollup, tenant_id, closed), tenant_id)
            return True
        parameters = await _next_period(snapshot, tenant_id, progress)
        if parameters is None:
            return False
        [(entries,)] = await snapshot.rows(_entry_count(), parameters)
        sums = await _read_sums(snapshot, parameters)
    work = partial(_store, parameters, known, entries, sums)
    return await database.write(work, tenant_id)


async def reset_rollup(tenant_id: str, until: datetime | None, session: DriverSession) -> None:
    """Lower the tenant's `summed_until` to an instant; None rolls up the whole ledger again."""
    is_later = tenant.c.tenant_id == tenant_id
    if until is not None:
        is_later &= tenant.c.summed_until > until
    await session.execute(update(tenant).where(is_later).values(summed_until=until))


async def _next_period(
    snapshot: Snapshot,
    tenant_id: str,
    progress: Any,  # noqa: ANN401 - a row of `_progress`
) -> _Parameters | None:
    """Parameters of the next rollup: its period and the last rollup of the ledger.

    None if there are too few closed adjustments.
    """
    parameters = {
        "tenant_id": tenant_id,
        "since": progress.summed_until or BEGINNING,
        "last": progress.last or BEGINNING,
        "passed": max(MIN_ENTRIES, ENTRIES_PER_ROW * progress.kept) - 1,
    }
    rows = await snapshot.rows(_instant_of_last(), parameters)
    if not rows or rows[0].created_at >= closed_until(progress.now) - MILLISECOND:
        return None
    return {**parameters, "until": rows[0].created_at + MILLISECOND}


async def _read_sums(snapshot: Snapshot, parameters: _Parameters) -> list[Mapping[str, object]]:
    """Rows of `ledger_sum` of the next rollup of each group that has grown enough."""
    sampling = {"drawn": SAMPLED_IDS, "enough": MIN_ENTRIES, "per_row": ENTRIES_PER_ROW}
    sums: list[Mapping[str, object]] = []
    for kind in Group:
        for group in await snapshot.rows(grown_groups(kind), {**parameters, **sampling}):
            names = {"reference": group.reference, "sku": group.sku}
            key = {name: parameters[name] for name in ("tenant_id", "until")}
            key |= {"kind": kind, **names}
            of_group = {**parameters, **names, "last": group.last or BEGINNING}
            sums += [
                {**key, **dict(zip((*SUM_KEY, *SUM_FIGURES), row, strict=True))}
                for row in await snapshot.rows(next_sums(kind), of_group)
            ]
    return sums


async def _store(
    parameters: _Parameters,
    known: datetime | None,
    entries: int,
    sums: Sequence[Mapping[str, object]],
    session: DriverSession,
) -> bool:
    """Store a rollup, unless it is stale; returns whether it was stored."""
    if session.dialect == "postgresql":
        await session.execute(NO_TIMEOUT)
    [(present,)] = await session.rows(_summed_until(), parameters)
    if present != known:
        return False
    # After a late insertion, another worker may have reached the same instant again.
    [(stored,)] = await session.rows(_entry_count(), parameters)
    if stored != entries:
        return False
    await _delete_stale_rollups(parameters, session)
    await session.insert(ledger_sum, sums)
    is_tenant = tenant.c.tenant_id == parameters["tenant_id"]
    until = parameters["until"]
    await session.execute(update(tenant).where(is_tenant).values(summed_until=until))
    return True


async def _delete_stale_rollups(parameters: _Parameters, session: DriverSession) -> None:
    """Delete the rollups that were stored before a late insertion."""
    is_tenant = ledger_sum.c.tenant_id == parameters["tenant_id"]
    newest = select(func.max(ledger_sum.c.until)).where(is_tenant, *is_of_group(Group.LEDGER, {}))
    latest = await session.scalar(newest)
    # The deletion reads all rollups, so it is executed only if there are stale ones.
    if latest is not None and latest > parameters["since"]:
        is_stale = ledger_sum.c.until > parameters["since"]
        await session.execute(delete(ledger_sum).where(is_tenant, is_stale))


@cache
def _summed_until() -> Select[Any]:
    return select(tenant.c.summed_until).where(tenant.c.tenant_id == TENANT)


@cache
def _progress() -> Select[Any]:
    """Select `summed_until`, the database's time, and the instant and rows of the last rollup."""
    is_whole = [ledger_sum.c.tenant_id == tenant.c.tenant_id, *is_of_group(Group.LEDGER, {})]
    until = func.coalesce(tenant.c.summed_until, beginning_parameter(), type_=UtcDateTime)
    last = (
        select(func.max(ledger_sum.c.until))
        .where(*is_whole, ledger_sum.c.until <= until)
        .correlate(tenant)
        .scalar_subquery()
    )
    rows = select(func.count()).where(*is_whole, ledger_sum.c.until == last).correlate(tenant)
    return select(
        tenant.c.summed_until,
        Present().label("now"),
        last.label("last"),
        rows.scalar_subquery().label("kept"),
    ).where(tenant.c.tenant_id == TENANT)


@cache
def _instant_of_last() -> Select[Any]:
    """Select the instant of the last adjustment of the next rollup, after `passed` others."""
    at = adjustment.c.created_at
    return (
        select(at)
        .where(adjustment.c.tenant_id == TENANT, at >= SINCE)
        .order_by(at)
        .offset(bindparam("passed", type_=BigInteger))
        .limit(literal_column("1"))
    )


@cache
def _entry_count() -> Select[Any]:
    """Select the number of adjustments before UNTIL: in the last rollup, plus after it."""
    is_last = *is_of_group(Group.LEDGER, {}), ledger_sum.c.until == LAST
    summed = select(func.coalesce(func.sum(ledger_sum.c.entries), ZERO))
    more = select(func.count()).select_from(adjustment).where(*_is_within(LAST))
    return select(
        summed.where(ledger_sum.c.tenant_id == TENANT, *is_last).scalar_subquery()
        + more.scalar_subquery()
    )


@cache
def grown_groups(kind: Group) -> Select[Any]:
    """Select the sampled groups that have grown enough, with the `until` of their last rollup."""
    groups = _sampled_groups(kind).subquery("groups")
    is_sum = [ledger_sum.c.tenant_id == TENANT, *is_of_group(kind, groups.c)]
    last = (
        select(func.max(ledger_sum.c.until))
        .where(*is_sum, ledger_sum.c.until <= SINCE)
        .correlate(groups)
        .scalar_subquery()
    )
    per_row = bindparam("per_row", type_=BigInteger)
    needed = select(func.count() * per_row).where(*is_sum, ledger_sum.c.until == last)
    rows = needed.correlate(groups).scalar_subquery()
    entries = select(adjustment.c.created_at).where(
        *_is_within(func.coalesce(last, beginning_parameter(), type_=UtcDateTime)),
        *(adjustment.c[name] == groups.c[name] for name in GROUP_COLUMNS[kind]),
    )
    grown = _in_order(entries).correlate(groups).subquery("entries")
    enough = bindparam("enough", type_=BigInteger)
    number = select(func.count()).select_from(grown).scalar_subquery()
    is_grown = number >= case((rows > enough, rows), else_=enough)
    return select(*groups.c, last.label("last")).where(is_grown)


def _sampled_groups(kind: Group) -> Select[Any]:
    """Select the names of the groups of sampled adjustments; of the ledger, one empty row."""
    columns = GROUP_COLUMNS[kind]
    groups = select(
        *(
            (adjustment.c[name] if name in columns else EMPTY).label(name)
            for name in ("reference", "sku")
        )
    )
    if not columns:
        return groups
    is_sampled = adjustment.c.id.like(bindparam("drawn", type_=Text))
    has_names = [adjustment.c[name].is_not(None) for name in columns]
    return groups.where(*_is_within(SINCE), is_sampled, *has_names).distinct()


@cache
def next_sums(kind: Group) -> Select[Any]:
    """Select the rows of a group's next rollup: the last one plus the entries after it."""
    names = {name: bindparam(name, type_=Text) for name in GROUP_COLUMNS[kind]}
    before = select(*(ledger_sum.c[name] for name in (*SUM_KEY, *SUM_FIGURES))).where(
        ledger_sum.c.tenant_id == TENANT,
        *is_of_group(kind, names),
        ledger_sum.c.until == LAST,
    )
    entries = _in_order(
        select(*entry_columns()).where(
            *_is_within(LAST), *(adjustment.c[name] == value for name, value in names.items())
        )
    )
    both = union_all(before, select(entries.subquery("entries"))).subquery("both")
    keys = [both.c[name] for name in SUM_KEY]
    sums = [cast(func.sum(both.c[name]), BigInteger) for name in SUM_FIGURES]
    return select(*keys, *sums).group_by(*keys)


def _in_order(entries: Select[Any]) -> Select[Any]:
    """Order entries by time. Otherwise PostgreSQL takes an index by SKU without the time."""
    return entries.order_by(adjustment.c.created_at, adjustment.c.sequence, adjustment.c.id)


def _is_within(start: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
    at = adjustment.c.created_at
    return [adjustment.c.tenant_id == TENANT, at >= start, at < UNTIL]
