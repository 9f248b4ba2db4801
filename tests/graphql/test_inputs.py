"""Variables and arguments that are read by a plan are what graphql-core makes of them."""

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
    coerce_input_value,
    get_argument_values,
    get_variable_values,
    parse,
    print_ast,
)
from graphql.execution import VariableValues

from app.graphql.columnar.arguments import argument_values
from app.graphql.columnar.variables import coercion
from app.graphql.schema.schema import schema
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
    *("A", "", "5", "NORMAL", "ABORT", "2026-03-12", "wh_1"),
    *(0, 1, -1, 2**40, 2**80, 1.0, 1.5, True, False, None),
]


def value_for(type_: Any, dice: random.Random, *, wrong: float = 0.03) -> object:
    """Return a value that fits a type, unless something in it is wrong."""
    if dice.random() < wrong:
        return dice.choice([*SCALARS, [], {}, ["A"], {"sku": "A"}])
    if isinstance(type_, GraphQLNonNull):
        return value_for(type_.of_type, dice, wrong=wrong)
    if isinstance(type_, GraphQLInputObjectType):
        fields = {
            name: value_for(field.type, dice, wrong=wrong)
            for name, field in type_.fields.items()
            if dice.random() < (1 - wrong / 3 if isinstance(field.type, GraphQLNonNull) else 0.5)
        }
        return {**fields, "nobodysField": 1} if dice.random() < wrong else fields
    if isinstance(type_, GraphQLEnumType):
        return dice.choice([*type_.values])
    if hasattr(type_, "of_type"):
        return [value_for(type_.of_type, dice, wrong=wrong) for _ in range(dice.randrange(4))]
    fitting = {"String": str, "ID": str, "Boolean": bool, "Quantity": int, "Int": int}
    wanted = fitting.get(type_.name, str)
    return dice.choice([it for it in SCALARS if type(it) is wanted])


def told(value: object) -> str:
    """Return all that a value is, whatever order its fields have."""
    if isinstance(value, dict):
        return str(sorted((name, told(each)) for name, each in value.items()))
    if isinstance(value, list):
        return str([told(each) for each in value])
    return repr(value)


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_inputs_are_coerced_to_what_graphql_core_makes_of_them(type_: Any) -> None:
    dice = random.Random(str(type_))
    coerce = coercion(GraphQLNonNull(type_))
    fitted = 0
    for _ in range(CASES):
        value = value_for(type_, dice)
        expected = coerce_input_value(value, GraphQLNonNull(type_))
        assert told(coerce(value)) == told(expected), value
        fitted += expected is not Undefined

    assert 0 < fitted < CASES


class Question(Document):
    """A document that asks for one field."""

    def _value(self, _name: str, type_: Any) -> Any:
        return value_for(type_, self.dice, wrong=0)

    def asked(self, field: GraphQLField) -> tuple[FieldNode, list[Any]]:
        """Return a field with arguments, and the variables that they have."""
        words = f"it{self._arguments(field.args)}"
        declared = ", ".join(f"${name}: {type_}" for name, type_ in self._types.items())
        text = f"query ({declared}) {{ {words} }}" if declared else f"{{ {words} }}"
        [operation] = parse(text).definitions
        assert isinstance(operation, OperationDefinitionNode)
        [node] = operation.selection_set.selections
        assert isinstance(node, FieldNode)
        return node, [*(operation.variable_definitions or ())]


def arguments_told(read: Callable[[VariableValues], Any], variables: VariableValues) -> str:
    """Return all that the values of arguments are, or why there are none."""
    try:
        return told(read(variables))
    except GraphQLError as error:
        return str(error)


@pytest.mark.parametrize("name", FIELDS)
def test_arguments_are_read_to_what_graphql_core_makes_of_them(name: str) -> None:
    field = FIELDS[name]
    dice = random.Random(name)
    compared = 0
    for _ in range(CASES // 10):
        question = Question(schema._schema, {}, dice)
        node, declared = question.asked(field)
        read = argument_values(field, node)
        left_out = {key for key in question.variables if dice.random() < 0.1}
        null = {key for key in question.variables if dice.random() < 0.1}
        inputs = {
            key: None if key in null else value
            for key, value in question.variables.items()
            if key not in left_out
        }
        for given in (question.variables, inputs):
            variables = get_variable_values(schema._schema, declared, given)
            if isinstance(variables, VariableValues):
                expected = arguments_told(partial(get_argument_values, field, node), variables)
                assert arguments_told(read, variables) == expected, print_ast(node)
                compared += 1
    assert compared > CASES / 20
