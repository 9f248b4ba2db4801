"""Connections of PostgreSQL's driver, asyncpg."""

import itertools
import secrets
import socket
from asyncio import Transport
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

from app.database.address import CONNECT_SECONDS
from app.database.faults import Fault, FaultKind
from app.settings import Settings

# Whether the server is a standby or rejects writes.
IS_READONLY: Final = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
READONLY: Final = Fault(FaultKind.READONLY, "25006", "the server is a standby, or read-only")
# A statement without an answer so long after its limit meets a frozen server or a busy pooler.
ANSWER_SECONDS: Final = 1
# A connection to a server that vanished ends after about half a minute.
TCP_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 15),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 30_000),
)
# Names of prepared statements are unique beyond the process: a pooler that confuses the statements
# of its clients then finds none, and not the statement of another client.
_PREFIX: Final = f"inventory_{secrets.token_hex(6)}"
_numbers: Final = itertools.count(1)


class PostgresqlConnection(asyncpg.Connection):
    """A connection that closes without waiting for the server, which may be frozen."""

    _config: Any

    def __init__(self, protocol: Any, transport: Transport, *arguments: Any) -> None:  # noqa: ANN401 - as in the base class
        super().__init__(protocol, transport, *arguments)
        self._answer_seconds = self._config.command_timeout
        _keep_alive(transport.get_extra_info("socket"))

    def limit_answers(self, *, limited: bool) -> None:
        """Set whether the client waits only some time for the answer to a statement."""
        seconds = self._answer_seconds if limited else None
        self._config = self._config._replace(command_timeout=seconds)

    def _get_unique_id(self, prefix: str) -> str:
        return f"{_PREFIX}_{prefix}_{next(_numbers)}"

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


def server_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of a session, as PostgreSQL writes their values."""
    return {
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


def connect_options(settings: Settings) -> dict[str, Any]:
    """Options of a connection to PostgreSQL."""
    return {
        "server_settings": server_settings(settings),
        "timeout": CONNECT_SECONDS,
        "command_timeout": settings.database_statement_timeout_ms / 1000 + ANSWER_SECONDS,
        "connection_class": PostgresqlConnection,
    }


def _keep_alive(connected: socket.socket) -> None:
    """Let the operating system notice that the server has vanished."""
    if connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in TCP_OPTIONS:
        # Not every platform has every option.
        with suppress(AttributeError, OSError):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
