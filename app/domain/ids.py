"""ULIDs: ids that sort by the millisecond of their creation."""

import random
import time
from datetime import datetime
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# A bulk makes hundreds of ids, and two letters per step are faster than one.
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]


def ulid(at: datetime | None = None) -> str:
    """Create a ULID: 48 bits of time and 80 random bits, in Crockford's base 32.

    `at` is the time by the database's clock; the default is the time of this machine.
    """
    milliseconds = round(at.timestamp() * 1_000) if at else time.time_ns() // 1_000_000
    number = milliseconds << 80 | random.getrandbits(80)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
