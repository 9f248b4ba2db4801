"""The state that the resolvers of one request share."""

from collections.abc import Awaitable, Callable
from typing import Protocol, Self, TypeVar

import strawberry

from app.database.engine import Database
from app.database.snapshot import Snapshot
from app.domain.caller import Principal
from app.domain.stock import NO_PROBLEMS, RowProblems
from app.graphql.columnar import OperationPlans
from app.graphql.schema.budget import Budget
from app.graphql.schema.cursors import ListCursors
from app.graphql.schema.dataloaders import Loaders
from app.graphql.schema.relay import MAX_PAGE
from app.live.subscriber import Subscriber
from app.runtime.fair_loop import PIECE, in_pieces
from app.writes.idempotency_keys import WriteResult
from app.writes.pipeline import WriteContext

Written = TypeVar("Written")


class WriteOptions(Protocol):
    """The options that every mutation's input has."""

    idempotency_key: str | None
    dry_run: bool


class Context:
    """The principal, a snapshot of the database, its loaders, and the budget of the execution."""

    in_pieces = staticmethod(in_pieces)

    def __init__(
        self,
        principal: Principal,
        database: Database,
        snapshot: Snapshot,
        *,
        budget: Budget,
        columnar: bool,
        plans: OperationPlans | None = None,
        longest_page: int = MAX_PAGE,
        row_problems: RowProblems = NO_PROBLEMS,
        subscriber: Subscriber | None = None,
    ) -> None:
        self.principal = principal
        self.snapshot = snapshot
        self.budget = budget
        # The statement of a sibling field may have spent the budget since this one was planned.
        snapshot.guard = budget.require_not_exceeded
        self.loaders = Loaders(snapshot, principal.caller, budget)
        # For the columnar executor: whether it may be used, its plans, and whether it was used.
        self.columnar = columnar
        self.plans = plans
        self.has_columns = False
        self.piece_size = PIECE
        # Limit of the page size of the ledger.
        self.longest_page = longest_page
        # Problems that REST found in the items of a bulk, in values that GraphQL cannot contain.
        self.row_problems = row_problems
        # The client of a subscription; None for other operations.
        self.subscriber = subscriber
        self._database = database

    def cursors(self, *identity: object) -> ListCursors:
        """Cursors of the list with a name and filters."""
        return ListCursors(identity, key=self.principal.cursor_key)

    def afresh(self) -> Self:
        """Context with the same snapshot and budget, and with empty loaders."""
        self.snapshot.statements = 0
        return type(self)(
            self.principal,
            self._database,
            self.snapshot,
            budget=self.budget,
            columnar=self.columnar,
            longest_page=self.longest_page,
            row_problems=self.row_problems,
        )

    async def write(
        self,
        options: WriteOptions,
        command: Callable[[WriteContext], Awaitable[WriteResult[Written]]],
        *,
        count: Callable[[Written], int] = lambda _: 1,
    ) -> WriteResult[Written]:
        """Execute a write; later reads of the same request see its effect.

        Mutations have no other access to the database, so the loaders and the snapshot cannot be
        stale after a write. `count` is the number of written levels or lines in the result, for
        the budget.
        """
        caller = self.principal.caller
        writing = WriteContext(
            database=self._database,
            caller=caller,
            key=options.idempotency_key,
            dry_run=options.dry_run,
        )
        written = await command(writing)
        self.budget.owe(count(written.result))
        await self.snapshot.close()
        self.loaders = Loaders(self.snapshot, caller, self.budget)
        return written


Info = strawberry.Info[Context, None]
