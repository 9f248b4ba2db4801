"""Counts of long histories up to milestones.

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

from app.database.migrations.row_level_security import enable_row_level_security

revision = "0011"
down_revision = "0010"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
LEVEL = ("tenant_id", "sku", "warehouse_id")


def upgrade() -> None:
    """Upgrade."""
    op.create_index(
        "adjustment_milestone_index",
        "adjustment",
        [*LEVEL, "sequence"],
        postgresql_where=sa.text("sequence % 500 = 0"),
        sqlite_where=sa.text("sequence % 500 = 0"),
    )
    op.create_table(
        "history_count",
        *(sa.Column(name, KEY, nullable=False) for name in LEVEL),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("reason", KEY, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("sign", "entries")),
        sa.PrimaryKeyConstraint(
            *LEVEL, "sequence", "reason", "created_by", "sign", name="history_count_pkey"
        ),
        sa.ForeignKeyConstraint(
            LEVEL,
            [f"stock_level.{name}" for name in LEVEL],
            name="history_count_stock_level_fkey",
        ),
        sa.CheckConstraint("sign IN (-1, 0, 1)", name=op.f("history_count_sign_check")),
        sa.CheckConstraint("entries >= 1", name=op.f("history_count_entries_check")),
    )
    enable_row_level_security("history_count")


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("history_count")
    op.drop_index("adjustment_milestone_index", "adjustment")
