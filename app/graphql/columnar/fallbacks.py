"""Counts and logs the lists and objects that fall back on graphql-core."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog
from graphql import GraphQLError
from graphql.pyutils import Path

# At most one line per interval is logged; all fallbacks are counted.
LOG_INTERVAL_SECONDS: Final = 1.0
log = structlog.get_logger()


class NotColumnar(Exception):
    """A selection or a value cannot be handled column by column; graphql-core handles it."""


class Fallbacks:
    """Counts of fallbacks on graphql-core since the process started."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # Expected fallbacks by the message of NotColumnar.
        self.expected: Counter[str] = Counter()
        # Fallbacks after any other exception, by the name of its type.
        self.exceptions: Counter[str] = Counter()
        # Queries with an error after a column was completed: graphql-core executes them again.
        self.repeated_queries = 0
        self._clock = clock
        self._logs_from = clock()
        self._unlogged = 0

    def count(self, error: Exception, path: Path) -> None:
        """Count the fallback of the list or object at a path, and log an unexpected exception."""
        if isinstance(error, NotColumnar):
            self.expected[str(error)] += 1
            return
        cause = _cause(error)
        name = type(cause).__name__
        self.exceptions[name] += 1
        now = self._clock()
        if now < self._logs_from:
            self._unlogged += 1
            return
        located = error.path if isinstance(error, GraphQLError) else None
        log.warning(
            "columnar_fallback",
            exception=name,
            path=located or path.as_list(),
            unlogged=self._unlogged,
            exc_info=cause,
        )
        self._logs_from, self._unlogged = now + LOG_INTERVAL_SECONDS, 0


def _cause(error: Exception) -> Exception:
    """Find the exception inside nested GraphQL errors."""
    while isinstance(error, GraphQLError) and error.original_error:
        error = error.original_error
    return error
