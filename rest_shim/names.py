"""REST names of the fields that errors name."""

import re
from typing import Final

REST_NAMES: Final = {
    "first": "limit",
    "after": "cursor",
    "text": "q",
    "expectedSkuVersions": "If-Match",
    # In the path of a variable.
    "expected_sku_versions": "If-Match",
    "idempotencyKey": "Idempotency-Key",
}
# Marks a field that the client invented: it keeps its name.
UNKNOWN_FIELD: Final = "="
_WORD_START: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def rest_name(path: str) -> str:
    """Convert the path of a field to REST names."""
    known, _, unknown = path.partition(UNKNOWN_FIELD)
    names = [REST_NAMES.get(part, _WORD_START.sub("_", part).lower()) for part in known.split(".")]
    return ".".join(names) + unknown
