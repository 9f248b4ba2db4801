"""The client of a subscription: it opens the streams that resolvers ask for."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.caller import Principal
from app.domain.filters import ChangeFilter
from app.live.availability import AvailabilityStream, open_availability
from app.live.streams import ChangeStream, Streams


@dataclass(frozen=True, slots=True)
class Subscriber:
    """The client of a subscription."""

    streams: Streams
    principal: Principal
    authorization: str | None
    # The position of the last event that the client has, if it connects again.
    resumed_after: int | None

    async def follow(self, where: ChangeFilter, after: int | None) -> ChangeStream:
        """Open a stream of the changes after a position, or after the newest one."""
        position = after if self.resumed_after is None else self.resumed_after
        return await self.streams.open(self.principal, self.authorization, where, position)

    async def follow_availability(self, codes: Sequence[str]) -> AvailabilityStream:
        """Open a stream of the availability of SKUs. It begins with the present one."""
        return await open_availability(self.streams, self.principal, self.authorization, codes)
