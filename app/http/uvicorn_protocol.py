"""uvicorn's HTTP protocol with bounds on the part of a request that no application sees.

The application is called once a head is complete. Everything before, between and behind the heads
is decided here: slow and oversized heads, trailer fields, upgrade offers, and bytes that are not
HTTP. Refusals have the error shape of the application.
"""

from asyncio import TimerHandle, Transport
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.errors import InventoryError, MalformedRequest, RequestTimeout, Unavailable
from app.http.edge import HttpEdge, refusal
from app.http.json import BODY_HAS_ARRIVED
from app.http.unread_answers import UnreadProtocol
from app.settings import Settings

# Requests of one connection that wait behind the one being answered.
MAX_PIPELINED: Final = 100
VERSIONS: Final = ("1.1", "1.0")
SCHEMES: Final = (b"http", b"https")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker accepts of its connections."""

    head_bytes: int
    head_seconds: float
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Limits that the settings choose."""
        return cls(
            head_bytes=settings.max_head_bytes,
            head_seconds=settings.head_timeout_seconds,
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


TOO_MANY_CONNECTIONS: Final = HttpEdge(_refuse_connection)


class BoundedProtocol(UnreadProtocol):
    """One connection whose heads are bounded in length and time, and whose trailers are ignored."""

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:  # noqa: ANN401 - as its base
        super().__init__(*args, **options)
        self._limits = limits
        self._part = Part.NOTHING
        self._head_bytes = 0
        # Bytes that the parser has consumed without an event: of a header or chunk extension that
        # does not end.
        self._silent_bytes = 0
        self._head_timer: TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self.app = TOO_MANY_CONNECTIONS
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, also when another request is queued behind the one it answers."""
        self._stop_head_timer()
        if self._answering is not None and not self._answering.response_complete:
            _disconnect(self._answering)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, and answer what is not HTTP."""
        self._unset_keepalive_if_required()
        self._silent_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(_refusal_of(error))
            return
        # Most heads arrive whole and need no timer.
        if self._is_idle and self._head_timer is None and self.timeout_keep_alive_task is None:
            self._start_head_timer()
        if self._silent_bytes > self._limits.head_bytes:
            self._refuse(self._too_long())

    def on_message_begin(self) -> None:
        """Start to count the head."""
        self._part, self._head_bytes = Part.HEAD, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field, and drop it if it is a trailer: those never reach the application."""
        self._count(len(name) + len(value))
        if self._part is Part.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless it offers an upgrade: it is then parsed again without."""
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
        if self.app is TOO_MANY_CONNECTIONS:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Read a part of a body, also of one whose request was answered already."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request as long as for any other on a connection that is kept."""
        if self._part is Part.HEAD:
            # The parser ends a message that offers an upgrade with its head.
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
        """Wait for the next request; if its head has begun, as long as for any head."""
        super().on_response_complete()
        if self._part is Part.HEAD and self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
            self._start_head_timer()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_idle(self) -> bool:
        return self._answering is None or self._answering.response_complete

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
        """Feed the head again: the parser takes what follows an upgrade offer for no body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        line = b"%b %b HTTP/%b\r\n" % (method, self.url, version)
        self.parser.feed_data(b"".join([line, *fields, b"\r\n"]))

    def _check_head(self, version: str) -> None:
        """Refuse a head that two readers may read in two ways.

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
            message = "The one Transfer-Encoding is `chunked`, in HTTP/1.1."
        elif b"#" in self.url or not (self.url[:1] in b"/*" or _is_of_host(self.url, host)):
            message = "The request target must be a path, or an address of the host in Host."
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
        """Close the connection, with an answer unless it would be taken for another request's."""
        if self.transport.is_closing():
            return
        if self._may_answer:
            self._write(error)
            self.transport.close()
        elif self._is_idle:
            self.transport.close()
        else:
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    @property
    def _may_answer(self) -> bool:
        if self._part is Part.BODY:
            return self.cycle is self._answering and not self.cycle.response_started
        return self._is_idle and (self._part is Part.HEAD or self.cycle is None)

    def _write(self, error: InventoryError) -> None:
        if self._part is Part.BODY:
            _disconnect(self.cycle)
        # The target is whole once a header follows it.
        path = self.url.partition(b"?")[0].decode("latin-1") if self.headers else None
        response = refusal(error, path=path)
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
        # A browser takes an answer that it did not ask for as the one to its next request.
        if self._part is Part.HEAD:
            seconds = self._limits.head_seconds
            self._refuse(RequestTimeout(f"The headers did not arrive within {seconds:g} s."))
        else:
            self.transport.close()


def _refusal_of(error: httptools.HttpParserError) -> InventoryError:
    # An exception of a callback is the context of the parser's.
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
