"""uvicorn's HTTP protocol, with bounds on what it reads before there is a request to answer.

A body has its bounds in `app.http`; but nobody is asked before the last header has come.
"""

from asyncio import TimerHandle, Transport
from functools import cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.settings import Settings


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers are too long, or too long in coming."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as its base
        super().__init__(*args, **options)
        self._bytes_of_head = 0
        self._too_late: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, as long as a head is neither too long nor too slow."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._too_late is None:
            self._wait_for_head()
        super().data_received(data)
        if self._too_late is not None and not self.transport.is_closing():
            # What the parser has not told yet is a header that does not end.
            self._bytes_of_head += len(data)
            if self._bytes_of_head > _settings().max_head_bytes:
                self.send_400_response("The request line and headers are too long.")

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
        self._head_is_there()
        super().on_headers_complete()

    def _count(self, number: int) -> None:
        self._bytes_of_head += number
        if self._bytes_of_head > _settings().max_head_bytes:
            message = "too long"
            raise ValueError(message)

    def _wait_for_head(self) -> None:
        self._bytes_of_head = 0
        seconds = _settings().head_timeout_seconds
        message = "The request did not arrive in time."
        self._too_late = self.loop.call_later(seconds, self.send_400_response, message)

    def _head_is_there(self) -> None:
        self._bytes_of_head = 0
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


@cache
def _settings() -> Settings:
    return Settings()
