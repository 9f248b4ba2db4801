"""The outermost layer of the application."""

import math
import re
import time
from collections.abc import Iterable
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.ids import ulid
from app.errors import Internal, InventoryError, MalformedRequest
from app.http.errors import PROTECTION, error_response, refusal_of_http_exception
from app.http.request_id import REQUEST_ID_HEADER_NAME, current_request_id, request_id_of
from app.runtime.deadlines import Limit, OutOfTime, Uncertain, Watch, current_limit

log = structlog.get_logger()

# A token of ours, or a JWT.
_TOKEN: Final = re.compile(r"inv_\w+-[\w-]{20,}|eyJ[\w-]+\.[\w-]+\.[\w-]*")
_PORT: Final = re.compile(r":\d*$")

ONCE_IN_WORDS: Final = ("Authorization", "Content-Type", "Host", "Idempotency-Key", "X-Request-ID")
ONCE: Final = frozenset(name.lower().encode() for name in ONCE_IN_WORDS)
CLIENT_CLOSED_REQUEST: Final = 499


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


class Service(Starlette):
    """Starlette without its own catches of errors: the edge catches all there are."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return what answers: the middleware, then the routes."""
        app: ASGIApp = self.router
        for cls, arguments, options in reversed(self.user_middleware):
            app = cls(app, *arguments, **options)
        return app


class HttpEdge:
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
        answer = _Answer(send, receive, request_id_of(scope), limit)
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
            error = refusal_of_http_exception(refusal)
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
        (REQUEST_ID_HEADER_NAME, request_id.encode()),
        *(header for header in PROTECTION if header[0] not in given),
    ]
