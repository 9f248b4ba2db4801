"""Idempotency keys.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Upgrade."""
    op.create_table(
        "idempotency_key",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name="idempotency_key_tenant_fkey"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "subject", "key", name="idempotency_key_pkey"),
    )
    op.create_index(
        "idempotency_key_tenant_id_created_at_index",
        "idempotency_key",
        ["tenant_id", "created_at"],
    )


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("idempotency_key")
