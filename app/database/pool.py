"""A pool of driver connections."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from app.database.compilation import DriverConnection
from app.database.faults import MESSAGES, FaultKind
from app.runtime.shares import Holder, Shares

CONNECT_SECONDS: Final = 5


class DriverPool:
    """A bounded pool of driver connections.

    asyncpg's pool creates two tasks and a timer per use and resets the connection on the server,
    which costs more than a short query. Sessions of this service need no reset.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[DriverConnection]], *, size: int, within: float
    ) -> None:
        self._connect = connect
        self._idle: list[DriverConnection] = []
        self._busy: set[DriverConnection] = set()
        # Busy connections to drop on release.
        self._outdated: set[DriverConnection] = set()
        self._ending: set[asyncio.Future[Any]] = set()
        self._shares = Shares(size, seconds=within, refusal=MESSAGES[FaultKind.EXHAUSTED])

    @property
    def in_use(self) -> int:
        """The number of connections in use."""
        return self._shares.held

    @property
    def awaited(self) -> int:
        """The number of callers that wait for a connection."""
        return self._shares.waiting

    async def acquire(self, share: Holder = None) -> DriverConnection:
        """Return an idle or new connection, charged to the share of a holder.

        Raises:
            Unavailable: no connection became free in time.

        """
        await self._shares.enter(share)
        try:
            connection = self._pop_idle() or await self._connect()
        except BaseException:
            self._shares.leave(share)
            raise
        self._busy.add(connection)
        return connection

    def _pop_idle(self) -> DriverConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def release(
        self, connection: DriverConnection, share: Holder = None, *, drop: bool = False
    ) -> None:
        """Take a connection back. A dropped connection is not reused."""
        self._busy.discard(connection)
        if drop or connection in self._outdated:
            self._outdated.discard(connection)
            self._terminate(connection)
        elif not connection.is_closed():
            self._idle.append(connection)
        self._shares.leave(share)

    def drop_all(self) -> None:
        """Drop all connections: idle ones now, busy ones on release."""
        self._outdated |= self._busy
        while self._idle:
            self._terminate(self._idle.pop())

    def _terminate(self, connection: DriverConnection) -> None:
        if end := connection.terminate():
            self._ending.add(end)
            end.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Close idle connections, and wait briefly for the end of terminated ones."""
        while self._idle:
            await self._idle.pop().close()
        if self._ending:
            await asyncio.wait(self._ending, timeout=CONNECT_SECONDS)
