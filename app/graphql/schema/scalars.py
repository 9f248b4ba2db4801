"""The custom scalars of the schema."""

from datetime import datetime
from typing import Any, Final, NewType
from zoneinfo import ZoneInfo

import strawberry
from strawberry.types.scalar import ScalarDefinition

from app.domain.instants import format_instant
from app.domain.periods import TimeRange, parse_instant, parse_time_range, parse_time_zone

Quantity = NewType("Quantity", int)


def parse_quantity(value: object) -> int:
    """Check that a value is a whole number. `5.0`, `"5"` and `true` are refused.

    Raises:
        ValueError: the value is not a whole number.

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
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259#section-6",
        description=(
            "A whole number of pieces, wider than the 32 bits of Int. Stored quantities are 0 to "
            "1,000,000,000,000. Derived quantities may be negative."
        ),
        serialize=int,
        parse_value=parse_quantity,
        parse_literal=_parse_quantity_literal,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339#section-5.6",
        description="An instant in UTC with milliseconds, for example 2026-03-12T14:00:00.000Z.",
        serialize=format_instant,
        parse_value=parse_instant,
    ),
    TimeRange: strawberry.scalar(
        name="DateOrDateTime",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339#section-5.6",
        description=(
            "A date (2026-03-12), which means the whole day, in UTC unless a time zone is given; "
            "or an RFC 3339 timestamp (2026-03-12T14:00:00Z)."
        ),
        serialize=str,
        parse_value=parse_time_range,
    ),
    ZoneInfo: strawberry.scalar(
        name="TimeZone",
        specified_by_url="https://www.iana.org/time-zones",
        description="A name of the IANA time zone database, such as Europe/Berlin.",
        serialize=str,
        parse_value=parse_time_zone,
    ),
}
