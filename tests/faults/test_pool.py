"""Idle and old connections are replaced before a request could notice."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.database import pool as pool_module
from app.database.pool import DriverPool

PATIENCE_SECONDS = 60


class FakeConnection:
    """A connection without a database, whose server may answer, fail or be silent."""

    def __init__(self) -> None:
        self.server: Any = "answers"
        self.closed = False
        self.checks = 0

    async def fetch(self, text: str, /, *values: object) -> Sequence[object]:
        raise NotImplementedError(text, values)

    async def execute(self, text: str, /) -> object:
        self.checks += 1
        if self.server == "is silent":
            await asyncio.Event().wait()
        if self.server == "fails":
            raise ConnectionResetError(text)
        return None

    def stream(self, text: str, values: Sequence[object], size: int) -> Any:
        raise NotImplementedError(text, values, size)

    def is_closed(self) -> bool:
        return self.closed

    async def close(self) -> None:
        self.closed = True

    def terminate(self) -> None:
        self.closed = True


@pytest.fixture
def pool() -> DriverPool:
    """Pool of connections without a database."""

    async def connect() -> FakeConnection:
        return FakeConnection()

    return DriverPool(connect, size=10, within=PATIENCE_SECONDS)


async def used(pool: Any, number: int) -> list[Any]:
    """Use connections at once, and return them to the pool."""
    connections = [await pool.acquire() for _ in range(number)]
    for connection in connections:
        pool.release(connection)
    return connections


async def test_a_connection_is_used_again_without_a_check(pool: Any) -> None:
    [first] = await used(pool, 1)

    assert await pool.acquire() is first
    assert first.checks == 0


async def test_a_connection_past_its_age_is_replaced(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_AGE_SECONDS", 0)
    [first] = await used(pool, 1)
    monkeypatch.undo()
    second = await pool.acquire()

    assert second is not first
    assert first.closed


async def test_a_connection_that_was_idle_long_is_checked(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = await used(pool, 1)
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0)

    assert await pool.acquire() is first
    assert first.checks == 1


async def test_after_a_dropped_connection_the_idle_ones_are_checked(pool: Any) -> None:
    dropped, idle = await pool.acquire(), await pool.acquire()
    pool.release(idle)
    pool.release(dropped, drop=True)

    assert await pool.acquire() is idle
    assert idle.checks == 1


@pytest.mark.parametrize("server", ["is silent", "fails"])
async def test_idle_connections_to_a_server_that_does_not_answer_are_dropped(
    pool: Any, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    idle = await used(pool, 3)
    for connection in idle:
        connection.server = server
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0)
    monkeypatch.setattr(pool_module, "CHECK_SECONDS", 0.01)

    assert await pool.acquire() not in idle
    assert all(connection.closed for connection in idle)
    # One of them was enough to know.
    assert sum(connection.checks for connection in idle) == 1
    assert pool.in_use == 1


async def test_a_check_that_is_cancelled_frees_its_place(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = await used(pool, 1)
    first.server = "is silent"
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0)
    acquiring = asyncio.create_task(pool.acquire())
    while not first.checks:
        await asyncio.sleep(0)
    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring

    assert first.closed
    assert pool.in_use == 0
    assert await pool.acquire() is not first
