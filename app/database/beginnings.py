"""The statements that begin a transaction, sent in one round trip."""

from typing import Final

# Stands between the statements of a beginning, and in none of them.
SEPARATOR: Final = "; "
# PostgreSQL ends the transaction of a process that stalls while it holds the lock of a tenant.
MAX_STALL_MS: Final = 3_000


class Beginnings:
    """The statements that begin the transactions of a database.

    With row-level security, a transaction gets access to the rows of one tenant.
    """

    def __init__(self, dialect: str, *, enters: bool) -> None:
        self._is_sqlite = dialect == "sqlite"
        self._enters = enters

    def read(self, tenant_id: str | None) -> str:
        """Return the statements that begin to read one state of the database."""
        if self._is_sqlite:
            return "BEGIN"
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" + self._entering(tenant_id)

    def write(self, tenant_id: str | None, lock_ms: int | None = None) -> str:
        """Return the statements that begin to write; SQLite excludes all other writers.

        The time to wait for locks is by default that of the connection.
        """
        if self._is_sqlite:
            wait = "" if lock_ms is None else f"PRAGMA busy_timeout = {lock_ms}; "
            return f"{wait}BEGIN IMMEDIATE"
        wait = "" if lock_ms is None else f"; SET LOCAL lock_timeout = {lock_ms}"
        return f"BEGIN ISOLATION LEVEL READ COMMITTED{self._entering(tenant_id)}{wait}"

    def lane(self, tenant_id: str, lock_ms: int | None = None) -> str:
        """Return the statements that begin to write rows of a tenant, and lock it."""
        beginning = self.write(tenant_id, lock_ms)
        if self._is_sqlite:
            return beginning
        stall = f"SET LOCAL idle_in_transaction_session_timeout = {MAX_STALL_MS}"
        lock = f"SELECT 1 FROM tenant WHERE tenant_id = {_literal(tenant_id)} FOR NO KEY UPDATE"  # noqa: S608
        return f"{beginning}; {stall}; {lock}"

    def _entering(self, tenant_id: str | None) -> str:
        if not self._enters:
            return ""
        return f"; SET LOCAL inventory.tenant = {_literal(tenant_id or '')}"


def _literal(text: str) -> str:
    """Return a text as SQL of PostgreSQL, in quotes. As a key, a text with NUL is the empty one."""
    if "\x00" in text:
        return "''"
    # The prefix gives a backslash the same meaning whatever the server has set.
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace(";", "\\x3B")
    return f"E'{escaped}'"
