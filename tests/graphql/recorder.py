"""Counts the SQL statements of what is done under it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from app.database import Database


class QueryRecorder:
    """The statements so far; how a transaction begins is none of them."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def __len__(self) -> int:
        return len(self.statements)

    def __call__(self, _connection: object, _cursor: object, statement: str, *_rest: Any) -> None:  # noqa: ANN401
        """Note a statement, as SQLAlchemy's event tells it."""
        if not statement.startswith("BEGIN"):
            self.statements.append(statement)


@contextmanager
def recorded(database: Database) -> Iterator[QueryRecorder]:
    """Record what is executed meanwhile."""
    recorder = QueryRecorder()
    engines = _engines(database)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", recorder)
    try:
        yield recorder
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", recorder)


def _engines(database: Database) -> list[Engine]:
    # PostgreSQL's reader is its writer with options, and passes its events on.
    if database.dialect == "postgresql":
        return [database.writer.sync_engine]
    return [database.writer.sync_engine, database.reader.sync_engine]
