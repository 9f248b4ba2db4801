"""The request counts of credentials, in this process."""

from typing import NamedTuple, Protocol

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage


class CountUnavailable(Exception):
    """The store of the counts does not respond."""


class Windows(NamedTuple):
    """The requests of a credential in the current window of time and in the one before it.

    A request of the previous window counts in part: for the share of that window which is less than
    one window ago.
    """

    previous_count: int
    # Until the previous window counts no more, which is the end of the current window.
    previous_seconds: float
    current_count: int
    # Until the current window counts no more, one window after its end.
    current_seconds: float


class RequestCounts(Protocol):
    """A store of counts."""

    async def count(self, rate: RateLimitItem, key: str) -> tuple[bool, Windows]:
        """Count a request if the rate admits it. Returns whether it does, and the counts.

        Raises:
            CountUnavailable: the store does not respond.

        """

    async def close(self) -> None:
        """Close the connections to the store."""


class LocalCounts:
    """Counts in the memory of this process."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()

    async def count(self, rate: RateLimitItem, key: str) -> tuple[bool, Windows]:
        """Count a request if the rate admits it. Returns whether it does, and the counts."""
        window = rate.get_expiry()
        is_admitted = await self._storage.acquire_sliding_window_entry(key, rate.amount, window)
        return is_admitted, Windows(*await self._storage.get_sliding_window(key, window))

    async def close(self) -> None:
        """Do nothing: there are no connections."""
