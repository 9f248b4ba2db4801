"""Rate limits of credentials, and the response headers that state them."""

import math
import time
from typing import Final

import structlog
from limits import parse

from app.auth.request_counts import CountUnavailable, LocalCounts, RequestCounts, Windows
from app.errors import RateLimited
from app.runtime.response_headers import (
    RATE_LIMIT_HEADER,
    RATE_LIMIT_POLICY_HEADER,
    current_response_headers,
)

log = structlog.get_logger()

# The draft names policies, because a service can have several. This service has one.
POLICY_NAME: Final = '"default"'
POLICY_HEADER_NAME: Final = RATE_LIMIT_POLICY_HEADER.lower().encode()
LIMIT_HEADER_NAME: Final = RATE_LIMIT_HEADER.lower().encode()
# The time for which Redis is not asked after a failure.
ADMIT_SECONDS: Final = 1.0


class RateLimiter:
    """Admits the requests of a credential up to a rate such as "600/minute"."""

    def __init__(self, rate: str, *, redis_url: str | None) -> None:
        self._rate = parse(rate)
        self._counts = _redis_counts(redis_url) if redis_url else LocalCounts()
        self._paused_until = 0.0
        policy = f"{POLICY_NAME};q={self._rate.amount};w={self._rate.get_expiry()}"
        self._policy = (POLICY_HEADER_NAME, policy.encode())

    async def admit(self, tenant_id: str, subject: str) -> None:
        """Count a request, and state the limit in the headers of its response.

        While Redis does not answer, all requests are admitted, without these headers.

        Raises:
            RateLimited: the credential exceeds its rate; the error has the seconds to wait.

        """
        if time.monotonic() < self._paused_until:
            return
        key = self._rate.key_for(tenant_id, subject)
        try:
            is_admitted, windows = await self._counts.count(self._rate, key)
        except CountUnavailable as error:
            # Otherwise each request would wait for the timeout of Redis. Many may wait already.
            if time.monotonic() >= self._paused_until:
                self._paused_until = time.monotonic() + ADMIT_SECONDS
                log.warning("rate_limit_storage_unreachable", error=str(error))
            return
        remaining = self._remaining(windows) if is_admitted else 0
        seconds = self._seconds(windows, remaining)
        limit = f"{POLICY_NAME};r={remaining};t={seconds}".encode()
        current_response_headers.set((self._policy, (LIMIT_HEADER_NAME, limit)))
        if not is_admitted:
            message = f"The token exceeds its rate limit of {self._rate}; try again in {seconds} s."
            raise RateLimited(message, retry_after=seconds)

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._counts.close()

    def _remaining(self, windows: Windows) -> int:
        """Count the requests that would be admitted now."""
        share = windows.previous_seconds / self._rate.get_expiry()
        used = math.floor(windows.previous_count * share) + windows.current_count
        return max(0, self._rate.amount - used)

    def _seconds(self, windows: Windows, remaining: int) -> int:
        """Compute the seconds for which the remaining requests must last.

        They last until the current window ends. If there are none, a client waits only until one
        request of the previous window counts no more.
        """
        window = self._rate.get_expiry()
        seconds = windows.current_seconds - window
        if not remaining and windows.previous_count and windows.current_count < self._rate.amount:
            seconds = windows.previous_seconds % (window / windows.previous_count)
        return max(1, math.ceil(seconds))


def _redis_counts(url: str) -> RequestCounts:
    # Imported on demand: the driver of Redis is an optional dependency.
    from app.auth.redis_counts import RedisCounts  # noqa: PLC0415

    return RedisCounts(url)
