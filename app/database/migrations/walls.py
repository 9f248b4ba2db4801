"""What a table of tenants' rows needs on PostgreSQL, wherever a migration makes one."""

from alembic import op

# A role that may serve already may do so with the new table, too.
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


def wall_in(table: str) -> None:
    """Let a role see the rows of the tenant that it entered, alone, and whoever serves, serve."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY {table}_of_the_tenant ON {table}"
        " USING (tenant_id = current_setting('inventory.tenant', true))"
    )
    op.execute(GRANT.replace("{table}", table))
