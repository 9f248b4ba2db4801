"""Followers read the feed of a tenant once per interval, for all its open streams."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import structlog

from app.domain.changes import ChangeRecord
from app.domain.filters import AvailabilityFilter, ChangeFilter
from app.errors import Internal, InventoryError, StreamTooSlow, Unavailable, copy_error
from app.reads.changes import FeedPage
from app.runtime.deadlines import Limit, Watch, current_limit
from app.runtime.fair_loop import charged_tenant
from app.runtime.metrics import STREAM_DELAY

log = structlog.get_logger()
# The most changes that wait for one client.
MAX_QUEUED: Final = 2_000
# A listener with more changes than this is behind: a follower pauses before its next page.
BEHIND: Final = 500
BEHIND_SECONDS: Final = 0.01
# The changes that are compared with filters without a pause for requests.
COMPARED_AT_ONCE: Final = 5_000
# The time after which a failed read is repeated.
READ_AGAIN_SECONDS: Final = 1.0
# The renderings of a change that are kept: their number, and the bytes of each.
MAX_RENDERINGS: Final = 4
MAX_RENDERING_BYTES: Final = 4_096

Record = TypeVar("Record")
# Reads a page of the feed after a position.
ReadFeed = Callable[[int], Awaitable[FeedPage]]


@dataclass(slots=True, eq=False)
class LiveRecord(Generic[Record]):
    """A record for an event, and its renderings, which the streams of one document share."""

    record: Record
    rendered: dict[Hashable, bytes] = field(default_factory=dict)

    @property
    def position(self) -> int | None:
        """The id of the event; None if it has none."""
        return None

    def keep(self, key: Hashable, content: bytes) -> None:
        """Keep a rendering for other streams, unless it is large or one of many.

        A change stays in memory until the slowest stream has taken it.
        """
        if len(self.rendered) < MAX_RENDERINGS and len(content) <= MAX_RENDERING_BYTES:
            self.rendered[key] = content


class LiveChange(LiveRecord[ChangeRecord]):
    """A change of the feed."""

    @property
    def position(self) -> int:
        """The position of the change in the feed."""
        return self.record.position


class Listener:
    """Receives the changes that match a filter, after a position, in a bounded queue."""

    def __init__(self, position: int, where: ChangeFilter | AvailabilityFilter) -> None:
        # All changes up to it are in the queue, were taken, or do not match.
        self.position = position
        self.where = where
        self._queue: list[LiveChange] = []
        self._error: InventoryError | None = None
        self._is_woken = asyncio.Event()

    @property
    def is_behind(self) -> bool:
        """Whether many changes wait in the queue."""
        return len(self._queue) > BEHIND

    def deliver(self, changes: Sequence[LiveChange], read_to: int) -> None:
        """Add the changes that match and follow the position. A full queue ends the listener."""
        if self._error is not None:
            # The client would get later changes after a gap.
            return
        position, matches = self.position, self.where.matches
        self._queue += [
            each for each in changes if each.record.position > position and matches(each.record)
        ]
        self.position = max(position, read_to)
        if len(self._queue) > MAX_QUEUED:
            self._queue.clear()
            message = (
                f"More than {MAX_QUEUED} changes waited for the client, so the stream was ended. "
                "Open it again from the last position that you received."
            )
            self.end(StreamTooSlow(message))
        elif self._queue:
            self._is_woken.set()

    def end(self, error: InventoryError) -> None:
        """End the listener with an error, after the changes in the queue."""
        self._error = self._error or error
        self._is_woken.set()

    def take(self) -> Sequence[LiveChange]:
        """Take the changes out of the queue.

        Raises:
            InventoryError: the queue is empty and the listener has ended.

        """
        self._is_woken.clear()
        queue, self._queue = self._queue, []
        if self._error is not None and not queue:
            raise copy_error(self._error)
        return queue

    async def wait(self, seconds: float) -> None:
        """Wait for a change or the end, at most some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_woken.wait()


class TenantFollower:
    """Reads the feed of one tenant while it has listeners."""

    def __init__(self, tenant_id: str, read: ReadFeed, *, interval: float, seconds: float) -> None:
        self.read = read
        # The number of open streams, also of those that read older changes themselves.
        self.streams = 0
        # Streams read older changes one after the other, so that they do not fill the database.
        self.turn = asyncio.Lock()
        self._tenant_id = tenant_id
        self._interval = interval
        # The time limit of one read.
        self._seconds = seconds
        self._position = 0
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = asyncio.Event()

    @property
    def position(self) -> int | None:
        """The position up to which the feed was read; None if the follower does not run."""
        return self._position if self._task is not None and not self._task.done() else None

    @property
    def is_used(self) -> bool:
        """Whether a stream of the tenant is open, or the follower has not ended yet."""
        return self.streams > 0 or self.position is not None

    def attach(self, listener: Listener) -> bool:
        """Deliver new changes to a listener. False if the follower has read beyond its position."""
        position = self.position
        if position is not None and position > listener.position:
            return False
        self._listeners.add(listener)
        if position is None:
            self._position = listener.position
            # The time limit and the request id of the request do not apply to the follower.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
        return True

    def detach(self, listener: Listener) -> None:
        """Deliver nothing more to a listener. The follower ends after the last one."""
        self._listeners.discard(listener)

    async def stop(self) -> None:
        """End the follower after its current read."""
        self._listeners.clear()
        self._is_stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        # The limit is set, not entered: it never ends, and each read counts its own time.
        current_limit.set(Limit(Watch(), self._seconds))
        charged_tenant.set(self._tenant_id)
        while self._listeners:
            try:
                page = await self.read(self._position)
            except Unavailable as error:
                log.warning("feed_not_read", tenant=self._tenant_id, cause=error.cause)
                await self._pause(READ_AGAIN_SECONDS)
                continue
            except InventoryError as error:
                self._end_all(error)
                return
            except Exception:
                log.exception("follower_failed", tenant=self._tenant_id)
                self._end_all(Internal())
                return
            await self._deliver(page)
            if page.read_to < page.newest:
                await self._until_read()
            else:
                await self._pause(self._interval)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_stopping.wait()

    async def _deliver(self, page: FeedPage) -> None:
        # A listener that attaches from now on does not need this page.
        self._position = page.read_to
        if page.records:
            age = datetime.now(UTC) - page.records[0].created_at
            STREAM_DELAY.observe(max(0, age.total_seconds()))
        changes = [LiveChange(record) for record in page.records]
        compared = 0
        for listener in [*self._listeners]:
            listener.deliver(changes, page.read_to)
            compared += len(changes)
            if compared > COMPARED_AT_ONCE:
                compared = 0
                await asyncio.sleep(0)

    async def _until_read(self) -> None:
        """Wait while a listener is behind, at most one interval: one client delays no other."""
        await asyncio.sleep(0)
        ends_at = time.monotonic() + self._interval
        # An event would cost every batch of every client.
        while any(each.is_behind for each in self._listeners) and time.monotonic() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(BEHIND_SECONDS)

    def _end_all(self, error: InventoryError) -> None:
        for listener in self._listeners:
            listener.end(error)
        self._listeners.clear()
