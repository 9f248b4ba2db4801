"""SQLAlchemy engines for writes and reads, with a matching factory of driver connections."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.database.clocks import Clock
from app.database.compilation import MAX_STATEMENTS, DriverConnection, PostgresqlRow
from app.database.postgresql import connect_options
from app.database.sqlite import READ_PRAGMA, WRITE_PRAGMA, connect_sqlite, prepare_sqlite_engine
from app.errors import Unavailable
from app.settings import Settings


class Engines(NamedTuple):
    """The engines of a database, and functions that open driver connections."""

    writer: AsyncEngine
    reader: AsyncEngine
    connect: Callable[[], Awaitable[DriverConnection]]
    connect_writer: Callable[[], Awaitable[DriverConnection]]


def create_engines(url: URL, settings: Settings, clock: Clock) -> Engines:
    """Create the engines of a database.

    Raises:
        Unavailable: the directory of a SQLite file is missing.

    """
    options: dict[str, Any] = {
        "pool_size": settings.database_pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.database_pool_timeout_seconds,
        "query_cache_size": MAX_STATEMENTS,
        # The log must not contain clients' data when a statement fails.
        "hide_parameters": True,
    }
    if url.get_backend_name() == "postgresql":
        return _postgresql_engines(url, settings, options)
    return _sqlite_engines(url, settings, options, clock)


def _postgresql_engines(url: URL, settings: Settings, options: dict[str, Any]) -> Engines:
    connect = connect_options(settings)
    writer = create_async_engine(url, **options, connect_args=connect)
    reader = writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    address = writer.dialect.create_connect_args(url)[1]
    open_connection = partial(asyncpg.connect, **{**address, **connect}, record_class=PostgresqlRow)
    return Engines(writer, reader, open_connection, open_connection)


def _sqlite_engines(url: URL, settings: Settings, options: dict[str, Any], clock: Clock) -> Engines:
    file = url.database or ""
    directory = Path(file).parent
    if not directory.is_dir():
        message = f"There is no directory {directory} for the database; create it first."
        raise Unavailable(message)
    # SQLite has one writer at a time, and a queue is fairer than polling for its lock.
    writer = create_async_engine(url, **{**options, "pool_size": 1})
    reader = create_async_engine(url, **options)
    pragmas = [
        f"busy_timeout = {settings.database_lock_timeout_ms}",
        "foreign_keys = ON",
        "synchronous = FULL",
    ]
    write_pragmas, read_pragmas = [*pragmas, WRITE_PRAGMA], [*pragmas, READ_PRAGMA]
    prepare_sqlite_engine(writer, clock, begin="BEGIN IMMEDIATE", pragmas=write_pragmas)
    prepare_sqlite_engine(reader, clock, begin="BEGIN", pragmas=read_pragmas)
    return Engines(
        writer,
        reader,
        partial(connect_sqlite, file, clock, pragmas=read_pragmas),
        partial(connect_sqlite, file, clock, pragmas=write_pragmas),
    )
