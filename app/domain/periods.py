"""Dates, timestamps and the periods of a stock history."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.records import LedgerTotals, PeriodRecord
from app.errors import invalid_field


class Interval(StrEnum):
    """How long each period of a history is, in UTC."""

    HOUR = "hour"
    DAY = "day"


MILLISECOND: Final = timedelta(milliseconds=1)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIMESTAMP: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:[0-5]\d)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Period:
    """The instants that a date or timestamp means: `start` inclusive, `end` exclusive."""

    start: datetime
    end: datetime


def parse_period(value: object) -> Period:
    """Return the UTC day of a date, or the millisecond of an RFC 3339 timestamp.

    Raises:
        ValueError: it is neither.

    """
    text = value if isinstance(value, str) else ""
    try:
        if _DATE.fullmatch(text):
            start = datetime.fromisoformat(text).replace(tzinfo=UTC)
            return Period(start, later(start, timedelta(days=1)))
        if match := _TIMESTAMP.fullmatch(text):
            second, fraction, zone = match.groups(default="")
            milliseconds = f"{fraction[:3]:0<3}"
            instant = datetime.fromisoformat(f"{second}.{milliseconds}{zone}".upper())
            floor = instant.astimezone(UTC)
            # Nothing is stored between two milliseconds.
            start = later(floor, MILLISECOND) if fraction[3:].strip("0") else floor
            return Period(start, later(floor, MILLISECOND))
    except (ValueError, OverflowError):
        pass
    message = "must be a date such as 2026-03-12 or a timestamp such as 2026-03-12T14:00:00Z"
    raise ValueError(message)


def later(instant: datetime, span: timedelta) -> datetime:
    """Return the instant after a span, or the last one that there is."""
    try:
        return instant + span
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC, microsecond=999_000)


MAX_PERIODS: Final = 400
SPANS: Final = {Interval.HOUR: timedelta(hours=1), Interval.DAY: timedelta(days=1)}
# A whole hour and a whole day, from which they are counted.
ORIGIN: Final = datetime.min.replace(tzinfo=UTC)
NO_CHANGES: Final = LedgerTotals()


@dataclass(frozen=True, slots=True)
class Series:
    """So many hours or days of UTC on end."""

    start: datetime
    periods: int
    interval: Interval

    @classmethod
    def between(cls, first: Period, last: Period, interval: Interval) -> "Series":
        """Return the whole hours or days that hold all between two instants or dates."""
        span = SPANS[interval]
        start = (first.start - ORIGIN) // span
        # The end of a date is the next day; of an instant, itself.
        end = -((ORIGIN - (last.end - MILLISECOND)) // span)
        return cls(ORIGIN + start * span, end - start, interval)

    @property
    def end(self) -> datetime:
        """The instant before which it ends."""
        return later(self._starts(self.periods - 1), SPANS[self.interval])

    def records(self, opening: int, changes: Mapping[datetime, LedgerTotals]) -> list[PeriodRecord]:
        """Return every period, from what was on hand at the start and what changed in some."""
        found = []
        for number in range(self.periods):
            start = self._starts(number)
            change = changes.get(start, NO_CHANGES)
            found.append(PeriodRecord(start, opening, change.increase, change.decrease))
            opening = found[-1].closing
        return found

    def _starts(self, number: int) -> datetime:
        return self.start + number * SPANS[self.interval]


def series_of(first: Period, last: Period, interval: Interval) -> Series:
    """Return the series that is asked for.

    Raises:
        ValidationFailed: it ends before it starts, or has too many periods.

    """
    series = Series.between(first, last, interval)
    if last.end < first.start or series.periods < 1:
        raise invalid_field("to", "must be later than from")
    if series.periods > MAX_PERIODS:
        instead = "a shorter time" if interval is Interval.DAY else "a shorter time, or for days"
        problem = f"must be at most {MAX_PERIODS} {interval}s after from, and is {series.periods}"
        raise invalid_field("to", f"{problem}; ask for {instead}")
    return series


def most_periods(first: object, last: object, interval: object) -> int:
    """Return how many periods a document or its variables ask for; what is none counts most."""
    try:
        between = parse_period(first), parse_period(last)
        series = Series.between(*between, Interval.__members__[str(interval)])
    except (ValueError, KeyError):
        return MAX_PERIODS
    return min(max(series.periods, 1), MAX_PERIODS)
