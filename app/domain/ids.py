"""Ids: ULIDs, which sort by the millisecond in which they were made."""

import os
import time
from datetime import datetime
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two letters at once, because a bulk makes hundreds of ids.
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]


def ulid(at: datetime | None = None) -> str:
    """Return a new ULID: 48 bits of time and 80 random ones, in Crockford's base 32.

    `at` is the time of what it names, where the database's clock has said it.
    """
    milliseconds = round(at.timestamp() * 1_000) if at else time.time_ns() // 1_000_000
    number = milliseconds << 80 | int.from_bytes(os.urandom(10))
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
