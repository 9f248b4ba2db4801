"""Responses that clients do not read: limits on the time and on the memory that they take."""

from asyncio import TimerHandle
from typing import Any, ClassVar, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger()
# The limit for all connections of a process together.
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024


class UnreadProtocol(HttpToolsProtocol):
    """Disconnects clients that do not read their responses.

    uvicorn writes a response to the transport at once, and waits only before the next write. Here a
    pipelined request waits until the client has read the response before it. A connection is closed
    if the client reads nothing for `write_seconds`. If the unread bytes of all connections exceed
    MAX_UNREAD_BYTES, the connection with the most is closed.
    """

    # Connections with a full write buffer.
    behind: ClassVar[set["UnreadProtocol"]] = set()

    def __init__(self, *args: Any, write_seconds: float, **options: Any) -> None:  # noqa: ANN401 - as its base
        super().__init__(*args, **options)
        self._write_seconds = write_seconds
        self._last_unread = 0
        self._stall_timer: TimerHandle | None = None
        self._is_postponed = False

    def pause_writing(self) -> None:
        """Watch whether the client reads the rest of the response."""
        super().pause_writing()
        self.behind.add(self)
        self._start_stall_timer()
        _enforce_total(self.behind)

    def resume_writing(self) -> None:
        """Start the postponed request: the write buffer has space again."""
        self._stop_stall_timer()
        super().resume_writing()
        if self._is_postponed:
            self._is_postponed = False
            super().on_response_complete()
        self._watch_closing()

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or postpone it if the write buffer is full."""
        if self.flow.write_paused and self.pipeline:
            self._is_postponed = True
        else:
            super().on_response_complete()
        self._watch_closing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        super().timeout_keep_alive_handler()
        self._watch_closing()

    def close_when_read(self) -> None:
        """Close the connection after the client has read the rest of the response."""
        self.transport.close()
        self._watch_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the stall timer."""
        self._stop_stall_timer()
        super().connection_lost(exc)

    @property
    def unread_bytes(self) -> int:
        """Bytes of responses that the client has not read."""
        return self.transport.get_write_buffer_size()

    def disconnect_client(self) -> None:
        """Close the connection and discard its write buffer."""
        log.warning("stalled_client_disconnected", unread_bytes=self.unread_bytes)
        self._stop_stall_timer()
        self.transport.abort()

    def _watch_closing(self) -> None:
        # A closing transport waits for its client, also for a few bytes.
        if self.transport.is_closing() and self.unread_bytes and self._stall_timer is None:
            self._start_stall_timer()

    def _start_stall_timer(self) -> None:
        self._last_unread = self.unread_bytes
        self._stall_timer = self.loop.call_later(self._write_seconds, self._check_progress)

    def _check_progress(self) -> None:
        if self.unread_bytes < self._last_unread:
            self._start_stall_timer()
        else:
            self.disconnect_client()

    def _stop_stall_timer(self) -> None:
        self.behind.discard(self)
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def _enforce_total(behind: set[UnreadProtocol]) -> None:
    total = sum(connection.unread_bytes for connection in behind)
    while total > MAX_UNREAD_BYTES and behind:
        largest = max(behind, key=lambda connection: connection.unread_bytes)
        total -= largest.unread_bytes
        largest.disconnect_client()
