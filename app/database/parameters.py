"""Parameters that hold lists and rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Dialect,
    FromClause,
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
from sqlalchemy.types import TypeEngine


class Key(TypeDecorator[str]):
    """A text to look up. PostgreSQL cannot take NUL; no key has it, and no key is empty."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Give the engine what it takes."""
        return "" if value is not None and "\x00" in value else value


TENANT: Final = bindparam("tenant_id", type_=Key)


class Keys(TypeDecorator[Sequence[str]]):
    """A list of texts to look up as one parameter: an array, or JSON in SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the engine's own type."""
        return dialect.type_descriptor(ARRAY(Text) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:  # noqa: ANN401
        """Give the engine what it takes."""
        keys = [text for text in value or () if "\x00" not in text]
        return keys if dialect.name == "postgresql" else orjson.dumps(keys).decode()


def texts(name: str) -> BindParameter[Sequence[str]]:
    """Return a parameter that takes a list of texts."""
    return bindparam(name, type_=Keys)


def texts_in(dialect: str, subject: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Return the condition that a column is one of the texts of a parameter."""
    if dialect == "postgresql":
        return subject == any_(texts(name))
    each = func.json_each(texts(name)).table_valued(column("value", Text))
    return subject.in_(select(each.c.value))


def rows_from(dialect: str, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """Return a relation from one parameter, the JSON text of a list of objects."""
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
    # Kept apart by its limit, it is made once and looked up in; else it is read for every row.
    return select(*fields).limit(-1).subquery(name)


def as_json(rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as the text that `rows_from` reads."""
    return orjson.dumps(list(rows)).decode()
