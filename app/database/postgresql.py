"""Connections of PostgreSQL's driver, asyncpg."""

import itertools
import re
import secrets
import socket
from asyncio import Transport
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

from app.database.address import CONNECT_SECONDS
from app.database.beginnings import SEPARATOR
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
HAS_CITUS: Final = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"
RETURNS_OR_UPSERTS: Final = re.compile(r"\b(RETURNING|ON CONFLICT)\b")
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


class CitusConnection(PostgresqlConnection):
    """A connection to Citus, which sends the whole message of a SET LOCAL to its workers.

    Citus copies the rows of an INSERT .. SELECT to the worker by COPY, and PostgreSQL has no COPY
    under row-level security. With RETURNING or ON CONFLICT, Citus does not use COPY on the table.
    """

    async def execute(self, query: str, *arguments: Any, **options: Any) -> str:  # noqa: ANN401 - as in the base class
        """Execute each of several statements by a message of its own."""
        status = ""
        for statement in query.split(SEPARATOR):
            status = await super().execute(statement, *arguments, **options)
        return status

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ANN401 - as in the base class
        """Fetch the rows of a statement; an INSERT returns rows, too."""
        if query.startswith("INSERT") and not RETURNS_OR_UPSERTS.search(query):
            query += " RETURNING tenant_id"
        rows: list[Any] = await super().fetch(query, *arguments, **options)
        return rows


def server_settings(settings: Settings, *, has_citus: bool = False) -> dict[str, str]:
    """Return the settings of a session, as PostgreSQL writes their values."""
    plans = {"plan_cache_mode": "force_generic_plan"}
    if has_citus:
        # Citus cannot plan without the tenant of a statement, and its workers need the time limits
        # and the tenant of a transaction.
        plans = {"plan_cache_mode": "force_custom_plan", "citus.propagate_set_commands": "local"}
    return {
        "application_name": "inventory",
        # The time zone of instants in JSON.
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": "10000",
        "jit": "off",
        # The value for solid-state disks: the planner then uses indexes for bulks.
        "random_page_cost": "1.1",
        # Planning for each set of parameters takes longer than execution.
        **plans,
        "lock_timeout": str(settings.database_lock_timeout_ms),
        "statement_timeout": str(settings.database_statement_timeout_ms),
    }


def connect_options(settings: Settings, *, has_citus: bool = False) -> dict[str, Any]:
    """Options of a connection to PostgreSQL."""
    return {
        "server_settings": server_settings(settings, has_citus=has_citus),
        "timeout": CONNECT_SECONDS,
        "command_timeout": settings.database_statement_timeout_ms / 1000 + ANSWER_SECONDS,
        "connection_class": CitusConnection if has_citus else PostgresqlConnection,
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
