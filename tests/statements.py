"""Watches the SQL statements of a database, whether SQLAlchemy or a driver executes them."""

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

# Called with a statement and its parameters.
Watcher = Callable[[str, Any], None]


class BrokenOff(Exception):
    """The connection was interrupted."""


def _ignore(_statement: str, _parameters: Any) -> None:
    pass


@contextmanager
def watched(
    database: Database, *, before: Watcher = _ignore, after: Watcher = _ignore
) -> Iterator[None]:
    """Call watchers before and after every statement, and at the start of transactions."""
    # PostgreSQL's reader is its writer with options and shares its events.
    engines = [database.writer.sync_engine]
    if database.dialect == "sqlite":
        engines.append(database.reader.sync_engine)
    listeners = {
        "before_cursor_execute": lambda _, __, words, values, *___: before(words, values),
        "after_cursor_execute": lambda _, __, words, values, *___: after(words, values),
    }
    own_thread = threading.get_ident()

    async def fetched_and_watched(
        connection: DriverConnection, dialect: str, statement: Statement, parameters: Parameters
    ) -> Sequence[AnyRow]:
        # The server of a browser test runs in another thread, with background jobs.
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
            patch.object(sessions, "fetch_rows", fetched_and_watched),
            patch.object(databases, "fetch_rows", fetched_and_watched),
        ):
            yield
    finally:
        for engine in engines:
            for name, listener in listeners.items():
                event.remove(engine, name, listener)


@contextmanager
def broken_off(database: Database, *, after: int) -> Iterator[None]:
    """Interrupt the work after `after` statements.

    Raises:
        BrokenOff: a further statement was executed.

    """
    left = after

    def break_off(_statement: str, _parameters: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise BrokenOff

    with watched(database, after=break_off):
        yield
