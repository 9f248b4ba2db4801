"""Open streams of changes: their limits, their tokens, their heartbeats and their end."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

import structlog

from app.auth.tokens import Authenticator
from app.database.engine import Database
from app.domain.availability import AvailabilityRecord
from app.domain.caller import Principal
from app.domain.filters import AvailabilityFilter, ChangeFilter
from app.errors import InventoryError, TooManyStreams, Unavailable
from app.live.followers import Listener, LiveChange, LiveRecord, TenantFollower
from app.live.shared_reads import AvailabilityReads
from app.reads.availability import get_availabilities
from app.reads.changes import FeedPage, get_feed_position, list_changes
from app.runtime.deadlines import untimed
from app.runtime.request_facts import current_request_facts
from app.settings import Settings

log = structlog.get_logger()
# The changes that a follower, or a stream with older changes, reads at once.
FEED_PAGE: Final = 1_000
# Between two reads of older changes of which none matches.
CATCH_UP_SECONDS: Final = 0.01
# The changes that are rendered without a pause for other requests.
RENDERED_AT_ONCE: Final = 50
STOPPING: Final = "The service is stopping. Open the stream again from the last received position."


class ChangeStream:
    """The changes for one client. It reads older ones itself, and then follows the newest."""

    def __init__(
        self,
        streams: "Streams",
        follower: TenantFollower,
        principal: Principal,
        authorization: str | None,
        where: ChangeFilter | AvailabilityFilter,
    ) -> None:
        self.principal = principal
        self.follower = follower
        self.listener = Listener(0, where)
        # The position after which the stream begins.
        self.begins_after = 0
        self._streams = streams
        self._authorization = authorization
        self._older: Sequence[LiveChange] = ()
        self._is_attached = False
        self._next_check = time.monotonic() + streams.heartbeat_seconds

    @property
    def position(self) -> int:
        """The position up to which the client has all changes, while no batch is pending."""
        return self.listener.position

    @property
    def heartbeat_seconds(self) -> float:
        """The longest time without an event."""
        return self._streams.heartbeat_seconds

    async def begin(self, after: int | None) -> None:
        """Begin after a position, or after the newest one.

        Raises:
            ChangesGone: the changes after the position are deleted, or it is beyond the newest one.

        """
        following = self.follower.position
        if after is None:
            after = following if following is not None else await self._streams.newest(self)
            following = after
        self.begins_after = self.listener.position = after
        if after == following:
            self._is_attached = self.follower.attach(self.listener)
        else:
            self._older = await self._catch_up()

    async def next_batch(self, ends_at: float | None = None) -> Sequence[LiveChange]:
        """Return the next changes; none if a heartbeat is due, or at a monotonic time.

        Raises:
            InventoryError: the stream ends, for example because its token was revoked.

        """
        with untimed():
            if ends_at is None:
                ends_at = time.monotonic() + self.heartbeat_seconds
            while True:
                await self._check_token()
                changes, self._older = self._older or self.listener.take(), ()
                if not changes and not self._is_attached:
                    changes = await self._catch_up()
                left = ends_at - time.monotonic()
                if changes or left <= 0:
                    return changes
                if self._is_attached:
                    await self.listener.wait(left)
                else:
                    await asyncio.sleep(CATCH_UP_SECONDS)

    def close(self) -> None:
        """Close the stream. Further calls do nothing."""
        self.follower.detach(self.listener)
        self._streams.forget(self)

    async def _catch_up(self) -> Sequence[LiveChange]:
        """Read a page of older changes; after the last page, follow the newest."""
        async with self.follower.turn:
            page = await self.follower.read(self.listener.position)
        matches = self.listener.where.matches
        changes = [LiveChange(record) for record in page.records if matches(record)]
        self.listener.position = page.read_to
        if page.read_to == page.newest:
            self._is_attached = self.follower.attach(self.listener)
        return changes

    async def _check_token(self) -> None:
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + self._streams.heartbeat_seconds
        try:
            await self._streams.authenticator.identify(self._authorization)
        except Unavailable as error:
            # The database cannot be read, so the stream gets no changes either.
            log.warning("token_not_checked", cause=error.cause)


class LiveStream(Protocol):
    """The records for one client."""

    @property
    def begins_after(self) -> int:
        """The position after which the stream begins."""

    @property
    def position(self) -> int:
        """The position up to which the client has all changes."""

    async def next_batch(self) -> Sequence[LiveRecord[Any]]:
        """Return the next records; none if a heartbeat is due."""

    def close(self) -> None:
        """Close the stream."""


class Streams:
    """The open streams of a process."""

    def __init__(
        self, settings: Settings, database: Database, authenticator: Authenticator
    ) -> None:
        self.authenticator = authenticator
        self.heartbeat_seconds = settings.stream_heartbeat_seconds
        self._settings = settings
        self._database = database
        self._open: set[ChangeStream] = set()
        self._by_token: Counter[tuple[str, str]] = Counter()
        self._followers: dict[str, TenantFollower] = {}
        self._availability: WeakValueDictionary[str, AvailabilityReads] = WeakValueDictionary()
        self._is_closed = False

    def __len__(self) -> int:
        """Count the open streams."""
        return len(self._open)

    async def open(
        self,
        principal: Principal,
        authorization: str | None,
        where: ChangeFilter | AvailabilityFilter,
        after: int | None,
    ) -> ChangeStream:
        """Open a stream of the changes after a position, or after the newest one.

        Raises:
            ChangesGone: the changes after the position are deleted, or it is beyond the newest one.
            TooManyStreams: the token has too many open streams.
            Unavailable: the process has too many open streams, or is stopping.

        """
        self._admit(principal)
        follower = self._follower(principal.tenant_id)
        stream = ChangeStream(self, follower, principal, authorization, where)
        self._open.add(stream)
        self._by_token[_token_of(principal)] += 1
        follower.streams += 1
        try:
            await stream.begin(after)
        except BaseException:
            stream.close()
            raise
        return stream

    def forget(self, stream: ChangeStream) -> None:
        """Remove a stream that is closed."""
        if stream not in self._open:
            return
        self._open.remove(stream)
        token = _token_of(stream.principal)
        self._by_token[token] -= 1
        if not self._by_token[token]:
            del self._by_token[token]
        stream.follower.streams -= 1

    def close(self) -> None:
        """End all streams, and refuse new ones: the service is stopping."""
        if self._is_closed:
            # Each connection of a stopping server calls this.
            return
        self._is_closed = True
        for stream in self._open:
            stream.listener.end(Unavailable(STOPPING))

    async def aclose(self) -> None:
        """End all streams, and wait until no follower uses the database."""
        self.close()
        for follower in [*self._followers.values()]:
            await follower.stop()

    async def newest(self, stream: ChangeStream) -> int:
        """Read the newest position of the feed of a stream."""
        tenant_id = stream.principal.tenant_id
        async with self._database.snapshot(
            single=True, alone=True, tenant_id=tenant_id
        ) as snapshot:
            return await get_feed_position(snapshot, tenant_id)

    def availability_of_tenant(self, tenant_id: str) -> AvailabilityReads:
        """Return the reads that all streams of the availability of a tenant share."""
        reads = self._availability.get(tenant_id)
        if reads is None:

            async def read(codes: Sequence[str]) -> Mapping[str, AvailabilityRecord]:
                async with self._database.snapshot(
                    single=True, alone=True, tenant_id=tenant_id
                ) as snapshot:
                    return await get_availabilities(snapshot, tenant_id, codes=codes)

            seconds = self._settings.request_timeout_seconds
            reads = self._availability[tenant_id] = AvailabilityReads(
                tenant_id, read, seconds=seconds
            )
        return reads

    def _admit(self, principal: Principal) -> None:
        if self._is_closed:
            raise Unavailable(STOPPING)
        most = self._settings.max_streams_per_token
        if self._by_token[_token_of(principal)] >= most:
            message = f"The token has {most} open streams, which is the limit. Close one first."
            raise TooManyStreams(message, details=[{"limit": most}])
        if len(self._open) >= self._settings.max_streams:
            message = "The service has too many open streams; try again."
            raise Unavailable(message)

    def _follower(self, tenant_id: str) -> TenantFollower:
        follower = self._followers.get(tenant_id)
        if follower is None:
            self._followers = {id_: each for id_, each in self._followers.items() if each.is_used}

            async def read(after: int) -> FeedPage:
                async with self._database.snapshot(
                    single=True, alone=True, tenant_id=tenant_id
                ) as snapshot:
                    return await list_changes(snapshot, tenant_id, after=after, limit=FEED_PAGE)

            follower = self._followers[tenant_id] = TenantFollower(
                tenant_id,
                read,
                interval=self._settings.stream_interval_seconds,
                seconds=self._settings.request_timeout_seconds,
            )
        return follower


async def event_chunks(
    stream: LiveStream,
    *,
    render: Callable[[LiveRecord[Any]], bytes],
    heartbeat: Callable[[int], bytes],
    end: Callable[[InventoryError], bytes],
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream as bytes, heartbeats between them, and an error at the end."""
    yield heartbeat(stream.begins_after)
    try:
        while True:
            changes = await stream.next_batch()
            for start in range(0, len(changes), RENDERED_AT_ONCE):
                yield b"".join(map(render, changes[start : start + RENDERED_AT_ONCE]))
                await asyncio.sleep(0)
            if not changes:
                yield heartbeat(stream.position)
    except InventoryError as error:
        facts = current_request_facts.get()
        # The stop of the service and an outage are not faults of this request.
        if facts is not None and not isinstance(error, Unavailable):
            facts.note_error(error)
        yield end(error)


def _token_of(principal: Principal) -> tuple[str, str]:
    return principal.tenant_id, principal.subject
