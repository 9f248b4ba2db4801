"""Request ids: from the client or generated, in every response and log line."""

import re
from typing import Final

from starlette.types import Scope

from app.domain.ids import ulid

REQUEST_ID_HEADER: Final = "X-Request-ID"
REQUEST_ID_HEADER_NAME: Final = REQUEST_ID_HEADER.lower().encode()

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(scope: Scope) -> str:
    """Request id of the client, or a new one if it sent none or an invalid one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER_NAME and _REQUEST_ID.fullmatch(value.decode("latin-1")):
            return str(value.decode())
    return f"req_{ulid()}"
