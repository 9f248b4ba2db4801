"""Row-level security of PostgreSQL."""

from sqlalchemy import DDL, Table, event


def row_level_security_ddl(table: str) -> list[str]:
    """Statements that restrict a role to the rows of the tenant of its transaction."""
    condition = "tenant_id = current_setting('inventory.tenant', true)"
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY {table}_of_the_tenant ON {table} USING ({condition})",
    ]


def add_row_level_security(table: Table) -> None:
    """Add row-level security to the creation of a table."""
    for statement in row_level_security_ddl(table.name):
        ddl = DDL(statement)  # type: ignore[no-untyped-call]
        event.listen(table, "after_create", ddl.execute_if(dialect="postgresql"))
