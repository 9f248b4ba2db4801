"""SQLAlchemy statements compiled once for the drivers."""

import asyncio
from collections import namedtuple
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache, partial, wraps
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, Protocol, cast

import asyncpg
from sqlalchemy import Dialect, Row, TypeDecorator
from sqlalchemy.dialects.postgresql import asyncpg as postgresql_driver
from sqlalchemy.dialects.sqlite import aiosqlite as sqlite_driver
from sqlalchemy.sql import ClauseElement, Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from app.runtime.fair_loop import in_pieces

Parameters = Mapping[str, object]
AnyRow = Row[*tuple[Any, ...]]

Shape = ParamSpec("Shape")

MAX_STATEMENTS: Final = 300
MAX_SHAPES: Final = 500

DIALECTS: Final[dict[str, Dialect]] = {
    "postgresql": postgresql_driver.dialect(),  # type: ignore[no-untyped-call]
    "sqlite": sqlite_driver.dialect(paramstyle="qmark"),
}
# From the rows that a driver returns to what rows are.
RowsOf = Callable[[Sequence[Any]], list[Any]]


class Prepared(NamedTuple):
    """A statement as a driver takes it, without the tree that it was compiled from.

    A tree takes 20 to 100 KB, and a client may ask for as many as there are sets of filters.
    """

    text: str
    # These take the positional values from named parameters.
    binds: Sequence[Callable[[Parameters], Any]]
    rows_of: RowsOf | None


Statement = Executable | Prepared


class DriverConnection(Protocol):
    """A connection of a driver, as asyncpg has it."""

    async def fetch(self, text: str, /, *values: Any) -> Sequence[Any]:  # noqa: ANN401
        """Execute a statement and return its rows."""

    async def execute(self, text: str, /) -> object:
        """Execute what has no rows."""

    def is_closed(self) -> bool:
        """Whether it is of no more use."""

    async def close(self) -> None:
        """Close it."""

    def terminate(self) -> asyncio.Future[Any] | None:
        """Close it without waiting, whatever it is doing; return its end if that takes time."""


async def fetched(
    connection: DriverConnection, dialect: str, statement: Statement, parameters: Parameters
) -> Sequence[AnyRow]:
    """Execute a statement on a driver's connection and return its rows, if it has any.

    They have what rows of SQLAlchemy have, as far as it is used.
    """
    text, binds, rows_of = _compiled(statement, dialect)
    found = await connection.fetch(text, *[bind(parameters) for bind in binds])
    return found if rows_of is None else await in_pieces(rows_of, found)


class Record(asyncpg.Record):
    """A row whose columns are attributes, too."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return a column."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _compiled(statement: Statement, dialect: str) -> Prepared:
    """Return a statement as a driver takes it."""
    return statement if isinstance(statement, Prepared) else prepared_statement(statement, dialect)


def prepare(statement: Executable, dialect: str) -> Prepared:
    """Compile a statement."""
    known = DIALECTS[dialect]
    compiled = cast("SQLCompiler", cast("ClauseElement", statement).compile(dialect=known))
    binds = [bind_values(compiled, name, known) for name in compiled.positiontup or ()]
    rows_of = rows_converter(compiled, known) if dialect == "sqlite" else None
    return Prepared(compiled.string, binds, rows_of)


# Statements whose number does not depend on clients.
prepared_statement: Final = lru_cache(maxsize=MAX_STATEMENTS)(prepare)


class Shapes:
    """Statements of which there is one per set of filters: the latest are kept, compiled."""

    def __init__(self) -> None:
        self._kept = lru_cache(maxsize=MAX_SHAPES)(self._prepare)
        self.cache_info = self._kept.cache_info

    def __call__(
        self, build: Callable[Concatenate[str, Shape], Executable]
    ) -> Callable[Concatenate[str, Shape], Prepared]:
        """Have what a function builds for a dialect kept among the others."""
        find: Any = self._kept

        @wraps(build)
        def kept(dialect: str, /, *shape: Shape.args, **named: Shape.kwargs) -> Prepared:
            found: Prepared = find(build, dialect, *shape, **named)
            return found

        return kept

    @staticmethod
    def _prepare(
        build: Callable[..., Executable], dialect: str, *shape: Hashable, **named: Hashable
    ) -> Prepared:
        return prepare(build(dialect, *shape, **named), dialect)


def bind_values(compiled: SQLCompiler, name: str, dialect: Dialect) -> Callable[[Parameters], Any]:
    default = compiled.params[name]
    type_ = compiled.binds[name].type
    if isinstance(type_, TypeDecorator):
        # What it gives, the driver takes; SQLAlchemy would look at every item of an array.
        convert = partial(type_.process_bind_param, dialect=dialect)
        return lambda parameters: convert(parameters.get(name, default))
    process = type_.dialect_impl(dialect).bind_processor(dialect)
    if process is None:
        return lambda parameters: parameters.get(name, default)
    return lambda parameters: process(parameters.get(name, default))


def rows_converter(compiled: SQLCompiler, dialect: Dialect) -> RowsOf | None:
    """Return what makes rows of those of SQLite, which stores fewer types than there are."""
    columns = compiled._result_columns  # noqa: SLF001 - nothing public has the types
    if not columns:
        return None
    names = [column.keyname for column in columns]
    named: Any = namedtuple("named", names, rename=True)  # type: ignore[misc]  # noqa: PYI024
    converters = [_converter(column.type, dialect) for column in columns]
    converted = [(i, convert) for i, convert in enumerate(converters) if convert]

    def row(values: Sequence[Any]) -> Any:  # noqa: ANN401
        changed = [*values]
        for i, convert in converted:
            changed[i] = convert(values[i])
        return named._make(changed)

    return lambda rows: list(map(row if converted else named._make, rows))


def _converter(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if isinstance(type_, TypeDecorator):
        return partial(type_.process_result_value, dialect=dialect)
    return type_.dialect_impl(dialect).result_processor(dialect, None)
