"""Bounds on memory: statements by filters, and responses that clients do not read."""

import asyncio
import itertools
from typing import Any, Final
from unittest.mock import Mock

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.database.compilation import (
    MAX_CACHED_VARIANTS,
    MAX_STATEMENTS,
    PreparedStatement,
    prepared_statement,
)
from app.http import unread_responses as unread
from app.http.unread_responses import UnreadProtocol
from app.reads.adjustments import ADJUSTMENT_CONDITIONS, _page_of_adjustments
from app.reads.conditions import shaped

FILTERS: Final = [name for name in ADJUSTMENT_CONDITIONS if name != "tenant_id"]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_cache_of_filter_statements_is_bounded(dialect: str) -> None:
    sets = itertools.chain.from_iterable(
        itertools.combinations(FILTERS, length) for length in range(5)
    )
    shapes = [frozenset({"tenant_id", *names}) for names in sets][: MAX_CACHED_VARIANTS + 50]
    statements = [_page_of_adjustments(dialect, shape) for shape in shapes]

    assert len(shapes) > MAX_CACHED_VARIANTS
    assert shaped.cache_info().currsize == MAX_CACHED_VARIANTS
    # Without the expression trees of SQLAlchemy, and without an entry in the service's statement
    # cache.
    assert all(isinstance(statement, PreparedStatement) for statement in statements)
    assert prepared_statement.cache_info().maxsize == MAX_STATEMENTS
    assert _page_of_adjustments(dialect, shapes[-1]) is statements[-1]


class Transport:
    """A transport whose client reads as the test decides."""

    def __init__(self, unread: int) -> None:
        self.unread = unread
        self.is_aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_aborted


def behind(unread: int, *, pipeline: bool = False) -> tuple[Any, Transport]:
    """Return connection whose client has not read `unread` bytes."""
    protocol = UnreadProtocol.__new__(UnreadProtocol)
    transport = Transport(unread)
    protocol.transport = transport  # type: ignore[assignment]
    protocol.flow = Mock(write_paused=True)
    protocol.loop = Mock()
    protocol.pipeline = [(Mock(), Mock())] if pipeline else []  # type: ignore[assignment]
    protocol._stall_timer, protocol._is_postponed = None, False
    protocol._write_seconds = 1
    return protocol, transport


@pytest.fixture(autouse=True)
def nothing_behind() -> None:
    """Start without connections that are behind."""
    UnreadProtocol.behind.clear()


def test_a_stalled_client_is_disconnected_and_a_slow_one_is_not() -> None:
    slow, its_transport = behind(1_000)
    slow.pause_writing()
    its_transport.unread = 900
    slow._check_progress()
    assert not its_transport.is_aborted
    slow._check_progress()
    assert its_transport.is_aborted
    assert not UnreadProtocol.behind


def test_a_closing_connection_whose_client_reads_nothing_is_disconnected() -> None:
    protocol, transport = behind(100)
    transport.is_closing = lambda: True  # type: ignore[method-assign]
    protocol.close_when_read()
    protocol._check_progress()
    assert transport.is_aborted


def test_the_connection_with_most_unread_bytes_is_closed_at_the_total_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "MAX_UNREAD_BYTES", 1_000)
    (one, small), (other, large) = behind(400), behind(700)
    other.pause_writing()
    assert not large.is_aborted
    one.pause_writing()
    assert (small.is_aborted, large.is_aborted) == (False, True)


def test_a_pipelined_request_waits_until_the_previous_response_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    completed = Mock()
    monkeypatch.setattr(HttpToolsProtocol, "on_response_complete", completed)
    protocol, _ = behind(1_000, pipeline=True)
    protocol.pause_writing()
    protocol.on_response_complete()
    completed.assert_not_called()
    protocol.resume_writing()
    completed.assert_called_once()


async def test_a_client_that_reads_nothing_is_disconnected_by_a_server() -> None:
    ended = asyncio.Event()

    class Notified(UnreadProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            ended.set()

    import uvicorn  # noqa: PLC0415

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()

    def connected() -> asyncio.Protocol:
        return Notified(config=config, server_state=state, app_state={}, write_seconds=0.1)

    server = await loop.create_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    await asyncio.wait_for(ended.wait(), timeout=30)
    writer.close()
    server.close()
