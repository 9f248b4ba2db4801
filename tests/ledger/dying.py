"""A process that is killed at a chosen moment of a request."""

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import AsyncMock

from sqlalchemy import event

from app.database.engine import Database
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
    moment: int, database_url: str, token: str, body: dict[str, Any], *, locking: bool
) -> None:
    """Answer a GraphQL request in a process that is killed at moment number `moment`.

    `locking`: on PostgreSQL, skip the attempt to write without a transaction. Moments are:
    after each statement, before each commit, and before the response, in order. Between two
    statements nothing leaves the process.
    """

    async def live() -> None:
        async with running(database_url) as (app, client):
            if locking:
                app.state.database.write_optimistically = AsyncMock(return_value=None)
            headers = {"Authorization": f"Bearer {token}"}
            clock = Clock(moment)
            with clock.watching(app.state.database):
                await client.post("/graphql", json=body, headers=headers)
            clock.tick()

    asyncio.run(live())
    os._exit(SURVIVED)


class Clock:
    """Counts down the moments until the process is killed."""

    def __init__(self, moments: int) -> None:
        self.moments = moments

    @contextmanager
    def watching(self, database: Database) -> Iterator[None]:
        """Tick at every statement and commit of the database."""
        for engine in {database.writer.sync_engine, database.reader.sync_engine}:
            event.listen(engine, "commit", self.tick)
        with watched(database, after=self.tick):
            yield

    def tick(self, *_what: object) -> None:
        """Pass a moment, or kill the process."""
        if self.moments == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.moments -= 1
