"""Rate limits: how many requests one credential may send, counted by the library `limits`."""

import math
import time
from typing import TYPE_CHECKING

import structlog
from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from app.errors import RateLimited
from app.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool


log = structlog.get_logger()


class Rates:
    """Counts requests per credential, in this process or in a Redis that workers share."""

    def __init__(self, settings: Settings) -> None:
        self._rate = parse(settings.rate_limit) if settings.rate_limit else None
        self._connections = (
            _connections(settings.rate_limit_redis_url) if settings.rate_limit_redis_url else None
        )
        storage = (
            RedisStorage(
                f"async+{settings.rate_limit_redis_url}",
                wrap_exceptions=True,
                implementation="redispy",
                connection_pool=self._connections,  # type: ignore[arg-type]
            )
            if self._connections is not None
            else MemoryStorage()
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def admit(self, tenant: str, subject: str) -> None:
        """Count a request.

        Raises:
            RateLimited: it is one too many; it says when to try again.

        """
        if self._rate is None:
            return
        try:
            if await self._limiter.hit(self._rate, tenant, subject):
                return
            stats = await self._limiter.get_window_stats(self._rate, tenant, subject)
        except StorageError as error:
            # Who counts is away: answering uncounted serves better than answering nobody.
            log.warning("rate_limit_storage_away", error=str(error))
            return
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        message = f"This token may send {self._rate}; try again in {seconds} s."
        raise RateLimited(message, retry_after=seconds)

    async def close(self) -> None:
        """Close what is open to Redis."""
        if self._connections is not None:
            await self._connections.aclose()


def _connections(url: str) -> "ConnectionPool":
    # Who shares no counts does not have Redis's driver.
    from redis.asyncio import ConnectionPool  # noqa: PLC0415

    return ConnectionPool.from_url(url)
