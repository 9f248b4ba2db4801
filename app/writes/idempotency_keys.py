"""Idempotency keys: a repeated write has no second effect and gets the first outcome.

A key and the outcome of its write are one row, inserted in the transaction of the write. A second
request with the key waits for the first and replays its outcome. Successes and refusals by the
rules are stored. A write that ends by a fault or a timeout stores nothing, so its retry starts
from the beginning.
"""

import hashlib
import re
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final, Generic, TypeVar

import orjson
from msgspec import convert, json, to_builtins
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Text,
    bindparam,
    delete,
    func,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable
from sqlalchemy.sql.dml import Insert

from app.database.clocks import Present
from app.database.engine import Database
from app.database.faults import LOCK_NOT_AVAILABLE, state_of
from app.database.session import Session
from app.database.tables import idempotency_key
from app.domain.caller import Caller
from app.errors import (
    ERRORS,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    InventoryError,
    invalid_field,
)

Result = TypeVar("Result")
KEY_LIFETIME: Final = timedelta(hours=24)
EXPIRED_BEFORE: Final = Present(-int(KEY_LIFETIME.total_seconds()))
# Longer outcomes are compressed.
MAX_PLAIN_OUTCOME_BYTES: Final = 4_096
DELETE_BATCH_ROWS: Final = 1_000
# PostgreSQL's lock of a key until the transaction ends.
KEY_LOCK: Final = func.pg_advisory_xact_lock(bindparam("key_lock_number", type_=BigInteger))
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
    def fingerprint(self) -> bytes:
        """SHA-256 of the operation and its input: different requests with one key are refused."""
        content = [self.operation, self.content]
        try:
            text = orjson.dumps(content, to_builtins, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            # orjson has no integers beyond 64 bits; the rules refuse them later.
            text = repr(content).encode()
        return hashlib.sha256(text).digest()


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An idempotency key with the fingerprint of its request and the outcome."""

    caller: Caller
    key: str
    fingerprint: bytes
    outcome: object

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of `store_key_statement` and `KEY_LOCK`."""
        return {
            **_identity(self.caller, self.key),
            "key_lock_number": _lock_number(self.caller, self.key),
            "key_fingerprint": self.fingerprint,
            "key_outcome": _encode(self.outcome),
        }


def check_key(key: str | None) -> None:
    """Check the text of an idempotency key.

    Raises:
        ValidationFailed: the key is malformed.

    """
    if key is not None and not _KEY.fullmatch(key):
        raise invalid_field("idempotencyKey", "must be 1 to 255 visible ASCII characters")


async def lock_key(session: Session, caller: Caller, key: str) -> None:
    """Wait for the other request with this key on PostgreSQL, which may not have a row yet.

    Raises:
        IdempotencyInFlight: the other request outlasts the lock timeout.

    """
    if session.dialect != "postgresql":
        return
    try:
        await session.rows(select(KEY_LOCK), {"key_lock_number": _lock_number(caller, key)})
    except DBAPIError as error:
        if state_of(error) != LOCK_NOT_AVAILABLE:
            raise
        message = "The first request with this idempotency key has not ended yet; try again."
        raise IdempotencyInFlight(message) from error


async def get_outcome(
    session: Session, caller: Caller, key: str, request: WriteRequest[Result]
) -> StoredOutcome[Result] | None:
    """Return the outcome stored under a key; None if the key is new or expired.

    Raises:
        IdempotencyKeyReused: the key belongs to another request.

    """
    rows = await session.rows(_select_outcome(), _identity(caller, key))
    if not rows:
        return None
    [row] = rows
    if row.fingerprint != request.fingerprint:
        message = "This idempotency key belongs to another request; use a new one."
        raise IdempotencyKeyReused(message)
    outcome: Result | InventoryError = _decode(request, row.outcome)
    return WriteResult(outcome, replayed=True)


async def store_key(session: Session, row: KeyRow) -> bool:
    """Store a key with its outcome in a transaction; False if the key is taken."""
    return bool(await session.rows(_store_key(session.dialect), row.parameters))


@cache
def _store_key(dialect: str) -> Insert:
    return store_key_statement(dialect, true())


def store_key_statement(dialect: str, condition: ColumnElement[bool]) -> Insert:
    """Return the statement that inserts a key or replaces an expired one, if a condition holds.

    Its result is one row, or none if the condition is false or the key is taken.
    """
    # SQLite's INSERT has the same methods.
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns: dict[Any, ColumnElement[Any]] = {
        idempotency_key.c.tenant_id: bindparam("key_tenant", type_=Text),
        idempotency_key.c.subject: bindparam("key_subject", type_=Text),
        idempotency_key.c.key: bindparam("key_text", type_=Text),
        idempotency_key.c.fingerprint: bindparam("key_fingerprint", type_=LargeBinary),
        idempotency_key.c.outcome: bindparam("key_outcome", type_=Text),
        idempotency_key.c.created_at: Present(),
    }
    statement = insert(idempotency_key).from_select(
        list(columns), select(*list(columns.values())).where(condition)
    )
    upsert: Insert = statement.on_conflict_do_update(
        index_elements=["tenant_id", "subject", "key"],
        set_={name: statement.excluded[name] for name in ("fingerprint", "outcome", "created_at")},
        where=idempotency_key.c.created_at < EXPIRED_BEFORE,
    ).returning(idempotency_key.c.key)
    return upsert


async def delete_expired_keys(database: Database, tenant_id: str) -> int:
    """Delete the expired keys of a tenant in batches; return their number."""
    expired = (
        select(idempotency_key.c.subject, idempotency_key.c.key)
        .where(
            idempotency_key.c.tenant_id == tenant_id,
            idempotency_key.c.created_at < EXPIRED_BEFORE,
        )
        .order_by(idempotency_key.c.created_at)
        .limit(DELETE_BATCH_ROWS)
    )

    async def work(connection: AsyncConnection) -> int:
        rows = [
            {"key_tenant": tenant_id, "key_subject": row.subject, "key_text": row.key}
            for row in await connection.execute(expired)
        ]
        if rows:
            # A write may have taken a key again since it was read.
            is_expired = idempotency_key.c.created_at < EXPIRED_BEFORE
            await connection.execute(delete(idempotency_key).where(*_is_key(), is_expired), rows)
        return len(rows)

    deleted = batch = await database.transaction(work, tenant_id=tenant_id)
    while batch == DELETE_BATCH_ROWS:
        batch = await database.transaction(work, tenant_id=tenant_id)
        deleted += batch
    return deleted


def _lock_number(caller: Caller, key: str) -> int:
    name = orjson.dumps([caller.tenant_id, caller.subject, key])
    return int.from_bytes(hashlib.sha256(name).digest()[:8], signed=True)


def _encode(outcome: object) -> str:
    """Return the JSON of an outcome; a long one is compressed with zlib and encoded as Base64.

    Compressed, the outcome of a bulk is a tenth as long, and the database need not compress it.
    """
    content = {"result": outcome}
    if isinstance(outcome, InventoryError):
        refusal = {"code": outcome.code, "message": outcome.message, "details": outcome.details}
        content = {"refusal": refusal}
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
def _select_outcome() -> Executable:
    return select(idempotency_key.c.fingerprint, idempotency_key.c.outcome).where(
        *_is_key(), idempotency_key.c.created_at >= EXPIRED_BEFORE
    )


def _identity(caller: Caller, key: str) -> dict[str, object]:
    return {"key_tenant": caller.tenant_id, "key_subject": caller.subject, "key_text": key}


def _is_key() -> list[Any]:
    return [
        idempotency_key.c.tenant_id == bindparam("key_tenant", type_=Text),
        idempotency_key.c.subject == bindparam("key_subject", type_=Text),
        idempotency_key.c.key == bindparam("key_text", type_=Text),
    ]
