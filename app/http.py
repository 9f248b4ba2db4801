"""What both faces share of HTTP: one strict reader of JSON, one writer, and the outermost edge."""

import asyncio
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, NoReturn

import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.budgets import Limit, OutOfTime, Watch, current_limit
from app.errors import (
    IdempotencyInFlight,
    Internal,
    InventoryError,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    RequestTimeout,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from app.faults import Uncertain
from app.ids import ulid
from app.settings import Settings

log = structlog.get_logger()

REPLAYED: Final = {"Idempotent-Replayed": "true"}
GRAPHQL_PATH: Final = "/graphql"
REQUEST_ID_HEADER: Final = "X-Request-ID"
_REQUEST_ID_NAME: Final = REQUEST_ID_HEADER.lower().encode()
# What every answer has, unless it has its own. Pages say what they may load; data loads nothing.
PROTECTION: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
MAX_DEPTH: Final = 64
UNCERTAIN: Final = object()
# A token of ours, or a JWT.
_TOKEN: Final = re.compile(r"inv_\w+-[\w-]{20,}|eyJ[\w-]+\.[\w-]+\.[\w-]*")
_PORT: Final = re.compile(r":\d*$")
# How many commas a body may have: it is about so many values.
MAX_VALUES: Final = 20_000
ONCE_IN_WORDS: Final = ("Authorization", "Content-Type", "Host", "Idempotency-Key", "X-Request-ID")
ONCE: Final = frozenset(name.lower().encode() for name in ONCE_IN_WORDS)
CLIENT_CLOSED_REQUEST: Final = 499
# A key of the ASGI scope, set by `app.protocol` if the whole body arrived before the application
# was called.
BODY_HAS_ARRIVED: Final = "inventory.body_has_arrived"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_JSON_TYPE: Final = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?\s*', re.IGNORECASE)
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

current_request_id: ContextVar[str] = ContextVar("request_id", default="")


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


def error_facts(error: InventoryError) -> dict[str, object]:
    """Return the body of an error as both faces know it, its request id last."""
    facts: dict[str, object] = {"code": error.code, "message": error.message}
    if error.details:
        facts["details"] = error.details
    return {**facts, "request_id": current_request_id.get()}


def error_response(error: InventoryError, *, path: str) -> Response:
    """Return an error in the shape of the face that was asked."""
    facts = error_facts(error)
    if path == GRAPHQL_PATH:
        message = facts.pop("message")
        extensions = {"code": error.code, "status": error.status, **facts}
        content: object = {"errors": [{"message": message, "extensions": extensions}]}
    else:
        content = {"error": facts}
    headers = {**error_headers(error), **(REPLAYED if error.replayed else {})}
    return JSONResponse(content, status_code=error.status, headers=headers)


def refusal(error: InventoryError, *, path: str | None) -> Response:
    """Refuse a request that the application never saw, with the headers and log line of the edge.

    Its face is known only if its path is.
    """
    request_id = f"req_{ulid()}"
    outer = current_request_id.set(request_id)
    response = error_response(error, path=path or "")
    response.raw_headers = _protected(response.raw_headers, request_id)
    logged = None if path is None else _without_tokens(path)
    log.info("request", method=None, path=logged, status=error.status, code=error.code)
    current_request_id.reset(outer)
    return response


def error_headers(error: InventoryError) -> Mapping[str, str]:
    """Return the headers that go with an error."""
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, RateLimited):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, RequestTimeout):
        # What is left of the body is not read, so nothing can follow it.
        return {"Connection": "close"}
    if isinstance(error, (IdempotencyInFlight, Unavailable)):
        return {"Retry-After": "1"}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": error.allowed}
    return {}


def _refusal_of(error: HTTPException) -> InventoryError:
    """Give Starlette's own refusals a place in our error tree."""
    if error.status_code == MethodNotAllowed.status:
        allowed = (error.headers or {}).get("Allow", "").split(", ")
        return MethodNotAllowed(", ".join(sorted(allowed)))
    if error.status_code == NotFound.status:
        message = "There is nothing here. GET /docs shows the REST routes; /graphql is GraphQL."
        return NotFound(message)
    return MalformedRequest(f"The request cannot be answered: {error}.")


class Service(Starlette):
    """Starlette without its own catches of errors: the edge catches all there are."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return what answers: the middleware, then the routes."""
        app: ASGIApp = self.router
        for cls, arguments, options in reversed(self.user_middleware):
            app = cls(app, *arguments, **options)
        return app


class Edge:
    """The outermost layer: request ids, the last catch of errors, one log line per request.

    Routes match the raw path, so that `%2F` in a SKU code is no separator.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        seconds: float = math.inf,
        trusted_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self.app = app
        self._watch = Watch()
        # How long the service may work on a request.
        self._seconds = seconds
        self._trusted_hosts = trusted_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        limit = Limit(self._watch, self._seconds)
        answer = _Answer(send, receive, _request_id(scope), limit)
        current_request_id.set(answer.request_id)
        current_limit.set(limit)
        error: InventoryError | None = None
        try:
            raw_path = scope.get("raw_path") or scope["path"].encode()
            if not raw_path.isascii():
                message = "The path has bytes that are not percent-encoded."
                raise MalformedRequest(message)  # noqa: TRY301 - caught with all others
            _refuse_twice(scope)
            self._refuse_other_hosts(scope)
            with limit:
                await self.app({**scope, "path": raw_path.decode()}, answer.receive, answer.send)
        except ClientDisconnect:
            answer.status = CLIENT_CLOSED_REQUEST
        except OutOfTime as refusal:
            # Cut off from outside, a write may have been committing.
            is_cut_off = limit.is_spent and scope["method"] not in ("GET", "HEAD")
            error = Uncertain(refusal.cause) if is_cut_off else refusal
        except InventoryError as refusal:
            error = refusal
        except HTTPException as refusal:
            error = _refusal_of(refusal)
        except Exception:
            log.exception("unexpected_error")
            error = Internal("The service failed. Report this request id if it happens again.")
        if error is not None and answer.status is None:
            response = error_response(error, path=scope["path"])
            await response(scope, receive, answer.send)
        log.info(
            "request",
            method=scope["method"],
            path=_without_tokens(scope["path"]),
            status=answer.status,
            code=error.code if error else None,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
        )

    def _refuse_other_hosts(self, scope: Scope) -> None:
        if not self._trusted_hosts:
            return
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        if _PORT.sub("", host.decode("latin-1")).lower() not in self._trusted_hosts:
            message = "The Host header names another host than this service's."
            raise MalformedRequest(message)


def _without_tokens(path: str) -> str:
    """Return a path as it may be logged, should somebody have put a credential into it."""
    return _TOKEN.sub("[token]", path)


def _refuse_twice(scope: Scope) -> None:
    """Refuse a header that decides something and comes twice: a proxy may have read the other."""
    names = [name for name, _ in scope["headers"] if name in ONCE]
    if len(set(names)) < len(names):
        message = f"Send each of these headers once: {', '.join(sorted(ONCE_IN_WORDS))}."
        raise MalformedRequest(message)


class _Answer:
    """The answer to a request, with the headers that every answer has.

    The time in which the client sends or takes nothing does not count.
    """

    def __init__(self, send: Send, receive: Receive, request_id: str, limit: Limit) -> None:
        self._send = send
        self._receive = receive
        self._limit = limit
        self._is_received = False
        self.request_id = request_id
        self.status: int | None = None
        limit.restart()

    async def receive(self) -> Message:
        if self._is_received:
            # A stream waits here, beside its work, for the client to hang up.
            return await self._receive()
        self._limit.suspend()
        message = await self._receive()
        self._limit.restart()
        self._is_received = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = _protected(message["headers"], self.request_id)
        self._limit.suspend()
        await self._send(message)
        self._limit.restart()


def _protected(
    headers: Iterable[tuple[bytes, bytes]], request_id: str
) -> list[tuple[bytes, bytes]]:
    given = {name for name, _ in headers}
    return [
        *headers,
        (_REQUEST_ID_NAME, request_id.encode()),
        *(header for header in PROTECTION if header[0] not in given),
    ]


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _REQUEST_ID_NAME and _REQUEST_ID.fullmatch(value.decode("latin-1")):
            return str(value.decode())
    return f"req_{ulid()}"
