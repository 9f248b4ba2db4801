"""Idempotency keys: a repeated write has no second effect and gets the first outcome.

A key and the outcome of its write are one row, written in the transaction of the write. A second
request with the key waits in the lane of the tenant, and replays the outcome of the first.
Successes and refusals by the rules are stored. A write that ends by a fault or a timeout stores
nothing, so its retry starts from the beginning.
"""

import hashlib
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final, Generic, NamedTuple, TypeVar

import orjson
from msgspec import convert, json, to_builtins
from sqlalchemy import Select, Text, delete, literal_column, select, tuple_
from sqlalchemy.sql import Executable

from app.database.clocks import Present
from app.database.engine import Database
from app.database.parameters import TENANT, as_json, rows_from
from app.database.session import Session
from app.database.tables import idempotency_key
from app.errors import ERRORS, IdempotencyKeyReused, InventoryError, invalid_field

Result = TypeVar("Result")
KEY_LIFETIME: Final = timedelta(hours=24)
EXPIRED_BEFORE: Final = Present(-int(KEY_LIFETIME.total_seconds()))
# Longer outcomes are compressed.
MAX_PLAIN_OUTCOME_BYTES: Final = 4_096
DELETE_BATCH_ROWS: Final = 1_000
# The version of the encoding of outcomes. A later one still has to decode this one.
OUTCOME_VERSION: Final = 1
KEY_ID_TYPES: Final = {"subject": Text(), "key": Text()}
_KEY: Final = re.compile(r"[!-~]{1,255}")
_ERRORS: Final[dict[str, type[InventoryError]]] = {
    error.code: error for error in ERRORS if "code" in vars(error)
}


@dataclass(frozen=True, slots=True)
class WriteResult(Generic[Result]):
    """The result of a write, and whether it replays an earlier request."""

    result: Result
    replayed: bool


StoredOutcome = WriteResult[Result | InventoryError]


@dataclass(frozen=True, slots=True)
class WriteRequest(Generic[Result]):
    """A write: its operation, its validated input and the type of its result."""

    operation: str
    content: object
    result_type: type[Result]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the operation and its input: different requests with one key are refused."""
        content = [self.operation, self.content]
        try:
            text = orjson.dumps(content, to_builtins, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            # orjson has no integers beyond 64 bits; the rules refuse them later.
            text = repr(content).encode()
        return hashlib.sha256(text).hexdigest()


# The credential and the text of an idempotency key of a tenant.
KeyId = tuple[str, str]


class StoredRow(NamedTuple):
    """The row of an idempotency key: the fingerprint of its request, and its encoded outcome."""

    fingerprint: str
    outcome: str


def check_key(key: str | None) -> None:
    """Check the text of an idempotency key.

    Raises:
        ValidationFailed: the key is malformed.

    """
    if key is not None and not _KEY.fullmatch(key):
        raise invalid_field("idempotencyKey", "must be 1 to 255 visible ASCII characters")


def keys_json(keys: Iterable[KeyId]) -> str:
    """Return the parameter `keys` of `select_outcomes`."""
    return as_json({"subject": subject, "key": key} for subject, key in keys)


def stored_row(request: WriteRequest[Result], outcome: Result | InventoryError) -> StoredRow:
    """Return the row of the key of a request."""
    return StoredRow(request.fingerprint, _encode(outcome))


def replay(request: WriteRequest[Result], stored: StoredRow) -> StoredOutcome[Result]:
    """Return the outcome that is stored under the key of a request.

    Raises:
        IdempotencyKeyReused: the key belongs to another request.

    """
    if stored.fingerprint != request.fingerprint:
        message = "This idempotency key belongs to another request; use a new one."
        raise IdempotencyKeyReused(message)
    outcome: Result | InventoryError = _decode(request, stored.outcome)
    return WriteResult(outcome, replayed=True)


async def delete_expired_keys(database: Database, tenant_id: str) -> int:
    """Delete the expired keys of a tenant in batches; return their number."""

    async def delete_batch(session: Session) -> int:
        parameters = {"tenant_id": tenant_id}
        return len(await session.rows(_delete_expired(), parameters))

    deleted = 0
    while True:
        batch = await database.write(delete_batch, tenant_id)
        deleted += batch
        if batch < DELETE_BATCH_ROWS:
            return deleted


def _encode(outcome: object) -> str:
    """Return the JSON of an outcome; a long one is compressed with zlib and encoded as Base64.

    Compressed, the outcome of a bulk is a tenth as long, and the database need not compress it.
    """
    content: dict[str, object] = {"version": OUTCOME_VERSION}
    if isinstance(outcome, InventoryError):
        refusal = {"code": outcome.code, "message": outcome.message, "details": outcome.details}
        content["refusal"] = refusal
    else:
        content["result"] = outcome
    text = json.encode(content)
    if len(text) > MAX_PLAIN_OUTCOME_BYTES:
        text = b64encode(zlib.compress(text, level=1))
    return text.decode()


def _decode(request: WriteRequest[Result], text: str) -> Result | InventoryError:
    outcome = orjson.loads(text if text.startswith("{") else zlib.decompress(b64decode(text)))
    if "refusal" in outcome:
        refusal = outcome["refusal"]
        return _ERRORS[refusal["code"]](refusal["message"], details=refusal["details"])
    return convert(outcome["result"], request.result_type)


@cache
def select_outcomes(dialect: str) -> Select[Any]:
    """Return the SELECT of the stored outcomes of some keys, without expired ones."""
    keys = rows_from(dialect, "keys", KEY_ID_TYPES)
    is_key = (idempotency_key.c.subject == keys.c.subject) & (idempotency_key.c.key == keys.c.key)
    columns = (idempotency_key.c[name] for name in ("subject", "key", "fingerprint", "outcome"))
    return (
        select(*columns)
        .select_from(keys.join(idempotency_key, is_key))
        .where(
            idempotency_key.c.tenant_id == TENANT,
            idempotency_key.c.created_at >= EXPIRED_BEFORE,
        )
    )


@cache
def _delete_expired() -> Executable:
    """Return the DELETE of a batch of expired keys, for the lane of the tenant."""
    is_expired = [
        idempotency_key.c.tenant_id == TENANT,
        idempotency_key.c.created_at < EXPIRED_BEFORE,
    ]
    oldest = (
        select(idempotency_key.c.subject, idempotency_key.c.key)
        .where(*is_expired)
        .order_by(idempotency_key.c.created_at)
        .limit(literal_column(str(DELETE_BATCH_ROWS)))
    )
    return (
        delete(idempotency_key)
        .where(
            idempotency_key.c.tenant_id == TENANT,
            tuple_(idempotency_key.c.subject, idempotency_key.c.key).in_(oldest),
        )
        .returning(idempotency_key.c.key)
    )
