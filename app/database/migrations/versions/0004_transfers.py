"""Adjustments name the transfer that they are part of.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

from app.database.tables import KeyText

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go forward."""
    op.add_column("adjustment", sa.Column("transfer_id", KeyText, nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("adjustment", "transfer_id")
