"""The ledger as chains: an adjustment cannot change without the hashes of all that follow it.

The hash of an adjustment is the SHA-256, in hex, of a JSON array as RFC 8785 writes it: the hash
of the adjustment before it at its level (null for the first), the tenant, and what COLUMNS name,
instants as RFC 3339 in UTC with milliseconds. Every stock level has a chain of its own, so that
writes of different levels do not wait for each other.

Whoever can write to the database can also hash all of it anew. A head can be kept where they
cannot write: it stands for the last hashes of all levels at an instant.
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
# An entry is decided, and then it waits for its turn, locks and the disk: what a head covers is so
# old that none can come to it later.
POSTED_WITHIN: Final = timedelta(minutes=1)
SETTLED_AFTER: Final = timedelta(minutes=5)
_values = itemgetter(*HASHED_COLUMNS)
_HEAD: Final = re.compile(
    r"head_1\.([a-z0-9_]{1,32})\.(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\.(\d{1,18})\.([0-9a-f]{64})"
)


def link(previous: str | None, tenant: str, entry: Mapping[str, object]) -> str:
    """Return the hash of an adjustment, its `created_at` given as text."""
    return sha256(orjson.dumps((previous, tenant, *_values(entry)))).hexdigest()


def settled(now: datetime) -> datetime:
    """Return until when no adjustment can come to the ledger any more."""
    return (now - SETTLED_AFTER).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Head:
    """What a tenant's adjustments until an instant, inclusive, come to."""

    tenant: str
    until: datetime
    adjustments: int
    digest: str

    def __str__(self) -> str:
        """Return the text that is kept elsewhere."""
        return f"head_1.{self.tenant}.{_text(self.until)}.{self.adjustments}.{self.digest}"


def parse_head(text: str) -> Head:
    """Return the head of a text.

    Raises:
        ValidationFailed: it is none.

    """
    found = _HEAD.fullmatch(text.strip())
    if found is None:
        raise _no_head()
    tenant, until, adjustments, digest = found.groups()
    try:
        return Head(tenant, datetime.fromisoformat(until), int(adjustments), digest)
    except ValueError as error:
        raise _no_head() from error


class Covered:
    """The adjustments of a tenant until an instant, each level's one after the other."""

    def __init__(self, tenant: str, until: datetime) -> None:
        self._tenant = tenant
        self._until = until
        self._adjustments = 0
        self._digest = sha256(_line(tenant, _text(until)))
        self._last: tuple[str, str, int, str] | None = None

    def add(self, level: tuple[str, str], sequence: int, hash_: str, at: datetime) -> None:
        """Take in the next adjustment, by SKU, warehouse and sequence."""
        if at > self._until:
            return
        if self._last and self._last[:2] != level:
            self._digest.update(_line(*self._last))
        self._last = (*level, sequence, hash_)
        self._adjustments += 1

    def head(self) -> Head:
        """Return the head of what was taken in."""
        whole = self._digest.copy()
        if self._last:
            whole.update(_line(*self._last))
        return Head(self._tenant, self._until, self._adjustments, whole.hexdigest())


def _line(*values: str | int) -> bytes:
    return orjson.dumps(values) + b"\n"


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _no_head() -> ValidationFailed:
    return invalid_field(
        "head",
        "must be what `inventory verify` printed: head_1.TENANT.INSTANT.ADJUSTMENTS.HASH",
    )
