"""Resolves fields with planned arguments: the literals of a document are read once.

graphql-core reads the arguments of a field from the document at each execution, and Strawberry
inspects the type of each. A planned resolver does neither. Fields that a plan does not cover are
resolved by graphql-core and Strawberry.
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

from app.graphql.columnar.fallbacks import NotColumnar

RawInfo = GraphQLResolveInfo[Any]
# From an object to the value of one of its fields.
Resolve = Callable[[Any, RawInfo], Coroutine[Any, Any, Any]]
# From a coerced GraphQL value to the value for a resolver.
ConvertArgument = Callable[[Any, Info[Any, Any]], Any]
# From the variables of an operation to the arguments of a field.
ArgumentValues = Callable[[VariableValues], dict[str, Any]]


def resolver_of(schema: Schema, field: GraphQLField, node: FieldNode) -> Resolve | None:
    """Plan the resolver of a field; None unless the field is a plain coroutine function."""
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
    names = {name_of(argument): argument.python_name for argument in definition.arguments}
    conversions = {
        name: _converter(schema, name, argument)
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

    # Invalid arguments raise before the coroutine starts, as with graphql-core.
    return lambda source, raw_info: resolved(source, raw_info, values(raw_info.variable_values))


def _converter(schema: Schema, name: str, argument: StrawberryArgument) -> ConvertArgument:
    """Build the converter of an argument that has input objects or lists."""
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
    """Build a function that gives the same arguments of a field as graphql-core."""
    by_graphql_core = partial(get_argument_values, field, node)
    literals = {argument.name.value: argument.value for argument in node.arguments or ()}
    try:
        fields = InputFields.of(field.args, literals)
    except NotColumnar:
        return by_graphql_core

    def values(variables: VariableValues) -> dict[str, Any]:
        arguments = fields.values(variables.coerced)
        # graphql-core meets an invalid value again and raises its error.
        return arguments if isinstance(arguments, dict) else by_graphql_core(variables)

    return values


@dataclass(frozen=True, slots=True)
class InputFields:
    """The arguments of a field, or the fields of an input object, by their names in Python."""

    constants: Mapping[str, Any]
    # The name of a variable, the default, and whether the type is non-null.
    variables: Mapping[str, tuple[str, object, bool]]
    objects: Mapping[str, tuple["InputFields", GraphQLInputObjectType]]

    @classmethod
    def of(
        cls,
        defined: Mapping[str, GraphQLArgument] | Mapping[str, GraphQLInputField],
        literals: Mapping[str, ValueNode],
    ) -> Self:
        """Separate constants from values that depend on variables.

        Raises:
            NotColumnar: a list literal contains a variable, or a literal is invalid.

        """
        constants: dict[str, Any] = {}
        variables: dict[str, tuple[str, object, bool]] = {}
        objects: dict[str, tuple[InputFields, GraphQLInputObjectType]] = {}
        for name, field in defined.items():
            out_name, literal = field.out_name or name, literals.get(name)
            inner, default = get_nullable_type(field.type), coerce_default_value(field)
            if isinstance(literal, VariableNode):
                variables[out_name] = literal.name.value, default, inner is not field.type
            elif literal is None:
                if default is not Undefined:
                    constants[out_name] = default
            elif not _has_variables(literal):
                constants[out_name] = coerce_input_literal(literal, field.type)
            elif isinstance(literal, ObjectValueNode) and _is_input_object(inner):
                given = {node.name.value: node.value for node in literal.fields}
                objects[out_name] = InputFields.of(inner.fields, given), inner
            else:
                message = "a variable inside of a literal"
                raise NotColumnar(message)
        if Undefined in constants.values():
            message = "an invalid literal"
            raise NotColumnar(message)
        return cls(constants, variables, objects)

    def values(self, inputs: Mapping[str, Any]) -> dict[str, Any] | UndefinedType:
        """All values for the variables' values; Undefined if one is invalid."""
        values = {**self.constants}
        for name, (variable, default, is_non_null) in self.variables.items():
            value = inputs.get(variable, default)
            if value is None and is_non_null:
                return Undefined
            if value is not Undefined:
                values[name] = value
        for name, (fields, type_) in self.objects.items():
            value = fields.values(inputs)
            if not isinstance(value, dict):
                return Undefined
            values[name] = type_.out_type(value)
        return values


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
