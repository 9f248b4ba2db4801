"""Bounds on what a worker keeps: statements by filters, and answers that clients do not read."""

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
from app.http import unread_answers as unread
from app.http.unread_answers import UnreadProtocol
from app.reads.adjustments import ADJUSTMENT_CONDITIONS, _adjustments_page
from app.reads.conditions import shaped

FILTERS: Final = [name for name in ADJUSTMENT_CONDITIONS if name != "tenant_id"]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_no_more_than_a_bound_of_statements_is_kept_by_filters(dialect: str) -> None:
    sets = itertools.chain.from_iterable(
        itertools.combinations(FILTERS, length) for length in range(5)
    )
    asked = [frozenset({"tenant_id", *names}) for names in sets][: MAX_CACHED_VARIANTS + 50]
    statements = [_adjustments_page(dialect, shape) for shape in asked]

    assert len(asked) > MAX_CACHED_VARIANTS
    assert shaped.cache_info().currsize == MAX_CACHED_VARIANTS
    # Without the trees of SQLAlchemy, and without an entry among the statements of the service.
    assert all(isinstance(statement, PreparedStatement) for statement in statements)
    assert prepared_statement.cache_info().maxsize == MAX_STATEMENTS
    assert _adjustments_page(dialect, asked[-1]) is statements[-1]


class Transport:
    """A transport whose client takes what a test says."""

    def __init__(self, unread: int) -> None:
        self.unread = unread
        self.is_aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted


def behind(unread: int, *, pipeline: bool = False) -> tuple[Any, Transport]:
    """Build a connection whose client has not taken so many bytes."""
    protocol = UnreadProtocol.__new__(UnreadProtocol)
    transport = Transport(unread)
    protocol.transport = transport  # type: ignore[assignment]
    protocol.flow = Mock(write_paused=True)
    protocol.loop = Mock()
    protocol.pipeline = [(Mock(), Mock())] if pipeline else []  # type: ignore[assignment]
    protocol._stall, protocol._is_postponed = None, False
    return protocol, transport


@pytest.fixture(autouse=True)
def nothing_behind() -> None:
    """Begin without connections that are behind."""
    UnreadProtocol.behind.clear()


def test_a_client_that_takes_nothing_is_disconnected_and_a_slow_one_is_not() -> None:
    slow, its_transport = behind(1_000)
    slow.pause_writing()
    its_transport.unread = 900
    slow._look()
    assert not its_transport.is_aborted
    slow._look()
    assert its_transport.is_aborted
    assert not UnreadProtocol.behind


def test_the_connection_that_keeps_most_is_closed_when_all_keep_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "MAX_UNREAD_BYTES", 1_000)
    (one, small), (other, large) = behind(400), behind(700)
    other.pause_writing()
    assert not large.is_aborted
    one.pause_writing()
    assert (small.is_aborted, large.is_aborted) == (False, True)


def test_a_pipelined_request_waits_until_the_answer_before_it_is_taken(
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


async def test_a_client_that_reads_nothing_is_disconnected_by_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = asyncio.Event()

    class Told(UnreadProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            ended.set()

    import uvicorn  # noqa: PLC0415

    monkeypatch.setattr(unread, "_settings", lambda: Mock(write_timeout_seconds=0.1))

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()

    def connected() -> asyncio.Protocol:
        return Told(config=config, server_state=state, app_state={})

    server = await loop.create_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    await asyncio.wait_for(ended.wait(), timeout=30)
    writer.close()
    server.close()
