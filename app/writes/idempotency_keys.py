"""Idempotency keys: storage, look-up and expiry."""

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
# A write about more SKUs is likely to meet others, and does not cost its round trips.
FEW: Final = 10
KEPT_FOR: Final = timedelta(hours=24)
EXPIRED: Final = Present(-int(KEPT_FOR.total_seconds()))
# From how many bytes on an outcome is compressed.
LARGE: Final = 4_096
REAPED_AT_ONCE: Final = 1_000
# Held by whoever is about a key on PostgreSQL, until the transaction ends.
KEY_LOCK: Final = func.pg_advisory_xact_lock(bindparam("my_lock", type_=BigInteger))
_KEY: Final = re.compile(r"[!-~]{1,255}")
_ERRORS: Final[dict[str, type[InventoryError]]] = {
    error.code: error for error in ERRORS if "code" in vars(error)
}


@dataclass(frozen=True, slots=True)
class WriteResult(Generic[Result]):
    """The result of a write, and whether it was kept from an earlier request."""

    result: Result
    replayed: bool


KeptOutcome = WriteResult[Result | InventoryError]


@dataclass(frozen=True, slots=True)
class WriteRequest(Generic[Result]):
    """A write: its name, all of its validated input, and what its result is."""

    operation: str
    content: object
    result: type[Result]

    @property
    def fingerprint(self) -> bytes:
        """What tells two requests apart that came with one key."""
        content = [self.operation, self.content]
        try:
            text = orjson.dumps(content, to_builtins, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            # A number of more than 64 bits, which some rule will refuse.
            text = repr(content).encode()
        return hashlib.sha256(text).digest()


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """The row that keeps a write."""

    caller: Caller
    key: str
    fingerprint: bytes
    outcome: object

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of `claiming`."""
        return {
            **_named(self.caller, self.key),
            "my_lock": _lock_number(self.caller, self.key),
            "my_fingerprint": self.fingerprint,
            "my_outcome": _encoded(self.outcome),
        }


async def reap_idempotency_keys(database: Database, tenant: str) -> int:
    """Delete the keys of a tenant that are past their time, and return how many."""
    old = (
        select(idempotency_key.c.subject, idempotency_key.c.key)
        .where(
            idempotency_key.c.tenant_id == tenant,
            idempotency_key.c.created_at < EXPIRED,
        )
        .order_by(idempotency_key.c.created_at)
        .limit(REAPED_AT_ONCE)
    )

    async def work(connection: AsyncConnection) -> int:
        rows = [
            {"mine": tenant, "my_subject": row.subject, "my_key": row.key}
            for row in await connection.execute(old)
        ]
        if rows:
            await connection.execute(delete(idempotency_key).where(*_mine()), rows)
        return len(rows)

    reaped = batch = await database.transaction(work, tenant_id=tenant)
    while batch == REAPED_AT_ONCE:
        batch = await database.transaction(work, tenant_id=tenant)
        reaped += batch
    return reaped


def check_key(key: str | None) -> None:
    if key is not None and not _KEY.fullmatch(key):
        raise invalid_field("idempotencyKey", "must be 1 to 255 visible ASCII characters")


async def lock_and_find_outcome(
    session: Session, caller: Caller, key: str, request: WriteRequest[Result]
) -> KeptOutcome[Result] | None:
    """Return what is kept under a key; keep other requests with it out if there is nothing."""
    if session.dialect == "postgresql":
        await _lock_key(session, caller, key)
    return await find_kept_outcome(session, caller, key, request)


async def find_kept_outcome(
    session: Session, caller: Caller, key: str, request: WriteRequest[Result]
) -> KeptOutcome[Result] | None:
    found = await session.rows(_find(), _named(caller, key))
    if not found:
        return None
    [row] = found
    if row.fingerprint != request.fingerprint:
        message = "This idempotency key belongs to another request; use a new one."
        raise IdempotencyKeyReused(message)
    kept: Result | InventoryError = _decoded(request, row.outcome)
    return WriteResult(kept, replayed=True)


async def _lock_key(session: Session, caller: Caller, key: str) -> None:
    """Wait for whoever is about this key; there may be no row yet to wait for."""
    try:
        await session.rows(select(KEY_LOCK), {"my_lock": _lock_number(caller, key)})
    except DBAPIError as error:
        if state_of(error) != LOCK_NOT_AVAILABLE:
            raise
        message = "The first request with this idempotency key has not ended yet; try again."
        raise IdempotencyInFlight(message) from error


def _lock_number(caller: Caller, key: str) -> int:
    name = orjson.dumps([caller.tenant_id, caller.subject, key])
    return int.from_bytes(hashlib.sha256(name).digest()[:8], signed=True)


async def post_claim(session: Session, claim: KeyClaim) -> bool:
    """Write a key with its outcome, within a transaction; False if it is somebody's."""
    return bool(await session.rows(_claim(session.dialect), claim.parameters))


@cache
def _claim(dialect: str) -> Insert:
    return claiming(dialect, true())


def claiming(dialect: str, condition: ColumnElement[bool]) -> Insert:
    """Return what inserts a key, or takes over one that is past its time, on a condition.

    It returns a row if it did, and none if the key is somebody's.
    """
    # SQLite's INSERT has the same methods.
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns: dict[Any, ColumnElement[Any]] = {
        idempotency_key.c.tenant_id: bindparam("mine", type_=Text),
        idempotency_key.c.subject: bindparam("my_subject", type_=Text),
        idempotency_key.c.key: bindparam("my_key", type_=Text),
        idempotency_key.c.fingerprint: bindparam("my_fingerprint", type_=LargeBinary),
        idempotency_key.c.outcome: bindparam("my_outcome", type_=Text),
        idempotency_key.c.created_at: Present(),
    }
    statement = insert(idempotency_key).from_select(
        list(columns), select(*list(columns.values())).where(condition)
    )
    replaced: Insert = statement.on_conflict_do_update(
        index_elements=["tenant_id", "subject", "key"],
        set_={name: statement.excluded[name] for name in ("fingerprint", "outcome", "created_at")},
        where=idempotency_key.c.created_at < EXPIRED,
    ).returning(idempotency_key.c.key)
    return replaced


def _encoded(outcome: object) -> str:
    """Return what is kept of an outcome: JSON, in Base64 of zlib's if there is much of it.

    A bulk's is a tenth then, and no database spends time on it while others wait.
    """
    content = {"result": outcome}
    if isinstance(outcome, InventoryError):
        refusal = {"code": outcome.code, "message": outcome.message, "details": outcome.details}
        content = {"refusal": refusal}
    text = json.encode(content)
    if len(text) > LARGE:
        text = b64encode(zlib.compress(text, level=1))
    return text.decode()


def _decoded(request: WriteRequest[Result], text: str) -> Result | InventoryError:
    outcome = orjson.loads(text if text.startswith("{") else zlib.decompress(b64decode(text)))
    if "refusal" in outcome:
        refusal = outcome["refusal"]
        return _ERRORS[refusal["code"]](refusal["message"], details=refusal["details"])
    return convert(outcome["result"], request.result)


@cache
def _find() -> Executable:
    return select(idempotency_key.c.fingerprint, idempotency_key.c.outcome).where(
        *_mine(), idempotency_key.c.created_at >= EXPIRED
    )


def _named(caller: Caller, key: str) -> dict[str, object]:
    return {"mine": caller.tenant_id, "my_subject": caller.subject, "my_key": key}


def _mine() -> list[Any]:
    return [
        idempotency_key.c.tenant_id == bindparam("mine", type_=Text),
        idempotency_key.c.subject == bindparam("my_subject", type_=Text),
        idempotency_key.c.key == bindparam("my_key", type_=Text),
    ]
