"""Classification of database errors, and their translation into refusals."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import InventoryError, Unavailable

log = structlog.get_logger()
LOCK_NOT_AVAILABLE: Final = "55P03"
# The class of serialization failures and deadlocks.
TRANSACTION_ROLLBACK: Final = "40"
# How often a read is executed that cannot run beside a write, under a strict isolation level.
READ_ATTEMPTS: Final = 5


class FaultKind(Enum):
    """The kind of a fault."""

    # The connection broke. Only a commit in progress may have taken effect.
    LOST = auto()
    # The server did not answer in time. It may be frozen, and then so are the other connections.
    SILENT = auto()
    AWAY = auto()
    READONLY = auto()
    BROKEN = auto()
    # The connection stays usable after the following faults, and nothing was written.
    LATER = auto()
    LOCKED = auto()
    REPEATABLE = auto()
    EXHAUSTED = auto()


KEEPING: Final = {FaultKind.LATER, FaultKind.LOCKED, FaultKind.REPEATABLE, FaultKind.EXHAUSTED}
BUSY: Final = "The database is busy with other writes; try again."
MESSAGES: Final = {
    FaultKind.LOST: "The connection to the database broke; try again.",
    FaultKind.SILENT: "The database did not answer in time; try again.",
    FaultKind.AWAY: "The database cannot be reached; try again.",
    FaultKind.READONLY: "The database takes no writes now; try again.",
    FaultKind.BROKEN: "The database cannot answer now; try again.",
    FaultKind.LATER: "The database cannot answer now; try again.",
    FaultKind.LOCKED: BUSY,
    FaultKind.REPEATABLE: BUSY,
    FaultKind.EXHAUSTED: "Every database connection is in use; try again.",
}
# By SQLSTATE, SQLSTATE class, or SQLite error name. The longest matching prefix decides.
BY_STATE: Final[dict[str, FaultKind]] = {
    "08": FaultKind.LOST,
    "25": FaultKind.BROKEN,
    "25006": FaultKind.READONLY,
    # The server ends the connection: idle in a transaction, transaction timeout.
    "25P03": FaultKind.LOST,
    "25P04": FaultKind.LOST,
    # An unknown or duplicate prepared statement: a pooler changed the server.
    "26": FaultKind.BROKEN,
    "42P05": FaultKind.BROKEN,
    # Invalid credentials; unknown database.
    "28": FaultKind.LATER,
    "3D": FaultKind.LATER,
    # Serialization failure, deadlock.
    TRANSACTION_ROLLBACK: FaultKind.REPEATABLE,
    # Statement completion unknown.
    "40003": FaultKind.LOST,
    "53": FaultKind.LATER,
    LOCK_NOT_AVAILABLE: FaultKind.LOCKED,
    "57014": FaultKind.LATER,
    "57P": FaultKind.LOST,
    # The server is starting up, or in recovery.
    "57P03": FaultKind.AWAY,
    "58": FaultKind.BROKEN,
    "72": FaultKind.LATER,
    "XX": FaultKind.BROKEN,
    "SQLITE_AUTH": FaultKind.BROKEN,
    "SQLITE_BUSY": FaultKind.REPEATABLE,
    "SQLITE_CANTOPEN": FaultKind.BROKEN,
    "SQLITE_CORRUPT": FaultKind.BROKEN,
    "SQLITE_FULL": FaultKind.LATER,
    "SQLITE_INTERRUPT": FaultKind.LATER,
    "SQLITE_IOERR": FaultKind.BROKEN,
    "SQLITE_LOCKED": FaultKind.REPEATABLE,
    "SQLITE_NOLFS": FaultKind.BROKEN,
    "SQLITE_NOMEM": FaultKind.BROKEN,
    "SQLITE_NOTADB": FaultKind.BROKEN,
    "SQLITE_PERM": FaultKind.BROKEN,
    "SQLITE_PROTOCOL": FaultKind.REPEATABLE,
    "SQLITE_READONLY": FaultKind.BROKEN,
    "SQLITE_SCHEMA": FaultKind.REPEATABLE,
}
# By type, for errors without a state. The first matching type decides.
BY_TYPE: Final[tuple[tuple[type[BaseException], FaultKind | None], ...]] = (
    # Values that the driver cannot encode.
    (asyncpg.DataError, None),
    (asyncpg.UnsupportedClientFeatureError, None),
    (asyncpg.InvalidCachedStatementError, FaultKind.BROKEN),
    # No server of the address has the required role.
    (asyncpg.TargetServerAttributeNotMatched, FaultKind.AWAY),
    (asyncpg.InterfaceError, FaultKind.LOST),
    (asyncpg.InternalClientError, FaultKind.LOST),
    (PoolTimeout, FaultKind.EXHAUSTED),
    (PendingRollbackError, FaultKind.BROKEN),
    (ResourceClosedError, FaultKind.LOST),
    (EOFError, FaultKind.LOST),
    (ConnectionResetError, FaultKind.LOST),
    (BrokenPipeError, FaultKind.LOST),
    (TimeoutError, FaultKind.SILENT),
    # Unreachable hosts and faults of TLS.
    (OSError, FaultKind.AWAY),
    (MemoryError, FaultKind.BROKEN),
)
# By the end of the message, for errors of closed connections with a generic type (aiosqlite,
# sqlite3, uvloop).
CLOSED: Final = (
    "no active connection",
    "connection closed",
    "cannot operate on a closed database",
    "the handler is closed",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A classified error: its kind, its state or type, and the first line of its message."""

    kind: FaultKind
    state: str
    text: str

    @property
    def drops_connection(self) -> bool:
        """Whether the connection must not be used again."""
        return self.kind not in KEEPING

    @property
    def drops_all_connections(self) -> bool:
        """Whether other open connections are probably unusable too."""
        return self.kind in (FaultKind.LOST, FaultKind.SILENT, FaultKind.READONLY)

    @property
    def is_ambiguous(self) -> bool:
        """Whether a commit with this fault may have taken effect."""
        return self.kind not in KEEPING and self.kind is not FaultKind.READONLY

    def __str__(self) -> str:
        """Render the state and the message in one line."""
        return f"{self.state} {self.text}".strip()


class RolledBack(Exception):
    """The database ended a transaction without a commit."""


class DatabaseFault(Unavailable):
    """A fault of the database."""

    def __init__(self, fault: Fault, *, address: str = "") -> None:
        super().__init__(MESSAGES[fault.kind])
        self.fault = fault
        self.cause = f"{address}: {fault}" if address else str(fault)


class ConnectionLost(DatabaseFault):
    """The connection broke during use."""


class LockTimeout(DatabaseFault):
    """Another transaction held a lock beyond the lock timeout."""


def fault_of(error: BaseException) -> Fault | None:
    """Classify an error of a driver or SQLAlchemy; None if it is not a database fault."""
    if isinstance(error, DatabaseFault):
        return error.fault
    original = error.driver_exception if isinstance(error, DBAPIError) else error
    state = state_of(original)
    kind = _kind_of(original, state)
    if kind is None and isinstance(error, DBAPIError) and error.connection_invalidated:
        kind = FaultKind.LOST
    if kind is None:
        return None
    return Fault(kind, state or type(original).__name__, _first_line(original))


def state_of(error: BaseException) -> str:
    """Return PostgreSQL's SQLSTATE or SQLite's error name; empty if the error has neither."""
    original = error.driver_exception if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorname", None) or ""
    return getattr(original, "sqlstate", None) or ""


def refused_row(error: BaseException) -> str | None:
    """Describe why the database refuses the values of a row; None for other errors."""
    is_refusal = state_of(error).startswith(("22", "23", "54", "SQLITE_CONSTRAINT"))
    return _first_line(error) if is_refusal else None


def spoils_connection(error: BaseException) -> bool:
    """Whether the connection is unusable after an error.

    Cancellations and unknown errors leave the connection in an unknown state.
    """
    if fault := fault_of(error):
        return fault.drops_connection
    answers = (DBAPIError, asyncpg.PostgresError, asyncpg.DataError, sqlite3.Error, InventoryError)
    return not isinstance(error, answers)


def is_serialization_failure(error: BaseException | None) -> bool:
    """Whether PostgreSQL ended a transaction that can be repeated as a whole.

    A read of SQLite that was busy has waited for the lock timeout already.
    """
    if not isinstance(error, DatabaseFault) or error.fault.kind is not FaultKind.REPEATABLE:
        return False
    return error.fault.state.startswith(TRANSACTION_ROLLBACK)


def pause_seconds(attempt: int) -> float:
    """Return the random pause after a failed attempt."""
    return random.uniform(0, 0.01 * 2**attempt)  # noqa: S311 - jitter


def unavailable(fault: Fault, *, address: str = "") -> DatabaseFault:
    """Create the refusal of a fault."""
    if fault.kind is FaultKind.LOST:
        return ConnectionLost(fault, address=address)
    if fault.kind is FaultKind.LOCKED:
        return LockTimeout(fault, address=address)
    return DatabaseFault(fault, address=address)


class FaultTranslation(AbstractContextManager[None]):
    """Converts database faults in a block into `Unavailable`, and logs them.

    Raises:
        DatabaseFault: on leaving the block, if it failed with a fault.

    """

    def __init__(self, address: str, drop_connections: Callable[[], None]) -> None:
        self._address = address
        self._drop_connections = drop_connections

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Convert an error that is a fault."""
        if error is None or isinstance(error, InventoryError):
            return
        fault = fault_of(error)
        if fault is None:
            return
        log.warning("database_fault", where=self._address, state=fault.state, cause=fault.text)
        if fault.drops_all_connections:
            self._drop_connections()
        raise unavailable(fault, address=self._address) from error


def _kind_of(error: BaseException, state: str) -> FaultKind | None:
    for length in range(len(state), 1, -1):
        if kind := BY_STATE.get(state[:length]):
            return kind
    for type_, kind in BY_TYPE:
        if isinstance(error, type_):
            return kind
    may_be_closed = isinstance(error, (ValueError, RuntimeError, sqlite3.Error))
    return FaultKind.LOST if may_be_closed and _first_line(error).lower().endswith(CLOSED) else None


def _first_line(error: BaseException) -> str:
    """First line of a message; later lines may contain values of rows."""
    text = str(error.args[0]) if error.args else ""
    if isinstance(error, OSError):
        text = str(error)
    return text.partition("\n")[0].rstrip(".")
