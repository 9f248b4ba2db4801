"""Subscriptions: a resolver opens the stream, and each of its changes is rendered here."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from graphql import (
    ExecutionResult,
    Executor,
    create_source_event_stream,
    execute_subscription_event,
)
from starlette.requests import Request

from app.database.engine import Database
from app.domain.caller import Principal
from app.domain.filters import ChangeFilter
from app.graphql.columnar import BudgetedExecutor, OperationPlans
from app.graphql.documents import Operation, refusal_of, variables_error
from app.graphql.schema.budget import Budget
from app.graphql.schema.changes import Change
from app.graphql.schema.context import Context, Follow
from app.graphql.schema.schema import schema
from app.graphql.variable_checks import Variables, declared_variables
from app.http.event_stream import last_event_id
from app.live.followers import LiveChange
from app.live.streams import ChangeStream, Streams


@dataclass(frozen=True, slots=True)
class OpenSubscription:
    """The stream of a subscription, and the execution of its changes."""

    stream: ChangeStream
    executor: Executor[Any]
    # All streams of an operation render a change equally, because its fields have no arguments.
    # None if @skip or @include depend on variables.
    key: OperationPlans | None
    # The budget of the execution of one change.
    limit: int

    def execute(self, change: LiveChange) -> ExecutionResult:
        """Execute the selections of the subscription for a change. It reads nothing."""
        executor: Any = self.executor.build_per_event_executor(Change(record=change.record))
        executor.budget = Budget(self.limit)
        result = execute_subscription_event(executor)
        if not isinstance(result, ExecutionResult):
            message = "A field of a change must not be awaited."
            raise TypeError(message)
        return result

    def renderer(
        self, render: Callable[[int, ExecutionResult], bytes]
    ) -> Callable[[LiveChange], bytes]:
        """Build the function that renders a change, once for all streams with the key."""

        def rendered_once(change: LiveChange) -> bytes:
            content = change.rendered.get(self.key)
            if content is None:
                result = self.execute(change)
                content = render(change.record.position, result)
                # An error has the request id of its stream.
                if self.key is not None and not result.errors:
                    change.keep(self.key, content)
            return content

        return rendered_once


def follow_for(streams: Streams, principal: Principal, request: Request) -> Follow:
    """Build the function that opens the stream of a request.

    Raises:
        ValidationFailed: the header Last-Event-ID is not a position.

    """
    resumed_after = last_event_id(request.headers)
    authorization = request.headers.get("authorization")

    async def follow(where: ChangeFilter, after: int | None) -> ChangeStream:
        position = after if resumed_after is None else resumed_after
        return await streams.open(principal, authorization, where, position)

    return follow


async def open_subscription(
    operation: Operation,
    variables: Variables,
    principal: Principal,
    database: Database,
    *,
    follow: Follow,
    limit: int,
) -> OpenSubscription:
    """Open the stream of a subscription.

    Raises:
        InsufficientScope: a scope is missing, or the token is bound.
        ValidationFailed: the variables are not valid.
        InventoryError: the resolver refused the subscription.

    """
    operation.require_access(principal)
    variables = declared_variables(schema._schema, operation.node, variables)  # noqa: SLF001
    async with database.snapshot(tenant_id=principal.tenant_id) as snapshot:
        executor = BudgetedExecutor.build(
            schema._schema,  # noqa: SLF001 - Strawberry has no public name for it
            operation.document,
            context_value=Context(
                principal, database, snapshot, budget=Budget(limit), columnar=False, follow=follow
            ),
            raw_variable_values=dict(variables),
            operation_name=operation.name,
        )
        if isinstance(executor, list):
            raise variables_error(operation, variables, executor)
        pending = create_source_event_stream(executor)
        opened: Any = await pending if isawaitable(pending) else pending
    if isinstance(opened, ExecutionResult):
        raise refusal_of((opened.errors or [])[0])
    # The fields of a change need no context, which would keep the loaders of the request.
    executor.context_value = None
    return OpenSubscription(opened.stream, executor, operation.plans, limit)
