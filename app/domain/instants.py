"""Instants: their text and their precision."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import orjson

# The precision of stored instants.
MILLISECOND: Final = timedelta(milliseconds=1)
EARLIEST_OCCURRENCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The clocks of clients differ from that of the database.
OCCURRENCE_LEAD: Final = timedelta(minutes=1)


# The rows of a write have one time.
@lru_cache(maxsize=128)
def format_instant(instant: datetime) -> str:
    """Format an instant in UTC as RFC 3339 with milliseconds and `Z`."""
    # orjson takes a third of the time of `isoformat`. It omits a fraction of zero.
    text = orjson.dumps(instant.astimezone(UTC)).decode()
    return f"{text[1:24]}Z" if instant.microsecond else f"{text[1:20]}.000Z"


def occurrence_problem(
    occurred_at: datetime | None, now: datetime, *, lead: timedelta = OCCURRENCE_LEAD
) -> str | None:
    """Describe the fault of the time at which a change of stock occurred, if any."""
    if occurred_at is None:
        return None
    if occurred_at < EARLIEST_OCCURRENCE:
        return "must not be before 1970"
    if occurred_at > later(now, lead):
        return f"must not be in the future; it is now {format_instant(now)}"
    return None


def to_millisecond(instant: datetime) -> datetime:
    """Return an instant in the precision of stored instants."""
    return instant.replace(microsecond=instant.microsecond // 1_000 * 1_000)


def later(instant: datetime, span: timedelta) -> datetime:
    """Add a span to an instant; the last representable instant is the upper bound."""
    try:
        return instant + span
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC, microsecond=999_000)
