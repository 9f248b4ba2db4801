"""Row-level security of PostgreSQL."""

from typing import Final

from sqlalchemy import DDL, Table, event

from app.database.tables import METADATA

# A role that does not own the tables sees the rows of the tenant that its transaction entered. The
# tenants themselves are seen by all, because whoever keeps a service up has to list them.
WALLED: Final = tuple(name for name in METADATA.tables if name != "tenant")


def wall(table: str) -> list[str]:
    """Return what lets a role see and write the rows of the tenant that it entered, alone."""
    mine = "tenant_id = current_setting('inventory.tenant', true)"
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY {table}_of_the_tenant ON {table} USING ({mine})",
    ]


def wall_in_table(table: Table) -> None:
    for statement in wall(table.name):
        ddl = DDL(statement)  # type: ignore[no-untyped-call]
        event.listen(table, "after_create", ddl.execute_if(dialect="postgresql"))


for _name in WALLED:
    wall_in_table(METADATA.tables[_name])
