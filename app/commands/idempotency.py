"""Idempotency keys: a write that is sent again has no second effect and gets the first answer.

The key, the work and its outcome are one transaction: insert the key, do the work, keep the
outcome, commit. Whoever inserts second waits for the first, and then replays. What is kept are
successes and the refusals that were decided under the lock; whatever ends a transaction otherwise
(a fault, a timeout) keeps nothing, and a retry starts afresh.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, Generic, TypeVar

import orjson
from pydantic import TypeAdapter
from sqlalchemy import Text, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable

from app.database import Database, state_of
from app.errors import (
    ERRORS,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    InventoryError,
    invalid_field,
)
from app.models import UtcDateTime, idempotency_key

Result = TypeVar("Result")
Work = Callable[[AsyncConnection], Awaitable[Result | InventoryError]]

KEPT_FOR: Final = timedelta(hours=24)
REAPED_AT_ONCE: Final = 1_000
LOCK_NOT_AVAILABLE: Final = "55P03"
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


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """The result of a write, and whether it was kept from an earlier request."""

    result: Result
    replayed: bool


@dataclass(frozen=True, slots=True)
class Request(Generic[Result]):
    """A write: its name, all of its validated input, and what its result is."""

    operation: str
    content: object
    result: TypeAdapter[Result]

    @property
    def fingerprint(self) -> bytes:
        """What tells two requests apart that came with one key."""
        content = [self.operation, self.content]
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


async def write_once(
    database: Database,
    caller: Caller,
    key: str | None,
    request: Request[Result],
    work: Work[Result],
) -> Done[Result]:
    """Do the work in a transaction; under a key, at most once.

    The work returns its refusals, so that they are kept; what it raises is kept by nobody.

    Raises:
        ValidationFailed: the key is malformed.
        IdempotencyKeyReused: it came with another request.
        IdempotencyInFlight: its first request has not ended within the lock timeout.
        InventoryError: what the work refused, now or then.

    """
    if key is not None and not _KEY.fullmatch(key):
        raise invalid_field("idempotencyKey", "must be 1 to 255 visible ASCII characters")

    async def whole(connection: AsyncConnection) -> Done[Result | InventoryError]:
        if key is None:
            return Done(await work(connection), replayed=False)
        row = {"mine": caller.tenant, "my_subject": caller.subject, "my_key": key}
        if not await _claim(connection, {**row, "my_fingerprint": request.fingerprint}):
            kept = (await connection.execute(_kept(), row)).one()
            if kept.fingerprint != request.fingerprint:
                message = "This idempotency key belongs to another request; use a new one."
                raise IdempotencyKeyReused(message)
            again: Result | InventoryError = _decoded(request, kept.outcome)
            return Done(again, replayed=True)
        outcome = await work(connection)
        await connection.execute(_keep(), {**row, "my_outcome": _encoded(request, outcome)})
        return Done(outcome, replayed=False)

    done = await database.transaction(whole)
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
            idempotency_key.c.created_at < datetime.now(UTC) - KEPT_FOR,
        )
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

    reaped = batch = await database.transaction(work)
    while batch == REAPED_AT_ONCE:
        batch = await database.transaction(work)
        reaped += batch
    return reaped


async def _claim(connection: AsyncConnection, row: dict[str, object]) -> bool:
    """Insert the key, or take over one that is past its time; False if it is somebody's."""
    now = datetime.now(UTC)
    try:
        claimed = await connection.execute(
            _insert(connection.dialect.name), {**row, "now": now, "expired": now - KEPT_FOR}
        )
    except DBAPIError as error:
        if state_of(error) != LOCK_NOT_AVAILABLE:
            raise
        message = "The first request with this idempotency key has not ended yet; try again."
        raise IdempotencyInFlight(message) from error
    return claimed.first() is not None


def _encoded(request: Request[Result], outcome: Result | InventoryError) -> str:
    if isinstance(outcome, InventoryError):
        refusal = {"code": outcome.code, "message": outcome.message, "details": outcome.details}
        return orjson.dumps({"refusal": refusal}).decode()
    return orjson.dumps({"result": request.result.dump_python(outcome)}).decode()


def _decoded(request: Request[Result], text: str) -> Result | InventoryError:
    outcome = orjson.loads(text)
    if "refusal" in outcome:
        refusal = outcome["refusal"]
        return _ERRORS[refusal["code"]](refusal["message"], details=refusal["details"])
    return request.result.validate_python(outcome["result"])


@cache
def _insert(dialect: str) -> Executable:
    # SQLite's INSERT has the same methods.
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(idempotency_key).values(
        tenant_id=bindparam("mine", type_=Text),
        subject=bindparam("my_subject", type_=Text),
        key=bindparam("my_key", type_=Text),
        fingerprint=bindparam("my_fingerprint"),
        created_at=bindparam("now", type_=UtcDateTime),
    )
    replaced: Executable = statement.on_conflict_do_update(
        index_elements=["tenant_id", "subject", "key"],
        set_={name: statement.excluded[name] for name in ("fingerprint", "outcome", "created_at")},
        where=idempotency_key.c.created_at < bindparam("expired", type_=UtcDateTime),
    ).returning(idempotency_key.c.key)
    return replaced


@cache
def _kept() -> Executable:
    return select(idempotency_key.c.fingerprint, idempotency_key.c.outcome).where(*_mine())


@cache
def _keep() -> Executable:
    return (
        update(idempotency_key).where(*_mine()).values(outcome=bindparam("my_outcome", type_=Text))
    )


def _mine() -> list[Any]:
    return [
        idempotency_key.c.tenant_id == bindparam("mine", type_=Text),
        idempotency_key.c.subject == bindparam("my_subject", type_=Text),
        idempotency_key.c.key == bindparam("my_key", type_=Text),
    ]
