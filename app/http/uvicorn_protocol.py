"""uvicorn's HTTP protocol with limits on the input that does not reach the application.

The application is called when the head of a request (request line and headers) is complete. Slow
and oversized heads, ambiguous heads, trailer fields, upgrade offers and bytes that are not HTTP are
handled here. Refusals have the error shape of the application.
"""

from asyncio import TimerHandle, Transport
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, Self

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.errors import InventoryError, MalformedRequest, RequestTimeout, Unavailable
from app.http.edge import CLIENT_HAS_LEFT, HttpEdge
from app.http.event_stream import STREAMS_STATE
from app.http.json import BODY_HAS_ARRIVED
from app.http.response_writer import ResponseWriter
from app.http.unread_responses import UnreadProtocol
from app.settings import Settings

# Requests of one connection that may wait for the response before them.
MAX_PIPELINED: Final = 100
VERSIONS: Final = ("1.1", "1.0")
SCHEMES: Final = (b"http", b"https")


def bounded_protocol(settings: Settings) -> "partial[BoundedProtocol]":
    """Build the protocol factory that uvicorn takes as its option `http`."""
    limits = ConnectionLimits.of(settings)
    overload_app = HttpEdge(_refuse_connection, has_metrics=settings.metrics)
    return partial(BoundedProtocol, limits=limits, overload_app=overload_app)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits on the connections of one worker."""

    head_bytes: int
    head_seconds: float
    write_seconds: float
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Read the limits from the settings."""
        return cls(
            head_bytes=settings.max_head_bytes,
            head_seconds=settings.head_timeout_seconds,
            write_seconds=settings.write_timeout_seconds,
            connections=settings.max_connections,
        )


class Part(Enum):
    """The part of a request that the parser is reading."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


async def _refuse_connection(*_asgi: object) -> None:
    message = "The service has too many connections; try again."
    raise Unavailable(message)


class BoundedProtocol(UnreadProtocol):
    """One connection with limits on the size and time of heads. Trailer fields are dropped.

    `overload_app` responds on the connections that exceed the limit.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - as its base
        limits: ConnectionLimits,
        overload_app: HttpEdge,
        **options: Any,  # noqa: ANN401 - as its base
    ) -> None:
        super().__init__(*args, write_seconds=limits.write_seconds, **options)
        self._limits = limits
        self._overload_app = overload_app
        self._is_excess = False
        self._part = Part.NOTHING
        self._head_bytes = 0
        # Bytes since the last event of the parser: an endless header or chunk extension has none.
        self._silent_bytes = 0
        self._head_timer: TimerHandle | None = None
        self._responding: RequestResponseCycle | None = None
        self._writer: ResponseWriter | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self.app = self._overload_app
            self._is_excess = True
        self._start_head_timer()

    def shutdown(self) -> None:
        """End the streams of events, so that the shutdown of the server does not wait for them."""
        if streams := self.app_state.get(STREAMS_STATE):
            streams.close()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the application, even if another request waits for its response."""
        self._stop_head_timer()
        if self._responding is not None and not self._responding.response_complete:
            self._responding.scope[CLIENT_HAS_LEFT] = True  # type: ignore[typeddict-unknown-key]
            _disconnect(self._responding)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and refuse bytes that are not HTTP."""
        self._unset_keepalive_if_required()
        self._silent_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(_refusal_of(error))
            return
        # Most heads arrive in one piece and need no timer.
        if self._is_idle and self._head_timer is None and self.timeout_keep_alive_task is None:
            self._start_head_timer()
        if self._silent_bytes > self._limits.head_bytes:
            self._refuse(self._too_long())

    def on_message_begin(self) -> None:
        """Reset the size of the head."""
        self._part, self._head_bytes = Part.HEAD, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Add the request target to the size of the head."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field to the size of the head. Trailer fields are counted and dropped."""
        self._count(len(name) + len(value))
        if self._part is Part.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request. If it offers an upgrade, it is parsed again without the offer."""
        self._silent_bytes = 0
        version = self.parser.get_http_version()
        self._check_head(version)
        if self.parser.should_upgrade():
            self._check_upgrade()
            return
        if version == "1.0":
            self.expect_100_continue = False
        self._part = Part.BODY
        self._stop_head_timer()
        super().on_headers_complete()
        if self._is_excess:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass on a part of a body."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Start the keep-alive timer, also if the response was complete before the body."""
        if self._part is Part.HEAD:
            # The parser ends a message that offers an upgrade after its head.
            return
        self._part, self._silent_bytes = Part.NOTHING, 0
        self.scope[BODY_HAS_ARRIVED] = True  # type: ignore[typeddict-unknown-key]
        super().on_message_complete()
        if self._is_idle:
            self._stop_head_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Start the timer for the next request; a head that has begun gets the timer of heads."""
        if self._writer is not None:
            self._writer.flush()
        super().on_response_complete()
        if self._part is Part.HEAD and self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
            self._start_head_timer()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._responding = cycle
        self._writer = ResponseWriter(cycle)
        cycle.transport = self._writer  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    @property
    def _is_idle(self) -> bool:
        return self._responding is None or self._responding.response_complete

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                self._parse_without_upgrade()
            else:
                return

    def _parse_without_upgrade(self) -> None:
        """Parse the head again: the parser skips the body of a request that offers an upgrade."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        line = b"%b %b HTTP/%b\r\n" % (method, self.url, version)
        self.parser.feed_data(b"".join([line, *fields, b"\r\n"]))

    def _check_head(self, version: str) -> None:
        """Refuse an ambiguous head, which a proxy may interpret differently.

        Raises:
            MalformedRequest: the version, the target, the host or the framing is ambiguous.

        """
        fields = dict(self.headers)
        host = fields.get(b"host")
        if version not in VERSIONS:
            message = "Send the request as HTTP/1.1."
        elif host is None and version != "1.0":
            message = "Send the header Host."
        elif b"transfer-encoding" in fields and not _is_chunked(fields, version):
            message = "The only supported Transfer-Encoding is `chunked`, in HTTP/1.1."
        elif b"#" in self.url or not (self.url[:1] in b"/*" or _is_of_host(self.url, host)):
            message = "The request target must be a path, or a URL of the host in the header Host."
        elif len(self.pipeline) >= MAX_PIPELINED:
            message = f"More than {MAX_PIPELINED} requests wait on this connection."
        else:
            return
        raise MalformedRequest(message)

    def _check_upgrade(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            message = "The service is not a proxy."
            raise MalformedRequest(message)
        if self._get_upgrade() == b"websocket":
            message = "The service has no WebSockets. Send requests over HTTP."
            raise MalformedRequest(message)

    def _count(self, number: int) -> None:
        self._silent_bytes = 0
        self._head_bytes += number
        if self._head_bytes > self._limits.head_bytes:
            raise self._too_long()

    def _too_long(self) -> MalformedRequest:
        limit = self._limits.head_bytes
        return MalformedRequest(f"The request line and headers have more than {limit} bytes.")

    def _refuse(self, error: InventoryError) -> None:
        """Close the connection, after an error response if it cannot be mistaken for another."""
        if self.transport.is_closing():
            return
        if self._may_respond:
            self._write(error)
            self.close_when_read()
        elif self._is_idle:
            self.close_when_read()
        else:
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    @property
    def _may_respond(self) -> bool:
        if self._part is Part.BODY:
            return self.cycle is self._responding and not self.cycle.response_started
        return self._is_idle and (self._part is Part.HEAD or self.cycle is None)

    def _write(self, error: InventoryError) -> None:
        if self._part is Part.BODY:
            _disconnect(self.cycle)
        # The target is complete if a header follows it.
        path = self.url.partition(b"?")[0].decode("latin-1") if self.headers else None
        response = self._overload_app.refusal(error, path=path)
        fields = [*self.server_state.default_headers, *response.raw_headers]
        fields = [field for field in fields if field[0] != b"connection"]
        lines = [b"%b: %b\r\n" % field for field in [*fields, (b"connection", b"close")]]
        body = bytes(response.body)
        self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body]))

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_seconds, self._on_slow_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_slow_head(self) -> None:
        # Before a head there is no response: a browser would match it with its next request.
        if self._part is Part.HEAD:
            seconds = self._limits.head_seconds
            self._refuse(RequestTimeout(f"The headers did not arrive within {seconds:g} s."))
        else:
            self.close_when_read()


def _refusal_of(error: httptools.HttpParserError) -> InventoryError:
    # The parser raises its own error; the error of a callback is its context.
    if isinstance(error.__context__, InventoryError):
        return error.__context__
    return MalformedRequest("The request is not valid HTTP/1.1.")


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def _is_chunked(fields: dict[bytes, bytes], version: str) -> bool:
    return fields[b"transfer-encoding"].lower() == b"chunked" and version == "1.1"


def _is_of_host(url: bytes, host: bytes | None) -> bool:
    scheme, _, rest = url.partition(b"://")
    authority = rest.partition(b"/")[0]
    return scheme.lower() in SCHEMES and host is not None and authority.lower() == host.lower()
