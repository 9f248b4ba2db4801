"""Checks of a pooler between the service and PostgreSQL, such as PgBouncer.

In transaction mode, a pooler gives one connection of the server to many clients in turn.
"""

import secrets
from collections.abc import Mapping
from typing import Final

import asyncpg
import structlog

from app.database.connections import DatabaseConnections
from app.database.postgresql import PostgresqlConnection
from app.database.servers import Servers
from app.errors import Unavailable

log = structlog.get_logger()
# What the service relies on. The other settings only make it faster.
RELIED_ON: Final = {
    "citus.propagate_set_commands",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "timezone",
}
PASSED_ON: Final = {"application_name", "timezone"}
# A busy pooler may give the second client another connection of the server.
ROUNDS: Final = 10
IN_FORCE: Final = "SELECT lower(name), setting FROM pg_settings WHERE lower(name) = ANY($1::text[])"
SEEN: Final = "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = $1)"
UNTRACKED: Final = "unsupported startup parameter"
MIXED_STATEMENTS: Final = (
    "The pooler gives a prepared statement of one client to another. Use PgBouncer 1.21 or newer "
    "with max_prepared_statements above 0, or its session mode, or connect to PostgreSQL directly."
)


class UnfitPooler(Unavailable):
    """A pooler does not keep what the service relies on."""


async def require_fit_pooler(database: DatabaseConnections) -> None:
    """Require that the settings of the service hold, and that its statements stay its own.

    Raises:
        UnfitPooler: they do not; the message says what to change.
        Unavailable: the database is unreachable.

    """
    if database.dialect != "postgresql":
        return
    servers = Servers(database.url, database.settings)
    with database.fault_translation:
        try:
            first = await servers.connect()
        except asyncpg.ProtocolViolationError as error:
            if UNTRACKED not in str(error):
                raise
            raise _refused_parameter(error, servers.session_settings) from error
        try:
            await _require_settings(first, servers.session_settings)
            second = await servers.connect()
            try:
                await _require_own_statements(first, second)
            finally:
                await second.close()
        finally:
            await first.close()


def _refused_parameter(error: Exception, wanted: Mapping[str, str]) -> UnfitPooler:
    # PgBouncer passes on the other two.
    ignored = {name: wanted[name] for name in sorted(wanted.keys() - PASSED_ON)}
    message = (
        f"The pooler refuses a setting of the service ({error}). In PgBouncer, set "
        f"ignore_startup_parameters = {', '.join(ignored)}. {_advice(ignored)}"
    )
    return UnfitPooler(message)


async def _require_settings(connection: PostgresqlConnection, wanted: Mapping[str, str]) -> None:
    rows = await connection.fetch(IN_FORCE, list(wanted))
    in_force = dict(rows)
    different = {
        name: value
        for name, value in wanted.items()
        if name != "application_name" and in_force.get(name) != value
    }
    if not different:
        return
    found = ", ".join(
        f"{name} is {in_force.get(name, 'unknown')} instead of {value}"
        for name, value in different.items()
    )
    if RELIED_ON & different.keys():
        message = (
            f"Settings of the service do not reach the database: {found}. {_advice(different)}"
        )
        raise UnfitPooler(message)
    log.warning("database_settings_ignored", found=found, advice=_advice(different))


def _advice(settings: Mapping[str, str]) -> str:
    values = " ".join(f"ALTER ROLE .. SET {name} = '{value}';" for name, value in settings.items())
    return f"Set them on the role of the service: {values}"


async def _require_own_statements(
    first: PostgresqlConnection, second: PostgresqlConnection
) -> None:
    for _ in range(ROUNDS):
        name = f"inventory_probe_{secrets.token_hex(6)}"
        try:
            statement = await first.prepare("SELECT 1", name=name)
            await statement.fetchval()
            is_seen = await second.fetchval(SEEN, name)
            await statement.fetchval()
        except asyncpg.InvalidSQLStatementNameError as error:
            raise UnfitPooler(MIXED_STATEMENTS) from error
        if is_seen:
            raise UnfitPooler(MIXED_STATEMENTS)
