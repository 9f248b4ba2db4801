"""A process that dies at a chosen moment of a request."""

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

# What the process exits with if it lived to send the answer.
SURVIVED: Final = 77

# A process is forked from one that has imported this: so what takes longest is made already, and
# what is there needs no looking at.
openapi()
gc.collect()
gc.freeze()


def die_at(
    moment: int, database_url: str, token: str, body: dict[str, Any], *, locking: bool
) -> None:
    """Answer a GraphQL request, and be killed at the moment of that number.

    `locking`: on PostgreSQL, as if others had been in the way of writing without a transaction.

    Moments are: before and after each statement, before and after each commit, in their order.
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
    """Counts the moments of a process down to its death."""

    def __init__(self, moments: int) -> None:
        self.moments = moments

    @contextmanager
    def watching(self, database: Database) -> Iterator[None]:
        """Tick at every statement and commit of the database."""
        for engine in {database.writer.sync_engine, database.reader.sync_engine}:
            event.listen(engine, "commit", self.tick)
        with watched(database, before=self.tick, after=self.tick):
            yield

    def tick(self, *_what: object) -> None:
        """Let a moment pass, or die without a word."""
        if self.moments == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.moments -= 1
