"""uvicorn's HTTP protocol, with bounds on what it reads before there is a request to answer.

A body has its bounds in `app.http`; but nobody is asked before the last header has come.
"""

from asyncio import TimerHandle, Transport
from enum import Enum
from functools import cache
from typing import Any

from app.settings import Settings
from app.unread import UnreadProtocol


class Part(Enum):
    """What of a request is being read."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class BoundedProtocol(UnreadProtocol):
    """Closes a connection whose request line and headers are too long, or too long in coming."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as its base
        super().__init__(*args, **options)
        self._part = Part.NOTHING
        self._bytes_of_head = 0
        # How much the parser has read without telling of it: of a header that does not end, also
        # one behind a body in chunks.
        self._untold = 0
        self._too_late: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, as long as a head is neither too long nor too slow."""
        self._untold += len(data)
        super().data_received(data)
        # Most heads come whole, and need no time; nor does who waits for the next one.
        if self._is_idle and self._too_late is None and self.timeout_keep_alive_task is None:
            self._wait()
        if self._untold > _settings().max_head_bytes and not self.transport.is_closing():
            self.send_400_response("The request line and headers are too long.")

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._part, self._bytes_of_head = Part.HEAD, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have the request answered."""
        self._part, self._untold = Part.BODY, 0
        self._wait_no_longer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Read a body, also one that is not wanted any more."""
        self._untold = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for another request, as long as any client may."""
        self._part, self._untold = Part.NOTHING, 0
        super().on_message_complete()
        if self._is_idle:
            self._wait_no_longer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        """Close; and say why, unless it would be taken for the answer to another request."""
        if self._may_answer():
            super().send_400_response(msg)
        elif self._is_idle:
            self.transport.close()
        else:
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _may_answer(self) -> bool:
        if self.cycle is None:
            return True
        if self._part is Part.BODY:
            return not self.cycle.response_started and not self.pipeline
        return self._part is Part.HEAD and self._is_idle

    def _count(self, number: int) -> None:
        self._untold = 0
        self._bytes_of_head += number
        if self._bytes_of_head > _settings().max_head_bytes:
            message = "too long"
            raise ValueError(message)

    def _wait(self) -> None:
        seconds = _settings().head_timeout_seconds
        message = "The request did not arrive in time."
        self._too_late = self.loop.call_later(seconds, self.send_400_response, message)

    def _wait_no_longer(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


@cache
def _settings() -> Settings:
    return Settings()
