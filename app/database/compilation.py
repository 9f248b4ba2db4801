"""SQLAlchemy statements, compiled once for the drivers."""

import asyncio
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
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
from app.runtime.observation import observed_statement

Parameters = Mapping[str, object]
AnyRow = Row[*tuple[Any, ...]]

Arguments = ParamSpec("Arguments")

MAX_STATEMENTS: Final = 300
MAX_CACHED_VARIANTS: Final = 500

DIALECTS: Final[dict[str, Dialect]] = {
    "postgresql": postgresql_driver.dialect(),  # type: ignore[no-untyped-call]
    "sqlite": sqlite_driver.dialect(paramstyle="qmark"),
}
RowsConverter = Callable[[Sequence[Any]], list[Any]]


class PreparedStatement(NamedTuple):
    """A compiled statement without its SQLAlchemy tree.

    A tree takes 20 to 100 KB, and clients can cause one per set of filters.
    """

    text: str
    # Each function returns a positional value from the named parameters.
    binds: Sequence[Callable[[Parameters], Any]]
    convert_rows: RowsConverter | None


Statement = Executable | PreparedStatement


class DriverConnection(Protocol):
    """A driver connection with the interface of asyncpg."""

    async def fetch(self, text: str, /, *values: Any) -> Sequence[Any]:  # noqa: ANN401
        """Execute a statement and return its rows."""

    async def execute(self, text: str, /) -> object:
        """Execute a statement without rows."""

    def stream(self, text: str, values: Sequence[Any], size: int) -> AsyncIterator[Sequence[Any]]:
        """Yield the rows of a statement in batches, inside a transaction."""

    def is_closed(self) -> bool:
        """Whether the connection is closed."""

    async def close(self) -> None:
        """Close the connection."""

    def terminate(self) -> asyncio.Future[Any] | None:
        """Close the connection immediately; return a future of its end if that takes time."""


async def fetch_rows(
    connection: DriverConnection, dialect: str, statement: Statement, parameters: Parameters
) -> Sequence[AnyRow]:
    """Execute a statement on a driver connection and return its rows.

    The rows support the used part of the interface of SQLAlchemy's rows.
    """
    text, binds, convert_rows = compiled_statement(statement, dialect)
    try:
        values = [bind(parameters) for bind in binds]
        with observed_statement(text):
            rows = await connection.fetch(text, *values)
    except asyncpg.PostgresError as error:
        # It quotes values of rows, which logs must not contain.
        vars(error)["detail"] = None
        raise
    return rows if convert_rows is None else await in_pieces(convert_rows, rows)


async def stream_batches(
    connection: DriverConnection,
    dialect: str,
    statement: Statement,
    parameters: Parameters,
    *,
    size: int,
) -> AsyncIterator[Sequence[AnyRow]]:
    """Yield the rows of a statement in batches of a size, inside a transaction."""
    text, binds, convert_rows = compiled_statement(statement, dialect)
    values = [bind(parameters) for bind in binds]
    async for rows in connection.stream(text, values, size):
        yield rows if convert_rows is None else convert_rows(rows)


class PostgresqlRow(asyncpg.Record):
    """A row with its columns as attributes."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return the value of a column."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def compiled_statement(statement: Statement, dialect: str) -> PreparedStatement:
    """Return the compiled form of a statement, from the cache if possible."""
    if isinstance(statement, PreparedStatement):
        return statement
    return prepared_statement(statement, dialect)


def prepare_statement(statement: Executable, dialect: str) -> PreparedStatement:
    """Compile a statement for a dialect."""
    driver = DIALECTS[dialect]
    compiled = cast("SQLCompiler", cast("ClauseElement", statement).compile(dialect=driver))
    binds = [_bind(compiled, name, driver) for name in compiled.positiontup or ()]
    convert_rows = _rows_converter(compiled, driver) if dialect == "sqlite" else None
    return PreparedStatement(compiled.string, binds, convert_rows)


# A cache for statements whose number does not depend on clients.
prepared_statement: Final = lru_cache(maxsize=MAX_STATEMENTS)(prepare_statement)


class StatementCache:
    """A cache for statements with one variant per set of filters; it drops the oldest variants."""

    def __init__(self) -> None:
        self._cached = lru_cache(maxsize=MAX_CACHED_VARIANTS)(self._prepare)
        self.cache_info = self._cached.cache_info

    def __call__(
        self, build: Callable[Concatenate[str, Arguments], Executable]
    ) -> Callable[Concatenate[str, Arguments], PreparedStatement]:
        """Decorate a function that builds a statement for a dialect: cache the compiled result."""
        cached: Any = self._cached

        @wraps(build)
        def build_cached(
            dialect: str, /, *arguments: Arguments.args, **options: Arguments.kwargs
        ) -> PreparedStatement:
            statement: PreparedStatement = cached(build, dialect, *arguments, **options)
            return statement

        return build_cached

    @staticmethod
    def _prepare(
        build: Callable[..., Executable], dialect: str, *arguments: Hashable, **options: Hashable
    ) -> PreparedStatement:
        return prepare_statement(build(dialect, *arguments, **options), dialect)


def _bind(compiled: SQLCompiler, name: str, dialect: Dialect) -> Callable[[Parameters], Any]:
    default = compiled.params[name]
    type_ = compiled.binds[name].type
    if isinstance(type_, TypeDecorator):
        # SQLAlchemy's processor would convert every item of an array a second time.
        convert = partial(type_.process_bind_param, dialect=dialect)
        return lambda parameters: convert(parameters.get(name, default))
    process = type_.dialect_impl(dialect).bind_processor(dialect)
    if process is None:
        return lambda parameters: parameters.get(name, default)
    return lambda parameters: process(parameters.get(name, default))


def _rows_converter(compiled: SQLCompiler, dialect: Dialect) -> RowsConverter | None:
    """Create the conversion of SQLite's rows to named tuples; None without columns."""
    columns = compiled._result_columns  # noqa: SLF001 - no public attribute has the types
    if not columns:
        return None
    names = [column.keyname for column in columns]
    row_type: Any = namedtuple("row_type", names, rename=True)  # type: ignore[misc]  # noqa: PYI024
    converters = [_converter(column.type, dialect) for column in columns]
    conversions = [(i, convert) for i, convert in enumerate(converters) if convert]

    def row(values: Sequence[Any]) -> Any:  # noqa: ANN401
        converted = [*values]
        for i, convert in conversions:
            converted[i] = convert(values[i])
        return row_type._make(converted)

    return lambda rows: list(map(row if conversions else row_type._make, rows))


def _converter(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if isinstance(type_, TypeDecorator):
        return partial(type_.process_result_value, dialect=dialect)
    return type_.dialect_impl(dialect).result_processor(dialect, None)
