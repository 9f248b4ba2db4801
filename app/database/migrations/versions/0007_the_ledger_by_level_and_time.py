"""The ledger by stock level and time.

Revision: 0007, after 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"

COLUMNS = ["tenant_id", "sku", "warehouse_id", "created_at", "sequence"]


def upgrade() -> None:
    """Upgrade."""
    op.create_index("adjustment_by_level_index", "adjustment", COLUMNS)


def downgrade() -> None:
    """Downgrade."""
    op.drop_index("adjustment_by_level_index", table_name="adjustment")
