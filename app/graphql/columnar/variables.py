"""Coerces the values of variables with one function per type, planned once.

The functions cover lists, input objects and scalars that need no conversion. Enums and converted
numbers are coerced by graphql-core.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from graphql import (
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    Undefined,
    coerce_input_value,
    is_required_input_field,
)
from graphql.utilities.coerce_input_value import coerce_default_value

# Scalars whose values need no conversion if they have the Python type.
UNCONVERTED: Final[dict[str, type]] = {"String": str, "ID": str, "Boolean": bool, "Quantity": int}
# From the value in a request to the value for resolvers; Undefined if it is invalid.
Coercion = Callable[[Any], Any]


def coercion(type_: GraphQLInputType) -> Coercion:
    """Build a function that coerces values of a type to the same results as graphql-core."""
    if isinstance(type_, GraphQLNonNull):
        coerce = coercion(type_.of_type)
        return lambda value: Undefined if value is None else coerce(value)
    by_graphql_core = partial(coerce_input_value, type_=type_)
    if isinstance(type_, GraphQLList):
        return _list_coercion(coercion(type_.of_type), by_graphql_core)
    if isinstance(type_, GraphQLInputObjectType):
        return _object_coercion(type_, by_graphql_core)
    if (unconverted := UNCONVERTED.get(type_.name)) is not None:
        return lambda value: value if type(value) is unconverted else by_graphql_core(value)
    return by_graphql_core


def _list_coercion(coerce_item: Coercion, by_graphql_core: Coercion) -> Coercion:
    def coerced(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not list:
            return by_graphql_core(value)
        items = list(map(coerce_item, value))
        return Undefined if any(item is Undefined for item in items) else items

    return coerced


def _object_coercion(type_: GraphQLInputObjectType, by_graphql_core: Coercion) -> Coercion:
    coercions = {name: coercion(field.type) for name, field in type_.fields.items()}
    names = {name: field.out_name or name for name, field in type_.fields.items()}
    required = {
        names[name] for name, field in type_.fields.items() if is_required_input_field(field)
    }
    values = {names[name]: coerce_default_value(field) for name, field in type_.fields.items()}
    defaults = {name: value for name, value in values.items() if value is not Undefined}

    def coerced(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not dict:
            return by_graphql_core(value)
        fields = {**defaults}
        for name, given in value.items():
            coerce = coercions.get(name)
            if coerce is None or (field := coerce(given)) is Undefined:
                return Undefined
            fields[names[name]] = field
        if type_.is_one_of and (len(fields) != 1 or None in fields.values()):
            return Undefined
        return type_.out_type(fields) if required <= fields.keys() else Undefined

    return coerced
