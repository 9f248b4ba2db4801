"""The documented API.

Revision: 0001, the first
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")

A_STATUS = "status IN ('normal', 'low', 'critical', 'out_of_stock')"

APPEND_ONLY = {
    "sqlite": [
        """
        CREATE TRIGGER adjustment_refuses_update BEFORE UPDATE ON adjustment
        BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END
        """,
        """
        CREATE TRIGGER adjustment_refuses_delete BEFORE DELETE ON adjustment
        BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END
        """,
    ],
    "postgresql": [
        """
        CREATE FUNCTION refuse_change_of_adjustments() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'adjustments are append-only'; END$$
        """,
        """
        CREATE TRIGGER adjustment_is_append_only BEFORE UPDATE OR DELETE ON adjustment
        FOR EACH ROW EXECUTE FUNCTION refuse_change_of_adjustments()
        """,
        """
        CREATE TRIGGER adjustment_refuses_truncate BEFORE TRUNCATE ON adjustment
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_adjustments()
        """,
    ],
}


def upgrade() -> None:
    """Upgrade."""
    op.create_table(
        "tenant",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cursor_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="tenant_pkey"),
    )
    op.create_table(
        "api_token",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("last_used_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], name="api_token_tenant_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="api_token_pkey"),
    )
    op.create_index("api_token_hash_key", "api_token", ["tenant_id", "token_hash"], unique=True)
    op.create_table(
        "sku",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "status IN ('normal', 'low', 'critical', 'out_of_stock')", name=op.f("sku_status_check")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("sku_version_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], name="sku_tenant_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "sku", name="sku_pkey"),
    )
    op.create_index("sku_tenant_id_status_sku_index", "sku", ["tenant_id", "status", "sku"])
    op.create_table(
        "sku_count",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("skus", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], name="sku_count_tenant_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "warehouse_id", "status", name="sku_count_pkey"),
    )
    op.create_table(
        "warehouse",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("marketplace", sa.Text(), nullable=True),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "type IN ('own', 'FBA', 'FBS', '3PL')", name=op.f("warehouse_type_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], name="warehouse_tenant_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="warehouse_pkey"),
    )
    op.create_table(
        "stock_level",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("safety_stock", sa.BigInteger(), nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("adjusted_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "status IN ('normal', 'low', 'critical', 'out_of_stock')",
            name=op.f("stock_level_status_check"),
        ),
        sa.CheckConstraint(
            "on_hand BETWEEN 0 AND 1000000000000", name=op.f("stock_level_on_hand_check")
        ),
        sa.CheckConstraint("reserved >= 0", name=op.f("stock_level_reserved_check")),
        sa.CheckConstraint("safety_stock >= 0", name=op.f("stock_level_safety_stock_check")),
        sa.CheckConstraint("version >= 0", name=op.f("stock_level_version_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sku"], ["sku.tenant_id", "sku.sku"], name="stock_level_sku_fkey"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "warehouse_id"],
            ["warehouse.tenant_id", "warehouse.id"],
            name="stock_level_warehouse_fkey",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "sku", "warehouse_id", name="stock_level_pkey"),
    )
    op.create_index(
        "stock_level_tenant_id_warehouse_id_sku_index",
        "stock_level",
        ["tenant_id", "warehouse_id", "sku"],
    )
    op.create_index(
        "stock_level_tenant_id_warehouse_id_status_sku_index",
        "stock_level",
        ["tenant_id", "warehouse_id", "status", "sku"],
    )
    op.create_table(
        "adjustment",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("before_quantity", sa.BigInteger(), nullable=False),
        sa.Column("after_quantity", sa.BigInteger(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("reason", KEY, nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "after_quantity = before_quantity + delta", name=op.f("adjustment_delta_check")
        ),
        sa.CheckConstraint(
            "after_quantity BETWEEN 0 AND 1000000000000", name=op.f("adjustment_after_check")
        ),
        sa.CheckConstraint(
            "before_quantity BETWEEN 0 AND 1000000000000", name=op.f("adjustment_before_check")
        ),
        sa.CheckConstraint("sequence >= 1", name=op.f("adjustment_sequence_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sku", "warehouse_id"],
            ["stock_level.tenant_id", "stock_level.sku", "stock_level.warehouse_id"],
            name="adjustment_stock_level_fkey",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="adjustment_pkey"),
    )
    op.create_index(
        "adjustment_by_sku_index",
        "adjustment",
        ["tenant_id", "sku", "created_at", "sequence", "id"],
    )
    op.create_index(
        "adjustment_by_time_index", "adjustment", ["tenant_id", "created_at", "sequence", "id"]
    )
    op.create_index(
        "adjustment_sequence_key",
        "adjustment",
        ["tenant_id", "sku", "warehouse_id", "sequence"],
        unique=True,
    )
    for statement in APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """Downgrade."""
    op.drop_index("adjustment_sequence_key", table_name="adjustment")
    op.drop_index("adjustment_by_time_index", table_name="adjustment")
    op.drop_index("adjustment_by_sku_index", table_name="adjustment")
    op.drop_table("adjustment")
    op.drop_index("stock_level_tenant_id_warehouse_id_status_sku_index", table_name="stock_level")
    op.drop_index("stock_level_tenant_id_warehouse_id_sku_index", table_name="stock_level")
    op.drop_table("stock_level")
    op.drop_table("warehouse")
    op.drop_table("sku_count")
    op.drop_index("sku_tenant_id_status_sku_index", table_name="sku")
    op.drop_table("sku")
    op.drop_index("api_token_hash_key", table_name="api_token")
    op.drop_table("api_token")
    op.drop_table("tenant")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change_of_adjustments()")
