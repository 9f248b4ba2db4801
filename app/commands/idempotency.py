"""Idempotency keys: a write that is sent again has no second effect and gets the first answer.

A key is kept with the outcome of its write in one row, which is inserted in the transaction that
writes, so that there are both or neither. Whoever inserts second waits for the first, and then
replays. What is kept are successes and the refusals that the rules gave; whatever ends a write
otherwise (a fault, a timeout) keeps nothing, and a retry starts afresh.
"""

import hashlib
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any, Final, Generic, Protocol, TypeVar

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

from app.clocks import Present
from app.database import Conflict, Database
from app.errors import (
    ERRORS,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    InventoryError,
    invalid_field,
)
from app.faults import LOCK_NOT_AVAILABLE, state_of
from app.models import idempotency_key
from app.sessions import EngineSession, Session

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
class Caller:
    """Who writes: a tenant, the credential, and the e-mail address that the ledger names."""

    tenant: str
    subject: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How a write is done: by whom, under which key, and whether it is only rehearsed."""

    database: Database
    caller: Caller
    key: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """The result of a write, and whether it was kept from an earlier request."""

    result: Result
    replayed: bool


Outcome = Done[Result | InventoryError]


@dataclass(frozen=True, slots=True)
class Request(Generic[Result]):
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
class Claim:
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


# Writes what was planned and the claim, if there is one; False, and nothing, if it cannot be.
Post = Callable[[Session, Claim | None], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Planned(Generic[Result]):
    """What a write comes to, and what posts it, if there is anything to write."""

    outcome: Result | InventoryError
    post: Post | None = None


class Plan(Protocol[Result]):
    """Reads what there is, `locked` until the transaction ends if asked for, and decides."""

    async def __call__(self, session: Session, *, locked: bool) -> Planned[Result]:
        """Return what the write comes to."""


async def carry_out(
    writing: Writing,
    request: Request[Result],
    plan: Plan[Result],
    *,
    skus: Collection[str] = (),
    locking: bool = False,
) -> Done[Result]:
    """Write once, or rehearse it.

    Raises:
        What `write_once` raises.

    """
    if writing.dry_run:
        return await rehearse(writing.database, writing.caller, writing.key, request, plan)
    return await write_once(
        *(writing.database, writing.caller, writing.key, request, plan), skus=skus, locking=locking
    )


async def write_once(
    database: Database,
    caller: Caller,
    key: str | None,
    request: Request[Result],
    plan: Plan[Result],
    *,
    skus: Collection[str],
    locking: bool = False,
) -> Done[Result]:
    """Plan a write and post it; under a key, at most once.

    On PostgreSQL, one that is about few SKUs is first tried without a transaction, unless it is
    `locking`: it needs more than a statement, or that nobody else writes while it decides. Those
    of this process that are about the same SKU go one after the other: they would only get in each
    other's way, and hold connections while they wait.
    The plan returns its refusals, so that they are kept; what it raises is kept by nobody.

    Raises:
        ValidationFailed: the key is malformed.
        IdempotencyKeyReused: it came with another request.
        IdempotencyInFlight: its first request has not ended within the lock timeout.
        InventoryError: what the plan refused, now or then.

    """
    _check(key)

    async def post(session: Session, planned: Planned[Result]) -> bool:
        claim = None
        if key is not None:
            claim = Claim(caller, key, request.fingerprint, planned.outcome)
        if planned.post is not None:
            return await planned.post(session, claim)
        return claim is None or await post_claim(session, claim)

    async def under_locks(connection: AsyncConnection) -> Outcome[Result]:
        session = EngineSession(connection)
        if key is not None and (kept := await _kept(session, caller, key, request)):
            return kept
        planned = await plan(session, locked=True)
        if not await post(session, planned):
            raise Conflict
        return Done(planned.outcome, replayed=False)

    async def at_once() -> Outcome[Result]:
        async with database.turns.of((caller.tenant, code) for code in skus):
            planned = await database.optimistically(
                partial(plan, locked=False), post, tenant=caller.tenant
            )
            if planned:
                return Done(planned.outcome, replayed=False)
            return await database.transaction(under_locks, tenant=caller.tenant)

    if database.dialect == "postgresql" and len(skus) <= FEW and not locking:
        return _told(await at_once())
    return _told(await database.transaction(under_locks, tenant=caller.tenant))


async def rehearse(
    database: Database,
    caller: Caller,
    key: str | None,
    request: Request[Result],
    plan: Plan[Result],
) -> Done[Result]:
    """Return what `write_once` would answer now, and write nothing.

    Raises:
        What `write_once` raises.

    """
    _check(key)
    async with database.snapshot(tenant=caller.tenant) as snapshot:
        if key is not None and (kept := await _find_kept(snapshot, caller, key, request)):
            return _told(kept)
        planned = await plan(snapshot, locked=False)
    return _told(Done(planned.outcome, replayed=False))


def _told(done: Outcome[Result]) -> Done[Result]:
    if isinstance(done.result, InventoryError):
        done.result.replayed = done.replayed
        raise done.result
    return Done(done.result, done.replayed)


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

    reaped = batch = await database.transaction(work, tenant=tenant)
    while batch == REAPED_AT_ONCE:
        batch = await database.transaction(work, tenant=tenant)
        reaped += batch
    return reaped


def _check(key: str | None) -> None:
    if key is not None and not _KEY.fullmatch(key):
        raise invalid_field("idempotencyKey", "must be 1 to 255 visible ASCII characters")


async def _kept(
    session: Session, caller: Caller, key: str, request: Request[Result]
) -> Outcome[Result] | None:
    """Return what is kept under a key; keep other requests with it out if there is nothing."""
    if session.dialect == "postgresql":
        await _lock_key(session, caller, key)
    return await _find_kept(session, caller, key, request)


async def _find_kept(
    session: Session, caller: Caller, key: str, request: Request[Result]
) -> Outcome[Result] | None:
    found = await session.rows(_find(), _named(caller, key))
    if not found:
        return None
    [row] = found
    if row.fingerprint != request.fingerprint:
        message = "This idempotency key belongs to another request; use a new one."
        raise IdempotencyKeyReused(message)
    kept: Result | InventoryError = _decoded(request, row.outcome)
    return Done(kept, replayed=True)


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
    name = orjson.dumps([caller.tenant, caller.subject, key])
    return int.from_bytes(hashlib.sha256(name).digest()[:8], signed=True)


async def post_claim(session: Session, claim: Claim) -> bool:
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


def _decoded(request: Request[Result], text: str) -> Result | InventoryError:
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
    return {"mine": caller.tenant, "my_subject": caller.subject, "my_key": key}


def _mine() -> list[Any]:
    return [
        idempotency_key.c.tenant_id == bindparam("mine", type_=Text),
        idempotency_key.c.subject == bindparam("my_subject", type_=Text),
        idempotency_key.c.key == bindparam("my_key", type_=Text),
    ]
