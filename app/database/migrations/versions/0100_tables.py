"""The tables of the service.

Revision: 0100
"""

import sqlalchemy as sa
from alembic import op

from app.database.due_work import TENANT_SEARCHES
from app.database.placement import placement_of
from app.database.row_level_security import row_level_security_ddl
from app.database.triggers import append_only_ddl

revision = "0100"
down_revision = None
# The oldest revision whose version of the service works with this schema.
compatible_since = "0100"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
OCCURRENCE = sa.text("coalesce(occurred_at, created_at)")
ISOLATED_TABLES = (
    "api_token",
    "person",
    "sku",
    "sku_word",
    "warehouse",
    "external_id",
    "stock_level",
    "adjustment",
    "ledger_sum",
    "reservation",
    "reservation_line",
    "reservation_count",
    "sku_count",
    "idempotency_key",
    "change",
    "webhook",
    "webhook_attempt",
)


def upgrade() -> None:
    """Create all tables."""
    op.add_column("alembic_version", sa.Column("compatible_since", KEY, nullable=True))
    op.create_table(
        "tenant",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cursor_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("permits_oversell_since", INSTANT, nullable=True),
        sa.Column("permits_no_expiry_since", INSTANT, nullable=True),
        sa.Column("deleted_since", INSTANT, nullable=True),
        sa.Column("changes_deleted_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("availability_limit", sa.BigInteger(), server_default="10", nullable=False),
        sa.CheckConstraint(
            "availability_limit BETWEEN 0 AND 1000000000000",
            name=op.f("tenant_availability_limit_check"),
        ),
        sa.CheckConstraint(
            "changes_deleted_until BETWEEN 0 AND 4611686018427387904",
            name=op.f("tenant_changes_deleted_until_check"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("tenant_pkey")),
    )
    op.create_table(
        "api_token",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("warehouse_ids", sa.Text(), nullable=True),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("last_used_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "warehouse_ids IS NULL OR scopes NOT LIKE '%inventory:admin%'",
            name=op.f("api_token_bound_scopes_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("api_token_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("api_token_pkey")),
    )
    op.create_index("api_token_hash_key", "api_token", ["tenant_id", "token_hash"], unique=True)
    op.create_table(
        "idempotency_key",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("idempotency_key_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "subject", "key", name=op.f("idempotency_key_pkey")),
    )
    op.create_index(
        op.f("idempotency_key_tenant_id_created_at_index"),
        "idempotency_key",
        ["tenant_id", "created_at"],
        unique=False,
    )
    op.create_table(
        "ledger_sum",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("reference", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("reason", KEY, nullable=False),
        sa.Column("created_by", KEY, nullable=False),
        sa.Column("sign", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("delta_upper", sa.BigInteger(), nullable=False),
        sa.Column("delta_lower", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("entries >= 1", name=op.f("ledger_sum_entries_check")),
        sa.CheckConstraint("sign IN (-1, 0, 1)", name=op.f("ledger_sum_sign_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("ledger_sum_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "kind",
            "reference",
            "sku",
            "until",
            "warehouse_id",
            "reason",
            "created_by",
            "sign",
            name=op.f("ledger_sum_pkey"),
        ),
    )
    op.create_table(
        "reservation",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("reference", KEY, nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_by", KEY, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(status = 'open') = (ended_at IS NULL)", name=op.f("reservation_ended_check")
        ),
        sa.CheckConstraint(
            "status IN ('open', 'committed', 'released', 'expired')",
            name=op.f("reservation_status_check"),
        ),
        sa.CheckConstraint("version >= 1", name=op.f("reservation_version_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("reservation_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("reservation_pkey")),
    )
    op.create_index(
        "reservation_by_reference_index",
        "reservation",
        ["tenant_id", "reference", "id"],
        unique=False,
        postgresql_where=sa.text("reference IS NOT NULL"),
        sqlite_where=sa.text("reference IS NOT NULL"),
    )
    op.create_index(
        "reservation_due_index",
        "reservation",
        ["tenant_id", "expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
        sqlite_where=sa.text("status = 'open'"),
    )
    op.create_index(
        "reservation_by_expiry_index",
        "reservation",
        ["expires_at", "tenant_id"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
        sqlite_where=sa.text("status = 'open'"),
    )
    op.create_index(
        op.f("reservation_tenant_id_status_id_index"),
        "reservation",
        ["tenant_id", "status", "id"],
        unique=False,
    )
    op.create_table(
        "reservation_count",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("reference", KEY, nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("reservations", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("reservation_count_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "reference", "status", name=op.f("reservation_count_pkey")
        ),
    )
    op.create_table(
        "person",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("email", KEY, nullable=True),
        sa.Column("salt", KEY, nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("person_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("person_pkey")),
    )
    op.create_index("person_email_key", "person", ["tenant_id", "email"], unique=True)
    op.create_table(
        "sku",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("available", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("archived_at", INSTANT, nullable=True),
        sa.Column("metadata_entries", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('normal', 'low', 'critical', 'out_of_stock')", name=op.f("sku_status_check")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("sku_version_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], name=op.f("sku_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant_id", "sku", name=op.f("sku_pkey")),
    )
    for name in ("status", "available", "updated_at"):
        op.create_index(
            op.f(f"sku_tenant_id_{name}_sku_index"), "sku", ["tenant_id", name, "sku"], unique=False
        )
    op.create_index(
        "sku_by_folded_code_index",
        "sku",
        ["tenant_id", sa.text("ltrim(lower(sku), '0')"), "sku"],
        unique=False,
    )
    op.create_table(
        "sku_word",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("word", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sku"], ["sku.tenant_id", "sku.sku"], name=op.f("sku_word_sku_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "word", "sku", name=op.f("sku_word_pkey")),
    )
    op.create_table(
        "sku_count",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("skus", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("sku_count_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "warehouse_id", "status", name=op.f("sku_count_pkey")),
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
        sa.Column("is_sellable", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("metadata_entries", sa.Text(), nullable=True),
        sa.Column("reserved", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "type IN ('own', 'FBA', 'FBS', '3PL')", name=op.f("warehouse_type_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("warehouse_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("warehouse_pkey")),
    )
    _create_external_ids()
    op.create_table(
        "stock_level",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("safety_stock", sa.BigInteger(), nullable=False),
        sa.Column("reorder_point", sa.BigInteger(), nullable=True),
        sa.Column("status", KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("adjusted_at", INSTANT, nullable=True),
        sa.Column("occurred_until", INSTANT, nullable=True),
        sa.Column("synced_at", INSTANT, nullable=True),
        sa.Column("archived_at", INSTANT, nullable=True),
        sa.Column("holds", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "status IN ('normal', 'low', 'critical', 'out_of_stock')",
            name=op.f("stock_level_status_check"),
        ),
        sa.CheckConstraint(
            "on_hand BETWEEN 0 AND 1000000000000", name=op.f("stock_level_on_hand_check")
        ),
        sa.CheckConstraint("reserved >= 0", name=op.f("stock_level_reserved_check")),
        sa.CheckConstraint("safety_stock >= 0", name=op.f("stock_level_safety_stock_check")),
        sa.CheckConstraint("reorder_point >= 0", name=op.f("stock_level_reorder_point_check")),
        sa.CheckConstraint("version >= 0", name=op.f("stock_level_version_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sku"], ["sku.tenant_id", "sku.sku"], name=op.f("stock_level_sku_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "warehouse_id"],
            ["warehouse.tenant_id", "warehouse.id"],
            name=op.f("stock_level_warehouse_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "sku", "warehouse_id", name=op.f("stock_level_pkey")),
    )
    op.create_index(
        op.f("stock_level_tenant_id_warehouse_id_sku_index"),
        "stock_level",
        ["tenant_id", "warehouse_id", "sku"],
        unique=False,
    )
    op.create_index(
        op.f("stock_level_tenant_id_warehouse_id_status_sku_index"),
        "stock_level",
        ["tenant_id", "warehouse_id", "status", "sku"],
        unique=False,
    )
    op.create_table(
        "adjustment",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("before_quantity", sa.BigInteger(), nullable=False),
        sa.Column("after_quantity", sa.BigInteger(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("reason", KEY, nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_by", KEY, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("bulk_id", KEY, nullable=True),
        sa.Column("transfer_id", KEY, nullable=True),
        sa.Column("reservation_id", KEY, nullable=True),
        sa.Column("reversal_of", KEY, nullable=True),
        sa.Column("reference", KEY, nullable=True),
        sa.Column("occurred_at", INSTANT, nullable=True),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "after_quantity = before_quantity + delta", name=op.f("adjustment_delta_check")
        ),
        sa.CheckConstraint(
            "after_quantity BETWEEN 0 AND 1000000000000", name=op.f("adjustment_after_check")
        ),
        sa.CheckConstraint(
            "before_quantity BETWEEN 0 AND 1000000000000", name=op.f("adjustment_before_check")
        ),
        sa.CheckConstraint("position >= 1", name=op.f("adjustment_position_check")),
        sa.CheckConstraint("sequence >= 1", name=op.f("adjustment_sequence_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sku", "warehouse_id"],
            ["stock_level.tenant_id", "stock_level.sku", "stock_level.warehouse_id"],
            name=op.f("adjustment_stock_level_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "position", name=op.f("adjustment_pkey")),
    )
    op.create_index(
        "adjustment_by_actor_index",
        "adjustment",
        ["tenant_id", "created_by", "position"],
        unique=False,
    )
    op.create_index(
        "adjustment_by_bulk_index",
        "adjustment",
        ["tenant_id", "bulk_id", "position"],
        unique=False,
        postgresql_where=sa.text("bulk_id IS NOT NULL"),
        sqlite_where=sa.text("bulk_id IS NOT NULL"),
    )
    op.create_index(
        "adjustment_by_level_index",
        "adjustment",
        ["tenant_id", "sku", "warehouse_id", "position"],
        unique=False,
    )
    op.create_index(
        "adjustment_by_reason_index",
        "adjustment",
        ["tenant_id", "warehouse_id", "reason", "position"],
        unique=False,
    )
    op.create_index(
        "adjustment_by_reference_and_sku_index",
        "adjustment",
        ["tenant_id", "reference", "sku", "position"],
        unique=False,
        postgresql_where=sa.text("reference IS NOT NULL"),
        sqlite_where=sa.text("reference IS NOT NULL"),
    )
    op.create_index(
        "adjustment_by_reference_index",
        "adjustment",
        ["tenant_id", "reference", "position"],
        unique=False,
        postgresql_where=sa.text("reference IS NOT NULL"),
        sqlite_where=sa.text("reference IS NOT NULL"),
    )
    op.create_index(
        "adjustment_by_reservation_index",
        "adjustment",
        ["tenant_id", "reservation_id", "position"],
        unique=False,
        postgresql_where=sa.text("reservation_id IS NOT NULL"),
        sqlite_where=sa.text("reservation_id IS NOT NULL"),
    )
    op.create_index(
        "adjustment_by_sku_index",
        "adjustment",
        ["tenant_id", "sku", "position"],
        unique=False,
    )
    for name, time in (("time", sa.text("created_at")), ("occurrence", OCCURRENCE)):
        op.create_index(
            f"adjustment_by_{name}_index",
            "adjustment",
            ["tenant_id", time, "position"],
            unique=False,
        )
    op.create_index(
        "adjustment_by_transfer_index",
        "adjustment",
        ["tenant_id", "transfer_id", "position"],
        unique=False,
        postgresql_where=sa.text("transfer_id IS NOT NULL"),
        sqlite_where=sa.text("transfer_id IS NOT NULL"),
    )
    op.create_index(
        "adjustment_by_warehouse_index",
        "adjustment",
        ["tenant_id", "warehouse_id", "position"],
        unique=False,
    )
    op.create_index(
        "adjustment_reversal_key",
        "adjustment",
        ["tenant_id", "reversal_of"],
        unique=True,
        postgresql_where=sa.text("reversal_of IS NOT NULL"),
        sqlite_where=sa.text("reversal_of IS NOT NULL"),
    )
    op.create_index("adjustment_id_key", "adjustment", ["tenant_id", "id"], unique=True)
    op.create_index(
        "adjustment_sequence_key",
        "adjustment",
        ["tenant_id", "sku", "warehouse_id", "sequence"],
        unique=True,
    )
    op.create_table(
        "reservation_line",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("reservation_id", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("committed", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "committed BETWEEN 0 AND quantity", name=op.f("reservation_line_committed_check")
        ),
        sa.CheckConstraint("held IN (0, quantity)", name=op.f("reservation_line_held_check")),
        sa.CheckConstraint(
            "quantity BETWEEN 1 AND 1000000000000", name=op.f("reservation_line_quantity_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "reservation_id"],
            ["reservation.tenant_id", "reservation.id"],
            name=op.f("reservation_line_reservation_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sku", "warehouse_id"],
            ["stock_level.tenant_id", "stock_level.sku", "stock_level.warehouse_id"],
            name=op.f("reservation_line_stock_level_fkey"),
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "reservation_id", "sku", "warehouse_id", name=op.f("reservation_line_pkey")
        ),
    )
    _create_line_indexes()
    op.create_table(
        "change",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("type", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=True),
        sa.Column("warehouse_id", KEY, nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "position", name=op.f("change_pkey")),
    )
    _create_webhooks()
    dialect = op.get_bind().dialect.name
    for statement in append_only_ddl(dialect, placement_of(op.get_bind())):
        op.execute(statement)
    if dialect == "postgresql":
        created = [
            *(each for table in ISOLATED_TABLES for each in row_level_security_ddl(table)),
            *(each for search in TENANT_SEARCHES for each in search.ddl()),
        ]
        for statement in created:
            op.execute(statement)


def _create_line_indexes() -> None:
    op.create_index(
        "reservation_line_by_level_index",
        "reservation_line",
        ["tenant_id", "sku", "warehouse_id", "reservation_id"],
        unique=False,
    )
    op.create_index(
        "reservation_line_held_index",
        "reservation_line",
        ["tenant_id", "sku", "warehouse_id", "reservation_id"],
        unique=False,
        postgresql_where=sa.text("held > 0"),
        sqlite_where=sa.text("held > 0"),
    )
    for name, key in (("sku", "sku"), ("warehouse", "warehouse_id")):
        columns = ["tenant_id", key, "reservation_id"]
        op.create_index(f"reservation_line_by_{name}_index", "reservation_line", columns)
        op.create_index(
            f"reservation_line_held_by_{name}_index",
            "reservation_line",
            columns,
            postgresql_where=sa.text("held > 0"),
            sqlite_where=sa.text("held > 0"),
        )


def _create_webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.Text(), nullable=True),
        sa.Column("warehouse_ids", sa.Text(), nullable=True),
        sa.Column("status", KEY, nullable=False),
        sa.Column("disabling_reason", KEY, nullable=True),
        sa.Column("signature", KEY, nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=True),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        sa.Column("previous_secret_until", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("message_id", KEY, nullable=True),
        sa.Column("message_to", sa.BigInteger(), nullable=True),
        sa.Column("lease_id", KEY, nullable=True),
        sa.Column("lease_until", INSTANT, nullable=True),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", INSTANT, nullable=True),
        sa.Column("next_attempt_at", INSTANT, nullable=False),
        sa.Column("last_attempt_at", INSTANT, nullable=True),
        sa.Column("last_status", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('active', 'paused', 'disabled')", name=op.f("webhook_status_check")
        ),
        sa.CheckConstraint(
            "signature IN ('hmac', 'ed25519')", name=op.f("webhook_signature_check")
        ),
        sa.CheckConstraint(
            "(message_id IS NULL) = (message_to IS NULL)", name=op.f("webhook_message_check")
        ),
        sa.CheckConstraint(
            "(lease_id IS NULL) = (lease_until IS NULL)", name=op.f("webhook_lease_check")
        ),
        sa.CheckConstraint(
            "(failures = 0) = (failing_since IS NULL)", name=op.f("webhook_failures_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("webhook_tenant_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("webhook_pkey")),
    )
    op.create_index(
        "webhook_by_next_attempt_index",
        "webhook",
        ["next_attempt_at", "tenant_id"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
        sqlite_where=sa.text("status = 'active'"),
    )
    op.create_table(
        "webhook_attempt",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("webhook_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("message_id", KEY, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("after_position", sa.BigInteger(), nullable=False),
        sa.Column("read_to", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "webhook_id"],
            ["webhook.tenant_id", "webhook.id"],
            name=op.f("webhook_attempt_webhook_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "webhook_id", "id", name=op.f("webhook_attempt_pkey")),
    )


def _create_external_ids() -> None:
    op.create_table(
        "external_id",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("namespace", KEY, nullable=False),
        sa.Column("value", KEY, nullable=False),
        sa.Column("sku", KEY, nullable=True),
        sa.Column("warehouse_id", KEY, nullable=True),
        sa.CheckConstraint(
            "(kind = 'sku' AND sku IS NOT NULL AND warehouse_id IS NULL)"
            " OR (kind = 'warehouse' AND warehouse_id IS NOT NULL AND sku IS NULL)",
            name=op.f("external_id_kind_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sku"],
            ["sku.tenant_id", "sku.sku"],
            name=op.f("external_id_sku_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "warehouse_id"],
            ["warehouse.tenant_id", "warehouse.id"],
            name=op.f("external_id_warehouse_fkey"),
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "kind", "namespace", "value", name=op.f("external_id_pkey")
        ),
    )
    for name, key in (("sku", "sku"), ("warehouse", "warehouse_id")):
        op.create_index(
            f"external_id_by_{name}_index",
            "external_id",
            ["tenant_id", key, "namespace", "value"],
            postgresql_where=sa.text(f"{key} IS NOT NULL"),
            sqlite_where=sa.text(f"{key} IS NOT NULL"),
        )
