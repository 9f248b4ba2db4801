"""Tokens of an identity provider (JWT): who they name, once everything about them holds.

Only the keys that the operator configured count. What a token says of keys itself (`jku`, `jwk`,
`x5u`) is never looked at.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard

import jwt
import structlog
from jwt import PyJWK, PyJWKClient, PyJWKSet

from app.errors import Unavailable
from app.settings import Settings

log = structlog.get_logger()

FAMILIES: Final = {
    "RS": ("RS256", "RS384", "RS512"),
    "PS": ("PS256", "PS384", "PS512"),
    "ES": ("ES256", "ES384", "ES512"),
    "EdDSA": ("EdDSA",),
}
REQUIRED: Final = ("exp", "iss", "aud", "sub")
# A header that says it is another kind of token than one that gives access.
TYPES: Final = ("jwt", "at+jwt", "application/at+jwt")
MAX_SUBJECT_LENGTH: Final = 255
# What a provider says of an address that its user may have made up.
UNVERIFIED: Final = (False, "false")
# The year 3000; what lies far beyond is no date that Python knows.
LATEST_END: Final = 32_503_680_000
# Keys are asked for again when they are this old, or when a token names one that is not known;
# but not more often than every ten seconds, whatever the tokens say.
KEPT_SECONDS: Final = 300.0
COOLDOWN_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says."""

    tenant: str
    subject: str
    email: str
    scopes: frozenset[str]
    expires_at: datetime


class IdentityProvider:
    """Reads the tokens of one issuer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._algorithms = FAMILIES[settings.jwt_family]
        self._keys = KeySet(settings.jwt_jwks or "", self._algorithms)

    async def claims(self, token: str) -> Claims | None:
        """Return what a token says; None if anything about it is wrong.

        Raises:
            Unavailable: there are no keys to check it with, because the provider is away.

        """
        try:
            header = jwt.get_unverified_header(token)
            if not _is_plain(header):
                return None
            key = await self._keys.key(header["kid"])
            return self._read(token, key) if key is not None else None
        except jwt.PyJWTError:
            return None

    def _read(self, token: str, key: PyJWK) -> Claims | None:
        settings = self._settings
        claims = jwt.decode(
            token,
            key,
            algorithms=self._algorithms,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            leeway=settings.jwt_leeway_seconds,
            options={"require": [*REQUIRED]},
        )
        tenant = claims.get(settings.jwt_tenant_claim)
        expires_at, subject = int(claims["exp"]), claims["sub"]
        email = claims.get(settings.jwt_email_claim)
        if email is None or claims.get("email_verified") in UNVERIFIED:
            email = subject
        if not (_is_name(tenant) and _is_name(subject) and _is_name(email)):
            return None
        if expires_at > LATEST_END:
            return None
        end = datetime.fromtimestamp(expires_at, UTC)
        return Claims(
            tenant=tenant,
            subject=f"jwt_{claims['iss']} {subject}",
            email=email,
            scopes=_words(claims.get(settings.jwt_scope_claim)),
            expires_at=end + timedelta(seconds=settings.jwt_leeway_seconds),
        )


class KeySet:
    """The provider's public keys by their ids: fetched when needed, kept while it is away."""

    def __init__(self, source: str, algorithms: tuple[str, ...]) -> None:
        self._source = source
        self._algorithms = algorithms
        self._keys: dict[str, PyJWK] = {}
        self._asked_at = float("-inf")
        self._turn = asyncio.Lock()

    async def key(self, id_: str) -> PyJWK | None:
        """Return a key.

        Raises:
            Unavailable: there is none at all, and the provider cannot be asked.

        """
        age = time.monotonic() - self._asked_at
        if age > KEPT_SECONDS or (id_ not in self._keys and age > COOLDOWN_SECONDS):
            async with self._turn:
                # Another request may have asked while this one waited.
                if time.monotonic() - self._asked_at > COOLDOWN_SECONDS:
                    await self._refresh()
        if not self._keys:
            message = "The identity provider's keys cannot be read; try again."
            raise Unavailable(message)
        return self._keys.get(id_)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(2 * FETCH_SECONDS):
                found = PyJWKSet.from_dict(await asyncio.to_thread(_fetch, self._source))
            self._keys = {key.key_id: key for key in found.keys if key.key_id and self._signs(key)}
        except (jwt.PyJWTError, OSError, ValueError) as error:
            log.warning("identity_provider_away", error=str(error))
        self._asked_at = time.monotonic()

    def _signs(self, key: PyJWK) -> bool:
        return key.public_key_use in (None, "sig") and key.algorithm_name in self._algorithms


def _fetch(source: str) -> dict[str, Any]:
    if source.startswith(("https://", "http://")):
        client = PyJWKClient(source, cache_jwk_set=False, timeout=FETCH_SECONDS)
        fetched: dict[str, Any] = client.fetch_data()
        return fetched
    read = json.loads(Path(source).read_text(encoding="utf-8"))
    if not isinstance(read, dict):
        message = "the file holds no JSON object"
        raise jwt.PyJWKSetError(message)
    return read


def _is_plain(header: Mapping[str, object]) -> bool:
    """Tell whether a header names a key and asks for nothing that is not understood here."""
    kind = header.get("typ", "JWT")
    return (
        isinstance(header.get("kid"), str)
        and "crit" not in header
        and isinstance(kind, str)
        and kind.lower() in TYPES
    )


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_SUBJECT_LENGTH and value.isprintable()


def _words(claim: object) -> frozenset[str]:
    """Return the scopes of a claim: a text with spaces (RFC 8693), or a list."""
    words = claim.split() if isinstance(claim, str) else claim
    if not isinstance(words, list):
        return frozenset()
    return frozenset(word for word in words if isinstance(word, str))
