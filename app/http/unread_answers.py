"""Answers that clients do not read: bounds on how long, and on how much of them is kept."""

from asyncio import TimerHandle
from functools import cache
from typing import Any, ClassVar, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.settings import Settings

log = structlog.get_logger()
# Of all connections of a process together.
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024


class UnreadProtocol(HttpToolsProtocol):
    """Disconnects clients that take nothing of their answers.

    uvicorn hands an answer to the transport at once, and waits only before the next one. So a
    pipelined request waits here until the answer before it is taken, a connection on which nothing
    moves is closed after a time, and the one that has kept most is closed when all connections
    together keep too much.
    """

    # Connections whose client is behind.
    behind: ClassVar[set["UnreadProtocol"]] = set()

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as its base
        super().__init__(*args, **options)
        self._unread = 0
        self._stall: TimerHandle | None = None
        self._is_postponed = False

    def pause_writing(self) -> None:
        """Watch the client take the rest of the answer."""
        super().pause_writing()
        self.behind.add(self)
        self._watch()
        _enforce_total(self.behind)

    def resume_writing(self) -> None:
        """Answer the next request: the client has taken enough."""
        self._watch_no_longer()
        super().resume_writing()
        if self._is_postponed:
            self._is_postponed = False
            super().on_response_complete()

    def on_response_complete(self) -> None:
        """Answer the next pipelined request, unless the client is behind."""
        if self.flow.write_paused and self.pipeline:
            self._is_postponed = True
        else:
            super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no longer."""
        self._watch_no_longer()
        super().connection_lost(exc)

    @property
    def unread(self) -> int:
        """The bytes of answers that the client has not taken."""
        return self.transport.get_write_buffer_size()

    def give_up(self) -> None:
        """Disconnect the client, and forget what it did not take."""
        log.warning("client_does_not_read", unread=self.unread)
        self._watch_no_longer()
        self.transport.abort()

    def _watch(self) -> None:
        self._unread = self.unread
        self._stall = self.loop.call_later(_settings().write_timeout_seconds, self._look)

    def _look(self) -> None:
        if self.unread < self._unread:
            self._watch()
        else:
            self.give_up()

    def _watch_no_longer(self) -> None:
        self.behind.discard(self)
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def _enforce_total(behind: set[UnreadProtocol]) -> None:
    total = sum(each.unread for each in behind)
    while total > MAX_UNREAD_BYTES and behind:
        most = max(behind, key=lambda each: each.unread)
        total -= most.unread
        most.give_up()


@cache
def _settings() -> Settings:
    return Settings()
