"""Checks the size of variables in one pass, before anything is built from them.

graphql-core says everything that is wrong with a value, in time that grows with the square of its
size. A value that cannot fit because it has too many items or fields is refused here instead.
"""

from collections.abc import Mapping
from typing import Any, Final

from graphql import (
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLSchema,
    OperationDefinitionNode,
    get_nullable_type,
    type_from_ast,
)

from app.errors import ValidationFailed, invalid_field

# The longest list in variables: fields that take lists take fewer, and say so themselves.
LONGEST_LIST: Final = 1_000
# The unknown fields that a refusal names, and the characters that it shows of a name.
NAMED: Final = 5
LONGEST_NAME: Final = 100
Variables = Mapping[str, object]
# The steps to a value, the last one first: a path is written out only in a refusal.
Steps = tuple[str | int, "Steps | None"]
# A step, the value that it leads to, and its type.
Child = tuple[str | int, Any, Any]


def declared_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Variables
) -> dict[str, object]:
    """Return the variables that an operation declares, all of a size that may fit.

    Raises:
        ValidationFailed: a list is too long, or an object has more fields than its type.

    """
    declared: dict[str, object] = {}
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if name in variables:
            declared[name] = variables[name]
            if isinstance(variables[name], dict | list):
                check_size(variables[name], type_from_ast(schema, definition.type), name)
    return declared


def check_size(value: object, type_: object, name: str) -> None:
    """Check the lists and objects in the value of a variable.

    Raises:
        ValidationFailed: a list is too long, or an object has more fields than its type.

    """
    waiting: list[tuple[Any, Any, Steps]] = [(value, type_, (name, None))]
    while waiting:
        parent, of_parent, steps = waiting.pop()
        children = _items if isinstance(parent, list) else _fields
        waiting += [
            (item, inner, (step, steps))
            for step, item, inner in children(parent, of_parent, steps)
            if isinstance(item, dict | list)
        ]


def _items(value: list[Any], type_: object, steps: Steps) -> list[Child]:
    if len(value) > LONGEST_LIST:
        problem = f"must hold at most {LONGEST_LIST} items, and holds {len(value)}"
        raise invalid_field(_path(steps), problem)
    of_value = get_nullable_type(type_)  # type: ignore[call-overload]
    inner = of_value.of_type if isinstance(of_value, GraphQLList) else None
    return [(index, item, inner) for index, item in enumerate(value)]


def _fields(value: dict[str, Any], type_: object, steps: Steps) -> list[Child]:
    type_ = get_nullable_type(type_)  # type: ignore[call-overload]
    while isinstance(type_, GraphQLList):
        # One item may stand for a list of one.
        type_ = get_nullable_type(type_.of_type)
    if not isinstance(type_, GraphQLInputObjectType):
        # graphql-core says so of a small one.
        if len(value) > NAMED:
            raise invalid_field(_path(steps), "must not be an object")
        return []
    fields = type_.fields
    if len(value) > len(fields):
        raise _unknown_fields([it for it in value if it not in fields], steps)
    return [(name, item, fields[name].type) for name, item in value.items() if name in fields]


def path_text(*steps: str | int) -> str:
    """Return a path as a refusal names it."""
    return ".".join(_short(step) for step in steps)


def _unknown_fields(names: list[str], steps: Steps) -> ValidationFailed:
    listing = ", ".join(map(_short, names[:NAMED]))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return invalid_field(_path(steps), f"has fields that are not known: {listing}{more}")


def _path(steps: Steps | None) -> str:
    found: list[str | int] = []
    while steps is not None:
        step, steps = steps
        found.append(step)
    return path_text(*reversed(found))


def _short(step: str | int) -> str:
    text = str(step)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}.."
