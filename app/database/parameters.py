"""Bind parameters for keys, lists of keys and lists of rows."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Dialect,
    FromClause,
    Table,
    Text,
    TypeDecorator,
    any_,
    bindparam,
    cast,
    column,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from app.domain.instants import format_instant


class KeyValue(TypeDecorator[str]):
    """A key to look up. A text with NUL, which PostgreSQL rejects, becomes the empty text.

    Stored keys are never empty, so it matches no row.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Convert a key to its bound form."""
        return "" if value is not None and "\x00" in value else value


TENANT: Final = bindparam("tenant_id", type_=KeyValue)


class TenantOf(FunctionElement[str]):
    """The tenant of another row, for the condition on a joined table.

    A sharded PostgreSQL finds the shard of each table by a value: it is the parameter there. SQLite
    would begin the join with a table that has a value.
    """

    type = Text()
    inherit_cache = True

    def __init__(self, column: ColumnElement[str]) -> None:
        super().__init__(column, TENANT)


@compiles(TenantOf)
def _compile_tenant_of(element: TenantOf, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, parameter = element.clauses
    value = parameter if compiler.dialect.name == "postgresql" else column
    text: str = compiler.process(value, **options)
    return text


class KeyArray(TypeDecorator[Sequence[str]]):
    """A list of keys to look up, as one parameter: an array, or JSON in SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the parameter type of the dialect."""
        return dialect.type_descriptor(ARRAY(Text) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:  # noqa: ANN401
        """Convert keys to an array or JSON; keys with NUL are dropped."""
        keys = [text for text in value or () if "\x00" not in text]
        return keys if dialect.name == "postgresql" else orjson.dumps(keys).decode()


def key_array(name: str) -> BindParameter[Sequence[str]]:
    """Create a parameter for a list of keys."""
    return bindparam(name, type_=KeyArray)


def in_key_array(dialect: str, subject: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Create the condition that a column is in the list of keys of a parameter."""
    if dialect == "postgresql":
        return subject == any_(key_array(name))
    each = func.json_each(key_array(name)).table_valued(column("value", Text))
    return subject.in_(select(each.c.value))


def rows_from(dialect: str, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """Create a relation from one parameter: the JSON text of a list of objects."""
    document = bindparam(name, type_=Text)
    if dialect == "postgresql":
        typed = [column(key, type_) for key, type_ in columns.items()]
        return (
            func.json_to_recordset(cast(document, JSON))
            .table_valued(*typed)
            .render_derived(name=name, with_types=True)
        )
    each = func.json_each(document).table_valued(column("value", Text))
    fields = [
        func.json_extract(each.c.value, f"$.{key}", type_=type_).label(key)
        for key, type_ in columns.items()
    ]
    # The limit makes SQLite materialize the subquery instead of reading it for every row.
    return select(*fields).limit(-1).subquery(name)


def as_json(rows: Iterable[Mapping[str, object]]) -> str:
    """Encode rows as the JSON text for `rows_from`; instants may be datetimes."""
    return orjson.dumps(list(rows), _instant, orjson.OPT_PASSTHROUGH_DATETIME).decode()


def _instant(value: object) -> str:
    if isinstance(value, datetime):
        return format_instant(value)
    raise TypeError


def column_types(table: Table, *, without: Collection[str] = ()) -> dict[str, TypeEngine[Any]]:
    """Return the types of the columns of a table by name, for `rows_from`."""
    return {
        # JSON knows no collation; the column that a text is compared with has one.
        column.name: Text() if isinstance(column.type, Text) else column.type
        for column in table.c
        if column.name not in without
    }
