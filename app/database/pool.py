"""A pool of driver connections."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from app.database.compilation import DriverConnection
from app.database.faults import MESSAGES, FaultKind
from app.runtime.shares import Holder, Shares

log = structlog.get_logger()
ENDING_SECONDS: Final = 5
# The age at which a connection is replaced, so that a name that leads to another server is noticed
# and the memory of the server's process is returned. Each gets a random part more.
MAX_AGE_SECONDS: Final = 1_800
AGE_JITTER: Final = 0.2
# A connection that was idle so long is checked before its use: a firewall may have dropped it.
IDLE_SECONDS: Final = 30
CHECK_SECONDS: Final = 1


class DriverPool:
    """A bounded pool of driver connections.

    asyncpg's pool creates two tasks and a timer per use and resets the connection on the server,
    which costs more than a short query. Sessions of this service need no reset.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[DriverConnection]], *, size: int, within: float
    ) -> None:
        self._connect = connect
        # Idle connections with the time of their last use.
        self._idle: list[tuple[DriverConnection, float]] = []
        # When each connection reaches its age.
        self._expiry: dict[DriverConnection, float] = {}
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
            connection = await self._take_idle() or await self._open()
        except BaseException:
            self._shares.leave(share)
            raise
        self._busy.add(connection)
        return connection

    async def _open(self) -> DriverConnection:
        connection = await self._connect()
        age = MAX_AGE_SECONDS * random.uniform(1, 1 + AGE_JITTER)  # noqa: S311 - jitter
        self._expiry[connection] = time.monotonic() + age
        return connection

    async def _take_idle(self) -> DriverConnection | None:
        while self._idle:
            connection, used_at = self._idle.pop()
            now = time.monotonic()
            if connection.is_closed() or self._expiry.get(connection, now) <= now:
                self._terminate(connection)
            elif now < used_at + IDLE_SECONDS or await self._is_alive(connection):
                return connection
        return None

    async def _is_alive(self, connection: DriverConnection) -> bool:
        """Check that the server answers on a connection; if not, drop all."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await connection.execute("SELECT 1")
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection is useless
            log.info("idle_connection_dropped", cause=type(error).__name__)
            self._terminate(connection)
            self.drop_all()
            return False
        except BaseException:
            self._terminate(connection)
            raise
        return True

    def release(
        self, connection: DriverConnection, share: Holder = None, *, drop: bool = False
    ) -> None:
        """Take a connection back. A dropped connection is not reused."""
        self._busy.discard(connection)
        if drop or connection in self._outdated or connection.is_closed():
            self._outdated.discard(connection)
            self._terminate(connection)
            # Its server may be frozen: check the other connections before their next use.
            self._idle = [(idle, -math.inf) for idle, _ in self._idle]
        else:
            self._idle.append((connection, time.monotonic()))
        self._shares.leave(share)

    def drop_all(self) -> None:
        """Drop all connections: idle ones now, busy ones on release."""
        self._outdated |= self._busy
        while self._idle:
            self._terminate(self._idle.pop()[0])

    def _terminate(self, connection: DriverConnection) -> None:
        self._expiry.pop(connection, None)
        if connection.is_closed():
            return
        if end := connection.terminate():
            self._ending.add(end)
            end.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Close idle connections, and wait briefly for the end of terminated ones."""
        while self._idle:
            connection, _ = self._idle.pop()
            self._expiry.pop(connection, None)
            await connection.close()
        if self._ending:
            await asyncio.wait(self._ending, timeout=ENDING_SECONDS)
