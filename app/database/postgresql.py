"""Connections of PostgreSQL's driver, asyncpg."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import asyncpg

from app.database.faults import Fault, FaultKind
from app.database.pool import CONNECT_SECONDS
from app.settings import Settings

# Whether the server is a standby or rejects writes.
IS_READONLY: Final = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
READONLY: Final = Fault(FaultKind.READONLY, "25006", "the server is a standby, or read-only")


class PostgresqlConnection(asyncpg.Connection):
    """A connection that closes without waiting for the server, which may be frozen."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - as in the base class
        """Close the connection immediately."""
        self.terminate()

    async def stream(
        self, text: str, values: Sequence[Any], size: int
    ) -> AsyncIterator[Sequence[Any]]:
        """Yield the rows of a statement in batches, inside a transaction."""
        cursor = await self.cursor(text, *values)
        while rows := await cursor.fetch(size):
            yield rows


def connect_options(settings: Settings) -> dict[str, Any]:
    """Options of a connection to PostgreSQL."""
    server_settings = {
        "application_name": "inventory",
        # The time zone of instants in JSON.
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": "10000",
        "jit": "off",
        # The value for solid-state disks: the planner then uses indexes for bulks.
        "random_page_cost": "1.1",
        # Planning for each set of parameters takes longer than execution.
        "plan_cache_mode": "force_generic_plan",
        "lock_timeout": str(settings.database_lock_timeout_ms),
        "statement_timeout": str(settings.database_statement_timeout_ms),
    }
    return {
        "server_settings": server_settings,
        "timeout": CONNECT_SECONDS,
        "connection_class": PostgresqlConnection,
    }
