"""Shares: how tenants divide what the worker has few of.

`Shares` divides places, such as the connections of a pool. Each tenant has a queue of its own. A
free place goes to the queues in turn, and no tenant takes so many places that none is left for a
tenant that holds none.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import Unavailable

# A tenant; None is the service itself, a look-up of a token included.
Tenant = str | None
Turn = asyncio.Future[None]


class Shares:
    """A number of places, and the tenants that hold them or wait for them.

    A tenant may hold fewer than twice as many places as stay free. One tenant alone gets six of
    ten, two get four each: a tenant that holds none finds a free place beside any of them.
    """

    def __init__(self, places: int, *, seconds: float, refusal: str) -> None:
        self._free = places
        self._seconds = seconds
        self._refusal = refusal
        self._held: dict[Tenant, int] = {}
        # In the order in which the tenants are served.
        self._waiting: dict[Tenant, deque[Turn]] = {}

    @property
    def held(self) -> int:
        """The number of places that are taken."""
        return sum(self._held.values())

    @asynccontextmanager
    async def place(self, tenant: Tenant) -> AsyncIterator[None]:
        """Hold a place.

        Raises:
            Unavailable: no place came free in time.

        """
        await self.enter(tenant)
        try:
            yield
        finally:
            self.leave(tenant)

    async def enter(self, tenant: Tenant) -> None:
        """Take a place; wait for one if none is free for this tenant.

        Raises:
            Unavailable: no place came free in time.

        """
        if tenant not in self._waiting and self._may_enter(tenant):
            self._take(tenant)
        else:
            await self._wait(tenant)

    def leave(self, tenant: Tenant) -> None:
        """Give a place back."""
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        if tenant in self._waiting:
            # Others first: this tenant has just been served.
            self._waiting[tenant] = self._waiting.pop(tenant)
        self._serve()

    def _may_enter(self, tenant: Tenant) -> bool:
        held = self._held.get(tenant, 0)
        return self._free > 0 and (not held or held < 2 * (self._free - 1))

    def _take(self, tenant: Tenant) -> None:
        self._free -= 1
        self._held[tenant] = self._held.get(tenant, 0) + 1

    async def _wait(self, tenant: Tenant) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        # A timer alone is half the cost of `asyncio.timeout`.
        timer = loop.call_later(self._seconds, self._refuse, turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # The place was granted just before the cancellation.
                self.leave(tenant)
            else:
                self._forget(tenant, turn)
            raise
        finally:
            timer.cancel()

    def _refuse(self, turn: Turn) -> None:
        if not turn.done():
            turn.set_exception(Unavailable(self._refusal))

    def _forget(self, tenant: Tenant, turn: Turn) -> None:
        queue = self._waiting.get(tenant)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[tenant]

    def _serve(self) -> None:
        """Grant free places to the waiting tenants in turn."""
        while tenants := [each for each in self._waiting if self._may_enter(each)]:
            tenant = tenants[0]
            queue = self._waiting.pop(tenant)
            turn = queue.popleft()
            if queue:
                self._waiting[tenant] = queue
            if not turn.done():
                self._take(tenant)
                turn.set_result(None)
