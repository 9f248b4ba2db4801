"""The schema's own scalars."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NewType

import strawberry
from strawberry.types.scalar import ScalarDefinition

from app.models import as_text

Quantity = NewType("Quantity", int)

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


def parse_quantity(value: object) -> int:
    """Return a whole number; `5.0`, `"5"` and `true` are refused, not coerced.

    Raises:
        ValueError: it is no whole number.

    """
    if type(value) is not int:
        message = "must be a whole number, without quotes or decimal point"
        raise ValueError(message)
    return value


def _parse_quantity_literal(node: Any, _variables: object = None) -> int:  # noqa: ANN401
    return parse_quantity(int(node.value) if node.kind == "int_value" else None)


SCALARS: Final[dict[object, ScalarDefinition]] = {
    Quantity: strawberry.scalar(
        name="Quantity",
        description=(
            "A whole number of pieces. Stored quantities are 0 to 1,000,000,000,000; "
            "derived ones may be negative. Wider than Int's 32 bits."
        ),
        serialize=int,
        parse_value=parse_quantity,
        parse_literal=_parse_quantity_literal,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="An instant in UTC with milliseconds, for example 2026-03-12T14:00:00.000Z.",
        serialize=as_text,
        parse_value=lambda value: parse_period(value).start,
    ),
    Period: strawberry.scalar(
        name="DateOrDateTime",
        description=(
            "A date, which means the whole UTC day (2026-03-12), or an RFC 3339 timestamp "
            "(2026-03-12T14:00:00Z)."
        ),
        serialize=str,
        parse_value=parse_period,
    ),
}
