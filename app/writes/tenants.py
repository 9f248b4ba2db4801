"""Tenants and their API tokens."""

import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Final

from sqlalchemy import ColumnElement, Executable, Text, exists, func, select, true, update

from app.auth.tokens import TOKEN_PREFIX, token_hash
from app.database.clocks import Present
from app.database.columns import UtcDateTime
from app.database.engine import Database
from app.database.parameters import TENANT, as_json, rows_from
from app.database.session import DriverSession
from app.database.tables import api_token, tenant, warehouse
from app.domain.availability import availability_limit_problem
from app.domain.caller import MAX_BOUND_WAREHOUSES, Scope
from app.domain.ids import ulid
from app.domain.persons import email_problem, normalized_email
from app.errors import NotFound, invalid_field, warehouse_not_found

TENANT_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
# The tokens of this tenant are public, and every start of a demo empties it.
DEMO_TENANT: Final = "demo"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token with its text, which is shown once."""

    id: str
    token: str
    expires_at: datetime | None


async def create_tenant(database: Database, tenant_id: str, *, name: str) -> None:
    """Create a tenant.

    Raises:
        ValidationFailed: the id is malformed, reserved or taken.

    """
    if problem := tenant_id_problem(tenant_id):
        raise invalid_field("id", problem)

    async def work(session: DriverSession) -> None:
        taken = select(exists().where(tenant.c.tenant_id == tenant_id))
        if await session.scalar(taken):
            raise invalid_field("id", f"{tenant_id} is taken")
        await insert_tenant(session, tenant_id, name=name)

    await database.transaction(work)


def tenant_id_problem(tenant_id: str) -> str | None:
    """Describe the fault of the id of a new tenant, if any."""
    if not TENANT_ID.fullmatch(tenant_id):
        return "must be 1 to 32 of a-z, 0-9 and _, a letter first"
    if tenant_id == DEMO_TENANT:
        return "must not be demo, which `inventory demo` empties"
    return None


async def update_permissions(
    database: Database,
    tenant_id: str,
    *,
    oversell: bool | None = None,
    no_expiry: bool | None = None,
) -> None:
    """Permit or forbid a tenant reservations beyond the available quantity, or without expiry.

    None leaves a permission as it is.

    Raises:
        NotFound: the tenant does not exist.

    """
    permissions = {"permits_oversell_since": oversell, "permits_no_expiry_since": no_expiry}
    since = {
        column: Present() if permitted else None
        for column, permitted in permissions.items()
        if permitted is not None
    }

    async def work(session: DriverSession) -> None:
        await _update_tenant(session, tenant_id, since)

    await database.transaction(work)


async def set_availability_limit(database: Database, tenant_id: str, limit: int) -> None:
    """Set the largest quantity that the scope `inventory:availability` shows.

    Raises:
        ValidationFailed: the limit is negative or too large.
        NotFound: the tenant does not exist.

    """
    if problem := availability_limit_problem(limit):
        raise invalid_field("availability_limit", problem)

    async def work(session: DriverSession) -> None:
        await _update_tenant(session, tenant_id, {"availability_limit": limit})

    await database.transaction(work)


async def insert_tenant(session: DriverSession, tenant_id: str, *, name: str) -> None:
    """Insert a tenant with a cursor key of its own."""
    row = {
        "tenant_id": tenant_id,
        "name": name,
        "cursor_key": secrets.token_bytes(32),
        "created_at": Present(),
    }
    await session.execute(tenant.insert().values(row))


async def create_token(
    database: Database,
    tenant_id: str,
    *,
    name: str,
    email: str,
    scopes: Collection[Scope],
    expires_in: timedelta | None = None,
    warehouse_ids: Collection[str] | None = None,
) -> NewToken:
    """Create a token of 256 random bits; the database stores only its hash.

    `warehouse_ids` are the warehouses that the token is bound to. None: it is not bound.

    Raises:
        ValidationFailed: the e-mail address is empty or too long, or has unprinted characters; or
            a bound token has no warehouse, too many, or the scope inventory:admin.
        NotFound: the tenant does not exist.
        WarehouseNotFound.

    """
    if warehouse_ids is not None:
        _check_bound(scopes, warehouse_ids)
    email = normalized_email(email)
    if problem := email_problem(email):
        raise invalid_field("email", problem)
    token = new_secret(tenant_id)

    async def work(session: DriverSession) -> NewToken:
        if not await session.scalar(select(exists().where(_is_served(tenant_id)))):
            raise tenant_not_found(tenant_id)
        for id_ in sorted(warehouse_ids or ()):
            is_known = (warehouse.c.tenant_id == tenant_id) & (warehouse.c.id == id_)
            if not await session.scalar(select(exists().where(is_known))):
                raise warehouse_not_found(id_)
        expires_at = await _present(session) + expires_in if expires_in else None
        id_ = await insert_token(
            session,
            tenant_id,
            token=token,
            name=name,
            email=email,
            scopes=scopes,
            expires_at=expires_at,
            warehouse_ids=warehouse_ids,
        )
        return NewToken(id_, token, expires_at)

    return await database.transaction(work)


def _check_bound(scopes: Collection[Scope], warehouse_ids: Collection[str]) -> None:
    if not 1 <= len(warehouse_ids) <= MAX_BOUND_WAREHOUSES:
        message = f"must be 1 to {MAX_BOUND_WAREHOUSES}, and are {len(warehouse_ids)}"
        raise invalid_field("warehouses", message)
    if Scope.ADMIN in scopes:
        message = f"must not have {Scope.ADMIN} if the token is bound to warehouses"
        raise invalid_field("scopes", message)


async def insert_token(
    session: DriverSession,
    tenant_id: str,
    *,
    token: str,
    name: str,
    email: str,
    scopes: Iterable[Scope],
    expires_at: datetime | None = None,
    warehouse_ids: Iterable[str] | None = None,
) -> str:
    """Insert the hash of a token; return the id of its row."""
    row = {
        "tenant_id": tenant_id,
        "id": f"tok_{ulid()}",
        "name": name,
        "email": email,
        "scopes": " ".join(sorted(scopes)),
        "warehouse_ids": None if warehouse_ids is None else " ".join(sorted(set(warehouse_ids))),
        "token_hash": token_hash(token),
        "created_at": Present(),
        "expires_at": expires_at,
    }
    await session.execute(api_token.insert().values(row))
    return str(row["id"])


async def revoke_token(database: Database, tenant_id: str, token_id: str) -> None:
    """Revoke a token permanently.

    Raises:
        NotFound: the tenant has no such token.

    """

    async def work(session: DriverSession) -> None:
        is_token = (api_token.c.tenant_id == tenant_id) & (api_token.c.id == token_id)
        if not await session.scalar(select(exists().where(is_token))):
            message = (
                f"Tenant {tenant_id} has no token {token_id}; `inventory token list` shows all."
            )
            raise NotFound(message)
        is_valid = is_token & api_token.c.revoked_at.is_(None)
        await session.execute(update(api_token).where(is_valid).values(revoked_at=Present()))

    await database.transaction(work)


async def rotate_token(
    database: Database, tenant_id: str, token_id: str, *, overlap: timedelta
) -> NewToken:
    """Create a token like a valid one, which expires after the overlap.

    The new token has the lifetime that the old one had.

    Raises:
        NotFound: the tenant has no such valid token.

    """
    token = new_secret(tenant_id)
    is_token = (api_token.c.tenant_id == tenant_id) & (api_token.c.id == token_id)

    async def work(session: DriverSession) -> NewToken:
        now = await _present(session)
        rows = await session.execute(select(api_token).where(is_token).with_for_update())
        old = rows[0] if rows else None
        if old is None or old.revoked_at or (old.expires_at and old.expires_at <= now):
            message = (
                f"Tenant {tenant_id} has no valid token {token_id}; `inventory token list` "
                "shows all."
            )
            raise NotFound(message)
        expires_at = now + (old.expires_at - old.created_at) if old.expires_at else None
        new_id = await insert_token(
            session,
            tenant_id,
            token=token,
            name=old.name,
            email=old.email,
            scopes=[Scope(scope) for scope in old.scopes.split()],
            expires_at=expires_at,
            warehouse_ids=None if old.warehouse_ids is None else old.warehouse_ids.split(" "),
        )
        ends_at = min(old.expires_at or now + overlap, now + overlap)
        await session.execute(update(api_token).where(is_token).values(expires_at=ends_at))
        return NewToken(new_id, token, expires_at)

    return await database.transaction(work)


async def store_token_uses(database: Database, uses: Mapping[tuple[str, str], datetime]) -> None:
    """Store when tokens were last used, by tenant id and token id."""
    by_tenant: dict[str, dict[str, datetime]] = {}
    for (tenant_id, token_id), at in uses.items():
        by_tenant.setdefault(tenant_id, {})[token_id] = at
    for tenant_id, tokens in by_tenant.items():
        await database.transaction(
            partial(_store_token_uses, tenant_id, tokens), tenant_id=tenant_id
        )


async def _store_token_uses(
    tenant_id: str, tokens: Mapping[str, datetime], session: DriverSession
) -> None:
    rows = as_json({"id": token_id, "at": at} for token_id, at in sorted(tokens.items()))
    parameters = {"tenant_id": tenant_id, "rows": rows}
    await session.rows(_update_last_uses(session.dialect), parameters)


@cache
def _update_last_uses(dialect: str) -> Executable:
    uses = rows_from(dialect, "rows", {"id": Text(), "at": UtcDateTime()})
    return (
        update(api_token)
        .where(
            api_token.c.tenant_id == TENANT,
            api_token.c.id == uses.c["id"],
            # Another worker may have stored a later use.
            func.coalesce(api_token.c.last_used_at < uses.c["at"], true()),
        )
        .values(last_used_at=uses.c["at"])
    )


async def _update_tenant(
    session: DriverSession, tenant_id: str, values: Mapping[str, object]
) -> None:
    statement = update(tenant).where(_is_served(tenant_id)).values(values)
    if not await session.execute(statement.returning(tenant.c.tenant_id)):
        raise tenant_not_found(tenant_id)


async def _present(session: DriverSession) -> datetime:
    now: datetime = await session.scalar(select(Present()))
    return now


def new_secret(tenant_id: str) -> str:
    """Return the text of a new token: 256 random bits."""
    return f"{TOKEN_PREFIX}{tenant_id}-{secrets.token_urlsafe(32)}"


def _is_served(tenant_id: str) -> ColumnElement[bool]:
    return (tenant.c.tenant_id == tenant_id) & tenant.c.deleted_since.is_(None)


def tenant_not_found(tenant_id: str) -> NotFound:
    """Return the refusal of a tenant id that does not exist."""
    return NotFound(f"There is no tenant {tenant_id}; `inventory tenant create` makes one.")
