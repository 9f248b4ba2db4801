"""The hash chain of a ledger: a changed adjustment invalidates the hashes of its successors.

The hash of an adjustment is the SHA-256, in hex, of a JSON array in the form of RFC 8785: the hash
of the adjustment before it in the ledger of its tenant (null for the first), the tenant id, and the
values of HASHED_COLUMNS, with instants as RFC 3339 in UTC with milliseconds. The last value,
`occurred_at`, is left out if it is null.

An attacker with write access to the database can recompute all hashes. A head detects this if it is
kept outside the database: it has the hash of one position, which covers all adjustments before it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from operator import itemgetter
from typing import Final

import orjson

from app.errors import invalid_field

HASHED_COLUMNS: Final = (
    "position",
    "id",
    "sku",
    "warehouse_id",
    "sequence",
    "before_quantity",
    "after_quantity",
    "delta",
    "reason",
    "note",
    "created_by",
    "created_at",
    "bulk_id",
    "transfer_id",
    "reservation_id",
    "reversal_of",
    "reference",
    "occurred_at",
)
_values = itemgetter(*HASHED_COLUMNS)
# The hash at position 0 of a head.
NO_HASH: Final = "0" * 64
_HEAD: Final = re.compile(r"head_1\.([a-z0-9_]{1,32})\.([0-9]{1,18})\.([0-9a-f]{64})")


def chain_hash(previous: str | None, tenant_id: str, entry: Mapping[str, object]) -> str:
    """Compute the hash of an adjustment, whose instants are text."""
    values = _values(entry)
    if values[-1] is None:
        values = values[:-1]
    return sha256(orjson.dumps((previous, tenant_id, *values))).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The hash of the adjustment at a position of a tenant's ledger; 0 is its beginning."""

    tenant_id: str
    position: int = 0
    hash: str = NO_HASH

    def __str__(self) -> str:
        """Render the head as the text that operators keep."""
        return f"head_1.{self.tenant_id}.{self.position}.{self.hash}"


def parse_head(text: str) -> Head:
    """Parse the text of a head.

    Raises:
        ValidationFailed: the text is not a head.

    """
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise invalid_field(
            "head", "must be what `inventory verify` printed: head_1.TENANT.POSITION.HASH"
        )
    tenant_id, position, hash_ = match.groups()
    return Head(tenant_id, int(position), hash_)
