"""Fair division of scarce slots, such as the connections of a pool, among tenants.

Each tenant has its own queue. The queues get free slots in turn, and no tenant can take the slots
that are left for tenants without one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import Unavailable

# The id of a tenant; None for the service, for example while it authenticates a token.
Holder = str | None
Grant = asyncio.Future[None]


class Shares:
    """A number of slots with their holders and queues.

    After a grant, a holder has at most twice as many slots as are free. A single holder gets six of
    ten slots. Two busy holders settle at four each, and two more find a slot each; others wait.
    """

    def __init__(self, slots: int, *, seconds: float, refusal: str) -> None:
        self._free = slots
        self._seconds = seconds
        self._refusal = refusal
        self._held: dict[Holder, int] = {}
        # In the order of service.
        self._waiting: dict[Holder, deque[Grant]] = {}

    @property
    def held(self) -> int:
        """The number of slots in use."""
        return sum(self._held.values())

    @property
    def waiting(self) -> int:
        """The number of callers that wait for a slot."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def slot(self, holder: Holder) -> AsyncIterator[None]:
        """Hold a slot for the time of a block.

        Raises:
            Unavailable: no slot became free in time.

        """
        await self.enter(holder)
        try:
            yield
        finally:
            self.leave(holder)

    async def enter(self, holder: Holder) -> None:
        """Take a slot, after a wait if none is free for the holder.

        Raises:
            Unavailable: no slot became free in time.

        """
        if holder not in self._waiting and self._may_enter(holder):
            self._take(holder)
        else:
            await self._wait(holder)

    def leave(self, holder: Holder) -> None:
        """Return a slot."""
        self._free += 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        if holder in self._waiting:
            # Move the holder, which was served just now, to the end of the order.
            self._waiting[holder] = self._waiting.pop(holder)
        self._serve()

    def _may_enter(self, holder: Holder) -> bool:
        held = self._held.get(holder, 0)
        return self._free > 0 and (not held or held < 2 * (self._free - 1))

    def _take(self, holder: Holder) -> None:
        self._free -= 1
        self._held[holder] = self._held.get(holder, 0) + 1

    async def _wait(self, holder: Holder) -> None:
        loop = asyncio.get_running_loop()
        grant = loop.create_future()
        self._waiting.setdefault(holder, deque()).append(grant)
        # A timer alone is half the cost of `asyncio.timeout`.
        timer = loop.call_later(self._seconds, self._refuse, grant)
        try:
            await grant
        except BaseException:
            if grant.done() and not grant.cancelled() and grant.exception() is None:
                # The slot was granted just before the cancellation.
                self.leave(holder)
            else:
                self._forget(holder, grant)
            raise
        finally:
            timer.cancel()

    def _refuse(self, grant: Grant) -> None:
        if not grant.done():
            grant.set_exception(Unavailable(self._refusal))

    def _forget(self, holder: Holder, grant: Grant) -> None:
        queue = self._waiting.get(holder)
        if queue is not None and grant in queue:
            queue.remove(grant)
            if not queue:
                del self._waiting[holder]

    def _serve(self) -> None:
        """Grant free slots to the queues in turn."""
        while holders := [each for each in self._waiting if self._may_enter(each)]:
            holder = holders[0]
            queue = self._waiting.pop(holder)
            grant = queue.popleft()
            if queue:
                self._waiting[holder] = queue
            if not grant.done():
                self._take(holder)
                grant.set_result(None)
