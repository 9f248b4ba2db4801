"""The ledger by warehouse and by reason.

Revision: 0003, after 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"

INDEXES = {
    "adjustment_by_warehouse_index": ["tenant_id", "warehouse_id", "created_at", "sequence", "id"],
    "adjustment_by_reason_index": [
        *("tenant_id", "warehouse_id", "reason", "created_at", "sequence", "id")
    ],
}


def upgrade() -> None:
    """Upgrade."""
    for name, columns in INDEXES.items():
        op.create_index(name, "adjustment", columns)


def downgrade() -> None:
    """Downgrade."""
    for name in INDEXES:
        op.drop_index(name, table_name="adjustment")
