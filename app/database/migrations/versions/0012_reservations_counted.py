"""Stored counts of reservations, by status and by stock level.

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

from app.database.migrations.row_level_security import enable_row_level_security

revision = "0012"
down_revision = "0011"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
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
    """Upgrade."""
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
    enable_row_level_security("reservation_count")


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("reservation_count")
    op.drop_column("stock_level", "holds")
