"""Completes columns: converts the values of one field for all objects of a list at once."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cache
from inspect import isawaitable
from itertools import accumulate, chain
from types import NoneType
from typing import Any, Protocol, TypeVar

from graphql import (
    GraphQLEnumType,
    GraphQLLeafType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.pyutils import Path, gather_with_cancel
from strawberry.types.field import StrawberryField

from app.graphql.columnar.context import ColumnarContext, ExecutionBudget
from app.graphql.columnar.fallbacks import NotColumnar
from app.graphql.columnar.fields import BatchResolver, ColumnarField
from app.graphql.columnar.variables import UNCONVERTED

Values = list[Any]
CompletedColumn = Values | Coroutine[Any, Any, Values]
ColumnKey = TypeVar("ColumnKey")


class Execution(Protocol):
    """The executor as columns see it."""

    budget: ExecutionBudget
    context_value: ColumnarContext

    async def one_by_one(
        self,
        type_: GraphQLObjectType,
        details: FieldDetailsList,
        objects: Values,
        path: Path,
        complete: "Completion",
    ) -> Values:
        """Resolve a field object by object, and complete its values as one column."""


# From the values of one type to their completed values.
Completion = Callable[[Execution, Values, Path], CompletedColumn]
# From the objects of a list to the completed values of one of their fields.
ColumnarResolver = Callable[[Execution, Values, Path], CompletedColumn]


def batched(resolve: BatchResolver, complete: Completion) -> ColumnarResolver:
    """Build a field that is resolved for all parents in one call."""

    async def awaited(
        execution: Execution, pending: Awaitable[Sequence[Any]], path: Path
    ) -> Values:
        column = complete(execution, list(await pending), path)
        return column if isinstance(column, list) else await column

    def column(execution: Execution, objects: Values, path: Path) -> CompletedColumn:
        values = resolve(objects, execution.context_value)
        if isawaitable(values):
            return awaited(execution, values, path)
        return complete(execution, list(values), path)

    return column


def shared(complete: Completion) -> Completion:
    """Complete each distinct object once, however many parents share it."""

    def completed(execution: Execution, values: Values, path: Path) -> CompletedColumn:
        identities = list(map(id, values))
        distinct = dict(zip(identities, values, strict=True))
        if len(distinct) == len(values):
            return complete(execution, values, path)
        execution.budget.has_shared = True

        def spread(column: Values) -> Values:
            by_identity = dict(zip(distinct, column, strict=True))
            return list(map(by_identity.__getitem__, identities))

        return _then(complete(execution, list(distinct.values()), path), spread)

    return completed


def nullable(type_: GraphQLOutputType, complete: Completion) -> Completion:
    """Complete values of which some are null, if the type allows nulls."""
    is_nullable = not isinstance(type_, GraphQLNonNull)

    def completed(execution: Execution, values: Values, path: Path) -> CompletedColumn:
        if NoneType not in set(map(type, values)):
            return complete(execution, values, path)
        if not is_nullable:
            message = "null in a non-null type"
            raise NotColumnar(message)
        missing = [value is None for value in values]
        present = [value for value in values if value is not None]
        return _then(complete(execution, present, path), lambda column: _spread(column, missing))

    return completed


def lists(complete: Completion) -> Completion:
    """Complete lists: the items of all lists are one column."""

    def completed(execution: Execution, values: Values, path: Path) -> CompletedColumn:
        if not set(map(type, values)) <= {list}:
            message = "not a list"
            raise NotColumnar(message)
        lengths = list(map(len, values))
        items = complete(execution, list(chain.from_iterable(values)), path)
        return _then(items, lambda column: _split(column, lengths))

    return completed


def leaves(type_: GraphQLOutputType, leaf: GraphQLLeafType) -> Completion:
    """Complete scalars or enum values; the type may allow nulls."""
    unconverted = {UNCONVERTED.get(leaf.name)}
    convert = (
        cache(leaf.coerce_output_value)
        if isinstance(leaf, GraphQLEnumType)
        else leaf.coerce_output_value
    )

    def converted(_execution: Execution, values: Values, _path: Path) -> CompletedColumn:
        column = list(map(convert, values))
        if None in column:
            message = "a leaf value converted to null"
            raise NotColumnar(message)
        return column

    convert_all = nullable(type_, converted)

    def completed(execution: Execution, values: Values, path: Path) -> CompletedColumn:
        if str in unconverted and execution.budget.measures_texts:
            texts = (value for value in values if isinstance(value, str))
            execution.budget.spend_characters(sum(map(len, texts)))
        if set(map(type, values)) == unconverted:
            return values
        return convert_all(execution, values, path)

    return completed


def column_reader(definition: StrawberryField) -> Callable[[Values], Values] | None:
    """Build a function that reads a field of all objects; None if its resolver needs more."""
    resolver = definition.base_resolver
    if resolver is None:
        return _attribute_reader(definition.python_name)
    if (path := ColumnarField.of(definition).path) is not None:
        return _attribute_reader(path)
    if resolver.is_async or resolver.arguments or resolver.info_parameter or definition.extensions:
        return None
    read: Callable[[Any], Any] = resolver.wrapped_func  # type: ignore[assignment]
    return lambda objects: list(map(read, objects))


def _attribute_reader(path: str) -> Callable[[Values], Values]:
    # Generated code takes half the time of one call per object.
    code = f"lambda objects: [item.{path} for item in objects]"
    read: Callable[[Values], Values] = eval(code)  # noqa: S307 - the path is the schema's
    return read


async def await_all(pending: Mapping[ColumnKey, Awaitable[Any]]) -> Iterable[tuple[ColumnKey, Any]]:
    """Await values in parallel; the pairs keep the order of the keys."""
    if len(pending) == 1:
        # A single awaitable needs no task.
        return [(key, await value) for key, value in pending.items()]
    return zip(pending, await gather_with_cancel(*pending.values()), strict=True)


def _split(values: Values, lengths: Sequence[int]) -> Values:
    ends = accumulate(lengths)
    return [values[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def _spread(values: Values, missing: Iterable[bool]) -> Values:
    rest = iter(values)
    return [None if is_missing else next(rest) for is_missing in missing]


def _then(column: CompletedColumn, change: Callable[[Values], Values]) -> CompletedColumn:
    if isinstance(column, list):
        return change(column)

    async def changed() -> Values:
        return change(await column)

    return changed()
