"""Watches the SQL statements of a database, whoever executes them: its engines or its drivers."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import event

from app.database import connections as databases
from app.database import session as sessions
from app.database.compilation import (
    AnyRow,
    DriverConnection,
    Parameters,
    Statement,
    compiled_statement,
    fetch_rows,
)
from app.database.engine import Database

# Told of a statement and its parameters.
Watcher = Callable[[str, Any], None]


class BrokenOff(Exception):
    """The connection is gone."""


def _ignore(_statement: str, _parameters: Any) -> None:
    pass


@contextmanager
def watched(
    database: Database, *, before: Watcher = _ignore, after: Watcher = _ignore
) -> Iterator[None]:
    """Tell of every statement before and after it is executed; also of how transactions begin."""
    # PostgreSQL's reader is its writer with options, and passes its events on.
    engines = [database.writer.sync_engine]
    if database.dialect == "sqlite":
        engines.append(database.reader.sync_engine)
    listeners = {
        "before_cursor_execute": lambda _, __, words, values, *___: before(words, values),
        "after_cursor_execute": lambda _, __, words, values, *___: after(words, values),
    }
    own_thread = threading.get_ident()

    async def told(
        connection: DriverConnection, dialect: str, statement: Statement, parameters: Parameters
    ) -> Sequence[AnyRow]:
        # A service that is tested in a browser has a thread of its own, and chores.
        if threading.get_ident() != own_thread:
            return await fetch_rows(connection, dialect, statement, parameters)
        words, binds, _ = compiled_statement(statement, dialect)
        values = tuple(bind(parameters) for bind in binds)
        before(words, values)
        rows = await fetch_rows(connection, dialect, statement, parameters)
        after(words, values)
        return rows

    for engine in engines:
        for name, listener in listeners.items():
            event.listen(engine, name, listener)
    try:
        with (
            patch.object(sessions, "fetch_rows", told),
            patch.object(databases, "fetch_rows", told),
        ):
            yield
    finally:
        for engine in engines:
            for name, listener in listeners.items():
                event.remove(engine, name, listener)


@contextmanager
def broken_off(database: Database, *, after: int) -> Iterator[None]:
    """Break off what is done, after so many statements.

    Raises:
        BrokenOff: there was another one.

    """
    left = after

    def break_off(_statement: str, _parameters: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise BrokenOff

    with watched(database, after=break_off):
        yield
