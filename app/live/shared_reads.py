"""Reads of availability that the streams of a tenant share."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import Context
from typing import Final

from app.domain.availability import AvailabilityChangeRecord, AvailabilityRecord
from app.errors import InventoryError, copy_error
from app.live.followers import LiveRecord
from app.runtime.deadlines import Limit, Watch, current_limit
from app.runtime.fair_loop import charged_tenant

# The most SKUs that one statement reads.
READ_AT_ONCE: Final = 1_000
LiveAvailability = LiveRecord[AvailabilityChangeRecord]
ReadAvailability = Callable[[Sequence[str]], Awaitable[Mapping[str, AvailabilityRecord]]]


class AvailabilityReads:
    """Reads the availability of SKUs, for all streams of a tenant that wait, at once."""

    def __init__(self, tenant_id: str, read: ReadAvailability, *, seconds: float) -> None:
        self._tenant_id = tenant_id
        self._read = read
        # The time limit of one read.
        self._seconds = seconds
        self._wanted: set[str] = set()
        self._next: asyncio.Task[dict[str, LiveAvailability]] | None = None
        # One read after the other, so that streams do not fill the database.
        self._turn = asyncio.Lock()

    async def get(self, codes: Iterable[str]) -> dict[str, LiveAvailability]:
        """Read the availability of SKUs from a state that is not older than the call.

        Raises:
            Unavailable: the database cannot be read.

        """
        codes = [*codes]
        self._wanted.update(codes)
        if self._next is None:
            # The time limit and the request id of the request do not apply to a shared read.
            self._next = asyncio.get_running_loop().create_task(self._run(), context=Context())
        try:
            # A stream that closes must not cancel the read of the others.
            found = await asyncio.shield(self._next)
        except InventoryError as error:
            raise copy_error(error) from error
        return {code: found[code] for code in codes}

    async def _run(self) -> dict[str, LiveAvailability]:
        limit = Limit(Watch(), self._seconds)
        current_limit.set(limit)
        charged_tenant.set(self._tenant_id)
        async with self._turn:
            # Streams that ask from now on wait for the next read.
            codes, self._wanted, self._next = sorted(self._wanted), set(), None
            found: dict[str, AvailabilityRecord] = {}
            for start in range(0, len(codes), READ_AT_ONCE):
                found |= await self._read(codes[start : start + READ_AT_ONCE])
        return {code: LiveRecord(AvailabilityChangeRecord(code, found.get(code))) for code in codes}
