"""Time ranges that a client writes, and the periods of a stock history."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.instants import MILLISECOND, later
from app.domain.records import LedgerTotals, PeriodRecord
from app.errors import invalid_field

MAX_PERIODS: Final = 400
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIMESTAMP: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:[0-5]\d)", re.ASCII
)


class Interval(StrEnum):
    """The length of each period of a history, in UTC."""

    HOUR = "hour"
    DAY = "day"


SPANS: Final = {Interval.HOUR: timedelta(hours=1), Interval.DAY: timedelta(days=1)}
# Hours and days are counted from this instant.
ORIGIN: Final = datetime.min.replace(tzinfo=UTC)
NO_CHANGES: Final = LedgerTotals()


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The instants of a date or timestamp: `start` inclusive, `end` exclusive."""

    start: datetime
    end: datetime


def parse_time_range(value: object) -> TimeRange:
    """Parse a date as a UTC day, or an RFC 3339 timestamp as a millisecond.

    Raises:
        ValueError: the value is neither.

    """
    text = value if isinstance(value, str) else ""
    try:
        if _DATE.fullmatch(text):
            start = datetime.fromisoformat(text).replace(tzinfo=UTC)
            return TimeRange(start, later(start, timedelta(days=1)))
        if match := _TIMESTAMP.fullmatch(text):
            second, fraction, zone = match.groups(default="")
            milliseconds = f"{fraction[:3]:0<3}"
            instant = datetime.fromisoformat(f"{second}.{milliseconds}{zone}".upper())
            floor = instant.astimezone(UTC)
            # Stored instants have milliseconds: a finer start begins at the next millisecond.
            start = later(floor, MILLISECOND) if fraction[3:].strip("0") else floor
            return TimeRange(start, later(floor, MILLISECOND))
    except (ValueError, OverflowError):
        pass
    message = "must be a date such as 2026-03-12 or a timestamp such as 2026-03-12T14:00:00Z"
    raise ValueError(message)


@dataclass(frozen=True, slots=True)
class PeriodSeries:
    """Consecutive hours or days of UTC."""

    start: datetime
    periods: int
    interval: Interval

    @classmethod
    def between(cls, first: TimeRange, last: TimeRange, interval: Interval) -> "PeriodSeries":
        """Create the shortest series that covers both ranges."""
        span = SPANS[interval]
        start = (first.start - ORIGIN) // span
        # A date ends with its last millisecond; a timestamp is one millisecond.
        end = -((ORIGIN - (last.end - MILLISECOND)) // span)
        return cls(ORIGIN + start * span, end - start, interval)

    @property
    def end(self) -> datetime:
        """The end of the last period, exclusive."""
        return later(self._start_of(self.periods - 1), SPANS[self.interval])

    def records(self, opening: int, changes: Mapping[datetime, LedgerTotals]) -> list[PeriodRecord]:
        """Create a record per period from the opening stock and the changes by period start."""
        records = []
        for number in range(self.periods):
            start = self._start_of(number)
            change = changes.get(start, NO_CHANGES)
            records.append(PeriodRecord(start, opening, change.increase, change.decrease))
            opening = records[-1].closing
        return records

    def _start_of(self, number: int) -> datetime:
        return self.start + number * SPANS[self.interval]


def period_series(first: TimeRange, last: TimeRange, interval: Interval) -> PeriodSeries:
    """Create the series from the first range to the last.

    Raises:
        ValidationFailed: it ends before it starts, or has too many periods.

    """
    series = PeriodSeries.between(first, last, interval)
    if last.end < first.start or series.periods < 1:
        raise invalid_field("to", "must be later than from")
    if series.periods > MAX_PERIODS:
        advice = "a shorter time" if interval is Interval.DAY else "a shorter time, or for days"
        problem = f"must be at most {MAX_PERIODS} {interval}s after from, and is {series.periods}"
        raise invalid_field("to", f"{problem}; ask for {advice}")
    return series


def assumed_periods(first: object, last: object, interval: object) -> int:
    """Count the periods for the cost of a document; invalid arguments count as MAX_PERIODS."""
    try:
        ranges = parse_time_range(first), parse_time_range(last)
        series = PeriodSeries.between(*ranges, Interval.__members__[str(interval)])
    except (ValueError, KeyError):
        return MAX_PERIODS
    return min(max(series.periods, 1), MAX_PERIODS)
