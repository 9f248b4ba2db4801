"""Bearer token -> Principal: who asks, for which tenant, and what they may do.

A token reads `inv_<tenant>-<secret>`. The tenant in it only says where to look; what counts is the
hash of the whole token. A JWT of a configured identity provider names its tenant in a claim.
"""

import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, select

from app.database.clocks import Present
from app.database.engine import Database
from app.database.tables import api_token, tenant
from app.errors import Unauthenticated
from app.runtime.fair_loop import charge

if TYPE_CHECKING:
    from app.auth.jwt import IdentityProvider
    from app.auth.rate_limits import Rates
from app.domain.caller import Principal, Scope

MAX_TOKEN_LENGTH: Final = 256
MAX_JWT_LENGTH: Final = 4_096
MAX_CACHED_TOKENS: Final = 10_000
TOKEN_PREFIX: Final = "inv_"  # noqa: S105 - its public part
JWT_DOTS: Final = 2
# What a token is compared with when there is none like it: no text has this hash.
NO_HASH: Final = bytes(32)

TOKEN_STATEMENT: Final = (
    select(
        api_token.c.id,
        api_token.c.email,
        api_token.c.scopes,
        api_token.c.expires_at,
        api_token.c.token_hash,
        tenant.c.cursor_key,
        Present().label("now"),
    )
    .join(tenant, tenant.c.tenant_id == api_token.c.tenant_id)
    .where(
        api_token.c.tenant_id == bindparam("tenant"),
        api_token.c.token_hash == bindparam("hash"),
        api_token.c.revoked_at.is_(None),
    )
)
TENANT_STATEMENT: Final = select(tenant.c.cursor_key, Present().label("now")).where(
    tenant.c.tenant_id == bindparam("tenant")
)


class Authenticator:
    """Checks credentials, trusts one that was good for a short time, and counts its requests."""

    def __init__(
        self,
        database: Database,
        *,
        cache_seconds: float,
        provider: "IdentityProvider | None" = None,
        rates: "Rates | None" = None,
    ) -> None:
        self._database = database
        self._cache_seconds = cache_seconds
        self._provider = provider
        self._rates = rates
        self._known: dict[bytes, tuple[float, Principal]] = {}
        self._used: dict[tuple[str, str], datetime] = {}
        # How far this process's clock is ahead of the database's.
        self._ahead = timedelta()

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return who sent an Authorization header, and charge the request to the tenant.

        Raises:
            Unauthenticated: there is none, or its token is unknown, expired or revoked.
            RateLimited: it has sent too many.

        """
        principal = await self.identify(authorization)
        if self._rates is not None:
            await self._rates.admit(principal.tenant_id, principal.subject)
        await charge(principal.tenant_id)
        return principal

    async def identify(self, authorization: str | None) -> Principal:
        """Return who an Authorization header names.

        Raises:
            Unauthenticated: there is none, or its token is unknown, expired or revoked.

        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            message = "Send a credential in the header `Authorization: Bearer TOKEN`."
            raise Unauthenticated(message)
        principal = await self._principal(token)
        if principal is None or self._is_over(principal.expires_at):
            message = "The token is unknown, expired or revoked."
            raise Unauthenticated(message)
        return principal

    def take_used(self) -> dict[tuple[str, str], datetime]:
        """Return when tokens, by tenant and id, were last looked up, and forget it."""
        used, self._used = self._used, {}
        return used

    async def _principal(self, token: str) -> Principal | None:
        longest = MAX_JWT_LENGTH if self._provider else MAX_TOKEN_LENGTH
        if len(token) > longest or not token.isascii() or "\x00" in token:
            return None
        digest = token_hash(token)
        now = time.monotonic()
        checked_at, principal = self._known.get(digest, (0.0, None))
        if principal and now - checked_at < self._cache_seconds:
            return principal
        self._known.pop(digest, None)
        principal = await self._look_up(token, digest)
        if principal and self._cache_seconds:
            if len(self._known) >= MAX_CACHED_TOKENS:
                self._known.clear()
            self._known[digest] = (now, principal)
        return principal

    async def _look_up(self, token: str, digest: bytes) -> Principal | None:
        # A JWT has two dots, and a token of ours has none.
        if self._provider is not None and token.count(".") == JWT_DOTS:
            return await self._named_by(self._provider, token)
        tenant_id, dash, _ = token.removeprefix(TOKEN_PREFIX).partition("-")
        if not dash or len(token) > MAX_TOKEN_LENGTH:
            return None
        async with self._database.snapshot(tenant_id=tenant_id, is_proven=False) as snapshot:
            rows = await snapshot.rows(TOKEN_STATEMENT, {"tenant": tenant_id, "hash": digest})
        kept = rows[0].token_hash if rows else NO_HASH
        if not hmac.compare_digest(kept, digest):
            return None
        row = rows[0]
        self._ahead = datetime.now(UTC) - row.now
        self._used[tenant_id, row.id] = row.now
        scopes = frozenset(Scope(scope) for scope in row.scopes.split())
        return Principal(tenant_id, row.id, row.email, scopes, row.cursor_key, row.expires_at)

    async def _named_by(self, provider: "IdentityProvider", token: str) -> Principal | None:
        claims = await provider.claims(token)
        if claims is None:
            return None
        async with self._database.snapshot() as snapshot:
            rows = await snapshot.rows(TENANT_STATEMENT, {"tenant": claims.tenant})
        if not rows:
            return None
        self._ahead = datetime.now(UTC) - rows[0].now
        return Principal(
            claims.tenant,
            claims.subject,
            claims.email,
            frozenset(scope for scope in Scope if scope in claims.scopes),
            rows[0].cursor_key,
            claims.expires_at,
        )

    def _is_over(self, expires_at: datetime | None) -> bool:
        return expires_at is not None and expires_at <= datetime.now(UTC) - self._ahead


def token_hash(token: str) -> bytes:
    """Return what is stored of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()
