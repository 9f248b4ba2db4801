"""One strict JSON parser and one JSON renderer, for REST and GraphQL."""

import asyncio
import json
import math
import re
from typing import Any, Final, NoReturn, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.errors import MalformedRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from app.settings import Settings

AnyBytes = TypeVar("AnyBytes", bytes, bytearray)
MAX_DEPTH: Final = 64
NOT_CANONICAL: Final = object()
# The only encoding of bodies that is taken (RFC 9110).
IDENTITY: Final = "identity"

# The most commas in a body, which is about the number of its values.
MAX_VALUES: Final = 20_000

# A key of the ASGI scope. `app.http.uvicorn_protocol` sets it if the whole body arrived before
# the application was called.
BODY_HAS_ARRIVED: Final = "inventory.body_has_arrived"

_JSON_TYPE: Final = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?\s*', re.IGNORECASE)
# The last string may lack its end: else each quote in it would be searched to the end of the body.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class JSONResponse(Response):
    """A JSON response, rendered by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Render a value as UTF-8."""
        return to_json(content)


def to_json(content: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Render a value as UTF-8, on one line."""
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError:
        # A sum of quantities may exceed the 64 bits that orjson writes.
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


async def read_json(request: Request, settings: Settings, *, may_be_empty: bool = False) -> Any:  # noqa: ANN401 - any JSON value
    """Read and parse the body of a request. A body that may be empty is an empty object then.

    Raises:
        UnsupportedMediaType: the Content-Type is not JSON in UTF-8, or the body is encoded.
        RequestTimeout: the body did not arrive in time.
        PayloadTooLarge: the body has more bytes than the settings allow.
        MalformedRequest: the body is not exactly one JSON value (RFC 8259).

    """
    if may_be_empty:
        body = await _body(request, settings)
        if not body:
            return {}
    encoding = request.headers.get("content-encoding", IDENTITY)
    if encoding.strip().lower() != IDENTITY:
        message = f"The body has the Content-Encoding {encoding[:100]}. Send it without one."
        raise UnsupportedMediaType(message, accept_encoding=IDENTITY)
    if not _JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
        message = "Send the body as JSON, with the header `Content-Type: application/json`."
        raise UnsupportedMediaType(message)
    return parse_json(body if may_be_empty else await _body(request, settings))


async def _body(request: Request, settings: Settings) -> bytes:
    # Most bodies arrive with their headers: they are one message, and need no timer.
    if BODY_HAS_ARRIVED in request.scope:
        received = await request.receive()
        if received["type"] == "http.disconnect":
            raise ClientDisconnect
        body: bytes = received["body"]
        return _within(settings.max_body_bytes, body)
    seconds = settings.body_timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, limit=settings.max_body_bytes)
    except TimeoutError as error:
        message = f"The body did not arrive within {seconds:g} s."
        raise RequestTimeout(message) from error


async def _read(request: Request, *, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        _within(limit, body)
    return bytes(body)


def _within(limit: int, body: AnyBytes) -> AnyBytes:
    if len(body) > limit:
        message = f"The body has more than {limit} bytes."
        raise PayloadTooLarge(message, details=[{"limit_bytes": limit}])
    return body


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a JSON value strictly.

    Refused are encodings other than UTF-8, NaN, Infinity, numbers out of the range of a double,
    repeated keys of an object, lone surrogates and nesting deeper than MAX_DEPTH.

    Raises:
        MalformedRequest: the body is not exactly one JSON value.
        PayloadTooLarge: the body has more than MAX_VALUES values.

    """
    if body.count(b",") > MAX_VALUES and _STRING.sub(b"", body).count(b",") > MAX_VALUES:
        message = f"The body has more than {MAX_VALUES} values."
        raise PayloadTooLarge(message, details=[{"limit_values": MAX_VALUES}])
    try:
        value = _parse_canonical(body)
        if value is NOT_CANONICAL:
            value = json.loads(
                body.decode("utf-8"),
                object_pairs_hook=_object,
                parse_constant=_refuse_constant,
                parse_float=_finite,
            )
        # Each level has an opening bracket.
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
            _check_depth(value)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        message = "The body is nested too deeply."
        raise MalformedRequest(message) from error
    except ValueError as error:
        reason = (
            str(error) if isinstance(error, (json.JSONDecodeError, _Refused)) else "invalid value"
        )
        message = f"The body is not JSON in UTF-8: {reason}."
        raise MalformedRequest(message) from error
    return value


def _parse_canonical(body: bytes) -> object:
    """Parse JSON that orjson would render to the same bytes; NOT_CANONICAL for other JSON.

    orjson is ten times as fast. It accepts repeated keys and rounds long integers, but renders both
    differently from the input. Most clients send the bytes that orjson renders.
    """
    try:
        value: object = orjson.loads(body)
        return value if orjson.dumps(value) == body else NOT_CANONICAL
    except (ValueError, TypeError):
        return NOT_CANONICAL


class _Refused(ValueError):
    """The reason why a text is not acceptable JSON."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        message = "an object repeats a key"
        raise _Refused(message)
    return value


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    message = f"the value is nested more than {MAX_DEPTH} levels deep"
    raise _Refused(message)


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise _Refused(message)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        message = "a number is out of range"
        raise _Refused(message)
    return number
