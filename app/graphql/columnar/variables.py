"""Coerces the values of variables by a plan, and hundreds of input objects at once.

graphql-core looks at the type of every value anew. Here that is done once for each type; whatever
is not covered (enums, numbers that are converted, one-of inputs) goes graphql-core's own way.
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

# Scalars that are of one Python type, and need no conversion if they are of that type already.
AS_THEY_ARE: Final[dict[str, type]] = {"String": str, "ID": str, "Boolean": bool, "Quantity": int}
# From what a client sent to what resolvers get, or Undefined if it does not fit.
Coercion = Callable[[Any], Any]


def coercion(type_: GraphQLInputType) -> Coercion:
    """Return what coerces the values of a type just as graphql-core does."""
    if isinstance(type_, GraphQLNonNull):
        of_any = coercion(type_.of_type)
        return lambda value: Undefined if value is None else of_any(value)
    as_usual = partial(coerce_input_value, type_=type_)
    if isinstance(type_, GraphQLList):
        return _of_list(coercion(type_.of_type), as_usual)
    if isinstance(type_, GraphQLInputObjectType) and not type_.is_one_of:
        return _of_object(type_, as_usual)
    if (kept := AS_THEY_ARE.get(type_.name)) is not None:
        return lambda value: value if type(value) is kept else as_usual(value)
    return as_usual


def _of_list(item: Coercion, as_usual: Coercion) -> Coercion:
    def coerced(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not list:
            return as_usual(value)
        items = list(map(item, value))
        return Undefined if any(it is Undefined for it in items) else items

    return coerced


def _of_object(type_: GraphQLInputObjectType, as_usual: Coercion) -> Coercion:
    of_fields = {name: coercion(field.type) for name, field in type_.fields.items()}
    names = {name: field.out_name or name for name, field in type_.fields.items()}
    required = {
        names[name] for name, field in type_.fields.items() if is_required_input_field(field)
    }
    found = {names[name]: coerce_default_value(field) for name, field in type_.fields.items()}
    defaults = {name: value for name, value in found.items() if value is not Undefined}

    def coerced(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not dict:
            return as_usual(value)
        fields = {**defaults}
        for name, given in value.items():
            of_field = of_fields.get(name)
            if of_field is None or (field := of_field(given)) is Undefined:
                return Undefined
            fields[names[name]] = field
        return type_.out_type(fields) if required <= fields.keys() else Undefined

    return coerced
