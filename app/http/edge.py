"""The outermost layer of the application: request ids, error responses and one log line each."""

import logging
import math
import re
import time
from collections.abc import Iterable
from functools import partial
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.ids import ulid
from app.errors import Internal, InventoryError, MalformedRequest
from app.http.errors import PROTECTION, error_response, inventory_error_of
from app.http.request_id import (
    REQUEST_ID_HEADER,
    REQUEST_ID_HEADER_NAME,
    RawHeaders,
    request_id_of,
    trace_headers_of,
    trace_id_of,
)
from app.runtime.deadlines import Limit, OutOfTime, Uncertain, Watch, current_limit
from app.runtime.metrics import UNMATCHED, NotedRequest, noted_requests
from app.runtime.observation import finish_request_span, request_span
from app.runtime.positions import POSITION_HEADER, POSITION_HEADER_NAME, parse_position
from app.runtime.request_facts import RequestFacts, current_request_facts
from app.runtime.request_id import current_request_id, current_trace_id
from app.runtime.response_headers import current_response_headers

log = structlog.get_logger()

# Headers that a request may have once: a proxy may have read another of several values.
SINGLE_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Host",
    "Idempotency-Key",
    POSITION_HEADER,
    REQUEST_ID_HEADER,
)
SINGLE_HEADER_NAMES: Final = frozenset(name.lower().encode() for name in SINGLE_HEADERS)
CLIENT_CLOSED_REQUEST: Final = 499
# The key of the ASGI scope that the protocol sets if the client leaves before the response.
CLIENT_HAS_LEFT: Final = "inventory.client_has_left"
LONGEST_OPERATION_NAME: Final = 100
# The beginning of an API token or a JWT, with all that may belong to it.
_TOKEN: Final = re.compile(r"(?:inv_|eyJ)[\w.-]{20,}+")
_PORT: Final = re.compile(r":\d*$")


class Service(Starlette):
    """Starlette without its error middleware: `HttpEdge` renders all errors."""

    def build_middleware_stack(self) -> ASGIApp:
        """Build the ASGI application: the middleware around the router."""
        app: ASGIApp = self.router
        for cls, arguments, options in reversed(self.user_middleware):
            app = cls(app, *arguments, **options)
        return app


class HttpEdge:
    """Request ids, the last error handler, and one log line per request.

    The outermost middleware, except that CORS answers preflight requests itself.

    Routes match the raw path, so that `%2F` in a SKU code does not separate segments.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        seconds: float = math.inf,
        trusted_hosts: frozenset[str] = frozenset(),
        has_metrics: bool = False,
    ) -> None:
        self.app = app
        self._watch = Watch()
        # The time limit for the work on a request.
        self._seconds = seconds
        self._trusted_hosts = trusted_hosts
        self._has_metrics = has_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request. All errors become responses."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        facts = RequestFacts()
        limit = Limit(self._watch, self._seconds)
        exchange = _Exchange(send, receive, request_id_of(headers), limit, facts)
        current_request_id.set(exchange.request_id)
        current_trace_id.set(trace_id_of(headers))
        current_request_facts.set(facts)
        current_limit.set(limit)
        # A pipelined request starts with the values of the request before it.
        current_response_headers.set(())
        # The router adds the route.
        routed = {**scope}
        with request_span(scope["method"], partial(trace_headers_of, headers)) as span:
            if span is not None:
                current_trace_id.set(f"{span.get_span_context().trace_id:032x}")
            if error := await self._run(routed, headers, exchange, limit, facts):
                facts.note_error(error)
                if exchange.status is None:
                    route_path = scope["path"].removeprefix(scope.get("root_path", ""))
                    response = error_response(error, path=route_path)
                    await response(scope, receive, exchange.send)
            if scope.get(CLIENT_HAS_LEFT):
                exchange.status = CLIENT_CLOSED_REQUEST
            if span is not None:
                route = _route_of(routed)
                finish_request_span(span, scope["method"], route, exchange.status)
        seconds = time.perf_counter() - started
        if self._has_metrics:
            noted_requests.append(_noted(routed, exchange.status, facts, seconds))
        _log(scope, exchange, facts, seconds)

    def refusal(self, error: InventoryError, *, path: str | None) -> Response:
        """Log and render the refusal of a request that did not reach the application.

        `path` decides between the REST and the GraphQL shape; None means that the path is unknown.
        """
        request_id = f"req_{ulid()}"
        outer = current_request_id.set(request_id)
        response = error_response(error, path=path or "")
        response.raw_headers = _protected(response.raw_headers, request_id)
        logged_path = None if path is None else _without_tokens(path)
        log.info("request", method=None, path=logged_path, status=error.status, code=error.code)
        if self._has_metrics:
            noted_requests.append(NotedRequest("", UNMATCHED, error.status, 0, codes=(error.code,)))
        current_request_id.reset(outer)
        return response

    async def _run(
        self,
        scope: Scope,
        headers: RawHeaders,
        exchange: "_Exchange",
        limit: Limit,
        facts: RequestFacts,
    ) -> InventoryError | None:
        """Run the application; return the error to respond with, if any."""
        try:
            scope["path"] = _raw_path(scope)
            self._check_headers(scope, headers)
            facts.read_position = _read_position(headers)
            with limit:
                await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = CLIENT_CLOSED_REQUEST
        except OutOfTime as raised:
            # The time limit may have cancelled the commit of a write.
            is_cut_off = limit.is_spent and scope["method"] not in ("GET", "HEAD")
            return Uncertain(raised.cause) if is_cut_off else raised
        except InventoryError as raised:
            return raised
        except HTTPException as raised:
            return inventory_error_of(raised)
        except Exception:
            log.exception("unexpected_error")
            return Internal()
        return None

    def _check_headers(self, scope: Scope, headers: RawHeaders) -> None:
        """Check that no single header is repeated, and that the Host header is trusted."""
        if len(headers) < len(scope["headers"]):
            names = [name for name, _ in scope["headers"] if name in SINGLE_HEADER_NAMES]
            if len(set(names)) < len(names):
                message = f"Send each of these headers once: {', '.join(sorted(SINGLE_HEADERS))}."
                raise MalformedRequest(message)
        if not self._trusted_hosts:
            return
        host = headers.get(b"host", b"")
        if _PORT.sub("", host.decode("latin-1")).lower() not in self._trusted_hosts:
            message = "The Host header does not name this service."
            raise MalformedRequest(message)


def _read_position(headers: RawHeaders) -> int | None:
    """Position of the feed that a read requires."""
    given = headers.get(POSITION_HEADER_NAME)
    if given is None:
        return None
    if (position := parse_position(given)) is None:
        message = f"The header {POSITION_HEADER} must be an integer of up to 19 digits."
        raise MalformedRequest(message, details=[{"field": POSITION_HEADER}])
    return position


def _noted(scope: Scope, status: int | None, facts: RequestFacts, seconds: float) -> NotedRequest:
    """Return the facts of a request for the metrics."""
    codes = tuple(facts.errors)
    noted_seconds = None if facts.is_event_stream else seconds
    return NotedRequest(
        scope["method"], _route_of(scope), status, noted_seconds, facts.root_field, codes
    )


def _route_of(scope: Scope) -> str:
    """Template of the route of a request."""
    route: str = getattr(scope.get("route"), "path_format", UNMATCHED)
    return route


def _log(scope: Scope, exchange: "_Exchange", facts: RequestFacts, seconds: float) -> None:
    """Write the log entry of a request, as a warning with its cause if the service failed."""
    failures = [error for error in facts.errors.values() if error.status >= Internal.status]
    if not (failures or log.is_enabled_for(logging.INFO)):
        return
    entry = {
        "method": scope["method"],
        "path": _without_tokens(scope["path"]),
        "status": exchange.status,
        "code": ",".join(facts.errors) or None,
        "milliseconds": round(seconds * 1000, 1),
        "bytes": exchange.bytes,
    }
    client = scope.get("client")
    further = {
        "operation": (facts.operation or "")[:LONGEST_OPERATION_NAME],
        "tenant": facts.tenant_id,
        "token": facts.token_id,
        "client": client[0] if client else None,
        "cause": ", ".join(filter(None, (getattr(each, "cause", "") for each in failures))),
    }
    entry |= {name: value for name, value in further.items() if value}
    if failures:
        log.warning("request", **entry)
    else:
        log.info("request", **entry)


class _Exchange:
    """Receives a request and sends its response, with the headers of every response.

    The time limit is suspended while the service waits for the client.
    """

    def __init__(
        self,
        send: Send,
        receive: Receive,
        request_id: str,
        limit: Limit,
        facts: RequestFacts,
    ) -> None:
        self._facts = facts
        self._send = send
        self._receive = receive
        self._limit = limit
        self._is_received = False
        self.request_id = request_id
        self.status: int | None = None
        # The size of the body that was sent.
        self.bytes = 0
        limit.restart()

    async def receive(self) -> Message:
        if self._is_received:
            # A stream waits here for the client to disconnect, while it works.
            return await self._receive()
        self._limit.suspend()
        message = await self._receive()
        self._limit.restart()
        self._is_received = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], *current_response_headers.get()]
            if self._facts.written_position is not None:
                headers.append((POSITION_HEADER_NAME, b"%d" % self._facts.written_position))
            message["headers"] = _protected(headers, self.request_id)
        else:
            self.bytes += len(message.get("body", b""))
        self._limit.suspend()
        await self._send(message)
        self._limit.restart()


def _raw_path(scope: Scope) -> str:
    """Path of a request, still percent-encoded."""
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    if not raw_path.isascii():
        message = "The path has bytes that are not percent-encoded."
        raise MalformedRequest(message)
    return raw_path.decode()


def _without_tokens(path: str) -> str:
    """Path for the log: credentials in it are replaced."""
    return _TOKEN.sub("[token]", path)


def _protected(
    headers: Iterable[tuple[bytes, bytes]], request_id: str
) -> list[tuple[bytes, bytes]]:
    names = {name for name, _ in headers}
    return [
        *headers,
        (REQUEST_ID_HEADER_NAME, request_id.encode()),
        *(header for header in PROTECTION if header[0] not in names),
    ]
