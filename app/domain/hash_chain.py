"""Hash chains of the ledger: a changed adjustment invalidates the hashes of its successors.

The hash of an adjustment is the SHA-256, in hex, of a JSON array in the form of RFC 8785: the hash
of the previous adjustment of its stock level (null for the first), the tenant id, and the values of
HASHED_COLUMNS, with instants as RFC 3339 in UTC with milliseconds. Each stock level has its own
chain.

An attacker with write access to the database can recompute all hashes. A head detects this if it is
kept outside the database: it covers the last hashes of all levels at an instant.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from typing import Final

import orjson

from app.errors import ValidationFailed, invalid_field

HASHED_COLUMNS: Final = (
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
)
# Locks and the disk delay the commit of an entry. A head covers only entries so old that no older
# entry can still be committed.
POSTED_WITHIN: Final = timedelta(minutes=1)
SETTLED_AFTER: Final = timedelta(minutes=5)
_values = itemgetter(*HASHED_COLUMNS)
_HEAD: Final = re.compile(
    r"head_1\.([a-z0-9_]{1,32})\.(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\.(\d{1,18})\.([0-9a-f]{64})"
)


def chain_hash(previous: str | None, tenant_id: str, entry: Mapping[str, object]) -> str:
    """Compute the hash of an adjustment, whose `created_at` is text."""
    return sha256(orjson.dumps((previous, tenant_id, *_values(entry)))).hexdigest()


def settled_until(now: datetime) -> datetime:
    """Compute the instant before which no adjustment can still be committed."""
    return (now - SETTLED_AFTER).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Head:
    """A digest of all adjustments of a tenant up to an instant, inclusive."""

    tenant_id: str
    until: datetime
    adjustments: int
    digest: str

    def __str__(self) -> str:
        """Render the head as the text that operators keep."""
        return f"head_1.{self.tenant_id}.{_text(self.until)}.{self.adjustments}.{self.digest}"


def parse_head(text: str) -> Head:
    """Parse the text of a head.

    Raises:
        ValidationFailed: the text is not a head.

    """
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise _invalid_head()
    tenant_id, until, adjustments, digest = match.groups()
    try:
        return Head(tenant_id, datetime.fromisoformat(until), int(adjustments), digest)
    except ValueError as error:
        raise _invalid_head() from error


class HeadBuilder:
    """Computes the head of a tenant from its adjustments up to an instant."""

    def __init__(self, tenant_id: str, until: datetime) -> None:
        self._tenant_id = tenant_id
        self._until = until
        self._adjustments = 0
        self._digest = sha256(_line(tenant_id, _text(until)))
        self._last: tuple[str, str, int, str] | None = None

    def add(self, level: tuple[str, str], sequence: int, hash_: str, at: datetime) -> None:
        """Add the next adjustment, in the order of SKU, warehouse and sequence."""
        if at > self._until:
            return
        if self._last and self._last[:2] != level:
            self._digest.update(_line(*self._last))
        self._last = (*level, sequence, hash_)
        self._adjustments += 1

    def head(self) -> Head:
        """Return the head of the added adjustments."""
        digest = self._digest.copy()
        if self._last:
            digest.update(_line(*self._last))
        return Head(self._tenant_id, self._until, self._adjustments, digest.hexdigest())


def _line(*values: str | int) -> bytes:
    return orjson.dumps(values) + b"\n"


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _invalid_head() -> ValidationFailed:
    return invalid_field(
        "head",
        "must be what `inventory verify` printed: head_1.TENANT.INSTANT.ADJUSTMENTS.HASH",
    )
