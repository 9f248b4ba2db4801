"""Executors for graphql-core: one with a budget, and one that completes columns.

graphql-core completes every field of every object separately. `ColumnarExecutor` plans each
selection once and completes each field for all objects of a list at once. A single object is
handled as a list of one. A selection or a value that the plans do not cover is completed by
graphql-core. A query with an error is executed again by graphql-core alone, so that errors, their
paths and the nulls in their places are graphql-core's.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from copy import copy
from functools import partial
from inspect import isawaitable
from typing import Any, ClassVar, Self

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLResolveInfoHelpers,
    OperationType,
    execute,
    get_nullable_type,
)
from graphql.execution import Executor, VariableValues
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet
from graphql.execution.executor import CollectedErrors
from graphql.pyutils import Path, gather_with_cancel
from strawberry import Schema
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.graphql.columnar.arguments import Resolve, resolver_of
from app.graphql.columnar.completions import (
    CompletedColumn,
    Completion,
    Values,
    await_all,
    nullable,
)
from app.graphql.columnar.context import ColumnarContext, ExecutionBudget
from app.graphql.columnar.fallbacks import Fallbacks
from app.graphql.columnar.operation import OperationPlans, PreparedOperation
from app.graphql.columnar.plan import Planner, Plans, SelectionPlan, plan_key


class BudgetedExecutor(Executor[Any]):
    """graphql-core's executor, which stops when the budget of the execution is spent."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self.budget: ExecutionBudget = self.context_value.budget

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,  # noqa: ANN401
        field_details_list: FieldDetailsList,
        path: Path,
        position_context: None,
    ) -> Any:  # noqa: ANN401
        """Execute a field within the budget.

        Raises:
            ExecutionBudget.error_type: the budget is spent. A root field is null instead, with
                the error.

        """
        try:
            self.budget.spend_fields(1)
        except self.budget.error_type as error:
            field = self.schema.get_field(parent_type, field_details_list[0].node.name.value)
            if path.prev is not None or field is None:
                raise
            self.handle_field_error(error, field.type, field_details_list, path)
            return None
        value = self.execute_affordable_field(
            parent_type, source, field_details_list, path, position_context
        )
        if isawaitable(value):
            self.budget.owe_awaited()
        return value

    def handle_field_error(
        self,
        raw_error: Exception,
        return_type: GraphQLOutputType,
        field_details_list: FieldDetailsList,
        path: Path,
    ) -> None:
        """Set a nullable field with an error to null; a query over its budget stops instead."""
        self.budget.owe_error()
        is_query = self.operation.operation is OperationType.QUERY
        if is_query and self.budget.is_exceeded and not isinstance(return_type, GraphQLNonNull):
            return_type = GraphQLNonNull(return_type)
        super().handle_field_error(raw_error, return_type, field_details_list, path)

    def execute_affordable_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,  # noqa: ANN401
        field_details_list: FieldDetailsList,
        path: Path,
        position_context: None,
    ) -> Any:  # noqa: ANN401
        """Execute a field whose units are spent."""
        return super().execute_field(
            parent_type, source, field_details_list, path, position_context
        )

    def complete_leaf_value(self, return_type: GraphQLLeafType, result: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Complete a leaf value, and spend the units of a long text."""
        if isinstance(result, str):
            self.budget.spend_characters(len(result))
        return super().complete_leaf_value(return_type, result)


class ColumnarExecutor(BudgetedExecutor):
    """graphql-core's executor that completes lists and objects column by column."""

    fallbacks: ClassVar[Fallbacks] = Fallbacks()

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self._is_query = self.operation.operation is OperationType.QUERY
        plans: OperationPlans | None = self.context_value.plans
        self._plans: Plans = {} if plans is None else plans.of_selections
        self._resolvers = None if plans is None else plans.of_fields

    @classmethod
    async def run(
        cls,
        schema: Schema,
        document: DocumentNode,
        *,
        variables: Mapping[str, object],
        operation_name: str | None,
        context: ColumnarContext,
    ) -> ExecutionResult:
        """Execute an operation of a valid document, column by column if the context allows it."""
        run = partial(
            execute,
            schema._schema,  # noqa: SLF001 - Strawberry has no public name for it
            document,
            variable_values=dict(variables),
            operation_name=operation_name,
        )
        if context.columnar and context.plans and (prepared := context.plans.prepared):
            result = prepared.execute(variables, context)
        else:
            executor_class = cls if context.columnar else BudgetedExecutor
            result = run(context_value=context, executor_class=executor_class)
        if isawaitable(result):
            result = await result
        if result.errors and context.has_columns and not context.budget.is_exceeded:
            cls.fallbacks.repeated_queries += 1
            result = run(context_value=context.afresh(), executor_class=BudgetedExecutor)
            if isawaitable(result):
                result = await result
        return result

    def execute_collected_root_fields(
        self,
        root_type: GraphQLObjectType,
        root_value: Any,  # noqa: ANN401
        grouped_field_set: GroupedFieldSet,
        serially: bool,  # noqa: FBT001
        new_defer_usages: Sequence[Any],
    ) -> Any:  # noqa: ANN401
        """Execute the root fields, and keep them for the next execution."""
        plans: OperationPlans | None = self.context_value.plans
        if plans is not None and plans.prepared is None:
            plans.prepared = PreparedOperation.of(self, root_type, grouped_field_set)
        return super().execute_collected_root_fields(
            root_type, root_value, grouped_field_set, serially, new_defer_usages
        )

    def without_context(self) -> Self:
        """Copy without the context and the variables of an execution."""
        template: Any = copy(self)
        template.context_value = template.variable_values = template.budget = None
        # It has methods of the executor.
        template.async_helpers = None
        return template  # type: ignore[no-any-return]

    def copied(self, context: ColumnarContext, variables: VariableValues) -> Self:
        """Copy for another execution of the same operation.

        graphql-core copies executors in the same way. To make a new one takes five times as long.
        """
        executor = object.__new__(type(self))
        executor.__dict__.update(self.__dict__)
        executor.context_value, executor.budget = context, context.budget
        executor.variable_values = variables
        executor.collected_errors = CollectedErrors()
        executor.pending_incremental_futures, executor.background_futures = set(), set()
        executor.async_helpers = GraphQLResolveInfoHelpers(
            gather=executor.gather_async_work, track=executor.track_async_work
        )
        return executor

    def execute_again(
        self, root_type: GraphQLObjectType, fields: GroupedFieldSet
    ) -> Awaitable[ExecutionResult] | ExecutionResult:
        """Execute the operation by the root fields of its first execution."""
        is_mutation = self.operation.operation is OperationType.MUTATION
        try:
            data = super().execute_collected_root_fields(
                root_type, self.root_value, fields, is_mutation, ()
            )
        except GraphQLError as error:
            return self._without_data(error)
        return self._pending_result(data) if isawaitable(data) else self._result(data)

    async def complete_awaitable_value(  # noqa: PLR0917 - graphql-core's signature
        self,
        return_type: GraphQLOutputType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,  # noqa: ANN401
        position_context: None,
    ) -> Any:  # noqa: ANN401
        """Complete an awaitable value. There is no signal to abort, so it is awaited directly."""
        try:
            completed = self.complete_value(
                return_type, field_details_list, info, path, await result, position_context
            )
            return await completed if isawaitable(completed) else completed
        except Exception as error:  # noqa: BLE001 - any error of a resolver is its field's error
            self.handle_field_error(error, return_type, field_details_list, path)
            return None

    async def _pending_result(self, data: Awaitable[dict[str, Any]]) -> ExecutionResult:
        try:
            return self._result(await data)
        except GraphQLError as error:
            return self._without_data(error)

    def _without_data(self, error: GraphQLError) -> ExecutionResult:
        self.collected_errors.add(error, None)
        return self._result(None)

    def _result(self, data: dict[str, Any] | None) -> ExecutionResult:
        return ExecutionResult(data, self.collected_errors.errors or None)

    def execute_affordable_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,  # noqa: ANN401
        field_details_list: FieldDetailsList,
        path: Path,
        position_context: None,
    ) -> Any:  # noqa: ANN401
        """Execute a field with its planned resolver, or else with graphql-core."""
        node = field_details_list[0].node
        resolve = self._resolver(parent_type, node)
        if resolve is None:
            return super().execute_affordable_field(
                parent_type, source, field_details_list, path, position_context
            )
        field = parent_type.fields[node.name.value]
        nodes = [detail.node for detail in field_details_list]
        info = self.build_resolve_info(field, nodes, parent_type, path)
        try:
            value = resolve(source, info)
        except Exception as error:  # noqa: BLE001 - any error of a resolver is its field's error
            self.handle_field_error(error, field.type, field_details_list, path)
            return None
        return self.complete_awaitable_value(
            field.type, field_details_list, info, path, value, position_context
        )

    def complete_list_value(  # noqa: PLR0917 - graphql-core's signature
        self,
        return_type: GraphQLList[GraphQLOutputType],
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,  # noqa: ANN401
        position_context: None,
    ) -> Any:  # noqa: ANN401
        """Complete a list column by column, or else with graphql-core."""
        by_graphql_core = partial(
            super().complete_list_value,
            return_type,
            field_details_list,
            info,
            path,
            result,
            position_context,
        )
        item_type = return_type.of_type
        object_type = get_nullable_type(item_type)
        if type(result) is not list or not isinstance(object_type, GraphQLObjectType):
            return by_graphql_core()

        def by_columns() -> CompletedColumn:
            plan = self._plan(object_type, field_details_list)
            return nullable(item_type, plan.complete)(self, result, path)

        return self._with_fallback(by_columns, by_graphql_core, path)

    def complete_object_value(  # noqa: PLR0917 - graphql-core's signature
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,  # noqa: ANN401
        position_context: None,
    ) -> Any:  # noqa: ANN401
        """Complete an object as a list of one, or else with graphql-core."""
        by_graphql_core = partial(
            super().complete_object_value,
            return_type,
            field_details_list,
            info,
            path,
            result,
            position_context,
        )

        def by_columns() -> Any:  # noqa: ANN401
            column = self._plan(return_type, field_details_list).complete(self, [result], path)
            return column[0] if isinstance(column, list) else _first(column)

        return self._with_fallback(by_columns, by_graphql_core, path)

    def _with_fallback(
        self, by_columns: Callable[[], Any], by_graphql_core: Callable[[], Any], path: Path
    ) -> Any:  # noqa: ANN401
        # A mutation is never executed a second time.
        self.context_value.has_columns = self._is_query
        try:
            completed = by_columns()
        except self.budget.error_type:
            raise
        except Exception as error:  # noqa: BLE001 - graphql-core meets the error again and reports it
            self.fallbacks.count(error, path)
            return by_graphql_core()
        if isawaitable(completed):
            return self._await_with_fallback(completed, by_graphql_core, path)
        return completed

    async def _await_with_fallback(
        self, completed: Awaitable[Any], by_graphql_core: Callable[[], Any], path: Path
    ) -> Any:  # noqa: ANN401
        try:
            return await completed
        except self.budget.error_type:
            raise
        except Exception as error:  # noqa: BLE001 - graphql-core meets the error again and reports it
            self.fallbacks.count(error, path)
            repeated = by_graphql_core()
            return await repeated if isawaitable(repeated) else repeated

    def _resolver(self, type_: GraphQLObjectType, node: FieldNode) -> Resolve | None:
        if self._resolvers is None:
            return None
        key: Hashable = type_, id(node)
        if key not in self._resolvers:
            schema = self.schema.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
            field = type_.fields.get(node.name.value)
            self._resolvers[key] = field and resolver_of(schema, field, node)
        return self._resolvers[key]

    def _plan(self, type_: GraphQLObjectType, details: FieldDetailsList) -> SelectionPlan:
        plan = self._plans.get(plan_key(type_, details))
        if plan is None:
            planner = Planner(self._plans, self._collect, is_query=self._is_query)
            plan = planner.plan(type_, details)
        return plan

    def _collect(self, type_: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        return self.collect_subfields(type_, details)[0]

    async def one_by_one(
        self,
        type_: GraphQLObjectType,
        details: FieldDetailsList,
        objects: Values,
        path: Path,
        complete: Completion,
    ) -> Values:
        """Resolve a field object by object, and complete its values as one column."""
        self.budget.spend_awaited(len(objects))
        node = details[0].node
        resolve = self._resolver(type_, node)
        if resolve is None:
            return await self._by_graphql_core(type_, details, objects, path)
        field = type_.fields[node.name.value]
        field_path = Path(path, (node.alias or node.name).value, type_.name)
        nodes = [detail.node for detail in details]
        info = self.build_resolve_info(field, nodes, type_, field_path)

        async def resolved(item: object) -> Any:  # noqa: ANN401
            try:
                return await resolve(item, info)
            except self.budget.error_type:
                raise
            except Exception as error:  # noqa: BLE001 - any error of a resolver is its field's error
                self.handle_field_error(error, field.type, details, field_path)
                return None

        column = complete(self, await gather_with_cancel(*map(resolved, objects)), path)
        return column if isinstance(column, list) else await column

    async def _by_graphql_core(
        self, type_: GraphQLObjectType, details: FieldDetailsList, objects: Values, path: Path
    ) -> Values:
        """Execute a field with graphql-core, object by object."""
        node = details[0].node
        name = (node.alias or node.name).value
        column = [
            self.execute_affordable_field(
                type_, item, details, Path(path.add_key(i), name, type_.name), None
            )
            for i, item in enumerate(objects)
        ]
        pending = {i: value for i, value in enumerate(column) if isawaitable(value)}
        for i, value in await await_all(pending):
            column[i] = value
        return column


async def _first(pending: Awaitable[Values]) -> Any:  # noqa: ANN401
    return (await pending)[0]
