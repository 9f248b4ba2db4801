"""Column types and factories of the tables."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Text,
    TypeDecorator,
    func,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlmodel import Field

from app.domain.instants import format_instant

# Text sorted by code point: SQLite's default, PostgreSQL's collation "C".
KeyText: Final = Text().with_variant(Text(collation="C"), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An instant in UTC, to the millisecond: timestamptz in PostgreSQL, sortable text in SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:  # noqa: ANN401 - as in the base class
        """Return the column type of the dialect."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401
        """Convert an instant to its stored form."""
        if value is None or dialect.name == "postgresql":
            return value
        return format_instant(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401
        """Convert a stored value to an aware datetime."""
        if value is None or dialect.name == "postgresql":
            return value  # type: ignore[no-any-return]
        return datetime.fromisoformat(value)


def key_column(**options: Any) -> Any:  # noqa: ANN401 - as `Field`
    """Create a text column that is a key or part of one."""
    return Field(sa_type=KeyText, **options)


def text_column(**options: Any) -> Any:  # noqa: ANN401
    """Create a text column without look-ups."""
    return Field(sa_type=Text, **options)


def integer_column(**options: Any) -> Any:  # noqa: ANN401
    """Create a column of whole numbers of 64 bits."""
    return Field(sa_type=BigInteger, **options)


def instant_column(**options: Any) -> Any:  # noqa: ANN401
    """Create a column of instants."""
    return Field(sa_type=UtcDateTime, **options)


def occurrence_of(columns: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[datetime]:
    """Return the time at which an adjustment counts as occurred."""
    return func.coalesce(columns.occurred_at, columns.created_at, type_=UtcDateTime)
