"""The request counts of credentials, in a Redis that all workers share."""

from typing import Final

from limits import RateLimitItem
from limits.aio.storage.redis.bridge import RedisBridge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.auth.request_counts import CountUnavailable, Windows

# The script of `limits` counts a request. The counts follow in the same response, so that there is
# one command per request. Times are in milliseconds.
COUNT_SCRIPT: Final = f"""
local function count()
{RedisBridge.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode()}
end
local is_admitted = count()
return {{
    is_admitted and 1 or 0,
    redis.call('get', KEYS[1]) or 0,
    redis.call('pttl', KEYS[1]),
    redis.call('get', KEYS[2]) or 0,
    redis.call('pttl', KEYS[2]),
}}
"""

# A Redis on the same network answers within a millisecond.
TIMEOUT_SECONDS: Final = 0.5


class RedisCounts:
    """Counts in Redis."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )
        self._script = self._redis.register_script(COUNT_SCRIPT)

    async def count(self, rate: RateLimitItem, key: str) -> tuple[bool, Windows]:
        """Count a request if the rate admits it. Returns whether it does, and the counts.

        Raises:
            CountUnavailable: Redis is unreachable or reports an error.

        """
        # The braces keep both keys on one node of a cluster.
        keys = [f"LIMITS:{{{key}}}/-1", f"LIMITS:{{{key}}}"]
        try:
            numbers = await self._script(keys, [rate.amount, rate.get_expiry(), 1])
        except RedisError as error:
            raise CountUnavailable(str(error)) from error
        is_admitted, previous, previous_ms, current, current_ms = map(int, numbers)
        windows = Windows(previous, max(0, previous_ms) / 1000, current, current_ms / 1000)
        return bool(is_admitted), windows

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
