"""What is kept of an operation for its next execution: plans, resolvers, coercion of variables."""

from collections.abc import Awaitable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from graphql import (
    ExecutionResult,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    VariableDefinitionNode,
    get_variable_values,
)
from graphql.execution import VariableValues
from graphql.execution.collect_fields import GroupedFieldSet
from graphql.execution.get_variable_signature import GraphQLVariableSignature
from graphql.execution.values import VariableValueSource
from graphql.pyutils import Undefined

from app.graphql.columnar.arguments import Resolve
from app.graphql.columnar.context import ColumnarContext
from app.graphql.columnar.plan import Plans
from app.graphql.columnar.variables import Coercion, coercion

# graphql-core's limit.
MAX_VARIABLE_ERRORS: Final = 50


class RepeatedExecution(Protocol):
    """An executor that starts from the collected root fields."""

    def copied(self, context: ColumnarContext, variables: VariableValues) -> Self:
        """Copy for another execution of the same operation."""

    def execute_again(
        self, root_type: GraphQLObjectType, fields: GroupedFieldSet
    ) -> Awaitable[ExecutionResult] | ExecutionResult:
        """Execute the operation by its root fields."""


class FirstExecution(Protocol):
    """The executor of the first execution."""

    schema: GraphQLSchema
    operation: OperationDefinitionNode
    variable_values: VariableValues

    def without_context(self) -> RepeatedExecution:
        """Copy without the context and the variables of the execution."""


@dataclass(frozen=True, slots=True)
class OperationVariable:
    """A variable of an operation; its default is Undefined if the document has none."""

    signature: GraphQLVariableSignature
    default: object
    coerce: Coercion


@dataclass(frozen=True, slots=True)
class PreparedOperation:
    """An operation without the context and the variables of any execution."""

    schema: GraphQLSchema
    definitions: Sequence[VariableDefinitionNode]
    variables: Sequence[OperationVariable]
    root_type: GraphQLObjectType
    fields: GroupedFieldSet
    executor: RepeatedExecution

    @classmethod
    def of(
        cls, first: FirstExecution, root_type: GraphQLObjectType, fields: GroupedFieldSet
    ) -> Self:
        """Prepare the operation of its first executor, by its root fields."""
        schema, operation = first.schema, first.operation
        sources = first.variable_values.sources
        definitions = operation.variable_definitions or ()
        variables = [
            _variable(schema, definition, sources[definition.variable.name.value].signature)
            for definition in definitions
        ]
        return cls(
            schema,
            definitions,
            variables,
            root_type,
            fields,
            first.without_context(),
        )

    def execute(
        self, inputs: Mapping[str, object], context: ColumnarContext
    ) -> Awaitable[ExecutionResult] | ExecutionResult:
        """Execute the operation; invalid variables give a result with errors and without data."""
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, object] = {}
        for variable in self.variables:
            name = variable.signature.name
            given = inputs.get(name, Undefined)
            sources[name] = VariableValueSource(variable.signature, given)
            value = variable.default if given is Undefined else variable.coerce(given)
            if value is not Undefined:
                coerced[name] = value
            elif given is not Undefined or isinstance(variable.signature.type, GraphQLNonNull):
                return self._invalid(inputs)
        executor = self.executor.copied(context, VariableValues(sources, coerced))
        return executor.execute_again(self.root_type, self.fields)

    def _invalid(self, inputs: Mapping[str, object]) -> ExecutionResult:
        errors: Any = get_variable_values(
            self.schema, self.definitions, dict(inputs), max_errors=MAX_VARIABLE_ERRORS
        )
        return ExecutionResult(None, errors)


class OperationPlans:
    """The plans of one operation, filled by its first executions."""

    def __init__(self) -> None:
        self.of_selections: Plans = {}
        self.of_fields: dict[Hashable, Resolve | None] = {}
        self.prepared: PreparedOperation | None = None


def _variable(
    schema: GraphQLSchema, definition: VariableDefinitionNode, signature: GraphQLVariableSignature
) -> OperationVariable:
    default: object = Undefined
    if definition.default_value is not None:
        values: Any = get_variable_values(schema, [definition], {})
        default = values.coerced[signature.name]
    return OperationVariable(signature, default, coercion(signature.type))
