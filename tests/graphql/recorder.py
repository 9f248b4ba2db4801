"""Recording of the executed SQL statements."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.statements import watched


class QueryRecorder:
    """The executed statements with their parameters, except BEGIN."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.parameters: list[Any] = []

    def __len__(self) -> int:
        return len(self.statements)

    def __call__(self, statement: str, parameters: Any) -> None:
        """Record a statement."""
        if not statement.startswith("BEGIN"):
            self.statements.append(statement)
            self.parameters.append(parameters)


@contextmanager
def recorded() -> Iterator[QueryRecorder]:
    """Record the statements within a block."""
    recorder = QueryRecorder()
    with watched(before=recorder):
        yield recorder
