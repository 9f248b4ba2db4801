"""Time ranges that a client writes, and the periods of a stock history."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache, cached_property
from importlib.resources import files
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from app.domain.instants import MILLISECOND, later
from app.domain.records import LedgerTotals, PeriodRecord
from app.errors import invalid_field

MAX_PERIODS: Final = 400
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIMESTAMP: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:[0-5]\d)", re.ASCII
)


class Interval(StrEnum):
    """The length of each period of a history."""

    HOUR = "hour"
    DAY = "day"


UTC_ZONE: Final = ZoneInfo("UTC")
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
FIRST_INSTANT: Final = datetime.min.replace(tzinfo=UTC)
NO_CHANGES: Final = LedgerTotals()


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The instants of a date or timestamp: `start` inclusive, `end` exclusive."""

    start: datetime
    end: datetime
    # The date, which other time zones have at other instants.
    day: date | None = None

    def in_zone(self, zone: ZoneInfo) -> "TimeRange":
        """Return the instants of a date in a time zone; a timestamp stays as it is."""
        if self.day is None or zone is UTC_ZONE:
            return self
        start = start_of_day(self.day, zone)
        if self.day == date.max:
            return TimeRange(start, self.end, self.day)
        return TimeRange(start, start_of_day(self.day + DAY, zone), self.day)


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a day, in UTC, also if its clock skips midnight."""
    try:
        return datetime.combine(day, time(), zone).astimezone(UTC)
    except OverflowError:
        # The first or last day of the calendar.
        return datetime.combine(day, time(), UTC)


@cache
def _zone_names() -> frozenset[str]:
    # `available_timezones` opens 600 files, while all requests wait.
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def parse_time_zone(value: object) -> ZoneInfo:
    """Parse the name of a time zone.

    Raises:
        ValueError: the value is not a name of the IANA time zone database.

    """
    # The database also has files of other kinds.
    if not isinstance(value, str) or value not in _zone_names():
        message = "must be a name of the IANA time zone database, such as Europe/Berlin"
        raise ValueError(message)
    return ZoneInfo(value)


def parse_time_range(value: object) -> TimeRange:
    """Parse a date as a UTC day, or an RFC 3339 timestamp as a millisecond.

    Raises:
        ValueError: the value is neither.

    """
    text = value if isinstance(value, str) else ""
    try:
        if _DATE.fullmatch(text):
            start = datetime.fromisoformat(text).replace(tzinfo=UTC)
            return TimeRange(start, later(start, DAY), start.date())
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


def parse_instant(value: object) -> datetime:
    """Parse an RFC 3339 timestamp.

    Raises:
        ValueError: the value is not a timestamp, or a date without a time.

    """
    try:
        parsed = parse_time_range(value)
    except ValueError:
        parsed = None
    if parsed is None or parsed.day is not None:
        message = "must be a timestamp such as 2026-03-12T14:00:00Z"
        raise ValueError(message)
    return parsed.start


@dataclass(frozen=True, slots=True)
class PeriodRun:
    """Consecutive periods that begin with the same offset of the local time from UTC."""

    start: datetime
    # The start of the last period, and its end, exclusive.
    last: datetime
    end: datetime
    offset: timedelta

    def period_at(self, local: datetime) -> datetime:
        """Return the start of the period that has the local day or hour `local`.

        A day on which the clocks change is a run of its own, so entries that the offset assigns to
        the day before or after it are of this day.
        """
        return min(max((local - self.offset).replace(tzinfo=UTC), self.start), self.last)


@dataclass(frozen=True)
class PeriodSeries:
    """Consecutive days of a time zone, or hours of 60 minutes from a full hour of its clocks."""

    start: datetime
    periods: int
    interval: Interval
    zone: ZoneInfo = UTC_ZONE

    @classmethod
    def between(
        cls, first: TimeRange, last: TimeRange, interval: Interval, zone: ZoneInfo = UTC_ZONE
    ) -> "PeriodSeries":
        """Create the shortest series that covers both ranges."""
        local = _local(first.start, zone)
        # A date ends with its last millisecond; a timestamp is one millisecond.
        end = last.end - MILLISECOND
        if interval is Interval.HOUR:
            into_hour = local - local.replace(minute=0, second=0, microsecond=0)
            start = first.start - min(into_hour, first.start - FIRST_INSTANT)
            return cls(start, -((start - end) // HOUR), interval, zone)
        last_day = _local(end, zone).date()
        is_begun = start_of_day(last_day, zone) < end
        start = start_of_day(local.date(), zone)
        return cls(start, (last_day - local.date()).days + is_begun, interval, zone)

    @cached_property
    def starts(self) -> Sequence[datetime]:
        """The starts of the periods. A day that a time zone skips as a whole is none."""
        return tuple(dict.fromkeys(map(self._start_of, range(self.periods))))

    @property
    def end(self) -> datetime:
        """The end of the last period, exclusive."""
        return self._start_of(self.periods)

    @cached_property
    def runs(self) -> Sequence[PeriodRun]:
        """The runs of the series; a day on which the offset changes is a run of its own."""
        bounds = [*self.starts, self.end]
        offsets = [_local(bound, self.zone) - bound.replace(tzinfo=None) for bound in bounds]
        if self.interval is Interval.HOUR:
            return [PeriodRun(self.start, self.starts[-1], self.end, offsets[0])]

        def run_of(number: int) -> tuple[timedelta, int]:
            return offsets[number], -1 if offsets[number] == offsets[number + 1] else number

        runs = [list(numbers) for _, numbers in groupby(range(len(self.starts)), run_of)]
        return [
            PeriodRun(bounds[run[0]], bounds[run[-1]], bounds[run[-1] + 1], offsets[run[0]])
            for run in runs
        ]

    def records(self, opening: int, changes: Mapping[datetime, LedgerTotals]) -> list[PeriodRecord]:
        """Create a record per period from the opening stock and the changes by period start."""
        records = []
        for start in self.starts:
            change = changes.get(start, NO_CHANGES)
            records.append(PeriodRecord(start, opening, change.increase, change.decrease))
            opening = records[-1].closing
        return records

    def _start_of(self, number: int) -> datetime:
        if self.interval is Interval.HOUR:
            return later(self.start, number * HOUR)
        try:
            return start_of_day(_local(self.start, self.zone).date() + number * DAY, self.zone)
        except OverflowError:
            return later(self.start, number * DAY)


def _local(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return the local time of an instant, without its zone."""
    try:
        return instant.astimezone(zone).replace(tzinfo=None)
    except OverflowError:
        # The first or last day of the calendar.
        return instant.replace(tzinfo=None)


def period_series(
    first: TimeRange, last: TimeRange, interval: Interval, zone: ZoneInfo = UTC_ZONE
) -> PeriodSeries:
    """Create the series from the first range to the last.

    Raises:
        ValidationFailed: it ends before it starts, or has too many periods.

    """
    first, last = first.in_zone(zone), last.in_zone(zone)
    series = PeriodSeries.between(first, last, interval, zone)
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
