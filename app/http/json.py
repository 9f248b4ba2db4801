"""One strict JSON reader and one writer for both faces."""

import asyncio
import json
import math
import re
from typing import Any, Final, NoReturn

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.errors import MalformedRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from app.settings import Settings

MAX_DEPTH: Final = 64
UNCERTAIN: Final = object()

# How many commas a body may have: it is about so many values.
MAX_VALUES: Final = 20_000

# A key of the ASGI scope, set by `app.protocol` if the whole body arrived before the application
# was called.
BODY_HAS_ARRIVED: Final = "inventory.body_has_arrived"

_JSON_TYPE: Final = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?\s*', re.IGNORECASE)
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class JSONResponse(Response):
    """A JSON answer, written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Return the bytes of a value."""
        try:
            return orjson.dumps(content)
        except orjson.JSONEncodeError:
            # A sum of quantities may be wider than the 64 bits that it writes.
            return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


async def read_json(request: Request, settings: Settings) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON value of a request's body.

    Raises:
        UnsupportedMediaType: it is not declared as JSON in UTF-8.
        RequestTimeout: it takes too long to arrive.
        PayloadTooLarge: it has more bytes than the settings allow.
        MalformedRequest: it is not exactly one JSON value as RFC 8259 has it.

    """
    if not _JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
        message = "Send the body as JSON, with the header `Content-Type: application/json`."
        raise UnsupportedMediaType(message)
    return parse_json(await _body(request, settings))


async def _body(request: Request, settings: Settings) -> bytes:
    # Most bodies arrive with their heads, and a timer takes 7 us.
    if BODY_HAS_ARRIVED in request.scope:
        return await _read(request, limit=settings.max_body_bytes)
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
        if len(body) > limit:
            message = f"The body has more than {limit} bytes."
            raise PayloadTooLarge(message, details=[{"limit_bytes": limit}])
    return bytes(body)


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value, and refuse what lenient readers let through.

    That is: other encodings than UTF-8, NaN and Infinity, numbers beyond a double, a key twice in
    one object, lone surrogates, and nesting that no request of ours needs.

    Raises:
        MalformedRequest: it is not exactly one JSON value.
        PayloadTooLarge: it has more values than any request of ours.

    """
    if body.count(b",") > MAX_VALUES and _STRING.sub(b"", body).count(b",") > MAX_VALUES:
        message = f"The body has more than {MAX_VALUES} values."
        raise PayloadTooLarge(message, details=[{"limit_values": MAX_VALUES}])
    try:
        value = _written_as_read(body)
        if value is UNCERTAIN:
            value = json.loads(
                body.decode("utf-8"),
                object_pairs_hook=_object,
                parse_constant=_refuse_constant,
                parse_float=_finite,
            )
        # Each level takes an opening.
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
            _check_depth(value)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        message = "The body is nested too deeply."
        raise MalformedRequest(message) from error
    except ValueError as error:
        reason = str(error) if isinstance(error, (json.JSONDecodeError, _Refused)) else "bad value"
        message = f"The body is not JSON in UTF-8: {reason}."
        raise MalformedRequest(message) from error
    return value


def _written_as_read(body: bytes) -> object:
    """Return a JSON value whose spelling is the one that orjson writes, else UNCERTAIN.

    orjson reads ten times as fast, and lets pass a key that is there twice and an integer that it
    has to round; but it does not write them as they were. Most clients send just what it writes.
    """
    try:
        value: object = orjson.loads(body)
        return value if orjson.dumps(value) == body else UNCERTAIN
    except (ValueError, TypeError):
        return UNCERTAIN


class _Refused(ValueError):
    """What JSON does not allow, in words."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        message = "an object has a key twice"
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
    message = f"it is nested more than {MAX_DEPTH} deep"
    raise _Refused(message)


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is no JSON number"
    raise _Refused(message)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        message = "a number is out of range"
        raise _Refused(message)
    return number
