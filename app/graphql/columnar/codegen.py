"""Writes out what makes the objects of a selection, where all of it stands in records.

A record is what its class declares: its values come from columns of that type, or from code that
mypy has seen. So what is declared to be a text is said as it is, and a whole selection, with lists
in lists, is one expression of Python: `[{"sku": v2.sku, ..} for v1 in objects for v2 in ..]`.
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

from app.graphql.columnar.variables import AS_THEY_ARE

# Keys of a field's metadata: the path of attributes that it is read by; what makes an object of the
# record that is found there, or of each if it is a list of them.
RECORD_PATH: Final = "path"
MAKE_OBJECT: Final = "make"
# What of an object is its record, where it is made of one.
RECORD_ATTRIBUTE: Final = "record"
# What is selected of an object of a type: its fields, by the names that they are given.
Selected = Mapping[str, FieldDetailsList]
Collect = Callable[[GraphQLObjectType, FieldDetailsList], Selected]


class NotWritten(Exception):
    """Not all of a selection is read off records."""


class Written(NamedTuple):
    """The functions that were written of a selection, each from its objects."""

    rows: Callable[[Sequence[Any]], list[dict[str, Any]]]
    # The number of values that the rows will have, and of characters in the texts among them.
    size: Callable[[Sequence[Any]], int]
    characters: Callable[[Sequence[Any]], int]
    # The fields that are not read off records: of objects, they have their place in the rows.
    others: Selected


def rows(
    type_: GraphQLObjectType, details: FieldDetailsList, collect: Collect, *, of_records: bool
) -> Written:
    """Write what makes rows of objects, or of the records that they would be made of.

    Raises:
        NotWritten: records alone do not have all that is selected.

    """
    writer = _Writer(collect)
    written = writer.rows("objects", type_, details, of_records=of_records)
    made: Any
    size: Any
    characters: Any
    made, size, characters = (
        eval(f"lambda objects: {code}", writer.known)  # noqa: S307 - names of ours and GraphQL's
        for code in (written.rows, written.size, written.characters)
    )
    return Written(made, size, characters, writer.others)


class _Code(NamedTuple):
    """Expressions of Python: rows of values, and their size."""

    rows: str
    size: str
    characters: str


class _Loop:
    """A loop over records, and over what stands in each: `for v1 in objects for v2 in (v1.a,)`."""

    def __init__(self, writer: "_Writer", values: str) -> None:
        self._new = writer.new
        self.item = writer.new()
        self.code = f"for {self.item} in {values}"
        self._values = values
        self._read: dict[str, str] = {}
        # The values of each item, the sizes of its lists, and the lengths of its texts.
        self.width = 1
        self.sizes: list[str] = []
        self.texts: list[str] = []

    def size(self) -> str:
        """Return the number of values of all items, as an expression."""
        of_lists = f" + {self._sum(self.sizes)}" if self.sizes else ""
        return f"{self.width} * len({self._values}){of_lists}"

    def characters(self) -> str:
        """Return the number of characters of all items, as an expression."""
        return self._sum(self.texts)

    def _sum(self, each: Sequence[str]) -> str:
        if not each:
            return "0"
        code, loops = " + ".join(each), ""
        # Only what is needed is read again: the sums over the levels of a SKU take long.
        for source, variable in reversed(self._read.items()):
            if re.search(rf"\b{variable}\b", code + loops):
                loops = f" for {variable} in ({source},){loops}"
        return f"sum([{code} for {self.item} in {self._values}{loops}])"

    def read(self, source: str) -> str:
        """Return a variable that is read once for each item."""
        if source not in self._read:
            self._read[source] = variable = self._new()
            self.code += f" for {variable} in ({source},)"
        return self._read[source]


class _Writer:
    """What is written of one selection, and what it knows by name."""

    def __init__(self, collect: Collect) -> None:
        self.known: dict[str, Any] = {}
        self.others: dict[str, FieldDetailsList] = {}
        self._collect = collect
        self._names = 0

    def new(self) -> str:
        """Return a variable of no other use."""
        self._names += 1
        return f"v{self._names}"

    def rows(
        self, values: str, type_: GraphQLObjectType, details: FieldDetailsList, *, of_records: bool
    ) -> _Code:
        """Write what makes a row of each value."""
        loop = _Loop(self, values)
        if of_records:
            row = self._row(loop, lambda: loop.item, type_, details)
        else:
            row = self._row(
                loop,
                lambda: loop.read(f"{loop.item}.{RECORD_ATTRIBUTE}"),
                type_,
                details,
                self.others,
            )
        return _Code(f"[{row} {loop.code}]", loop.size(), loop.characters())

    def _row(
        self,
        loop: _Loop,
        record: Callable[[], str],
        type_: GraphQLObjectType,
        details: FieldDetailsList,
        others: dict[str, FieldDetailsList] | None = None,
    ) -> str:
        fields: dict[str, str] = {}
        for name, those in self._collect(type_, details).items():
            loop.width += 1
            try:
                fields[name] = self._value(loop, record, type_, those)
            except NotWritten:
                if others is None:
                    raise
                others[name], fields[name] = those, "None"
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
        metadata = field.extensions[GraphQLCoreConverter.DEFINITION_BACKREF].metadata
        first, *path = metadata.get(RECORD_PATH, "").split(".")
        if first != RECORD_ATTRIBUTE:
            raise NotWritten
        *parts, last = path
        owner = parent.extensions[GraphQLCoreConverter.DEFINITION_BACKREF].origin
        source, declared = record(), _declared(owner, RECORD_ATTRIBUTE)
        for part in parts:
            source, declared = loop.read(f"{source}.{part}"), _declared(declared, part)
        source, declared = f"{source}.{last}", _declared(declared, last)
        if MAKE_OBJECT in metadata:
            return self._objects(loop, source, field.type, details)
        if declared in (str, str | None):
            loop.texts.append(f"len({source} or '')")
        return self._leaf(source, declared, field.type)

    def _objects(
        self, loop: _Loop, source: str, type_: GraphQLOutputType, details: FieldDetailsList
    ) -> str:
        """Write out an object or a list of objects, none of which may be null."""
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
        raise NotWritten

    def _leaf(self, source: str, declared: Any, type_: GraphQLOutputType) -> str:  # noqa: ANN401
        leaf, is_nullable = get_nullable_type(type_), not isinstance(type_, GraphQLNonNull)
        if not is_leaf_type(leaf):
            raise NotWritten
        kept = AS_THEY_ARE.get(leaf.name)
        if kept is not None and (declared == kept or (is_nullable and declared == kept | None)):
            return source
        if isinstance(leaf, GraphQLEnumType) and isinstance(declared, EnumType):
            # By identity, because an enum's hash is a function of Python.
            members: Sequence[Any] = [*declared]
            names = {id(each): leaf.coerce_output_value(each) for each in members}
            return f"{self._constant(names)}[id({source})]"
        if leaf.name == "DateTime" and declared == datetime:
            return f"{self._constant(leaf.coerce_output_value)}({source})"
        if leaf.name == "DateTime" and is_nullable and declared == datetime | None:
            return f"{source} and {self._constant(leaf.coerce_output_value)}({source})"
        raise NotWritten

    def _constant(self, value: object) -> str:
        name = self.new()
        self.known[name] = value
        return name


@cache
def _declared(owner: Any, name: str) -> Any:  # noqa: ANN401 - a type, or a union of some
    """Return what an attribute of a class is declared to be; None if it has none of that name."""
    found = getattr(owner, name, None)
    if isinstance(found, property):
        return get_type_hints(found.fget).get("return")
    return get_type_hints(owner).get(name) if isinstance(owner, type) else None
