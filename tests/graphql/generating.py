"""Random documents over a whole schema: aliases, fragments, variables, directives, nesting."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)

# Draws a value for an argument, by the argument's name; None leaves it out.
Values = Mapping[str, Callable[[random.Random], object]]
MAX_DEPTH: Final = 4


@dataclass
class Document:
    """A random document with its fragments and variables, drawn with `dice`."""

    schema: GraphQLSchema
    values: Values
    dice: random.Random
    variables: dict[str, object] = field(default_factory=dict)
    _types: dict[str, str] = field(default_factory=dict)
    _fragments: list[str] = field(default_factory=list)
    _names: int = 0

    @cached_property
    def text(self) -> str:
        """The text, drawn on first use."""
        assert self.schema.query_type
        selections = self._selections(self.schema.query_type, 0)
        declared = ", ".join(f"${name}: {type_}" for name, type_ in self._types.items())
        head = f"query ({declared})" if declared else "query"
        return "\n".join([f"{head} {selections}", *self._fragments])

    def _selections(self, type_: Any, depth: int) -> str:
        drawn: list[str] = []
        while not drawn:
            for _ in range(self.dice.randint(1, 3)):
                drawn += self._selection(type_, depth)
        return "{ " + " ".join(drawn) + " }"

    def _selection(self, type_: Any, depth: int) -> list[str]:  # noqa: PLR0911 - one per kind
        kind = self.dice.random()
        if kind < 0.08:
            condition = self.dice.choice(("", f" on {type_.name}"))
            return [f"...{condition}{self._directive()} {self._selections(type_, depth)}"]
        if kind < 0.14:
            name = self._new("F")
            body = self._selections(type_, depth)
            self._fragments.append(f"fragment {name} on {type_.name} {body}")
            return [f"...{name}{self._directive()}"]
        if kind < 0.2 and is_abstract_type(type_):
            concrete = self.dice.choice(self.schema.get_possible_types(type_))
            return [f"... on {concrete.name} {self._selections(concrete, depth)}"]
        if kind < 0.25:
            return [f"{self._new('t')}: __typename"]
        fields = getattr(type_, "fields", {})
        deep = depth >= MAX_DEPTH
        names = [
            name
            for name, field_ in fields.items()
            if not deep or is_leaf_type(get_named_type(field_.type))
        ]
        if not names:
            return [f"{self._new('t')}: __typename"]
        name = self.dice.choice(names)
        result = get_named_type(fields[name].type)
        head = f"{self._new('a')}: {name}{self._arguments(fields[name].args)}{self._directive()}"
        if is_leaf_type(result):
            return [head]
        # Two selections of one field are merged.
        times = 2 if self.dice.random() < 0.1 else 1
        return [f"{head} {self._selections(result, depth + 1)}" for _ in range(times)]

    def _directive(self) -> str:
        if self.dice.random() > 0.08:
            return ""
        name, value = self.dice.choice(("skip", "include")), self.dice.random() < 0.5
        if self.dice.random() < 0.5:
            return f" @{name}(if: {str(value).lower()})"
        return f" @{name}(if: ${self._variable(GraphQLNonNull(GraphQLBoolean), value)})"

    def _arguments(self, arguments: Mapping[str, Any]) -> str:
        drawn = []
        for name, argument in arguments.items():
            value = self._value(name, argument.type)
            if not is_required_argument(argument) and (value is None or self.dice.random() < 0.3):
                continue
            drawn.append(f"{name}: {self._given(value, argument.type)}")
        return f"({', '.join(drawn)})" if drawn else ""

    def _given(self, value: Any, type_: Any) -> str:
        """Write a value as a variable, as a literal, or as an object of both."""
        if self.dice.random() < 0.4:
            return f"${self._variable(type_, value)}"
        if not isinstance(value, dict):
            return _literal(value, type_)
        fields = get_named_type(type_).fields
        inner = [f"{key}: {self._given(given, fields[key].type)}" for key, given in value.items()]
        return "{" + ", ".join(inner) + "}"

    def _value(self, name: str, type_: Any) -> Any:
        named = get_named_type(type_)
        # A name alone may have several types.
        for known in (f"{name}: {named}", name):
            if known in self.values:
                return self.values[known](self.dice)
        if isinstance(named, GraphQLEnumType):
            nothing = [] if is_non_null_type(type_) else [None]
            return self.dice.choice([*named.values, *nothing])
        if isinstance(named, GraphQLInputObjectType):
            values = {key: self._value(key, field_.type) for key, field_ in named.fields.items()}
            return {
                key: value
                for key, value in values.items()
                if value is not None
                and (is_required_input_field(named.fields[key]) or self.dice.random() < 0.4)
            }
        return None

    def _variable(self, type_: Any, value: object) -> str:
        name = self._new("v")
        self._types[name], self.variables[name] = str(type_), value
        if value is not None and self.dice.random() < 0.2:
            # A nullable variable with a default may stand at a non-null argument; null is an error.
            declared = str(type_).rstrip("!") if self.dice.random() < 0.5 else str(type_)
            self._types[name] = f"{declared} = {_literal(value, type_)}"
        return name

    def _new(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"


def _literal(value: Any, type_: Any) -> str:
    named = get_named_type(type_)
    if value is None:
        return "null"
    if isinstance(value, list):
        inner_type = type_.of_type if isinstance(type_, GraphQLList) else named
        return f"[{', '.join(_literal(item, inner_type) for item in value)}]"
    if isinstance(value, dict):
        fields = named.fields
        inner = ", ".join(
            f"{key}: {_literal(item, fields[key].type)}" for key, item in value.items()
        )
        return f"{{{inner}}}"
    if isinstance(named, GraphQLEnumType):
        return str(value)
    return '"' + value + '"' if isinstance(value, str) else str(value).lower()
