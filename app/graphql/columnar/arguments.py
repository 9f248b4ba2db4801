"""Resolves fields by a plan: what their arguments are is found out once for an operation.

graphql-core reads the arguments of a field off the document whenever it is resolved, and Strawberry
looks at the type of each. Here a document that is executed again needs neither; whatever is not
covered goes their own way.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeGuard

from graphql import (
    FieldNode,
    GraphQLArgument,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLResolveInfo,
    ListValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
    coerce_input_literal,
    get_argument_values,
    get_nullable_type,
    is_leaf_type,
)
from graphql.execution import VariableValues
from graphql.pyutils import UndefinedType
from graphql.utilities.coerce_input_value import coerce_default_value
from strawberry import Info, Schema
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types import get_object_definition, has_object_definition
from strawberry.types.arguments import InputContext, StrawberryArgument, convert_argument
from strawberry.types.base import StrawberryOptional
from strawberry.types.field import StrawberryField

RawInfo = GraphQLResolveInfo[Any]
# From an object to the value of one of its fields.
Resolve = Callable[[Any, RawInfo], Coroutine[Any, Any, Any]]
# From a value of GraphQL's to what a resolver takes.
ConvertArgument = Callable[[Any, Info[Any, Any]], Any]
# From the values of an operation's variables to those of a field's arguments.
ArgumentValues = Callable[[VariableValues], dict[str, Any]]


class NotPlanned(Exception):
    """A value is for graphql-core itself to read."""


def resolver_of(schema: Schema, field: GraphQLField, node: FieldNode) -> Resolve | None:
    """Return what resolves a field of a document, if that is a coroutine function and no more."""
    definition: StrawberryField | None
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    resolver = definition and definition.base_resolver
    if definition is None or resolver is None or not resolver.is_async or definition.extensions:
        return None
    if resolver.parent_parameter or resolver.root_parameter or not resolver.self_parameter:
        return None
    if any(argument.is_maybe for argument in definition.arguments):
        return None
    values = argument_values(field, node)
    name_of = schema.config.name_converter.from_argument
    names = {name_of(it): it.python_name for it in definition.arguments}
    conversions = {
        name: _conversion(schema, name, argument)
        for name, argument in zip(names, definition.arguments, strict=True)
        if not is_leaf_type(get_nullable_type(field.args[name].type))
    }
    function: Any = resolver.wrapped_func
    info_name = resolver.info_parameter.name if resolver.info_parameter else None

    async def resolved(source: object, raw_info: RawInfo, given: dict[str, Any]) -> Any:  # noqa: ANN401
        info: Info[Any, Any] = Info(_raw_info=raw_info, _field=definition)
        for name, convert in conversions.items():
            if given.get(name) is not None:
                given[name] = convert(given[name], info)
        arguments = {names[name]: value for name, value in given.items()}
        if info_name is not None:
            arguments[info_name] = info
        return await function(source, **arguments)

    # What is wrong with the values shows at once, as it does with graphql-core.
    return lambda source, raw_info: resolved(source, raw_info, values(raw_info.variable_values))


def _conversion(schema: Schema, name: str, argument: StrawberryArgument) -> ConvertArgument:
    """Return what makes an argument that is no scalar and no enum."""
    registry, config = schema.schema_converter.scalar_registry, schema.config
    type_: Any = argument.type
    if isinstance(type_, StrawberryOptional):
        type_ = type_.of_type
    if has_object_definition(type_):
        make: Any = get_object_definition(type_, strict=True).from_input
        if make is not None:
            context = InputContext(None, config, registry, (name,))
            return lambda value, _info: make(type_, value, context)
    return lambda value, info: convert_argument(value, type_, registry, config, info, path=(name,))


def argument_values(field: GraphQLField, node: FieldNode) -> ArgumentValues:
    """Return what gives the values of a field's arguments just as graphql-core does."""
    as_usual = partial(get_argument_values, field, node)
    try:
        fields = InputFields.of(
            field.args, {it.name.value: it.value for it in node.arguments or ()}
        )
    except NotPlanned:
        return as_usual

    def values(variables: VariableValues) -> dict[str, Any]:
        found = fields.values(variables.coerced)
        # What does not fit is found again, and said.
        return found if isinstance(found, dict) else as_usual(variables)

    return values


@dataclass(frozen=True, slots=True)
class InputFields:
    """The values of arguments, or of an input object's fields, by their names in Python."""

    constants: Mapping[str, Any]
    # The name of a variable, what it is without one, and whether it may not be null.
    variables: Mapping[str, tuple[str, object, bool]]
    objects: Mapping[str, tuple["InputFields", GraphQLInputObjectType]]

    @classmethod
    def of(
        cls,
        defined: Mapping[str, GraphQLArgument] | Mapping[str, GraphQLInputField],
        literals: Mapping[str, ValueNode],
    ) -> Self:
        """Find out what of the values depends on variables.

        Raises:
            NotCovered: more than is planned.

        """
        constants: dict[str, Any] = {}
        variables: dict[str, tuple[str, object, bool]] = {}
        objects: dict[str, tuple[InputFields, GraphQLInputObjectType]] = {}
        for name, it in defined.items():
            out_name, literal = it.out_name or name, literals.get(name)
            inner, default = get_nullable_type(it.type), coerce_default_value(it)
            if isinstance(literal, VariableNode):
                variables[out_name] = literal.name.value, default, inner is not it.type
            elif literal is None:
                if default is not Undefined:
                    constants[out_name] = default
            elif not _has_variables(literal):
                constants[out_name] = coerce_input_literal(literal, it.type)
            elif isinstance(literal, ObjectValueNode) and _is_input_object(inner):
                given = {field.name.value: field.value for field in literal.fields}
                objects[out_name] = InputFields.of(inner.fields, given), inner
            else:
                raise NotPlanned
        if Undefined in constants.values():
            raise NotPlanned
        return cls(constants, variables, objects)

    def values(self, of_variables: Mapping[str, Any]) -> dict[str, Any] | UndefinedType:
        """Return the values, or Undefined if those of the variables do not fit."""
        found = {**self.constants}
        for name, (variable, default, is_non_null) in self.variables.items():
            value = of_variables.get(variable, default)
            if value is None and is_non_null:
                return Undefined
            if value is not Undefined:
                found[name] = value
        for name, (fields, type_) in self.objects.items():
            value = fields.values(of_variables)
            if not isinstance(value, dict):
                return Undefined
            found[name] = type_.out_type(value)
        return found


def _is_input_object(type_: object) -> TypeGuard[GraphQLInputObjectType]:
    return isinstance(type_, GraphQLInputObjectType) and not type_.is_one_of


def _has_variables(literal: ValueNode) -> bool:
    match literal:
        case VariableNode():
            return True
        case ListValueNode():
            return any(map(_has_variables, literal.values))
        case ObjectValueNode():
            return any(_has_variables(field.value) for field in literal.fields)
    return False
