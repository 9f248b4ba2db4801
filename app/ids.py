"""Ids: ULIDs, which sort by the millisecond in which they were made."""

import os
import time
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two letters at once, because a bulk makes hundreds of ids.
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]


def ulid() -> str:
    """Return a new ULID: 48 bits of time and 80 random ones, in Crockford's base 32."""
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
