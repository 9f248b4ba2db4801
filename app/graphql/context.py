"""What the resolvers of one request share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import strawberry

from app.auth import Principal
from app.commands.idempotency import Caller
from app.database import Database, Snapshot
from app.graphql.loaders import Loaders


class Context:
    """Who asks, and a consistent view of what there is."""

    def __init__(self, principal: Principal, database: Database, snapshot: Snapshot) -> None:
        self.principal = principal
        self.database = database
        self.snapshot = snapshot
        self.loaders = Loaders(snapshot, principal.tenant)

    @property
    def caller(self) -> Caller:
        """Who asks, as writes know it."""
        principal = self.principal
        return Caller(principal.tenant, principal.subject, principal.email)

    async def forget(self) -> None:
        """Let what is read from now on see what was just written."""
        await self.snapshot.close()
        self.loaders = Loaders(self.snapshot, self.principal.tenant)


@asynccontextmanager
async def request_context(database: Database, principal: Principal) -> AsyncIterator[Context]:
    """Open the context of a request."""
    async with database.snapshot() as snapshot:
        yield Context(principal, database, snapshot)


Info = strawberry.Info[Context, None]
