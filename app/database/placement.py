"""The placement of rows: plain tables, partitions of PostgreSQL, or distributed tables of Citus.

The rows of a tenant stay together, because every table is divided by the hash of the tenant id. A
table that a migration creates gets the placement of the database.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Table, event, text

from app.database.citus import HAS_CITUS
from app.database.session import DriverSession
from app.errors import invalid_field

TENANT_COLUMN: Final = "tenant_id"
# More make a migration take more locks than PostgreSQL has room for by default.
MAX_PARTITIONS: Final = 64
PARTITIONS: Final = "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass('tenant')"
DISTRIBUTED: Final = (
    "SELECT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass('tenant'))"
)
# The key of the placement among the facts of a connection.
_PLACEMENT: Final = "inventory_placement"


@dataclass(frozen=True)
class Placement:
    """Where the rows of a database are stored; by default each table is in one piece."""

    # The number of hash partitions of each table.
    partitions: int = 0
    # Whether Citus distributes the tables over its nodes.
    is_distributed: bool = False

    def __str__(self) -> str:
        """Return a phrase about the tables."""
        if self.is_distributed:
            return "distributed by tenant"
        if self.partitions:
            return f"partitioned by tenant, {self.partitions} partitions each"
        return "not divided"

    def partitions_of(self, table: str) -> list[str]:
        """Return the names of the partitions of a table."""
        return [f"{table}_p{number}" for number in range(self.partitions)]

    def statements(self, table: Table) -> list[str]:
        """Return the statements that place a new table."""
        if self.is_distributed:
            if TENANT_COLUMN not in table.c:
                return [f"SELECT create_reference_table('{table.name}')"]
            beside = "none" if table.name == "tenant" else "tenant"
            options = f"'{TENANT_COLUMN}', colocate_with => '{beside}'"
            return [f"SELECT create_distributed_table('{table.name}', {options})"]
        statements: list[str] = []
        for number, partition in enumerate(self.partitions_of(table.name)):
            values = f"MODULUS {self.partitions}, REMAINDER {number}"
            statements += [
                f"CREATE TABLE {partition} PARTITION OF {table.name} FOR VALUES WITH ({values})",
                # Without a policy, only the owner can read the partition itself.
                f"ALTER TABLE {partition} ENABLE ROW LEVEL SECURITY",
            ]
        return statements


def placement_of(connection: Connection) -> Placement:
    """Return the placement of the tables that a connection creates."""
    placement: Placement = connection.info.get(_PLACEMENT, Placement())
    return placement


def set_placement(connection: Connection, placement: Placement) -> None:
    """Set the placement of the tables that a connection creates."""
    connection.info[_PLACEMENT] = placement


async def read_placement(session: DriverSession) -> Placement:
    """Read the placement of the tables of a database."""
    if session.dialect != "postgresql":
        return Placement()
    if await session.scalar(text(HAS_CITUS)) and await session.scalar(text(DISTRIBUTED)):
        return Placement(is_distributed=True)
    return Placement(partitions=await session.scalar(text(PARTITIONS)))


async def require_possible(session: DriverSession, wanted: Placement) -> None:
    """Require that an empty database can get a placement.

    Raises:
        ValidationFailed: it cannot; the message says why.

    """
    name = "distribute" if wanted.is_distributed else "partitions"
    if wanted != Placement() and session.dialect != "postgresql":
        raise invalid_field(name, "is for PostgreSQL: SQLite has one file")
    if wanted.partitions > MAX_PARTITIONS:
        raise invalid_field(name, f"must be at most {MAX_PARTITIONS}")
    if wanted.is_distributed and not await session.scalar(text(HAS_CITUS)):
        message = "needs the extension Citus in this database: run CREATE EXTENSION citus"
        raise invalid_field(name, message)


def _partition(table: Table, connection: Connection, **_options: Any) -> None:  # noqa: ANN401
    """Make a table partitioned before its creation."""
    if placement_of(connection).partitions and TENANT_COLUMN in table.c:
        table.dialect_options["postgresql"]["partition_by"] = f"HASH ({TENANT_COLUMN})"


def _place(table: Table, connection: Connection, **_options: Any) -> None:  # noqa: ANN401
    """Place a table after its creation."""
    placement = placement_of(connection)
    if placement.is_distributed or TENANT_COLUMN in table.c:
        for statement in placement.statements(table):
            connection.execute(text(statement))


event.listen(Table, "before_create", _partition)
event.listen(Table, "after_create", _place)
