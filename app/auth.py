"""Bearer token -> Principal: who asks, for which tenant, and what they may do.

A token reads `inv_<tenant>-<secret>`. The tenant in it only says where to look; what counts is the
hash of the whole token.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import bindparam, select

from app.database import Database
from app.errors import InsufficientScope, Unauthenticated
from app.models import api_token, tenant

MAX_TOKEN_LENGTH: Final = 256
MAX_CACHED_TOKENS: Final = 10_000


class Scope(StrEnum):
    """What a credential may do."""

    READ = "inventory:read"
    WRITE = "inventory:write"
    ADMIN = "inventory:admin"


# Reading needs read or write, writing needs write, and admin implies both.
SUFFICIENT: Final = {
    Scope.READ: frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN}),
    Scope.WRITE: frozenset({Scope.WRITE, Scope.ADMIN}),
    Scope.ADMIN: frozenset({Scope.ADMIN}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    tenant: str
    subject: str
    email: str
    scopes: frozenset[Scope]
    cursor_key: bytes
    expires_at: datetime | None

    def require(self, needed: Scope) -> None:
        """Refuse what the scopes do not cover.

        Raises:
            InsufficientScope: none of the scopes suffices.

        """
        if self.scopes.isdisjoint(SUFFICIENT[needed]):
            message = f"This needs the scope {needed}, which the token does not have."
            raise InsufficientScope(message, details=[{"required_scope": needed.value}])


TOKEN_STATEMENT: Final = (
    select(
        api_token.c.id,
        api_token.c.email,
        api_token.c.scopes,
        api_token.c.expires_at,
        tenant.c.cursor_key,
    )
    .join(tenant, tenant.c.tenant_id == api_token.c.tenant_id)
    .where(
        api_token.c.tenant_id == bindparam("tenant"),
        api_token.c.token_hash == bindparam("hash"),
        api_token.c.revoked_at.is_(None),
    )
)


class Authenticator:
    """Checks credentials, and trusts one that was good for a short time."""

    def __init__(self, database: Database, *, cache_seconds: float) -> None:
        self._database = database
        self._cache_seconds = cache_seconds
        self._known: dict[bytes, tuple[float, Principal]] = {}

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return who sent an Authorization header.

        Raises:
            Unauthenticated: there is none, or its token is unknown, expired or revoked.

        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            message = "Send a credential in the header `Authorization: Bearer TOKEN`."
            raise Unauthenticated(message)
        principal = await self._principal(token)
        if principal is None or _is_over(principal.expires_at):
            message = "The token is unknown, expired or revoked."
            raise Unauthenticated(message)
        return principal

    async def _principal(self, token: str) -> Principal | None:
        tenant_id, dash, _ = token.removeprefix("inv_").partition("-")
        if not dash or len(token) > MAX_TOKEN_LENGTH or not token.isascii() or "\x00" in token:
            return None
        digest = hash_of(token)
        now = time.monotonic()
        checked_at, principal = self._known.get(digest, (0.0, None))
        if principal and now - checked_at < self._cache_seconds:
            return principal
        self._known.pop(digest, None)
        principal = await self._look_up(tenant_id, digest)
        if principal and self._cache_seconds:
            if len(self._known) >= MAX_CACHED_TOKENS:
                self._known.clear()
            self._known[digest] = (now, principal)
        return principal

    async def _look_up(self, tenant_id: str, digest: bytes) -> Principal | None:
        async with self._database.snapshot() as snapshot:
            rows = await snapshot.rows(TOKEN_STATEMENT, {"tenant": tenant_id, "hash": digest})
        if not rows:
            return None
        row = rows[0]
        scopes = frozenset(Scope(scope) for scope in row.scopes.split())
        return Principal(tenant_id, row.id, row.email, scopes, row.cursor_key, row.expires_at)


def hash_of(token: str) -> bytes:
    """Return what is stored of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def _is_over(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at <= datetime.now(UTC)
