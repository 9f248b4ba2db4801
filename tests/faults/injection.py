"""Injects errors into the calls of the drivers."""

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import aiosqlite
import asyncpg
from asyncpg import connect_utils, transaction
from sqlalchemy.exc import PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeout

POSTGRESQL_CALLS: Final = (
    (connect_utils, "_connect"),
    (asyncpg.Connection, "fetch"),
    (asyncpg.Connection, "execute"),
    (asyncpg.Connection, "prepare"),
    (asyncpg.prepared_stmt.PreparedStatement, "fetch"),
    (transaction.Transaction, "start"),
    (transaction.Transaction, "commit"),
    (transaction.Transaction, "rollback"),
)
SQLITE_CALLS: Final = ((aiosqlite.Connection, "_connect"), (aiosqlite.Connection, "_execute"))
MakeError = Callable[[], BaseException]


def postgresql_error(state: str) -> MakeError:
    """Error as the PostgreSQL server sends it."""
    fields = {"S": "FATAL", "C": state, "M": "made up"}
    return lambda: asyncpg.PostgresError.new(fields)


def sqlite_error(name: str) -> MakeError:
    """Error as SQLite raises it."""

    def make() -> BaseException:
        error = sqlite3.OperationalError("made up")
        error.sqlite_errorname = name
        return error

    return make


STATES: Final = (
    *("08000", "08003", "08006", "08P01", "25006", "25P02", "25P03", "25P04", "26000", "28000"),
    *("3D000", "40001", "40003", "40P01", "42P05", "53100", "53200", "53300", "55P03", "57014"),
    *("57P01", "57P02", "57P03", "57P04", "57P05", "58000", "58030", "72000", "XX000", "XX001"),
)
SQLITE_NAMES: Final = (
    *("SQLITE_AUTH", "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_CANTOPEN", "SQLITE_CORRUPT"),
    *("SQLITE_FULL", "SQLITE_INTERRUPT", "SQLITE_IOERR", "SQLITE_IOERR_FSYNC", "SQLITE_LOCKED"),
    *("SQLITE_NOMEM", "SQLITE_NOTADB", "SQLITE_PERM", "SQLITE_PROTOCOL", "SQLITE_READONLY"),
    *("SQLITE_READONLY_DBMOVED", "SQLITE_SCHEMA"),
)
IN_COMMON: Final[dict[str, MakeError]] = {
    "timeout": TimeoutError,
    "unreachable": lambda: OSError(113, "No route to host"),
    "refused": lambda: ConnectionRefusedError(111, "Connection refused"),
    "reset": lambda: ConnectionResetError(104, "Connection reset by peer"),
    "broken pipe": lambda: BrokenPipeError(32, "Broken pipe"),
    "pool timeout": PoolTimeout,
    "pending rollback": lambda: PendingRollbackError("made up"),
    "closed result": lambda: ResourceClosedError("made up"),
    "no memory": MemoryError,
}
ERRORS: Final[dict[str, dict[str, MakeError]]] = {
    "postgresql": {
        **IN_COMMON,
        **{state: postgresql_error(state) for state in STATES},
        "interface": lambda: asyncpg.InterfaceError("connection is closed"),
        "internal": lambda: asyncpg.InternalClientError("cannot switch to state 12"),
        "protocol": lambda: asyncpg.ProtocolError("made up"),
        "no primary": lambda: asyncpg.TargetServerAttributeNotMatched("made up"),
        "cached plan": lambda: asyncpg.InvalidCachedStatementError("made up"),
        "end of stream": lambda: asyncio.IncompleteReadError(b"", 4),
        "uvloop": lambda: RuntimeError("unable to perform operation; the handler is closed"),
    },
    "sqlite": {
        **IN_COMMON,
        **{name: sqlite_error(name) for name in SQLITE_NAMES},
        "no connection": lambda: ValueError("no active connection"),
        "closed": lambda: ValueError("Connection closed"),
        "closed database": lambda: sqlite3.ProgrammingError("Cannot operate on a closed database."),
    },
}


@dataclass
class Injection:
    """One error at one call of a driver."""

    make: MakeError
    # Number of calls before it.
    after: int
    # If true, the call is executed and its result is lost.
    is_answer_lost: bool = False
    called: str = ""


@contextmanager
def injected(dialect: str, injection: Injection) -> Iterator[None]:
    """Raise an error at one call of the driver; `called` names the call, if it was reached."""
    left = injection.after
    depth = 0

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        async def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal left, depth
            # Calls that the driver makes within a call are part of it.
            if depth or injection.called:
                return await call(*arguments, **options)
            left -= 1
            if left >= 0:
                depth += 1
                try:
                    return await call(*arguments, **options)
                finally:
                    depth -= 1
            injection.called = name
            # A connection whose result is lost was not opened.
            if injection.is_answer_lost and name != "_connect":
                await call(*arguments, **options)
            raise injection.make()

        return wrapper

    with ExitStack() as patches:
        for owner, name in POSTGRESQL_CALLS if dialect == "postgresql" else SQLITE_CALLS:
            patches.enter_context(patch.object(owner, name, wrapped(name, getattr(owner, name))))
        yield
