"""Positions of the feed in the headers of requests and responses.

A write answers with a position that includes it. A read that names a position may be answered from
any state with the changes up to it, for example by a replica; 0 stands for any state.
"""

import re
from typing import Final

POSITION_HEADER: Final = "X-Inventory-Position"
POSITION_HEADER_NAME: Final = POSITION_HEADER.lower().encode()
# A position has 63 bits.
_POSITION: Final = re.compile(rb"[0-9]{1,19}")


def parse_position(value: bytes) -> int | None:
    """Parse a position; None if it is malformed."""
    return int(value) if _POSITION.fullmatch(value) else None
