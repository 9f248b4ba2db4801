"""Subscriptions: a resolver opens the stream, and each of its records is rendered here."""

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
from app.graphql.columnar import BudgetedExecutor, OperationPlans
from app.graphql.documents import Operation, refusal_of, variables_error
from app.graphql.schema.budget import Budget
from app.graphql.schema.context import Context
from app.graphql.schema.schema import schema
from app.graphql.variable_checks import Variables, declared_variables
from app.http.event_stream import last_event_id
from app.live.followers import LiveRecord
from app.live.streams import LiveStream, Streams
from app.live.subscriber import Subscriber


@dataclass(frozen=True, slots=True)
class OpenSubscription:
    """The stream of a subscription, and the execution of its events."""

    stream: LiveStream
    executor: Executor[Any]
    # Makes the object of an event from its record.
    node_of: Callable[[Any], object]
    # All streams of an operation render a record equally, because its fields have no arguments.
    # None if @skip or @include depend on variables.
    key: OperationPlans | None
    # The budget of the execution of one event.
    limit: int

    def execute(self, live: LiveRecord[Any]) -> ExecutionResult:
        """Execute the selections of the subscription for a record. It reads nothing."""
        executor: Any = self.executor.build_per_event_executor(self.node_of(live.record))
        executor.budget = Budget(self.limit)
        result = execute_subscription_event(executor)
        if not isinstance(result, ExecutionResult):
            message = "A field of an event must not be awaited."
            raise TypeError(message)
        return result

    def renderer(
        self, render: Callable[[int | None, ExecutionResult], bytes]
    ) -> Callable[[LiveRecord[Any]], bytes]:
        """Build the function that renders a record, once for all streams with the key."""

        def rendered_once(live: LiveRecord[Any]) -> bytes:
            content = live.rendered.get(self.key)
            if content is None:
                result = self.execute(live)
                content = render(live.position, result)
                # An error has the request id of its stream.
                if self.key is not None and not result.errors:
                    live.keep(self.key, content)
            return content

        return rendered_once


def subscriber_of(streams: Streams, principal: Principal, request: Request) -> Subscriber:
    """Make the subscriber of a request.

    Raises:
        ValidationFailed: the header Last-Event-ID is not a position.

    """
    authorization = request.headers.get("authorization")
    return Subscriber(streams, principal, authorization, last_event_id(request.headers))


async def open_subscription(
    operation: Operation,
    variables: Variables,
    database: Database,
    *,
    subscriber: Subscriber,
    limit: int,
) -> OpenSubscription:
    """Open the stream of a subscription.

    Raises:
        InsufficientScope: a scope is missing, or the token is bound.
        ValidationFailed: the variables are not valid.
        InventoryError: the resolver refused the subscription.

    """
    principal = subscriber.principal
    operation.require_access(principal)
    variables = declared_variables(schema._schema, operation.node, variables)  # noqa: SLF001
    async with database.snapshot(tenant_id=principal.tenant_id) as snapshot:
        executor = BudgetedExecutor.build(
            schema._schema,  # noqa: SLF001 - Strawberry has no public name for it
            operation.document,
            context_value=Context(
                principal,
                database,
                snapshot,
                budget=Budget(limit),
                columnar=False,
                subscriber=subscriber,
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
    # The fields of an event need no context, which would keep the loaders of the request.
    executor.context_value = None
    return OpenSubscription(opened.stream, executor, opened.node_of, operation.plans, limit)
