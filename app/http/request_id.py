"""Ids of requests, from the client or generated, and ids of traces."""

import re
from collections.abc import Mapping
from typing import Final

from app.domain.ids import ulid

REQUEST_ID_HEADER: Final = "X-Request-ID"
REQUEST_ID_HEADER_NAME: Final = REQUEST_ID_HEADER.lower().encode()

# The headers of a request by their names in lower case.
RawHeaders = Mapping[bytes, bytes]

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")

# The only version of W3C Trace Context; its ids are not zero.
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id_of(headers: RawHeaders) -> str:
    """Trace id of the client's header `traceparent`; empty if it sent none or an invalid one."""
    match = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
    return match[1].decode() if match else ""


def trace_headers_of(headers: RawHeaders) -> dict[str, str]:
    """Headers of W3C Trace Context in a request."""
    return {
        name.decode(): headers[name].decode("latin-1")
        for name in (b"traceparent", b"tracestate")
        if name in headers
    }


def request_id_of(headers: RawHeaders) -> str:
    """Request id of the client, or a new one if it sent none or an invalid one."""
    given = headers.get(REQUEST_ID_HEADER_NAME)
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return f"req_{ulid()}"
