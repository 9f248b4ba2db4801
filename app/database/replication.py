"""The check that the address for late reads leads to a replica of the database."""

from typing import Any, Final

from sqlalchemy import text

from app.database.connections import DatabaseConnections
from app.errors import Unavailable

# The identifier is that of all copies of a server, and of no other server.
ORIGIN: Final = text(
    "SELECT system_identifier, current_database() AS name FROM pg_control_system()"
)


class UnrelatedReplica(Unavailable):
    """The address for late reads leads to another database."""


async def require_replica_of(
    primary: DatabaseConnections, replica: DatabaseConnections | None
) -> None:
    """Require that a replica, if any, is a copy of the database, or the database itself.

    Raises:
        UnrelatedReplica: it is another database.
        Unavailable: one of them is unreachable.

    """
    if replica is None:
        return
    are_servers = primary.dialect == replica.dialect == "postgresql"
    if are_servers and await _origin(primary) == await _origin(replica):
        return
    message = (
        f"INVENTORY_READ_DATABASE_URL leads to {replica.address}, which is not a replica of "
        f"{primary.address}: its answers would be of another database. Name a physical replica "
        "of the same database, or remove the setting."
    )
    raise UnrelatedReplica(message)


async def _origin(database: DatabaseConnections) -> Any:  # noqa: ANN401 - a row of the driver
    async with database.reading() as session:
        [row] = await session.execute(ORIGIN)
    return (row.system_identifier, row.name)
