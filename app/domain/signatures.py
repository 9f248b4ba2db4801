"""Signatures of webhooks by the Standard Webhooks specification.

The signed text is the id of the message, the time of the attempt in seconds, and the body. The
package `standardwebhooks` signs by HMAC. It cannot sign by Ed25519, so `cryptography` does.
"""

import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from math import floor
from typing import Final, NamedTuple

from standardwebhooks import Webhook as HmacKey

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the public part of secrets
PRIVATE_KEY_PREFIX: Final = "whsk_"
PUBLIC_KEY_PREFIX: Final = "whpk_"
SECRET_BYTES: Final = 32


class SignatureKind(StrEnum):
    """How the messages of a webhook are signed."""

    HMAC = "hmac"
    ED25519 = "ed25519"


class SigningKey(NamedTuple):
    """A secret that signs; for Ed25519, with the public key that verifies."""

    secret: str
    public_key: str | None


def new_signing_key(kind: SignatureKind) -> SigningKey:
    """Create a random key."""
    if kind is SignatureKind.HMAC:
        return SigningKey(SECRET_PREFIX + _base64(secrets.token_bytes(SECRET_BYTES)), None)
    # Imported on demand: cryptography is slow to import.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )

    key = Ed25519PrivateKey.generate()
    public_key = _base64(key.public_key().public_bytes_raw())
    return SigningKey(
        PRIVATE_KEY_PREFIX + _base64(key.private_bytes_raw()), PUBLIC_KEY_PREFIX + public_key
    )


def signature_headers(
    keys: Sequence[str], message_id: str, at: datetime, body: str
) -> dict[str, str]:
    """Sign a message by each of the secrets, and return its headers."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(floor(at.timestamp())),
        "webhook-signature": " ".join(_signature(key, message_id, at, body) for key in keys),
    }


def _signature(secret: str, message_id: str, at: datetime, body: str) -> str:
    if secret.startswith(SECRET_PREFIX):
        return HmacKey(secret).sign(message_id, at, body)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )

    key = Ed25519PrivateKey.from_private_bytes(b64decode(secret.removeprefix(PRIVATE_KEY_PREFIX)))
    signed = f"{message_id}.{floor(at.timestamp())}.{body}"
    return f"v1a,{_base64(key.sign(signed.encode()))}"


def _base64(content: bytes) -> str:
    return b64encode(content).decode()
