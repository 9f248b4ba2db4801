"""Keeps the SQL statements of what is done under it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Engine, Executable, event

from app import sessions
from app.database import Database
from app.sessions import AnyRow, DriverConnection, Parameters, _compiled


class QueryRecorder:
    """The statements so far, with their parameters; how a transaction begins is none of them."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.parameters: list[Any] = []

    def __len__(self) -> int:
        return len(self.statements)

    def __call__(
        self,
        _connection: object,
        _cursor: object,
        statement: str,
        parameters: Any,
        *_rest: Any,
    ) -> None:
        """Note a statement, as SQLAlchemy's event tells it."""
        if not statement.startswith("BEGIN"):
            self.statements.append(statement)
            self.parameters.append(parameters)


@contextmanager
def recorded(database: Database) -> Iterator[QueryRecorder]:
    """Record what is executed meanwhile."""
    recorder = QueryRecorder()
    engines = _engines(database)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", recorder)
    fetched = sessions.fetched

    async def noted(
        connection: DriverConnection, dialect: str, statement: Executable, parameters: Parameters
    ) -> Sequence[AnyRow]:
        words, binds, _ = _compiled(statement, dialect)
        recorder(None, None, words, tuple(bind(parameters) for bind in binds))
        return await fetched(connection, dialect, statement, parameters)

    try:
        with patch.object(sessions, "fetched", noted):
            yield recorder
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", recorder)


def _engines(database: Database) -> list[Engine]:
    # PostgreSQL's reader is its writer with options, and passes its events on.
    if database.dialect == "postgresql":
        return [database.writer.sync_engine]
    return [database.writer.sync_engine, database.reader.sync_engine]
