"""Row-level security of PostgreSQL for a role that does not own the tables.

Revision: 0008, after 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"

WALLED = (
    "api_token",
    "sku",
    "warehouse",
    "stock_level",
    "adjustment",
    "reservation",
    "reservation_line",
    "sku_count",
    "idempotency_key",
)


def upgrade() -> None:
    """Upgrade."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in WALLED:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY {table}_of_the_tenant ON {table}"
            " USING (tenant_id = current_setting('inventory.tenant', true))"
        )


def downgrade() -> None:
    """Downgrade."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in WALLED:
        op.execute(f"DROP POLICY {table}_of_the_tenant ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
