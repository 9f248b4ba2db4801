"""Batches: items that arrive while a batch is under way wait for the next one.

An item that finds no batch of its key is processed at once. So a single client never waits for
others, and many clients share the cost of a batch.

The callers of a batch get their results together, and many send the next item one after the other.
The first of these does not start a batch alone: after a batch of several items, the next one waits
for as many items, at most for a share of the time that the batch took, and for milliseconds.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from app.errors import InventoryError, copy_error
from app.runtime.deadlines import current_limit
from app.runtime.fair_loop import charged_tenant
from app.runtime.observation import enter_span, span_context
from app.runtime.request_id import current_request_id

# The sum of the sizes of the items of a batch, unless a single item is larger.
MAX_BATCH_SIZE: Final = 1_000
GATHERING_SHARE: Final = 0.5
# A batch that waited for a lock or a frozen server does not make the next item wait as well.
MAX_GATHERING_SECONDS: Final = 0.01


@dataclass(eq=False, slots=True)
class Pending:
    """An item of a queue, its size, the future of its result, and what it was submitted for."""

    item: Any
    size: int
    result: asyncio.Future[Any]
    request_id: str = ""
    # The tenant that pays for the processor time; none for a background job.
    tenant_id: str | None = None
    # The span to which the spans of the batch belong, if tracing is on.
    span: Any = None

    def succeed(self, result: object) -> None:
        """Set the result, unless the caller has been cancelled."""
        if not self.result.done():
            self.result.set_result(result)

    def fail(self, error: Exception) -> None:
        """Set the error, unless the caller has been cancelled."""
        if isinstance(error, StopIteration):
            # A future refuses this one.
            wrapped = RuntimeError("StopIteration was raised.")
            wrapped.__cause__ = error
            error = wrapped
        if isinstance(error, InventoryError):
            # Each caller adds its own traceback.
            error = copy_error(error)
        if not self.result.done():
            self.result.set_exception(error)


class _Queue(OrderedDict[Pending, None]):
    """The items that wait for the next batch, in order of arrival.

    Thousands of callers that are cancelled together leave it without a search for each.
    """

    def __init__(self) -> None:
        super().__init__()
        # While the batch waits for more items: their number, and the future of that moment.
        self._awaited = 0
        self._is_full: asyncio.Future[None] | None = None

    def add(self, pending: Pending) -> None:
        """Append an item, and tell the batch that waits if it has enough."""
        self[pending] = None
        if self._is_full and not self._is_full.done() and len(self) >= self._awaited:
            self._is_full.set_result(None)

    async def fill(self, number: int, *, within: float) -> None:
        """Wait for a number of items, at most for some seconds."""
        if len(self) >= number:
            return
        self._awaited, self._is_full = number, asyncio.get_running_loop().create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._is_full
        self._is_full = None

    def take(self) -> list[Pending]:
        """Take the items of the next batch."""
        batch: list[Pending] = []
        size = 0
        for pending in self:
            size += pending.size
            if batch and size > MAX_BATCH_SIZE:
                break
            batch.append(pending)
        for pending in batch:
            del self[pending]
        return batch


# Sets the result or the error of every item.
RunBatch = Callable[[Sequence[Pending]], Awaitable[None]]


class Batches:
    """Queues of items by key. The batches of a key run one after the other."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """The number of items that wait for a batch."""
        return sum(map(len, self._queues.values()))

    async def submit(self, key: Hashable, item: object, run: RunBatch, *, size: int = 1) -> Any:  # noqa: ANN401
        """Process an item in a batch of its key, and return its result.

        All items of a key have the same `run`. If the caller is cancelled, the item is processed
        only if its batch has begun.
        """
        result = asyncio.get_running_loop().create_future()
        request_id, tenant_id = current_request_id.get(), charged_tenant.get()
        pending = Pending(item, size, result, request_id, tenant_id, span_context())
        queue = self._queues.get(key)
        if queue is not None:
            queue.add(pending)
        else:
            self._queues[key] = queue = _Queue()
            queue.add(pending)
            task = asyncio.create_task(self._serve(key, queue, run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            return await pending.result
        except asyncio.CancelledError:
            # Clients that hang up cannot fill a queue that stands still.
            queue.pop(pending, None)
            raise

    async def finish(self) -> None:
        """Wait until the queues are empty."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, key: Hashable, queue: _Queue, run: RunBatch) -> None:
        # The task has the context of the first caller, but works for others too.
        current_limit.set(None)
        structlog.contextvars.clear_contextvars()
        batch: list[Pending] = []
        try:
            while queue:
                batch = queue.take()
                began = time.monotonic()
                # Log lines name a request only if they are about it alone.
                current_request_id.set(batch[0].request_id if len(batch) == 1 else "")
                enter_span(batch[0].span)
                charged_tenant.set(next((it.tenant_id for it in batch if it.tenant_id), None))
                try:
                    await run(batch)
                except Exception as error:  # noqa: BLE001 - the callers raise it
                    for pending in batch:
                        pending.fail(error)
                if len(batch) > 1:
                    share = GATHERING_SHARE * (time.monotonic() - began)
                    await queue.fill(len(batch), within=min(share, MAX_GATHERING_SECONDS))
        finally:
            del self._queues[key]
            for pending in (*batch, *queue):
                pending.result.cancel()
