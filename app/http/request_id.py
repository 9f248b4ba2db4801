"""Ids of requests, from the client or generated, and ids of traces."""

import re
from typing import Final

from starlette.types import Scope

from app.domain.ids import ulid

REQUEST_ID_HEADER: Final = "X-Request-ID"
REQUEST_ID_HEADER_NAME: Final = REQUEST_ID_HEADER.lower().encode()

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


# The only version of W3C Trace Context; its ids are not zero.
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id_of(scope: Scope) -> str:
    """Trace id of the client's header `traceparent`; empty if it sent none or an invalid one."""
    for name, value in scope["headers"]:
        if name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value)):
            return str(match[1].decode())
    return ""


def trace_headers_of(scope: Scope) -> dict[str, str]:
    """Headers of W3C Trace Context in a request."""
    return {
        name.decode(): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"traceparent", b"tracestate")
    }


def request_id_of(scope: Scope) -> str:
    """Request id of the client, or a new one if it sent none or an invalid one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER_NAME and _REQUEST_ID.fullmatch(value.decode("latin-1")):
            return str(value.decode())
    return f"req_{ulid()}"
