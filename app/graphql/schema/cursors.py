"""Cursors: opaque positions in a list, bound to the tenant, the list and its filters.

A cursor is `cursor_` + base64url(MAC + position). The MAC is made with a key of the tenant. It
covers the position and the identity of the list (its name and filters), so a cursor cannot be
forged and is not valid for another list.
"""

import base64
import binascii
import hmac
from datetime import datetime
from typing import Any, Final

import orjson

from app.domain.filters import Order
from app.domain.records import AdjustmentRecord, SkuRecord
from app.errors import InvalidCursor

PREFIX: Final = "cursor_"
MAC_LENGTH: Final = 12


class ListCursors:
    """The cursors of one list. `identity`, a JSON value, holds its name and its filters."""

    def __init__(self, identity: object, *, key: bytes) -> None:
        self._identity = identity
        self._key = key
        self._prefix = b""

    def encode(self, position: object) -> str:
        """Cursor of a position, any JSON value."""
        payload = orjson.dumps(position)
        text = base64.urlsafe_b64encode(self._mac(payload) + payload)
        return PREFIX + text.rstrip(b"=").decode()

    def decode(self, cursor: str | None) -> Any:  # noqa: ANN401 - any JSON value
        """Position of a cursor; None without a cursor.

        Raises:
            InvalidCursor: the cursor is forged or belongs to another list.

        """
        if cursor is None:
            return None
        text = cursor.removeprefix(PREFIX)
        try:
            content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            content = b""
        payload = content[MAC_LENGTH:]
        is_genuine = hmac.compare_digest(content[:MAC_LENGTH], self._mac(payload))
        # Base64 has several spellings of the same bytes; only the canonical one is accepted.
        if not is_genuine or self.encode(orjson.loads(payload)) != cursor:
            message = (
                "The cursor is not valid for this list with these filters. Start without a cursor, "
                "and send each page's cursor with the same filters."
            )
            raise InvalidCursor(message, details=[{"field": "after", "message": "is not valid"}])
        return orjson.loads(payload)

    def _mac(self, payload: bytes) -> bytes:
        if not self._prefix:
            identity = orjson.dumps(self._identity)
            self._prefix = len(identity).to_bytes(4, "big") + identity
        return hmac.digest(self._key, self._prefix + payload, "sha256")[:MAC_LENGTH]


def sku_position(record: SkuRecord, order: Order) -> list[object]:
    """Position of a SKU in an order."""
    if order.subject == "available":
        return [record.figures.available, record.sku]
    return [record.updated_at, record.sku] if order.subject == "updated" else [record.sku]


def sku_position_of(position: list[Any] | None, order: Order) -> list[object] | None:
    """Position that reads take, from the position in a cursor."""
    if position is None or order.subject != "updated":
        return position
    updated_at, code = position
    return [datetime.fromisoformat(updated_at), code]


class AdjustmentCursors:
    """The cursors of one list of adjustments."""

    def __init__(self, cursors: ListCursors) -> None:
        self._cursors = cursors

    def encode(self, record: AdjustmentRecord) -> str:
        """Cursor of an adjustment."""
        return self._cursors.encode(record.position)

    def decode(self, cursor: str | None) -> int | None:
        """Position of a cursor; None without a cursor.

        Raises:
            InvalidCursor: the cursor is forged or belongs to another list.

        """
        position: int | None = self._cursors.decode(cursor)
        return position
