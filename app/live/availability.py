"""Streams of availability: an event only when what a frontend may see has changed.

The feed says which SKUs may have changed, and a read shared by all streams of the tenant says what
they are now. Positions of the feed count all changes of a tenant, so no event has one.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence

import structlog

from app.domain.availability import AvailabilityRecord
from app.domain.caller import Principal
from app.domain.filters import AvailabilityFilter
from app.errors import Unavailable
from app.live.followers import READ_AGAIN_SECONDS, LiveChange
from app.live.shared_reads import AvailabilityReads, LiveAvailability
from app.live.streams import ChangeStream, Streams
from app.runtime.deadlines import untimed

log = structlog.get_logger()


class AvailabilityStream:
    """The availability of some SKUs for one client: the present one, and then each other one."""

    # Events and heartbeats have no position.
    begins_after = position = 0

    def __init__(
        self, changes: ChangeStream, reads: AvailabilityReads, codes: Sequence[str]
    ) -> None:
        self._changes = changes
        self._reads = reads
        self._codes = dict.fromkeys(codes)
        # The SKUs to read, in the order of the request.
        self._pending = self._codes
        # The last event of each SKU.
        self._shown: dict[str, AvailabilityRecord | None] = {}

    async def next_batch(self) -> Sequence[LiveAvailability]:
        """Return the availability of the SKUs that differ; none if a heartbeat is due.

        Changes that the client may not see end no wait: their time would tell that they exist.

        Raises:
            InventoryError: the stream ends, for example because its token was revoked.

        """
        ends_at = time.monotonic() + self._changes.heartbeat_seconds
        while True:
            if not self._pending:
                self._pending = self._codes_of(await self._changes.next_batch(ends_at))
            if self._pending and (differing := await self._read_pending()):
                return differing
            if time.monotonic() >= ends_at:
                return ()

    def close(self) -> None:
        """Close the stream. Further calls do nothing."""
        self._changes.close()

    async def _read_pending(self) -> list[LiveAvailability]:
        with untimed():
            try:
                found = await self._reads.get(self._pending)
            except Unavailable as error:
                log.warning("availability_not_read", cause=error.cause)
                await asyncio.sleep(READ_AGAIN_SECONDS)
                return []
        differing = [found[code] for code in self._pending if self._differs(found[code])]
        self._shown |= {live.record.sku: live.record.availability for live in differing}
        self._pending = {}
        return differing

    def _differs(self, live: LiveAvailability) -> bool:
        record = live.record
        return record.sku not in self._shown or self._shown[record.sku] != record.availability

    def _codes_of(self, changes: Iterable[LiveChange]) -> dict[str, None]:
        changed = {change.record.sku for change in changes}
        # The change of a warehouse may concern each SKU.
        return (
            self._codes
            if None in changed
            else {code: None for code in self._codes if code in changed}
        )


async def open_availability(
    streams: Streams, principal: Principal, authorization: str | None, codes: Sequence[str]
) -> AvailabilityStream:
    """Open a stream of the availability of some SKUs.

    Raises:
        TooManyStreams: the token has too many open streams.
        Unavailable: the process has too many open streams, or is stopping.

    """
    where = AvailabilityFilter(skus=frozenset(codes))
    changes = await streams.open(principal, authorization, where, None)
    return AvailabilityStream(changes, streams.availability_of_tenant(principal.tenant_id), codes)
