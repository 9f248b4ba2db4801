"""Locks within one process."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any
from weakref import WeakValueDictionary

from app.errors import Unavailable


class KeyedLocks:
    """A lock per key, held by one task at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # A lock exists while a task holds it or waits for it.
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, keys: Iterable[Any]) -> AsyncIterator[None]:
        """Hold the locks of all keys, acquired in sorted order.

        Raises:
            Unavailable: a lock did not become free in time.

        """
        ordered = sorted(keys)
        is_free = not any(key in self._locks for key in ordered)
        async with AsyncExitStack() as held:
            try:
                async with nullcontext() if is_free else asyncio.timeout(self._seconds):
                    for key in ordered:
                        lock = self._locks.setdefault(key, asyncio.Lock())
                        await held.enter_async_context(lock)
            except TimeoutError as error:
                message = "Too many writes wait for the same SKU; try again."
                raise Unavailable(message) from error
            yield
