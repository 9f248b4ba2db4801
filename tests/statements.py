"""Watches the SQL statements of databases."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

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

# Called with a statement and its parameters.
Watcher = Callable[[str, Any], None]


class BrokenOff(Exception):
    """The connection was interrupted."""


def _ignore(_statement: str, _parameters: Any) -> None:
    pass


@contextmanager
def watched(*, before: Watcher = _ignore, after: Watcher = _ignore) -> Iterator[None]:
    """Call watchers before and after every statement."""
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

    with (
        patch.object(sessions, "fetch_rows", fetched_and_watched),
        patch.object(databases, "fetch_rows", fetched_and_watched),
    ):
        yield


@contextmanager
def broken_off(*, after: int) -> Iterator[None]:
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

    with watched(after=break_off):
        yield
