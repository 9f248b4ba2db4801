"""The servers of a PostgreSQL address, of which one has the required role."""

from asyncio.staggered import staggered_race
from functools import partial
from typing import Any, Final

import asyncpg
from sqlalchemy import URL

from app.database.address import Host, dsn_of, hosts_of, without_hosts
from app.database.citus import CITUS_SETTINGS, HAS_CITUS, CitusConnection
from app.database.compilation import PostgresqlRow
from app.database.postgresql import (
    PostgresqlConnection,
    connect_options,
    server_settings,
)
from app.settings import Settings

# A standby if one answers, otherwise any server.
ROLES: Final = {"prefer-standby": ("standby", "any")}
# The time of a host before the next one is tried beside it.
HEAD_START_SECONDS: Final = 0.3


class NoServer(ConnectionError):
    """No host of the address has a server with the required role."""


class Servers:
    """Opens connections to the hosts of an address, each within its own time.

    The driver has one time for all hosts: a dead host that is listed first would use it up.
    """

    def __init__(self, url: URL, settings: Settings) -> None:
        self._hosts, role, seconds = hosts_of(url)
        self._roles = ROLES.get(role, (role,))
        self._dsn = dsn_of(without_hosts(url))
        self._settings = settings
        # Whether the database has the extension Citus; None before the first connection.
        self._has_citus: bool | None = None
        self._options: dict[str, Any] = {"record_class": PostgresqlRow, "timeout": seconds}

    @property
    def session_settings(self) -> dict[str, str]:
        """The settings of each session."""
        return {**server_settings(self._settings), **(CITUS_SETTINGS if self._has_citus else {})}

    async def connect(self, **options: Any) -> PostgresqlConnection:  # noqa: ANN401
        """Open a connection to a host that has the required role.

        The first connection looks for Citus, whose sessions have other settings.

        Raises:
            NoServer: none of several hosts has the role.

        """
        is_first = self._has_citus is None
        connection = await self._connect(options)
        if self._has_citus is None:
            try:
                self._has_citus = await connection.fetchval(HAS_CITUS)
            except BaseException:
                connection.terminate()
                raise
        # Several first connections may be opened at once.
        if self._has_citus and is_first:
            connection.terminate()
            return await self._connect(options)
        return connection

    async def _connect(self, options: dict[str, Any]) -> PostgresqlConnection:
        """Open a connection to one of the hosts.

        A host that has not answered within HEAD_START_SECONDS, or has failed, does not keep the
        next one from being tried. The first success counts.
        """
        if len(self._hosts) == 1:
            # A single host answers for itself: its errors say more.
            role = "any" if "any" in self._roles else self._roles[0]
            return await self._connect_to(self._hosts[0], role, options)
        for role in self._roles:
            attempts = [partial(self._connect_to, host, role, options) for host in self._hosts]
            winner, _, errors = await staggered_race(attempts, HEAD_START_SECONDS)
            if isinstance(winner, PostgresqlConnection):
                return winner
        reasons = zip(self._hosts, errors, strict=True)
        failures = [f"{host}: {_reason(error, role)}" for host, error in reasons]
        message = f"no server for {self._roles[-1]} among the hosts: {', '.join(failures)}"
        raise NoServer(message)

    async def _connect_to(
        self, host: Host, role: str, options: dict[str, Any]
    ) -> PostgresqlConnection:
        connection: PostgresqlConnection = await asyncpg.connect(
            self._dsn,
            host=host.name,
            port=host.port,
            target_session_attrs=role,
            **{
                **connect_options(self._settings),
                "server_settings": self.session_settings,
                "connection_class": CitusConnection if self._has_citus else PostgresqlConnection,
                **self._options,
                **options,
            },
        )
        return connection


def _reason(error: BaseException | None, role: str) -> str:
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return f"is not {role}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).partition("\n")[0] or type(error).__name__
