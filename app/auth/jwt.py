"""Tokens of an identity provider (JWT): who they name, once everything about them holds.

Only the keys that the operator configured count. What a token says of keys itself (`jku`, `jwk`,
`x5u`) is never looked at.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard

import httpx
import jwt
import structlog
from jwt import PyJWK

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
# Keys are refreshed when they are this old, or when a token names an unknown one; but after each
# attempt, successful or not, there is a pause whatever the tokens say.
KEPT_SECONDS: Final = 300.0
COOLDOWN_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 200


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
        except jwt.PyJWTError:
            return None
        key = await self._keys.key(header["kid"]) if _is_plain(header) else None
        if key is None:
            return None
        try:
            return self._read(token, key)
        except jwt.PyJWTError:
            return None
        except Exception as error:  # noqa: BLE001 - an odd key may make PyJWT or cryptography raise anything
            log.warning("identity_provider_key_failed", kid=header["kid"], error=repr(error))
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
    """The provider's public keys by their ids, kept while the provider is away."""

    def __init__(self, source: str, algorithms: tuple[str, ...]) -> None:
        self._source = source
        self._algorithms = algorithms
        self._keys: dict[str, PyJWK] = {}
        self._asked_at = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        # It reads the system's certificates, which takes 20 ms.
        self._tls = ssl.create_default_context()

    async def key(self, id_: str) -> PyJWK | None:
        """Key of an id. Only a request that names an unknown key waits for the provider.

        Raises:
            Unavailable: there is no key at all, and the provider gives none.

        """
        is_known = id_ in self._keys
        pause = KEPT_SECONDS if is_known else COOLDOWN_SECONDS
        if self._refreshing is None and time.monotonic() - self._asked_at > pause:
            self._refreshing = asyncio.create_task(self._refresh())
        if not is_known and self._refreshing is not None:
            # Other requests may wait for it too: it outlives one that hangs up.
            await asyncio.shield(self._refreshing)
        if not self._keys:
            message = "The identity provider's keys cannot be read; try again."
            raise Unavailable(message)
        return self._keys.get(id_)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                document = await _fetch(self._source, self._tls)
            self._keys = _keys_of(json.loads(document), self._algorithms)
        except Exception as error:  # noqa: BLE001 - the provider decides what goes wrong
            log.warning("identity_provider_away", error=repr(error)[:1_000])
        finally:
            self._asked_at = time.monotonic()
            self._refreshing = None


class BadKeys(ValueError):
    """The provider's document has no keys that could be used."""


async def _fetch(source: str, tls: ssl.SSLContext) -> bytes:
    """Read a document of bounded size. A cancelled fetch leaves no thread and no connection."""
    if not source.startswith(("https://", "http://")):
        return await asyncio.to_thread(_read_file, Path(source))
    document = bytearray()
    async with (
        httpx.AsyncClient(verify=tls, timeout=None) as client,  # noqa: S113 - the caller's
        client.stream("GET", source, headers={"Accept-Encoding": "identity"}) as response,
    ):
        if response.status_code != httpx.codes.OK:
            message = f"status {response.status_code}, not 200"
            raise BadKeys(message)
        async for chunk in response.aiter_raw():
            document += chunk
            _check_size(document)
    return bytes(document)


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        message = f"{path} is not a file"
        raise BadKeys(message)
    with path.open("rb") as file:
        document = file.read(MAX_DOCUMENT_BYTES + 1)
    _check_size(document)
    return document


def _check_size(document: bytes | bytearray) -> None:
    if len(document) > MAX_DOCUMENT_BYTES:
        message = f"the document has more than {MAX_DOCUMENT_BYTES} bytes"
        raise BadKeys(message)


def _keys_of(document: object, algorithms: tuple[str, ...]) -> dict[str, PyJWK]:
    """Usable keys of a JWKS by their ids; the others are skipped.

    Raises:
        BadKeys: none can be used, or there are too many.

    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        message = f"the document is not a JWKS of at most {MAX_KEYS} keys"
        raise BadKeys(message)
    keys: dict[str, PyJWK] = {}
    for entry in entries:
        key = _key_of(entry)
        if key is None or key.algorithm_name not in algorithms:
            continue
        if isinstance(key.key_id, str) and key.public_key_use in (None, "sig"):
            keys[key.key_id] = key
    if not keys:
        message = f"no key of the document signs by {' or '.join(algorithms)}"
        raise BadKeys(message)
    return keys


def _key_of(entry: dict[str, Any]) -> PyJWK | None:
    try:
        return PyJWK(entry)
    except Exception:  # noqa: BLE001 - PyJWT and cryptography raise many things for odd keys
        return None


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
