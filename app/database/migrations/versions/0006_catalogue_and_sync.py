"""The archive time of SKUs, and the time of the last marketplace report of stock levels.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INSTANT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
COLUMNS = (("sku", "archived_at"), ("stock_level", "synced_at"), ("stock_level", "archived_at"))


def upgrade() -> None:
    """Upgrade."""
    for table, name in COLUMNS:
        op.add_column(table, sa.Column(name, INSTANT, nullable=True))


def downgrade() -> None:
    """Downgrade."""
    for table, name in reversed(COLUMNS):
        op.drop_column(table, name)
