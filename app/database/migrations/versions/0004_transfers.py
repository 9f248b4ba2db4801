"""The transfer of an adjustment.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

from app.database.columns import KeyText

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Upgrade."""
    op.add_column("adjustment", sa.Column("transfer_id", KeyText, nullable=True))


def downgrade() -> None:
    """Downgrade."""
    op.drop_column("adjustment", "transfer_id")
