"""Rate limits of credentials, counted by the library `limits`."""

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


class RateLimiter:
    """Counts requests per credential, in this process or in a Redis shared by workers."""

    def __init__(self, settings: Settings) -> None:
        self._rate = parse(settings.rate_limit) if settings.rate_limit else None
        url = settings.rate_limit_redis_url
        self._redis = _connection_pool(url) if url else None
        storage = (
            RedisStorage(
                f"async+{url}",
                wrap_exceptions=True,
                implementation="redispy",
                connection_pool=self._redis,  # type: ignore[arg-type]
            )
            if self._redis is not None
            else MemoryStorage()
        )
        self._windows = SlidingWindowCounterRateLimiter(storage)

    async def admit(self, tenant_id: str, subject: str) -> None:
        """Count a request. While Redis is unreachable, all requests are admitted.

        Raises:
            RateLimited: the credential exceeds its rate; the error has the seconds to wait.

        """
        if self._rate is None:
            return
        try:
            if await self._windows.hit(self._rate, tenant_id, subject):
                return
            stats = await self._windows.get_window_stats(self._rate, tenant_id, subject)
        except StorageError as error:
            log.warning("rate_limit_storage_unreachable", error=str(error))
            return
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        message = f"The token exceeds its rate limit of {self._rate}; try again in {seconds} s."
        raise RateLimited(message, retry_after=seconds)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._redis is not None:
            await self._redis.aclose()


def _connection_pool(url: str) -> "ConnectionPool":
    # Imported on demand: the driver of Redis is an optional dependency.
    from redis.asyncio import ConnectionPool  # noqa: PLC0415

    return ConnectionPool.from_url(url)
