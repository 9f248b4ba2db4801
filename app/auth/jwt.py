"""JWTs of an identity provider: verification and claims.

Only the configured keys verify a signature. Keys and key addresses in a token (`jku`, `jwk`, `x5u`)
are ignored.
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

from app.domain.caller import MAX_BOUND_WAREHOUSES, Scope
from app.domain.persons import MAX_EMAIL_BYTES, normalized_email
from app.errors import Unavailable
from app.settings import Settings

log = structlog.get_logger()
ALGORITHMS_BY_FAMILY: Final = {
    "RS": ("RS256", "RS384", "RS512"),
    "PS": ("PS256", "PS384", "PS512"),
    "ES": ("ES256", "ES384", "ES512"),
    "EdDSA": ("EdDSA",),
}
REQUIRED_CLAIMS: Final = ("exp", "iss", "aud", "sub")
# Values of the header `typ` that an access token may have; other tokens do not grant access.
TOKEN_TYPES: Final = ("jwt", "at+jwt", "application/at+jwt")
MAX_SUBJECT_BYTES: Final = 255
# Values of the claim `email_verified` for an address that the provider did not verify.
UNVERIFIED: Final = (False, "false")
# The year 3000. Python cannot represent dates beyond the year 9999.
LATEST_END: Final = 32_503_680_000
# Keys are refreshed at this age, or when a token names an unknown key. The cooldown follows each
# attempt, whether it succeeded or failed.
REFRESH_SECONDS: Final = 300.0
COOLDOWN_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 200


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token."""

    tenant_id: str
    subject: str
    email: str
    scopes: frozenset[str]
    expires_at: datetime
    # The warehouses that the token is bound to; None: all.
    warehouse_ids: frozenset[str] | None


class IdentityProvider:
    """Verifies the tokens of one issuer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._algorithms = ALGORITHMS_BY_FAMILY[settings.jwt_family]
        self._keys = KeySet(settings.jwt_jwks or "", self._algorithms)

    async def claims(self, token: str) -> Claims | None:
        """Verify a token and return its claims; None if the token is invalid.

        Raises:
            Unavailable: there are no keys, because the provider is unreachable.

        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return None
        key = await self._keys.key(header["kid"]) if _is_access_token(header) else None
        if key is None:
            return None
        try:
            return self._verify(token, key)
        except jwt.PyJWTError:
            return None
        except Exception as error:  # noqa: BLE001 - for some keys PyJWT and cryptography raise their own and built-in errors
            log.warning("identity_provider_key_unusable", kid=header["kid"], error=repr(error))
            return None

    def _verify(self, token: str, key: PyJWK) -> Claims | None:
        settings = self._settings
        claims = jwt.decode(
            token,
            key,
            algorithms=self._algorithms,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            leeway=settings.jwt_leeway_seconds,
            options={"require": [*REQUIRED_CLAIMS]},
        )
        tenant_id = claims.get(settings.jwt_tenant_claim)
        expires_at, subject = int(claims["exp"]), claims["sub"]
        email = claims.get(settings.jwt_email_claim)
        if email is None or claims.get("email_verified") in UNVERIFIED:
            email = subject
        email = normalized_email(email) if isinstance(email, str) else email
        if not (_is_name(tenant_id) and _is_name(subject) and _is_name(email, MAX_EMAIL_BYTES)):
            return None
        if expires_at > LATEST_END:
            return None
        warehouse_ids, scopes = None, _texts(claims.get(settings.jwt_scope_claim))
        if settings.jwt_warehouses_claim in claims:
            warehouse_ids = _texts(claims[settings.jwt_warehouses_claim])
            # A bound token has no access to the catalogue.
            scopes -= {Scope.ADMIN}
            if not 1 <= len(warehouse_ids) <= MAX_BOUND_WAREHOUSES:
                return None
        end = datetime.fromtimestamp(expires_at, UTC)
        return Claims(
            tenant_id=tenant_id,
            subject=f"jwt_{claims['iss']} {subject}",
            email=email,
            scopes=scopes,
            expires_at=end + timedelta(seconds=settings.jwt_leeway_seconds),
            warehouse_ids=warehouse_ids,
        )


class KeySet:
    """The public keys of the provider by id. Old keys stay valid while it is unreachable."""

    def __init__(self, source: str, algorithms: tuple[str, ...]) -> None:
        self._source = source
        self._algorithms = algorithms
        self._keys: dict[str, PyJWK] = {}
        self._attempted_at = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        # Loading the system's certificates takes 20 ms.
        self._tls = ssl.create_default_context()

    async def key(self, id_: str) -> PyJWK | None:
        """Key by id; None if it is unknown. Only requests with unknown keys wait for the provider.

        Raises:
            Unavailable: no key was ever fetched, and the provider is unreachable.

        """
        is_known = id_ in self._keys
        interval = REFRESH_SECONDS if is_known else COOLDOWN_SECONDS
        if self._refreshing is None and time.monotonic() - self._attempted_at > interval:
            self._refreshing = asyncio.create_task(self._refresh())
        if not is_known and self._refreshing is not None:
            # Shielded, because other requests may wait for it when this one is cancelled.
            await asyncio.shield(self._refreshing)
        if not self._keys:
            message = "The keys of the identity provider cannot be read; try again."
            raise Unavailable(message)
        return self._keys.get(id_)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                document = await _fetch(self._source, self._tls)
            self._keys = _parse_key_set(json.loads(document), self._algorithms)
        except Exception as error:  # noqa: BLE001 - the provider may cause any error
            log.warning("identity_provider_unreachable", error=repr(error)[:1_000])
        finally:
            self._attempted_at = time.monotonic()
            self._refreshing = None


class BadKeys(ValueError):
    """The document of the provider has no usable keys."""


async def _fetch(source: str, tls: ssl.SSLContext) -> bytes:
    """Read a document of at most MAX_DOCUMENT_BYTES. Cancellation closes the connection."""
    if not source.startswith(("https://", "http://")):
        return await asyncio.to_thread(_read_file, Path(source))
    document = bytearray()
    async with (
        httpx.AsyncClient(verify=tls, timeout=None) as client,  # noqa: S113 - the caller has a timeout
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


def _parse_key_set(document: object, algorithms: tuple[str, ...]) -> dict[str, PyJWK]:
    """Usable keys of a JWKS by id; other keys are skipped.

    Raises:
        BadKeys: no key is usable, or there are more than MAX_KEYS.

    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        message = f"the document is not a JWKS of at most {MAX_KEYS} keys"
        raise BadKeys(message)
    keys: dict[str, PyJWK] = {}
    for entry in entries:
        key = _parse_key(entry)
        if key is None or key.algorithm_name not in algorithms:
            continue
        if isinstance(key.key_id, str) and key.public_key_use in (None, "sig"):
            keys[key.key_id] = key
    if not keys:
        message = f"no key of the document signs with {' or '.join(algorithms)}"
        raise BadKeys(message)
    return keys


def _parse_key(entry: dict[str, Any]) -> PyJWK | None:
    try:
        return PyJWK(entry)
    except Exception:  # noqa: BLE001 - PyJWT and cryptography raise many kinds of errors
        return None


def _is_access_token(header: Mapping[str, object]) -> bool:
    """Whether a header names a key and has no critical extensions."""
    type_ = header.get("typ", "JWT")
    return (
        isinstance(header.get("kid"), str)
        and "crit" not in header
        and isinstance(type_, str)
        and type_.lower() in TOKEN_TYPES
    )


def _is_name(value: object, longest: int = MAX_SUBJECT_BYTES) -> TypeGuard[str]:
    if not isinstance(value, str) or not value.isprintable():
        return False
    return 0 < len(value.encode()) <= longest


def _texts(claim: object) -> frozenset[str]:
    """Parse the texts of a claim: a string with spaces (RFC 8693), or a list."""
    texts = claim.split() if isinstance(claim, str) else claim
    if not isinstance(texts, list):
        return frozenset()
    return frozenset(text for text in texts if isinstance(text, str))
