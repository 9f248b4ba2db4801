"""Generates the Python code that reads the rows of a selection from records.

The values of a record have the types that its class declares, because they come from columns of
that type or from code that mypy checks. A value declared as `str` is therefore not converted. A
whole selection, with lists in lists, is one expression:
`[{"sku": v2.sku, ..} for v1 in objects for v2 in ..]`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import EnumType
from functools import cache
from typing import Any, Final, NamedTuple, get_type_hints

from graphql import (
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    get_nullable_type,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetailsList
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.graphql.columnar.fallbacks import NotColumnar
from app.graphql.columnar.fields import ColumnarField
from app.graphql.columnar.variables import UNCONVERTED

# The attribute of an object that is its record.
RECORD_ATTRIBUTE: Final = "record"
NOT_IN_RECORDS: Final = "a value that no record holds"
# The selected fields of an object, by response name.
SelectedFields = Mapping[str, FieldDetailsList]
CollectFields = Callable[[GraphQLObjectType, FieldDetailsList], SelectedFields]


class SelectionCode(NamedTuple):
    """The generated functions of a selection; each takes a list of objects or of records."""

    rows: Callable[[Sequence[Any]], list[dict[str, Any]]]
    # The number of values in the rows, and of characters in their texts.
    size: Callable[[Sequence[Any]], int]
    characters: Callable[[Sequence[Any]], int]
    # The fields that are not read from records; they are None in the rows.
    other_fields: SelectedFields


def generate(
    type_: GraphQLObjectType, details: FieldDetailsList, collect: CollectFields, *, of_records: bool
) -> SelectionCode:
    """Generate the functions for a list of objects, or of the records of such objects.

    Raises:
        NotColumnar: records are given, and they do not hold all selected values.

    """
    generator = _Generator(collect)
    code = generator.rows("objects", type_, details, of_records=of_records)
    functions: list[Any] = [
        # The code consists of names of attributes and of GraphQL names.
        eval(f"lambda objects: {expression}", generator.constants)  # noqa: S307
        for expression in code
    ]
    rows, size, characters = functions
    return SelectionCode(rows, size, characters, generator.other_fields)


class _Code(NamedTuple):
    """Expressions in Python: the rows, their number of values, and of characters."""

    rows: str
    size: str
    characters: str


class _Loop:
    """A loop over records with their attributes: `for v1 in objects for v2 in (v1.a,)`."""

    def __init__(self, generator: "_Generator", values: str) -> None:
        self._new = generator.new
        self.item = generator.new()
        self.code = f"for {self.item} in {values}"
        self._values = values
        self._read: dict[str, str] = {}
        # The number of values of each item, the sizes of its lists, the lengths of its texts.
        self.width = 1
        self.sizes: list[str] = []
        self.texts: list[str] = []

    def size(self) -> str:
        """Build the expression for the number of values of all items."""
        of_lists = f" + {self._sum(self.sizes)}" if self.sizes else ""
        return f"{self.width} * len({self._values}){of_lists}"

    def characters(self) -> str:
        """Build the expression for the number of characters of all items."""
        return self._sum(self.texts)

    def _sum(self, each: Sequence[str]) -> str:
        if not each:
            return "0"
        code, loops = " + ".join(each), ""
        # Unused variables are left out: the sums over the levels of a SKU take long.
        for source, variable in reversed(self._read.items()):
            if re.search(rf"\b{variable}\b", code + loops):
                loops = f" for {variable} in ({source},){loops}"
        return f"sum([{code} for {self.item} in {self._values}{loops}])"

    def read(self, source: str) -> str:
        """Name the variable of a source; the source is read once per item."""
        if source not in self._read:
            self._read[source] = variable = self._new()
            self.code += f" for {variable} in ({source},)"
        return self._read[source]


class _Generator:
    """Generates the code of one selection, with its constants by name."""

    def __init__(self, collect: CollectFields) -> None:
        self.constants: dict[str, Any] = {}
        self.other_fields: dict[str, FieldDetailsList] = {}
        self._collect = collect
        self._names = 0

    def new(self) -> str:
        """Name a new variable."""
        self._names += 1
        return f"v{self._names}"

    def rows(
        self, values: str, type_: GraphQLObjectType, details: FieldDetailsList, *, of_records: bool
    ) -> _Code:
        """Generate one row per value."""
        loop = _Loop(self, values)
        if of_records:
            row = self._row(loop, lambda: loop.item, type_, details)
        else:
            row = self._row(
                loop,
                lambda: loop.read(f"{loop.item}.{RECORD_ATTRIBUTE}"),
                type_,
                details,
                self.other_fields,
            )
        return _Code(f"[{row} {loop.code}]", loop.size(), loop.characters())

    def _row(
        self,
        loop: _Loop,
        record: Callable[[], str],
        type_: GraphQLObjectType,
        details: FieldDetailsList,
        other_fields: dict[str, FieldDetailsList] | None = None,
    ) -> str:
        fields: dict[str, str] = {}
        for name, nodes in self._collect(type_, details).items():
            loop.width += 1
            try:
                fields[name] = self._value(loop, record, type_, nodes)
            except NotColumnar:
                if other_fields is None:
                    raise
                other_fields[name], fields[name] = nodes, "None"
        return f"{{{', '.join(f'{name!r}: {value}' for name, value in fields.items())}}}"

    def _value(
        self,
        loop: _Loop,
        record: Callable[[], str],
        parent: GraphQLObjectType,
        details: FieldDetailsList,
    ) -> str:
        name = details[0].node.name.value
        if name == "__typename":
            return repr(parent.name)
        field = parent.fields[name]
        columnar = ColumnarField.of(field.extensions[GraphQLCoreConverter.DEFINITION_BACKREF])
        first, *path = (columnar.path or "").split(".")
        if first != RECORD_ATTRIBUTE:
            raise NotColumnar(NOT_IN_RECORDS)
        *parts, last = path
        owner = parent.extensions[GraphQLCoreConverter.DEFINITION_BACKREF].origin
        source, declared = record(), _declared(owner, RECORD_ATTRIBUTE)
        for part in parts:
            source, declared = loop.read(f"{source}.{part}"), _declared(declared, part)
        source, declared = f"{source}.{last}", _declared(declared, last)
        if columnar.make is not None:
            return self._objects(loop, source, field.type, details)
        if declared in (str, str | None):
            loop.texts.append(f"len({source} or '')")
        return self._leaf(source, declared, field.type)

    def _objects(
        self, loop: _Loop, source: str, type_: GraphQLOutputType, details: FieldDetailsList
    ) -> str:
        """Generate a non-null object or a list of non-null objects."""
        match type_:
            case GraphQLNonNull(of_type=GraphQLObjectType() as inner):
                return self._row(loop, lambda: loop.read(source), inner, details)
            case GraphQLNonNull(
                of_type=GraphQLList(of_type=GraphQLNonNull(of_type=GraphQLObjectType() as inner))
            ):
                items = self.rows(source, inner, details, of_records=True)
                loop.sizes.append(items.size)
                loop.texts += [items.characters] if items.characters != "0" else []
                return items.rows
        raise NotColumnar(NOT_IN_RECORDS)

    def _leaf(self, source: str, declared: Any, type_: GraphQLOutputType) -> str:  # noqa: ANN401
        leaf, is_nullable = get_nullable_type(type_), not isinstance(type_, GraphQLNonNull)
        if not is_leaf_type(leaf):
            raise NotColumnar(NOT_IN_RECORDS)
        python_type = UNCONVERTED.get(leaf.name)
        if python_type is not None and (
            declared == python_type or (is_nullable and declared == python_type | None)
        ):
            return source
        if isinstance(leaf, GraphQLEnumType) and isinstance(declared, EnumType):
            # By identity: hashing an enum's member calls a slow Python function.
            members: Sequence[Any] = [*declared]
            names = {id(member): leaf.coerce_output_value(member) for member in members}
            return f"{self._constant(names)}[id({source})]"
        if leaf.name == "DateTime" and declared == datetime:
            return f"{self._constant(leaf.coerce_output_value)}({source})"
        if leaf.name == "DateTime" and is_nullable and declared == datetime | None:
            return f"{source} and {self._constant(leaf.coerce_output_value)}({source})"
        raise NotColumnar(NOT_IN_RECORDS)

    def _constant(self, value: object) -> str:
        name = self.new()
        self.constants[name] = value
        return name


@cache
def _declared(owner: Any, name: str) -> Any:  # noqa: ANN401 - a type or a union
    """Look up the declared type of a class's attribute; None for an unknown attribute."""
    attribute = getattr(owner, name, None)
    if isinstance(attribute, property):
        return get_type_hints(attribute.fget).get("return")
    return get_type_hints(owner).get(name) if isinstance(owner, type) else None
