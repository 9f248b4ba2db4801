"""Cursors: opaque positions in a list, bound to a tenant and to what was asked.

`cursor_` + base64url(MAC + position). The MAC, under a key of the tenant's own, covers the position
and the question (which list, which filters), so a cursor opens no other list and cannot be forged.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

import orjson

from app.errors import InvalidCursor

PREFIX: Final = "cursor_"
MAC_LENGTH: Final = 12


def encode(position: object, *, question: object, key: bytes) -> str:
    """Return the cursor of a position, any JSON value."""
    payload = orjson.dumps(position)
    text = base64.urlsafe_b64encode(_mac(payload, question, key) + payload)
    return PREFIX + text.rstrip(b"=").decode()


def decode(cursor: str, *, question: object, key: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return the position of a cursor.

    Raises:
        InvalidCursor: it was not made for this question, or by nobody.

    """
    text = cursor.removeprefix(PREFIX)
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    payload = content[MAC_LENGTH:]
    genuine = hmac.compare_digest(content[:MAC_LENGTH], _mac(payload, question, key))
    # The same bytes have several spellings in base64; one of them is ours.
    if not genuine or encode(orjson.loads(payload), question=question, key=key) != cursor:
        message = (
            "The cursor is not one of this list with these filters. Start without a cursor, and "
            "pass each page's cursor on with the same filters."
        )
        raise InvalidCursor(message, details=[{"field": "cursor", "message": "is not valid"}])
    return orjson.loads(payload)


def _mac(payload: bytes, question: object, key: bytes) -> bytes:
    asked = orjson.dumps(question)
    message = len(asked).to_bytes(4, "big") + asked + payload
    return hmac.new(key, message, hashlib.sha256).digest()[:MAC_LENGTH]
