"""Checks of variables: their sizes before coercion, and the errors that coercion reports.

graphql-core reports every error in a value, in time that grows with the square of its size. A value
with too many items or fields is refused here first, in one pass.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLSchema,
    OperationDefinitionNode,
    VariableDefinitionNode,
    assert_input_object_type,
    get_nullable_type,
    is_required_input_field,
    type_from_ast,
)
from graphql.utilities import validate_input_value

from app.errors import DETAILED, ValidationFailed, invalid_field

# Longest list in variables. Fields with a lower limit check their own.
LONGEST_LIST: Final = 1_000
# Unknown fields that an error names, and characters of a name that it contains.
LISTED_FIELDS: Final = 5
LONGEST_NAME: Final = 100
IS_REQUIRED: Final = "is required"
JSON_WORDS: Final = {"None": "null", "True": "true", "False": "false"}
_PYTHON_WORD: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\b(?:None|True|False)\b")
_MISSING_OR_UNKNOWN: Final = re.compile(
    r"Expected value of type '[^']+' (to include required|not to include unknown) field '([^']*)'"
)
_ONE_OF: Final = re.compile(r"Within OneOf Input Object type '([^']*)'")
Variables = Mapping[str, object]
# The steps to a value, the last one first. Only errors render a path.
Steps = tuple[str | int, "Steps | None"]
# A step, the value that it leads to, and its type.
Child = tuple[str | int, Any, Any]


def declared_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Variables
) -> dict[str, object]:
    """Variables that an operation declares, with checked sizes. Others are dropped.

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
        parent, parent_type, steps = waiting.pop()
        children = _items if isinstance(parent, list) else _fields
        waiting += [
            (child, child_type, (step, steps))
            for step, child, child_type in children(parent, parent_type, steps)
            if isinstance(child, dict | list)
        ]


def variable_problems(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    variables: Variables,
    *,
    hide_suggestions: bool,
) -> list[tuple[str, str]]:
    """List the invalid values in variables, each as a path and a message, up to DETAILED."""
    problems: list[tuple[str, str]] = []
    with suppress(_Enough):
        for definition in operation.variable_definitions or ():
            name = definition.variable.name.value
            if name not in variables and definition.default_value is not None:
                continue

            def add(
                error: GraphQLError,
                path: list[str | int],
                name: str = name,
                definition: VariableDefinitionNode = definition,
            ) -> None:
                field, message = _field_and_message(schema, error)
                is_null = message == IS_REQUIRED and not field
                if is_null and _has_default(definition, schema, path):
                    message = "must not be null; leave it out for its default"
                problems.append((path_text(name, *path, *field), message))
                if len(problems) >= DETAILED:
                    raise _Enough

            validate_input_value(
                variables.get(name),
                type_from_ast(schema, definition.type),  # type: ignore[arg-type]
                add,
                hide_suggestions=hide_suggestions,
            )
    return problems


def path_text(*steps: str | int) -> str:
    """Path of a value in an error, with dots and shortened names."""
    return ".".join(_short(step) for step in steps)


class _Enough(Exception):
    """The number of problems that an error lists is reached."""


def _field_and_message(schema: GraphQLSchema, error: GraphQLError) -> tuple[list[str], str]:
    """Field of the value that is wrong, empty for the value itself, and the message."""
    if error.original_error is not None:
        return [], str(error.original_error)
    if match := _ONE_OF.match(error.message):
        fields = assert_input_object_type(schema.get_type(match[1])).fields
        return [], f"must have exactly one of {', '.join(fields)}, which is not null"
    if error.message.startswith("Expected value of non-null type"):
        return [], IS_REQUIRED
    if match := _MISSING_OR_UNKNOWN.match(error.message):
        return [match[2]], "is required" if match[1].startswith("to") else "is not known"
    return [], f"is not valid: {in_json_words(error.message).rstrip('.?')}"


def in_json_words(message: str) -> str:
    """Replace Python's constants outside quotes in a message of graphql-core."""
    return _PYTHON_WORD.sub(lambda match: JSON_WORDS.get(match[0], match[0]), message)


def _has_default(
    definition: VariableDefinitionNode, schema: GraphQLSchema, path: Sequence[str | int]
) -> bool:
    """Whether a variable or a field in its value has a default."""
    if not path:
        return definition.default_value is not None
    type_: Any = type_from_ast(schema, definition.type)
    has_default = False
    for step in path:
        type_ = get_nullable_type(type_)
        while isinstance(type_, GraphQLList) and not isinstance(step, int):
            # A single item is coerced to a list, and its path has no index.
            type_ = get_nullable_type(type_.of_type)
        if isinstance(type_, GraphQLList):
            type_, has_default = type_.of_type, False
        else:
            field = type_.fields[step]
            type_, has_default = field.type, not is_required_input_field(field)
    return has_default


def _items(value: list[Any], type_: object, steps: Steps) -> list[Child]:
    if len(value) > LONGEST_LIST:
        problem = f"must hold at most {LONGEST_LIST} items, and holds {len(value)}"
        raise invalid_field(_path(steps), problem)
    list_type = get_nullable_type(type_)  # type: ignore[call-overload]
    item_type = list_type.of_type if isinstance(list_type, GraphQLList) else None
    return [(index, item, item_type) for index, item in enumerate(value)]


def _fields(value: dict[str, Any], type_: object, steps: Steps) -> list[Child]:
    type_ = get_nullable_type(type_)  # type: ignore[call-overload]
    while isinstance(type_, GraphQLList):
        # A single item is coerced to a list.
        type_ = get_nullable_type(type_.of_type)
    if not isinstance(type_, GraphQLInputObjectType):
        # graphql-core reports small objects.
        if len(value) > LISTED_FIELDS:
            raise invalid_field(_path(steps), "must not be an object")
        return []
    fields = type_.fields
    if len(value) > len(fields):
        raise _unknown_fields([name for name in value if name not in fields], steps)
    return [(name, item, fields[name].type) for name, item in value.items() if name in fields]


def _unknown_fields(names: list[str], steps: Steps) -> ValidationFailed:
    listing = ", ".join(map(_short, names[:LISTED_FIELDS]))
    more = f" and {len(names) - LISTED_FIELDS} more" if len(names) > LISTED_FIELDS else ""
    return invalid_field(_path(steps), f"has fields that are not known: {listing}{more}")


def _path(steps: Steps | None) -> str:
    path: list[str | int] = []
    while steps is not None:
        step, steps = steps
        path.append(step)
    return path_text(*reversed(path))


def _short(step: str | int) -> str:
    text = str(step)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}.."
