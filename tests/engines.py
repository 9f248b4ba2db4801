"""Connections of SQLAlchemy's engine, with which tests look at a database and change it."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.database.connectors import sqlite_pragmas
from app.database.engine import Database
from app.database.postgresql import connect_options
from app.database.sqlite import WRITE_PRAGMA, prepare_sqlite_engine

Result = TypeVar("Result")
_writers: WeakKeyDictionary[Database, AsyncEngine] = WeakKeyDictionary()
_readers: WeakKeyDictionary[Database, AsyncEngine] = WeakKeyDictionary()


def writer_of(database: Database) -> AsyncEngine:
    """Engine whose transactions exclude other writers of SQLite."""
    if database not in _writers:
        _writers[database] = _engine_of(database, "BEGIN IMMEDIATE")
    return _writers[database]


def reader_of(database: Database) -> AsyncEngine:
    """Engine whose transactions see one state of the database."""
    if database not in _readers:
        engine = _engine_of(database, "BEGIN")
        if database.dialect == "postgresql":
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        _readers[database] = engine
    return _readers[database]


async def transact(
    database: Database, work: Callable[[AsyncConnection], Awaitable[Result]]
) -> Result:
    """Commit the work of a test."""
    async with writer_of(database).begin() as connection:
        return await work(connection)


def _engine_of(database: Database, begin: str) -> AsyncEngine:
    options: dict[str, Any] = {}
    if database.dialect == "postgresql":
        options["connect_args"] = connect_options(database.settings)
    engine = create_async_engine(database.url, poolclass=NullPool, **options)
    if database.dialect == "sqlite":
        pragmas = [*sqlite_pragmas(database.settings), WRITE_PRAGMA]
        prepare_sqlite_engine(engine, database.clock, begin=begin, pragmas=pragmas)
    return engine
