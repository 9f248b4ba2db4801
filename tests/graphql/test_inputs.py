"""Variables that are coerced by a plan are what graphql-core makes of them."""

import random
from typing import Any, Final

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLNonNull,
    Undefined,
    coerce_input_value,
)

from app.graphql.inputs import coercion
from app.graphql.schema import schema

CASES: Final = 4_000
TYPES: Final = [
    type_ for type_ in schema._schema.type_map.values() if isinstance(type_, GraphQLInputObjectType)
]
SCALARS: Final = [
    *("A", "", "5", "NORMAL", "ABORT", "2026-03-12", "wh_1"),
    *(0, 1, -1, 2**40, 2**80, 1.0, 1.5, True, False, None),
]


def value_for(type_: Any, dice: random.Random) -> object:
    """Return a value that fits a type more often than not."""
    if dice.random() < 0.03:
        return dice.choice([*SCALARS, [], {}, ["A"], {"sku": "A"}])
    if isinstance(type_, GraphQLNonNull):
        return value_for(type_.of_type, dice)
    if isinstance(type_, GraphQLInputObjectType):
        fields = {
            name: value_for(field.type, dice)
            for name, field in type_.fields.items()
            if dice.random() < (0.99 if isinstance(field.type, GraphQLNonNull) else 0.5)
        }
        return {**fields, "nobodysField": 1} if dice.random() < 0.03 else fields
    if isinstance(type_, GraphQLEnumType):
        return dice.choice([*type_.values])
    if hasattr(type_, "of_type"):
        return [value_for(type_.of_type, dice) for _ in range(dice.randrange(4))]
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
