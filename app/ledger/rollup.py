"""Stores rollups of the ledger, each for a few hundred adjustments or more in one transaction.

Sums are read without a lock, which may take long. They are stored under the tenant's lock, unless
another worker stored the same rollup since. So any number of workers may run at once, and each may
stop at any point.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    select,
    text,
    union_all,
)

from app.database.engine import Database
from app.database.parameters import TENANT
from app.database.session import DriverSession, Session
from app.database.tables import adjustment, ledger_sum
from app.ledger.totals import (
    EMPTY,
    GROUP_COLUMNS,
    SUM_FIGURES,
    SUM_KEY,
    ZERO,
    Group,
    entry_columns,
    is_of_group,
)

# A rollup follows the one before it after so many adjustments of its group, and after several per
# row of that one. All but the last one together then have at most a quarter of the ledger's rows.
MIN_ENTRIES: Final = 500
ENTRIES_PER_ROW: Final = 4
# The pattern of the ids of adjustments whose groups are checked for growth: one of 32. A check for
# each adjustment would read the last entries of a group again and again.
SAMPLED_IDS: Final = "%0"
# A rollup may read more than fits in the time limit of a request. The limit of pauses stays, so
# that a worker that stands still does not keep the lock of a tenant.
_NO_TIMEOUT: Final = text("SET LOCAL statement_timeout = 0")
# The positions of the adjustments to roll up: after SINCE, up to UNTIL.
SINCE: Final = bindparam("since", type_=BigInteger)
UNTIL: Final = bindparam("until", type_=BigInteger)
# The `until` of the last rollup of a group.
LAST: Final = bindparam("last", type_=BigInteger)
_Parameters = Mapping[str, Any]


async def roll_up_ledger(database: Database, tenant_id: str) -> bool:
    """Store the next rollup of a tenant.

    Returns False if there are too few adjustments after the last one, or if another worker was
    faster.
    """
    async with database.snapshot(tenant_id=tenant_id) as snapshot:
        if database.dialect == "postgresql":
            await snapshot.rows(_NO_TIMEOUT, {})
        rollup = await _next_rollup(snapshot, tenant_id)
    if rollup is None:
        return False
    return await database.write(partial(_store, tenant_id, *rollup), tenant_id)


async def roll_up_in(session: DriverSession, tenant_id: str) -> None:
    """Store all rollups of a tenant in a transaction that has locked it."""
    while (rollup := await _next_rollup(session, tenant_id)) is not None:
        await session.insert(ledger_sum, rollup.sums)


class _Rollup(NamedTuple):
    """Rows of the next rollup, and the `until` of the last one."""

    since: int
    sums: Sequence[Mapping[str, object]]


async def _next_rollup(session: Session, tenant_id: str) -> _Rollup | None:
    """Read the next rollup; None if there are too few adjustments after the last one.

    In a damaged ledger, there may be fewer adjustments than positions.
    """
    since, rows, end = await _progress_of(session, tenant_id)
    until = since + max(MIN_ENTRIES, ENTRIES_PER_ROW * rows)
    if until > end:
        return None
    parameters = {"tenant_id": tenant_id, "since": since, "until": until}
    sums = await _read_sums(session, parameters)
    # Without a rollup of the ledger, the next call would read the same positions again.
    if not any(row["kind"] is Group.LEDGER for row in sums):
        return None
    return _Rollup(since, sums)


async def _progress_of(session: Session, tenant_id: str) -> tuple[int, int, int]:
    """Return the `until` of the last rollup of the ledger, its rows, and the last position."""
    [row] = await session.rows(_progress(), {"tenant_id": tenant_id})
    return row.until or 0, row.rows, row.end or 0


async def _read_sums(session: Session, parameters: _Parameters) -> list[Mapping[str, object]]:
    """Rows of `ledger_sum` of the next rollup of each group that has grown enough."""
    sampling = {"drawn": SAMPLED_IDS, "enough": MIN_ENTRIES, "per_row": ENTRIES_PER_ROW}
    sums: list[Mapping[str, object]] = []
    for kind in Group:
        for group in await session.rows(grown_groups(kind), {**parameters, **sampling}):
            names = {"reference": group.reference, "sku": group.sku}
            key = {name: parameters[name] for name in ("tenant_id", "until")}
            key |= {"kind": kind, **names}
            of_group = {**parameters, **names, "last": group.last or 0}
            sums += [
                {**key, **dict(zip((*SUM_KEY, *SUM_FIGURES), row, strict=True))}
                for row in await session.rows(next_sums(kind), of_group)
            ]
    return sums


async def _store(
    tenant_id: str, since: int, sums: Sequence[Mapping[str, object]], session: DriverSession
) -> bool:
    """Store a rollup, unless another worker was faster; returns whether it was stored."""
    if session.dialect == "postgresql":
        await session.execute(_NO_TIMEOUT)
    present, *_ = await _progress_of(session, tenant_id)
    if present != since:
        return False
    await session.insert(ledger_sum, sums)
    return True


@cache
def _progress() -> Select[Any]:
    """Select the `until` and the number of rows of the last rollup, and the last position."""
    is_whole = [ledger_sum.c.tenant_id == TENANT, *is_of_group(Group.LEDGER, {})]
    until = select(func.max(ledger_sum.c.until)).where(*is_whole).scalar_subquery()
    end = select(func.max(adjustment.c.position)).where(adjustment.c.tenant_id == TENANT)
    last = ledger_sum.alias("last")
    rows = (
        select(func.count())
        .select_from(last)
        .where(
            last.c.tenant_id == TENANT,
            *is_of_group(Group.LEDGER, {}, last.c),
            last.c.until == until,
        )
    )
    return select(
        until.label("until"),
        rows.scalar_subquery().label("rows"),
        end.scalar_subquery().label("end"),
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
    entries = select(adjustment.c.position).where(
        *_is_within(func.coalesce(last, ZERO)),
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
    """Order entries by position. Otherwise PostgreSQL takes an index without the position."""
    return entries.order_by(adjustment.c.position)


def _is_within(start: ColumnElement[int]) -> list[ColumnElement[bool]]:
    at = adjustment.c.position
    return [adjustment.c.tenant_id == TENANT, at > start, at <= UNTIL]
