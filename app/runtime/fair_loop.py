"""An event loop that divides its processor time among tenants.

asyncio runs callbacks in the order in which they become ready. A tenant with a hundred concurrent
requests has a hundred callbacks ahead of another tenant's single callback. `FairLoop` keeps a queue
per tenant and runs the callbacks of the tenant with the least used time. `charge` sets the tenant
in the context of a task, and callbacks are queued by their context. Callbacks without a tenant run
immediately. Callbacks are never interrupted, so long conversions are split by `in_pieces`.

With a single active tenant, callbacks are neither queued nor measured.
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
# The time after which queued callbacks wait until the loop has polled its sockets.
SLICE_SECONDS: Final = 0.002
# A tenant counts as the only one after this time without requests of others.
ALONE_AFTER_SECONDS: Final = 5.0
# The number of items per piece: one or two milliseconds of work.
PIECE: Final = 500
Item = TypeVar("Item")
Result = TypeVar("Result")
charged_tenant: ContextVar[str | None] = ContextVar("charged_tenant", default=None)


class FairLoop(Loop):
    """Runs ready callbacks of the tenant with the least used processor time."""

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[str, deque[asyncio.Handle]] = {}
        # Seconds of processor time by tenant id, since the queues were last empty.
        self._used: dict[str, float] = {}
        # The used time of the tenant served last. Returning tenants start from it.
        self._level = 0.0
        self._is_serving = False
        self._last_tenant_id: str | None = None
        self._shared_until = 0.0
        self._start_directly: Callable[..., asyncio.Handle] = super().call_soon

    @property
    def is_shared(self) -> bool:
        """Whether several tenants send requests."""
        return "call_soon" in vars(self)

    def note_request(self, tenant_id: str) -> None:
        """Register a request of a tenant."""
        if tenant_id == self._last_tenant_id:
            if self.is_shared and self.time() > self._shared_until:
                # The inherited method has no overhead.
                del self.call_soon
            return
        if self._last_tenant_id is not None:
            self._shared_until = self.time() + ALONE_AFTER_SECONDS
            self.call_soon = self._call_in_turn  # type: ignore[method-assign]
        self._last_tenant_id = tenant_id

    def _call_in_turn(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback in the queue of its tenant."""
        tenant_id = charged_tenant.get() if context is None else context.get(charged_tenant)
        if tenant_id is None:
            return self._start_directly(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        queue = self._queues.get(tenant_id)
        if queue is None:
            queue = self._queues[tenant_id] = deque()
            self._used[tenant_id] = max(self._used.get(tenant_id, 0.0), self._level)
        queue.append(handle)
        if not self._is_serving:
            self._is_serving = True
            self._start_directly(self._serve, context=Context())
        return handle

    def _serve(self) -> None:
        """Run queued callbacks for a slice of time."""
        now = time.perf_counter()
        end = now + SLICE_SECONDS
        while self._queues and now < end:
            tenant_id = min(self._queues, key=self._used.__getitem__)
            self._level = self._used[tenant_id]
            queue = self._queues[tenant_id]
            handle = queue.popleft()
            if not queue:
                del self._queues[tenant_id]
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - event loops run handles this way
            before, now = now, time.perf_counter()
            self._used[tenant_id] += now - before
        self._is_serving = bool(self._queues)
        if self._is_serving:
            self._start_directly(self._serve, context=Context())
        else:
            self._used.clear()
            self._level = 0.0


async def charge(tenant_id: str) -> None:
    """Charge the rest of the current task, and its new tasks, to a tenant."""
    charged_tenant.set(tenant_id)
    loop = asyncio.get_running_loop()
    if isinstance(loop, FairLoop):
        loop.note_request(tenant_id)
        if loop.is_shared:
            # Continue in the queue of the tenant.
            await asyncio.sleep(0)


async def in_pieces(
    convert: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
) -> list[Result]:
    """Convert a list in pieces of PIECE items; other tasks run between the pieces."""
    if len(items) <= PIECE:
        return convert(items)
    converted: list[Result] = []
    for start in range(0, len(items), PIECE):
        converted += convert(items[start : start + PIECE])
        await asyncio.sleep(0)
    return converted
