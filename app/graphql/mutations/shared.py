"""What inputs and payloads of several mutations have in common."""

from typing import Final

IDEMPOTENCY_KEY: Final = (
    "1 to 255 visible ASCII characters of your choice. Sent again with the same input within 24 "
    "hours, it has no second effect and gets the same answer."
)
DRY_RUN: Final = "Whether to check and answer as if, and write nothing."
REPLAYED: Final = "Whether this is the answer that an earlier request with the same key got."
