"""A process that is killed or stopped at a chosen moment of a request."""

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from app.database.session import DriverSession
from rest_shim.openapi import openapi
from tests.service import running
from tests.statements import watched

# Exit code of a process that lived to send the response.
SURVIVED: Final = 77

# Processes are forked from one that imported this module. The slow initialization is done once, and
# the frozen objects are not collected again.
openapi()
gc.collect()
gc.freeze()


def die_at(
    moment: int,
    database_url: str,
    token: str,
    body: dict[str, Any],
    with_signal: signal.Signals = signal.SIGKILL,
) -> None:
    """Answer a GraphQL request in a process that gets a signal at moment number `moment`.

    Moments are: after each statement, beginning and commit, in order.
    """

    async def live() -> None:
        async with running(database_url) as (_, client):
            headers = {"Authorization": f"Bearer {token}"}
            clock = Clock(moment, with_signal)
            with clock.watching():
                await client.post("/graphql", json=body, headers=headers)
            clock.tick()

    asyncio.run(live())
    os._exit(SURVIVED)


class Clock:
    """Counts down the moments until the process gets a signal."""

    def __init__(self, moments: int, with_signal: signal.Signals = signal.SIGKILL) -> None:
        self.moments = moments
        self._signal = with_signal

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Tick after every statement, beginning and commit."""
        with (
            watched(after=self.tick),
            patch.object(DriverSession, "begin", self._followed(DriverSession.begin)),
            patch.object(DriverSession, "commit", self._followed(DriverSession.commit)),
        ):
            yield

    def _followed(self, original: Any) -> Any:
        async def ticking(*arguments: Any, **options: Any) -> None:
            await original(*arguments, **options)
            self.tick()

        return ticking

    def tick(self, *_what: object) -> None:
        """Pass a moment, or send the signal to this process."""
        if self.moments == 0:
            os.kill(os.getpid(), self._signal)
        self.moments -= 1
