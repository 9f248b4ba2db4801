"""A pool of driver connections."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from app.database.compilation import DriverConnection
from app.database.faults import MESSAGES, Kind
from app.runtime.shares import Shares, Tenant

CONNECT_SECONDS: Final = 5


class DriverPool:
    """Connections of a driver, of which so many are open at most.

    asyncpg's own pool makes two tasks and a timer for each use of a connection, and asks the server
    to reset it: that costs more than a short query. A session leaves nothing behind.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[DriverConnection]], *, size: int, within: float
    ) -> None:
        self._connect = connect
        self._idle: list[DriverConnection] = []
        self._busy: set[DriverConnection] = set()
        # Busy connections that are dropped when they come back.
        self._outdated: set[DriverConnection] = set()
        self._ending: set[asyncio.Future[Any]] = set()
        self._shares = Shares(size, seconds=within, refusal=MESSAGES[Kind.EXHAUSTED])

    @property
    def in_use(self) -> int:
        """The number of connections in use."""
        return self._shares.held

    async def acquire(self, share: Tenant = None) -> DriverConnection:
        """Return an idle or new connection, which counts for a share.

        Raises:
            Unavailable: none came free in time.

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
        self, connection: DriverConnection, share: Tenant = None, *, drop: bool = False
    ) -> None:
        """Take a connection back, which counted for a share; `drop` it if it must not be reused."""
        self._busy.discard(connection)
        if drop or connection in self._outdated:
            self._outdated.discard(connection)
            self._terminate(connection)
        elif not connection.is_closed():
            self._idle.append(connection)
        self._shares.leave(share)

    def drop_all(self) -> None:
        """Drop every connection: the idle ones now, the others when they come back."""
        self._outdated |= self._busy
        while self._idle:
            self._terminate(self._idle.pop())

    def _terminate(self, connection: DriverConnection) -> None:
        if end := connection.terminate():
            self._ending.add(end)
            end.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Close the idle connections, and wait a little for terminated ones to end."""
        while self._idle:
            await self._idle.pop().close()
        if self._ending:
            await asyncio.wait(self._ending, timeout=CONNECT_SECONDS)
