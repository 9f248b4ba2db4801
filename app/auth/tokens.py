"""Authentication: from a bearer token to a Principal with its tenant and scopes.

An API token has the form `inv_<tenant id>-<secret>`. The tenant id selects the rows to search; the
hash of the whole token proves it. A JWT has its tenant id in a claim.
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
from app.domain.caller import Principal, Scope
from app.errors import Unauthenticated
from app.runtime.fair_loop import charge
from app.runtime.request_facts import current_request_facts

if TYPE_CHECKING:
    from app.auth.jwt import IdentityProvider
    from app.auth.rate_limits import RateLimiter

MAX_TOKEN_LENGTH: Final = 256
MAX_JWT_LENGTH: Final = 4_096
MAX_CACHED_TOKENS: Final = 10_000
TOKEN_PREFIX: Final = "inv_"  # noqa: S105 - the public part of tokens
JWT_DOTS: Final = 2
INVALID_TOKEN: Final = "The token is unknown, expired or revoked."  # noqa: S105 - a message
# The hash that an unknown token is compared with; no token has it.
ABSENT_HASH: Final = bytes(32)

TOKEN_STATEMENT: Final = (
    select(
        api_token.c.id,
        api_token.c.email,
        api_token.c.scopes,
        api_token.c.warehouse_ids,
        api_token.c.expires_at,
        api_token.c.token_hash,
        tenant.c.cursor_key,
        Present().label("now"),
    )
    .join(tenant, tenant.c.tenant_id == api_token.c.tenant_id)
    .where(
        api_token.c.tenant_id == bindparam("tenant_id"),
        api_token.c.token_hash == bindparam("hash"),
        api_token.c.revoked_at.is_(None),
        tenant.c.deleted_since.is_(None),
    )
)
TENANT_STATEMENT: Final = select(tenant.c.cursor_key, Present().label("now")).where(
    tenant.c.tenant_id == bindparam("tenant_id"), tenant.c.deleted_since.is_(None)
)


class Authenticator:
    """Checks credentials, caches valid ones for `cache_seconds`, and counts their requests."""

    def __init__(
        self,
        database: Database,
        *,
        cache_seconds: float,
        provider: "IdentityProvider | None" = None,
        rate_limiter: "RateLimiter | None" = None,
    ) -> None:
        self._database = database
        self._cache_seconds = cache_seconds
        self._provider = provider
        self._rate_limiter = rate_limiter
        self._cache: dict[bytes, tuple[float, Principal]] = {}
        self._last_uses: dict[tuple[str, str], datetime] = {}
        # The clock of this process minus the clock of the database.
        self._clock_offset = timedelta()

    async def authenticate(self, authorization: str | None) -> Principal:
        """Principal of an Authorization header. The request is counted and charged to its tenant.

        Raises:
            Unauthenticated: the header is missing, or its token is unknown, expired or revoked.
            RateLimited: the credential exceeds its rate limit.

        """
        principal = await self.identify(authorization)
        if facts := current_request_facts.get():
            facts.tenant_id, facts.token_id = principal.tenant_id, principal.subject
        if self._rate_limiter is not None:
            await self._rate_limiter.admit(principal.tenant_id, principal.subject)
        await charge(principal.tenant_id)
        return principal

    async def identify(self, authorization: str | None) -> Principal:
        """Principal of an Authorization header. The request is not counted.

        Raises:
            Unauthenticated: the header is missing, or its token is unknown, expired or revoked.

        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            message = "Send a credential in the header `Authorization: Bearer TOKEN`."
            raise Unauthenticated(message)
        principal = await self._principal(token)
        if principal is None or self._is_expired(principal.expires_at):
            raise Unauthenticated(INVALID_TOKEN)
        return principal

    @property
    def cached_tokens(self) -> int:
        """The number of cached tokens."""
        return len(self._cache)

    def take_last_uses(self) -> dict[tuple[str, str], datetime]:
        """Last uses of tokens since the previous call, by tenant id and token id."""
        last_uses, self._last_uses = self._last_uses, {}
        return last_uses

    async def _principal(self, token: str) -> Principal | None:
        longest = MAX_JWT_LENGTH if self._provider else MAX_TOKEN_LENGTH
        if len(token) > longest or not token.isascii() or "\x00" in token:
            return None
        digest = token_hash(token)
        now = time.monotonic()
        checked_at, principal = self._cache.get(digest, (0.0, None))
        if principal and now - checked_at < self._cache_seconds:
            return principal
        self._cache.pop(digest, None)
        principal = await self._look_up(token, digest)
        if principal and self._cache_seconds:
            if len(self._cache) >= MAX_CACHED_TOKENS:
                self._cache.clear()
            self._cache[digest] = (now, principal)
        return principal

    async def _look_up(self, token: str, digest: bytes) -> Principal | None:
        # A JWT has two dots, an API token has none.
        if self._provider is not None and token.count(".") == JWT_DOTS:
            return await self._look_up_jwt(self._provider, token)
        tenant_id, dash, _ = token.removeprefix(TOKEN_PREFIX).partition("-")
        if not dash or len(token) > MAX_TOKEN_LENGTH:
            return None
        async with self._database.snapshot(tenant_id=tenant_id, is_proven=False) as snapshot:
            rows = await snapshot.rows(TOKEN_STATEMENT, {"tenant_id": tenant_id, "hash": digest})
        stored = rows[0].token_hash if rows else ABSENT_HASH
        if not hmac.compare_digest(stored, digest):
            return None
        row = rows[0]
        self._clock_offset = datetime.now(UTC) - row.now
        self._last_uses[tenant_id, row.id] = row.now
        scopes = frozenset(Scope(scope) for scope in row.scopes.split())
        bound = row.warehouse_ids
        return Principal(
            tenant_id,
            row.id,
            row.email,
            scopes,
            row.cursor_key,
            row.expires_at,
            warehouse_ids=None if bound is None else frozenset(bound.split(" ")),
        )

    async def _look_up_jwt(self, provider: "IdentityProvider", token: str) -> Principal | None:
        claims = await provider.claims(token)
        if claims is None:
            return None
        async with self._database.snapshot() as snapshot:
            rows = await snapshot.rows(TENANT_STATEMENT, {"tenant_id": claims.tenant_id})
        if not rows:
            return None
        self._clock_offset = datetime.now(UTC) - rows[0].now
        return Principal(
            claims.tenant_id,
            claims.subject,
            claims.email,
            frozenset(scope for scope in Scope if scope in claims.scopes),
            rows[0].cursor_key,
            claims.expires_at,
            claims.warehouse_ids,
        )

    def _is_expired(self, expires_at: datetime | None) -> bool:
        return expires_at is not None and expires_at <= datetime.now(UTC) - self._clock_offset


def token_hash(token: str) -> bytes:
    """Hash under which a token is stored. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()
