"""An event loop that divides its processor time among tenants.

asyncio runs callbacks in the order in which they become ready: a tenant with a hundred requests at
work has a hundred callbacks before the one of another tenant. `FairLoop` keeps a queue per tenant
and runs the callbacks of the tenant that has used the least time. A callback belongs to the tenant
of its context (`charge`), whichever task or future made it ready; a callback of no tenant runs at
once, as always. A callback is never interrupted, so long work is done `in_pieces`.

While one tenant alone is there, nothing is queued and nothing is measured.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar
from typing import Final, TypeVar

if sys.platform == "win32":
    from asyncio import ProactorEventLoop as Loop
else:
    from uvloop import Loop
# How long callbacks run before the loop looks at its sockets again.
SLICE_SECONDS: Final = 0.002
# How long after the last request of another tenant a tenant counts as alone.
ALONE_AFTER_SECONDS: Final = 5.0
# How many items of a list are converted at once: the work of a millisecond or two.
PIECE: Final = 500
Item = TypeVar("Item")
Result = TypeVar("Result")
_tenant: ContextVar[str | None] = ContextVar("charged_tenant", default=None)


class FairLoop(Loop):
    """Runs what is ready of the tenant that has used the least processor time."""

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[str, deque[asyncio.Handle]] = {}
        # Seconds of processor time by tenant, since the queues were last empty.
        self._used: dict[str, float] = {}
        # What the last tenant that was served had used: a tenant that comes back starts there.
        self._level = 0.0
        self._is_serving = False
        self._last_tenant: str | None = None
        self._shared_until = 0.0
        self._start_directly: Callable[..., asyncio.Handle] = super().call_soon

    @property
    def is_shared(self) -> bool:
        """Whether more than one tenant sends requests."""
        return "call_soon" in vars(self)

    def note(self, tenant: str) -> None:
        """Note a request of a tenant."""
        if tenant == self._last_tenant:
            if self.is_shared and self.time() > self._shared_until:
                # Alone again: the method of the class has no cost.
                del self.call_soon
            return
        if self._last_tenant is not None:
            self._shared_until = self.time() + ALONE_AFTER_SECONDS
            self.call_soon = self._call_in_turn  # type: ignore[method-assign]
        self._last_tenant = tenant

    def _call_in_turn(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback as `call_soon` does, in the queue of its tenant."""
        tenant = _tenant.get() if context is None else context.get(_tenant)
        if tenant is None:
            return self._start_directly(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = deque()
            self._used[tenant] = max(self._used.get(tenant, 0.0), self._level)
        queue.append(handle)
        if not self._is_serving:
            self._is_serving = True
            self._start_directly(self._serve, context=Context())
        return handle

    def _serve(self) -> None:
        """Run callbacks for a slice of time."""
        now = time.perf_counter()
        end = now + SLICE_SECONDS
        while self._queues and now < end:
            tenant = min(self._queues, key=self._used.__getitem__)
            self._level = self._used[tenant]
            queue = self._queues[tenant]
            handle = queue.popleft()
            if not queue:
                del self._queues[tenant]
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - as every event loop does
            before, now = now, time.perf_counter()
            self._used[tenant] += now - before
        self._is_serving = bool(self._queues)
        if self._is_serving:
            self._start_directly(self._serve, context=Context())
        else:
            self._used.clear()
            self._level = 0.0


async def charge(tenant: str) -> None:
    """Charge the rest of the current task, and the tasks that it starts, to a tenant."""
    _tenant.set(tenant)
    loop = asyncio.get_running_loop()
    if isinstance(loop, FairLoop):
        loop.note(tenant)
        if loop.is_shared:
            # From here on the task runs in its tenant's turns.
            await asyncio.sleep(0)


async def in_pieces(
    convert: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
) -> list[Result]:
    """Convert a list; a long one piece by piece, between which other tasks have their turns."""
    if len(items) <= PIECE:
        return convert(items)
    converted: list[Result] = []
    for start in range(0, len(items), PIECE):
        converted += convert(items[start : start + PIECE])
        await asyncio.sleep(0)
    return converted
