"""How many reservations there are, by status and by what they hold, kept.

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
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
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON reservation_count TO %I', role);
  END LOOP;
END$$
"""
HOLDS = """
UPDATE stock_level SET holds = (
  SELECT COUNT(*) FROM reservation_line
  WHERE reservation_line.tenant_id = stock_level.tenant_id
    AND reservation_line.sku = stock_level.sku
    AND reservation_line.warehouse_id = stock_level.warehouse_id AND reservation_line.held > 0
)
WHERE reserved > 0
"""
COUNTS = """
INSERT INTO reservation_count (tenant_id, status, part, reservations)
SELECT tenant_id, status, 0, COUNT(*) FROM reservation GROUP BY tenant_id, status
"""


def upgrade() -> None:
    """Go forward."""
    holds = sa.Column("holds", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("stock_level", holds)
    op.create_table(
        "reservation_count",
        *(sa.Column(name, KEY, nullable=False) for name in ("tenant_id", "status")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("part", "reservations")),
        sa.PrimaryKeyConstraint("tenant_id", "status", "part", name="reservation_count_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name="reservation_count_tenant_fkey"
        ),
    )
    op.execute(HOLDS)
    op.execute(COUNTS)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE reservation_count ENABLE ROW LEVEL SECURITY")
        op.execute(
            "CREATE POLICY reservation_count_of_the_tenant ON reservation_count"
            " USING (tenant_id = current_setting('inventory.tenant', true))"
        )
        op.execute(GRANT)


def downgrade() -> None:
    """Go back."""
    op.drop_table("reservation_count")
    op.drop_column("stock_level", "holds")
