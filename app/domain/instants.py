"""Instants as text."""

from datetime import UTC, datetime

import orjson


def as_text(instant: datetime) -> str:
    """Return an instant in UTC as RFC 3339 with milliseconds and `Z`."""
    # orjson writes it in a third of the time that `isoformat` takes, and no fraction if it is 0.
    text = orjson.dumps(instant.astimezone(UTC)).decode()
    return f"{text[1:24]}Z" if instant.microsecond else f"{text[1:20]}.000Z"
