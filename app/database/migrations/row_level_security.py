"""Row-level security for tables that a migration creates."""

from alembic import op

# Roles with the rights to serve get the same rights on the new table.
GRANT = """
DO $$DECLARE role name;
BEGIN
  FOR role IN
    SELECT pg_roles.rolname FROM pg_class
    CROSS JOIN LATERAL aclexplode(pg_class.relacl) AS granted
    JOIN pg_roles ON pg_roles.oid = granted.grantee
    WHERE pg_class.oid = 'sku_count'::regclass AND granted.privilege_type = 'UPDATE'
      AND granted.grantee <> pg_class.relowner
  LOOP
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO %I', role);
  END LOOP;
END$$
"""


def enable_row_level_security(table: str) -> None:
    """Restrict a table to the rows of the current tenant, and grant it to the serving roles."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY {table}_of_the_tenant ON {table}"
        " USING (tenant_id = current_setting('inventory.tenant', true))"
    )
    op.execute(GRANT.replace("{table}", table))
