"""Planned variables and arguments have the same values and errors as in graphql-core."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLError,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNonNull,
    GraphQLObjectType,
    OperationDefinitionNode,
    Undefined,
    build_schema,
    coerce_input_value,
    get_argument_values,
    get_variable_values,
    is_non_null_type,
    parse,
    print_ast,
)
from graphql.execution import VariableValues

from app.graphql.columnar.arguments import argument_values
from app.graphql.columnar.variables import coercion
from app.graphql.schema.schema import schema
from app.graphql.variable_checks import variable_problems
from tests.graphql.generating import Document

CASES: Final = 4_000
TYPES: Final = [
    type_ for type_ in schema._schema.type_map.values() if isinstance(type_, GraphQLInputObjectType)
]
FIELDS: Final = {
    f"{type_.name}.{name}": field
    for type_ in schema._schema.type_map.values()
    if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__")
    for name, field in type_.fields.items()
    if field.args
}
SCALARS: Final = [
    *("A", "", "5", "NORMAL", "ABORT", "2026-03-12T14:00:00Z", "wh_1"),
    *(0, 1, -1, 2**40, 2**80, 1.0, 1.5, True, False, None),
]


def value_for(type_: Any, dice: random.Random, *, wrong: float = 0.03) -> object:
    """Draw a value of a type; with the probability `wrong`, a part of the value is invalid."""
    if dice.random() < wrong:
        return dice.choice([*SCALARS, [], {}, ["A"], {"sku": "A"}])
    if isinstance(type_, GraphQLNonNull):
        return value_for(type_.of_type, dice, wrong=wrong)
    if isinstance(type_, GraphQLInputObjectType):
        only = dice.choice([*type_.fields])
        is_one = type_.is_one_of and dice.random() >= wrong
        fields = {
            name: value_for(field.type, dice, wrong=wrong)
            for name, field in type_.fields.items()
            if (
                name == only
                if is_one
                else dice.random() < (1 - wrong / 3 if is_non_null_type(field.type) else 0.5)
            )
        }
        return {**fields, "unknownField": 1} if dice.random() < wrong else fields
    if isinstance(type_, GraphQLEnumType):
        return dice.choice([*type_.values])
    if hasattr(type_, "of_type"):
        return [value_for(type_.of_type, dice, wrong=wrong) for _ in range(dice.randrange(4))]
    fitting = {"String": str, "ID": str, "Boolean": bool, "Quantity": int, "Int": int}
    wanted = fitting.get(type_.name, str)
    return dice.choice([scalar for scalar in SCALARS if type(scalar) is wanted])


def rendered(value: object) -> str:
    """Render a value with its types; the order of its fields does not matter."""
    if isinstance(value, dict):
        return str(sorted((name, rendered(field)) for name, field in value.items()))
    if isinstance(value, list):
        return str([rendered(item) for item in value])
    return repr(value)


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_input_objects_are_coerced_as_by_graphql_core(type_: Any) -> None:
    dice = random.Random(str(type_))
    coerce = coercion(GraphQLNonNull(type_))
    fitted = 0
    for _ in range(CASES):
        value = value_for(type_, dice)
        expected = coerce_input_value(value, GraphQLNonNull(type_))
        assert rendered(coerce(value)) == rendered(expected), value
        fitted += expected is not Undefined

    assert 0 < fitted < CASES


@pytest.mark.parametrize(
    ("value", "path"), [({"n": None}, "items.n"), ([{"n": None}], "items.0.n")]
)
def test_null_for_a_default_in_an_item_without_its_list_names_the_remedy(
    value: object, path: str
) -> None:
    small = build_schema(
        "type Query { f(items: [[Item!]]): Int } input Item { n: Int! = 5, inner: [Item!] }"
    )
    [operation] = parse("query ($items: [[Item!]]) { f(items: $items) }").definitions
    assert isinstance(operation, OperationDefinitionNode)
    for given, at in ((value, path), ({"inner": value}, f"items.inner{path[5:]}")):
        problems = variable_problems(small, operation, {"items": given}, hide_suggestions=True)
        assert problems == [(at, "must not be null; leave it out for its default")]


class FieldDocument(Document):
    """A document with one field."""

    def _value(self, _name: str, type_: Any) -> Any:
        return value_for(type_, self.dice, wrong=0)

    def node_of(self, field: GraphQLField) -> tuple[FieldNode, list[Any]]:
        """Draw a field node with arguments, and the definitions of its variables."""
        selection = f"field{self._arguments(field.args)}"
        declared = ", ".join(f"${name}: {type_}" for name, type_ in self._types.items())
        text = f"query ({declared}) {{ {selection} }}" if declared else f"{{ {selection} }}"
        [operation] = parse(text).definitions
        assert isinstance(operation, OperationDefinitionNode)
        [node] = operation.selection_set.selections
        assert isinstance(node, FieldNode)
        return node, [*(operation.variable_definitions or ())]


def rendered_arguments(read: Callable[[VariableValues], Any], variables: VariableValues) -> str:
    """Render the arguments, or the error in them."""
    try:
        return rendered(read(variables))
    except GraphQLError as error:
        return str(error)


@pytest.mark.parametrize("name", FIELDS)
def test_arguments_are_read_as_by_graphql_core(name: str) -> None:
    field = FIELDS[name]
    dice = random.Random(name)
    compared = 0
    for _ in range(CASES // 10):
        document = FieldDocument(schema._schema, {}, dice)
        node, declared = document.node_of(field)
        read = argument_values(field, node)
        left_out = {key for key in document.variables if dice.random() < 0.1}
        null = {key for key in document.variables if dice.random() < 0.1}
        inputs = {
            key: None if key in null else value
            for key, value in document.variables.items()
            if key not in left_out
        }
        for given in (document.variables, inputs):
            variables = get_variable_values(schema._schema, declared, given)
            if isinstance(variables, VariableValues):
                expected = rendered_arguments(partial(get_argument_values, field, node), variables)
                assert rendered_arguments(read, variables) == expected, print_ast(node)
                compared += 1
    assert compared > CASES / 20
