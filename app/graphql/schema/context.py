"""What the resolvers of one request share."""

from typing import Self

import strawberry

from app.database.engine import Database
from app.database.snapshot import Snapshot
from app.domain.caller import Caller, Principal
from app.graphql.columnar.executor import OperationPlans
from app.graphql.schema.budget import Budget
from app.graphql.schema.dataloaders import Loaders
from app.graphql.schema.relay import MAX_PAGE


class Context:
    """Who asks, and a consistent view of what there is."""

    def __init__(
        self,
        principal: Principal,
        database: Database,
        snapshot: Snapshot,
        *,
        budget: Budget,
        may_bulk: bool,
        plans: OperationPlans | None = None,
        longest_page: int = MAX_PAGE,
    ) -> None:
        self.principal = principal
        self.database = database
        self.snapshot = snapshot
        self.budget = budget
        self.loaders = Loaders(snapshot, principal.tenant_id, budget)
        # Whether lists may be completed in bulk, by which plans, and whether one was.
        self.may_bulk = may_bulk
        self.plans = plans
        self.in_bulk = False
        # How long a page of the ledger may be.
        self.longest_page = longest_page

    @property
    def caller(self) -> Caller:
        """Who asks, as writes know it."""
        principal = self.principal
        return Caller(principal.tenant_id, principal.subject, principal.email)

    def afresh(self) -> Self:
        """Return one of the same view and budget that has loaded nothing yet."""
        self.snapshot.statements = 0
        return type(self)(
            self.principal,
            self.database,
            self.snapshot,
            budget=self.budget,
            may_bulk=self.may_bulk,
            longest_page=self.longest_page,
        )

    async def forget(self, *, writes: int = 1) -> None:
        """Let what is read from now on see what was just written, in so many parts."""
        self.budget.owe(writes)
        await self.snapshot.close()
        self.loaders = Loaders(self.snapshot, self.principal.tenant_id, self.budget)


Info = strawberry.Info[Context, None]
