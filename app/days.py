"""The days of the ledger that are over: what is kept of each, and of which of them it holds.

A day is summed up once nothing can come to it any more by itself (`app.commands.summing`), and no
write of stock takes part in that. The tenant's `summed_until` says how far the sums go; what came
after that is read from the ledger, in the same statement. Whatever inserts an adjustment into the
past, the database itself lowers `summed_until` to that day with it (`app.models`), and the days
from there on are summed up anew.
"""

from datetime import UTC, datetime, time, timedelta
from typing import Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Interval,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
)

from app.models import LATE_AFTER, UtcDateTime, adjustment, tenant

DAY: Final = timedelta(days=1)
# What is inserted later than LATE_AFTER opens its day again. What is not has the rest of this to
# be committed.
CLOSED_AFTER: Final = 2 * LATE_AFTER
# Before and after everything.
BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
END: Final = datetime.max.replace(tzinfo=UTC, microsecond=999_000)
# Sums are taken of halves of 32 bits, because that of whole numbers may take more than 64.
HALF: Final = 32
ZERO: Final[ColumnElement[int]] = literal_column("0", BigInteger)


def start_of_day(instant: datetime) -> datetime:
    """Return the start of the day of an instant, in UTC."""
    return datetime.combine(instant.astimezone(UTC), time(tzinfo=UTC))


def closed(now: datetime) -> datetime:
    """Return until when all days are over, and nothing comes to them any more by itself."""
    return start_of_day(now - CLOSED_AFTER)


def whole_days(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the start of the first day within a period, and the end of the last one."""
    first = start_of_day(start)
    if first < start:
        first = first + DAY if first < start_of_day(END) else start
    return first, start_of_day(end)


def summed_until(dialect: str) -> ColumnElement[datetime]:
    """Return until when the ledger of a row of `tenant` is summed up."""
    beginning = bindparam("beginning", BEGINNING, UtcDateTime)
    until = func.coalesce(tenant.c.summed_until, beginning, type_=UtcDateTime)
    if dialect == "sqlite":
        return until
    # A server whose clock was set back takes adjustments of days that were over.
    span = literal_column(f"interval '{CLOSED_AFTER // timedelta(hours=1)} hours'", Interval)
    return earliest(dialect, until, day_of(dialect, func.now() - span))


def day_of(dialect: str, instant: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Return the start of the day of an instant, in UTC."""
    if dialect == "postgresql":
        unit, zone = literal_column("'day'", Text), literal_column("'UTC'", Text)
        return func.date_trunc(unit, instant, zone, type_=UtcDateTime)
    date = func.substr(instant, literal_column("1"), literal_column("10"), type_=Text)
    return type_coerce(date.concat(literal_column("'T00:00:00.000Z'")), UtcDateTime)


def earliest(dialect: str, *instants: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Return the first of some instants."""
    return (func.least if dialect == "postgresql" else func.min)(*instants, type_=UtcDateTime)


def latest(dialect: str, *instants: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Return the last of some instants."""
    return (func.greatest if dialect == "postgresql" else func.max)(*instants, type_=UtcDateTime)


def halves_of(number: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Return the upper and the lower 32 bits of a number, both of which can be summed up."""
    return (
        number.op(">>")(literal_column(str(HALF))),
        number.op("&")(literal_column(str((1 << HALF) - 1))),
    )


def sign_of(number: ColumnElement[int]) -> ColumnElement[int]:
    """Return -1, 0 or 1."""
    one = literal_column("1", BigInteger)
    return case((number > ZERO, one), (number < ZERO, -one), else_=ZERO)


def sums_by_day(dialect: str) -> Select[tuple[object, ...]]:
    """Return what adjustments come to, as `ledger_day` has it but for the tenant."""
    upper, lower = (cast(func.sum(half), BigInteger) for half in halves_of(adjustment.c.delta))
    keys = (
        day_of(dialect, adjustment.c.created_at).label("day"),
        adjustment.c.warehouse_id,
        adjustment.c.reason,
        adjustment.c.created_by,
        sign_of(adjustment.c.delta).label("sign"),
    )
    sums = (func.count().label("entries"), upper.label("delta_upper"), lower.label("delta_lower"))
    return select(*keys, *sums).group_by(*keys)
