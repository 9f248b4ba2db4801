"""The classification of database errors."""

import sqlite3
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import InventoryError, Unavailable

LOCK_NOT_AVAILABLE: Final = "55P03"


class Kind(Enum):
    """The kind of a fault."""

    # Only a commit that was under way may have happened.
    LOST = auto()
    AWAY = auto()
    READONLY = auto()
    BROKEN = auto()
    # The connection stays usable after these, and nothing was written.
    LATER = auto()
    LOCKED = auto()
    REPEATABLE = auto()
    EXHAUSTED = auto()


KEEPING: Final = {Kind.LATER, Kind.LOCKED, Kind.REPEATABLE, Kind.EXHAUSTED}
BUSY: Final = "The database is busy with other writes; try again."
MESSAGES: Final = {
    Kind.LOST: "The connection to the database broke; try again.",
    Kind.AWAY: "The database cannot be reached; try again.",
    Kind.READONLY: "The database takes no writes now; try again.",
    Kind.BROKEN: "The database cannot answer now; try again.",
    Kind.LATER: "The database cannot answer now; try again.",
    Kind.LOCKED: BUSY,
    Kind.REPEATABLE: BUSY,
    Kind.EXHAUSTED: "Every database connection is in use; try again.",
}
# By SQLSTATE, its class, or the name of SQLite: the longest prefix decides.
BY_STATE: Final[dict[str, Kind]] = {
    "08": Kind.LOST,
    "25": Kind.BROKEN,
    "25006": Kind.READONLY,
    # The server ends the connection: idle in a transaction, transaction timeout.
    "25P03": Kind.LOST,
    "25P04": Kind.LOST,
    # A prepared statement that is unknown, or known already: a pooler changed the server.
    "26": Kind.BROKEN,
    "42P05": Kind.BROKEN,
    # Credentials; no such database.
    "28": Kind.LATER,
    "3D": Kind.LATER,
    # Serialization failure, deadlock.
    "40": Kind.REPEATABLE,
    # Statement completion unknown.
    "40003": Kind.LOST,
    "53": Kind.LATER,
    LOCK_NOT_AVAILABLE: Kind.LOCKED,
    "57014": Kind.LATER,
    "57P": Kind.LOST,
    # The server is starting up, or in recovery.
    "57P03": Kind.AWAY,
    "58": Kind.BROKEN,
    "72": Kind.LATER,
    "XX": Kind.BROKEN,
    "SQLITE_AUTH": Kind.BROKEN,
    "SQLITE_BUSY": Kind.REPEATABLE,
    "SQLITE_CANTOPEN": Kind.BROKEN,
    "SQLITE_CORRUPT": Kind.BROKEN,
    "SQLITE_FULL": Kind.LATER,
    "SQLITE_INTERRUPT": Kind.LATER,
    "SQLITE_IOERR": Kind.BROKEN,
    "SQLITE_LOCKED": Kind.REPEATABLE,
    "SQLITE_NOLFS": Kind.BROKEN,
    "SQLITE_NOMEM": Kind.BROKEN,
    "SQLITE_NOTADB": Kind.BROKEN,
    "SQLITE_PERM": Kind.BROKEN,
    "SQLITE_PROTOCOL": Kind.REPEATABLE,
    "SQLITE_READONLY": Kind.BROKEN,
    "SQLITE_SCHEMA": Kind.REPEATABLE,
}
# By type, for errors without a state: the first that fits decides.
BY_TYPE: Final[tuple[tuple[type[BaseException], Kind | None], ...]] = (
    # Values that cannot be sent.
    (asyncpg.DataError, None),
    (asyncpg.UnsupportedClientFeatureError, None),
    (asyncpg.InvalidCachedStatementError, Kind.BROKEN),
    # No server of the address has the wanted role.
    (asyncpg.TargetServerAttributeNotMatched, Kind.AWAY),
    (asyncpg.InterfaceError, Kind.LOST),
    (asyncpg.InternalClientError, Kind.LOST),
    (PoolTimeout, Kind.EXHAUSTED),
    (PendingRollbackError, Kind.BROKEN),
    (ResourceClosedError, Kind.LOST),
    (EOFError, Kind.LOST),
    (ConnectionResetError, Kind.LOST),
    (BrokenPipeError, Kind.LOST),
    # Unreachable hosts and timeouts, also of TLS.
    (OSError, Kind.AWAY),
    (MemoryError, Kind.BROKEN),
)
# By text, for errors of closed connections that have a general type: aiosqlite, sqlite3, uvloop.
CLOSED: Final = (
    "no active connection",
    "connection closed",
    "cannot operate on a closed database",
    "the handler is closed",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A known fault: its kind, its state or type, and the first line of its message."""

    kind: Kind
    state: str
    text: str

    @property
    def drops_connection(self) -> bool:
        """Whether the connection must not be used again."""
        return self.kind not in KEEPING

    @property
    def drops_all_connections(self) -> bool:
        """Whether other open connections are likely to be useless too."""
        return self.kind in (Kind.LOST, Kind.READONLY)

    @property
    def is_ambiguous(self) -> bool:
        """Whether a commit that met the fault may have happened."""
        return self.kind not in KEEPING and self.kind is not Kind.READONLY

    def __str__(self) -> str:
        """Render the state and the message in one line."""
        return f"{self.state} {self.text}".strip()


class DatabaseFault(Unavailable):
    """A known fault of the database."""

    def __init__(self, fault: Fault, *, where: str = "") -> None:
        super().__init__(MESSAGES[fault.kind])
        self.fault = fault
        self.cause = f"{where}: {fault}" if where else str(fault)


class ConnectionLost(DatabaseFault):
    """A connection broke while it was in use."""


class LockTimeout(DatabaseFault):
    """Another transaction held a lock for too long."""


def fault_of(error: BaseException) -> Fault | None:
    """Classify an error of a driver or of SQLAlchemy; None if it is not a known fault."""
    if isinstance(error, DatabaseFault):
        return error.fault
    original = error.driver_exception if isinstance(error, DBAPIError) else error
    state = state_of(original)
    kind = _kind_of(original, state)
    if kind is None and isinstance(error, DBAPIError) and error.connection_invalidated:
        kind = Kind.LOST
    if kind is None:
        return None
    return Fault(kind, state or type(original).__name__, _first_line(original))


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of PostgreSQL or the error name of SQLite; empty when there is none."""
    original = error.driver_exception if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorname", None) or ""
    return getattr(original, "sqlstate", None) or ""


def spoils_connection(error: BaseException) -> bool:
    """Whether the state of the connection is unknown or bad after an error.

    A statement that was cancelled, or broke off in a way that is not known, is one of them.
    """
    if fault := fault_of(error):
        return fault.drops_connection
    answers = (DBAPIError, asyncpg.PostgresError, asyncpg.DataError, sqlite3.Error, InventoryError)
    return not isinstance(error, answers)


def unavailable(fault: Fault, *, where: str = "") -> DatabaseFault:
    """Build the refusal of a fault."""
    if fault.kind is Kind.LOST:
        return ConnectionLost(fault, where=where)
    if fault.kind is Kind.LOCKED:
        return LockTimeout(fault, where=where)
    return DatabaseFault(fault, where=where)


def _kind_of(error: BaseException, state: str) -> Kind | None:
    for length in range(len(state), 1, -1):
        if kind := BY_STATE.get(state[:length]):
            return kind
    for type_, kind in BY_TYPE:
        if isinstance(error, type_):
            return kind
    closed = isinstance(error, (ValueError, RuntimeError, sqlite3.Error))
    return Kind.LOST if closed and _first_line(error).lower().endswith(CLOSED) else None


def _first_line(error: BaseException) -> str:
    """Return the message without the detail, which may hold values of rows."""
    text = str(error.args[0]) if error.args else ""
    if isinstance(error, OSError):
        text = str(error)
    return text.partition("\n")[0].rstrip(".")
