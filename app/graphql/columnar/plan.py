"""Plans how the objects of a selection are completed column by column."""

from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLList,
    GraphQLObjectType,
    GraphQLOutputType,
    get_nullable_type,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.pyutils import Path
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from app.graphql.columnar.codegen import CollectFields, generate
from app.graphql.columnar.completions import (
    ColumnarResolver,
    CompletedColumn,
    Completion,
    Execution,
    Values,
    await_all,
    batched,
    column_reader,
    leaves,
    lists,
    nullable,
    shared,
)
from app.graphql.columnar.context import ExecutionBudget
from app.graphql.columnar.fallbacks import NotColumnar
from app.graphql.columnar.fields import ColumnarField, ObjectFactory


@dataclass(frozen=True, slots=True)
class SelectionPlan:
    """How a list of objects of one type is completed."""

    # The class of the objects; None if the plan takes records.
    python_type: type | None
    # From the objects to their rows, filled with all values that are read from records.
    rows: Callable[[Sequence[Any]], list[dict[str, Any]]]
    # The number of values in the rows, and of characters in their texts.
    size: Callable[[Values], int]
    characters: Callable[[Values], int]
    # The other fields; each has its place in the rows.
    fields: Mapping[str, ColumnarResolver]

    def complete(self, execution: Execution, objects: Values, path: Path) -> CompletedColumn:
        """Complete all fields of all objects."""
        if self.python_type and not set(map(type, objects)) <= {self.python_type}:
            message = "an object of another class"
            raise NotColumnar(message)
        self._spend(execution.budget, objects)
        if len(objects) > execution.context_value.piece_size:
            return self._complete_in_pieces(execution, objects, path)
        return self._with_fields(self.rows(objects), execution, objects, path)

    async def _complete_in_pieces(
        self, execution: Execution, objects: Values, path: Path
    ) -> Values:
        rows = await execution.context_value.in_pieces(self.rows, objects)
        column = self._with_fields(rows, execution, objects, path)
        return column if isinstance(column, list) else await column

    def _with_fields(
        self, rows: Values, execution: Execution, objects: Values, path: Path
    ) -> CompletedColumn:
        """Fill the other fields into the rows."""
        pending: dict[str, Coroutine[Any, Any, Values]] = {}
        try:
            for name, resolve in self.fields.items():
                column = resolve(execution, objects, path)
                if isinstance(column, list):
                    _fill(rows, name, column)
                else:
                    pending[name] = column
        except BaseException:
            for started in pending.values():
                started.close()
            raise
        return _fill_pending(rows, pending) if pending else rows

    def _spend(self, budget: ExecutionBudget, objects: Values) -> None:
        budget.spend_column(self.size(objects))
        # Many values may share one long text.
        if budget.measures_texts:
            budget.spend_characters(self.characters(objects))


Plans = dict[Hashable, SelectionPlan]


def plan_key(
    type_: GraphQLObjectType, details: FieldDetailsList, *, of_records: bool = False
) -> Hashable:
    """Build the key of a selection's plan among the plans of its operation."""
    return type_, of_records, *[id(detail.node) for detail in details]


class Planner:
    """Plans selections of one operation, and keeps each plan in `plans`."""

    def __init__(self, plans: Plans, collect: CollectFields, *, is_query: bool) -> None:
        self._plans = plans
        self._collect = collect
        self._is_query = is_query

    def plan(
        self, type_: GraphQLObjectType, details: FieldDetailsList, *, of_records: bool = False
    ) -> SelectionPlan:
        """Plan the selection on a type, given by the field nodes that hold it.

        Raises:
            NotColumnar: the selection cannot be completed column by column.

        """
        key = plan_key(type_, details, of_records=of_records)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._new_plan(type_, details, of_records=of_records)
        return plan

    def _new_plan(
        self, type_: GraphQLObjectType, details: FieldDetailsList, *, of_records: bool
    ) -> SelectionPlan:
        definition = type_.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if definition is None:
            message = "a type of the introspection"
            raise NotColumnar(message)
        # A generic type has one definition per use, and one class.
        python_type = None if of_records else (definition.concrete_of or definition).origin
        code = generate(type_, details, self._collect, of_records=of_records)
        fields = {name: self._resolver(type_, nodes) for name, nodes in code.other_fields.items()}
        return SelectionPlan(python_type, code.rows, code.size, code.characters, fields)

    def _resolver(self, type_: GraphQLObjectType, details: FieldDetailsList) -> ColumnarResolver:
        field = type_.fields[details[0].node.name.value]
        definition = field.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
        batch = ColumnarField.of(definition).batch
        if batch is not None:
            complete = self._completion(field.type, details)
            return batched(batch, shared(complete) if _is_object(field.type) else complete)
        if (read := column_reader(definition)) is not None:
            return self._reader(read, definition, field.type, details)
        if not self._is_query:
            # A mutation is not executed again: the paths of its errors must be right at once.
            message = "a field of a mutation's result that is resolved one by one"
            raise NotColumnar(message)
        complete = self._completion(field.type, details)
        return lambda execution, objects, path: execution.one_by_one(
            type_, details, objects, path, complete
        )

    def _reader(
        self,
        read: Callable[[Values], Values],
        definition: StrawberryField,
        type_: GraphQLOutputType,
        details: FieldDetailsList,
    ) -> ColumnarResolver:
        """Build a field that is read from its objects; a record that objects share is read once."""
        make = ColumnarField.of(definition).make
        complete = self._completion(type_, details, make)
        if make is not None and _is_object(type_):
            complete = shared(complete)
        return lambda execution, objects, path: complete(execution, read(objects), path)

    def _completion(
        self,
        type_: GraphQLOutputType,
        details: FieldDetailsList,
        make: ObjectFactory | None = None,
    ) -> Completion:
        inner = get_nullable_type(type_)
        if is_leaf_type(inner):
            return leaves(type_, inner)
        if isinstance(inner, GraphQLList):
            return nullable(type_, lists(self._completion(inner.of_type, details, make)))
        if isinstance(inner, GraphQLObjectType):
            return nullable(type_, self._objects(inner, details, make))
        message = "an abstract type"
        raise NotColumnar(message)

    def _objects(
        self, type_: GraphQLObjectType, details: FieldDetailsList, make: ObjectFactory | None
    ) -> Completion:
        if make is None:
            return self.plan(type_, details).complete
        try:
            # No object is made of a record that holds all selected values.
            return self.plan(type_, details, of_records=True).complete
        except NotColumnar:
            complete = self.plan(type_, details).complete
        return lambda execution, records, path: complete(execution, list(map(make, records)), path)


def _is_object(type_: GraphQLOutputType) -> bool:
    return isinstance(get_nullable_type(type_), GraphQLObjectType)


async def _fill_pending(rows: Values, pending: Mapping[str, Awaitable[Values]]) -> Values:
    for name, column in await await_all(pending):
        _fill(rows, name, column)
    return rows


def _fill(rows: Iterable[dict[str, Any]], name: str, column: Values) -> None:
    for row, value in zip(rows, column, strict=True):
        row[name] = value
