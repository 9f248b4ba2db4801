"""Reservations, and links of adjustments.

Revision: 0005, after 0004
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
LINKS = ("bulk_id", "transfer_id", "reservation_id", "reference")


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Upgrade."""
    op.add_column("tenant", sa.Column("permits_oversell_since", INSTANT, nullable=True))
    for name in ("bulk_id", "reservation_id", "reversal_of", "reference"):
        op.add_column("adjustment", sa.Column(name, KEY, nullable=True))
    for name in LINKS:
        op.create_index(
            f"adjustment_by_{name.removesuffix('_id')}_index",
            "adjustment",
            ["tenant_id", name, "created_at", "sequence", "id"],
            **_where(f"{name} IS NOT NULL"),
        )
    op.create_index(
        "adjustment_reversal_key",
        "adjustment",
        ["tenant_id", "reversal_of"],
        unique=True,
        **_where("reversal_of IS NOT NULL"),
    )
    op.create_index(
        "adjustment_by_actor_index",
        "adjustment",
        ["tenant_id", "created_by", "created_at", "sequence", "id"],
    )
    op.create_table(
        "reservation",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("reference", KEY, nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="reservation_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name="reservation_tenant_fkey"
        ),
        sa.CheckConstraint(
            "status IN ('open', 'committed', 'released', 'expired')",
            name=op.f("reservation_status_check"),
        ),
        sa.CheckConstraint(
            "(status = 'open') = (ended_at IS NULL)", name=op.f("reservation_ended_check")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("reservation_version_check")),
    )
    op.create_index(
        "reservation_tenant_id_status_id_index", "reservation", ["tenant_id", "status", "id"]
    )
    op.create_index(
        "reservation_by_reference_index",
        "reservation",
        ["tenant_id", "reference", "id"],
        **_where("reference IS NOT NULL"),
    )
    op.create_index(
        "reservation_due_index",
        "reservation",
        ["tenant_id", "expires_at"],
        **_where("status = 'open'"),
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
        sa.PrimaryKeyConstraint(
            "tenant_id", "reservation_id", "sku", "warehouse_id", name="reservation_line_pkey"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "reservation_id"],
            ["reservation.tenant_id", "reservation.id"],
            name="reservation_line_reservation_fkey",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "sku", "warehouse_id"],
            ["stock_level.tenant_id", "stock_level.sku", "stock_level.warehouse_id"],
            name="reservation_line_stock_level_fkey",
        ),
        sa.CheckConstraint(
            "quantity BETWEEN 1 AND 1000000000000", name=op.f("reservation_line_quantity_check")
        ),
        sa.CheckConstraint("held IN (0, quantity)", name=op.f("reservation_line_held_check")),
        sa.CheckConstraint(
            "committed BETWEEN 0 AND quantity", name=op.f("reservation_line_committed_check")
        ),
    )
    op.create_index(
        "reservation_line_by_level_index",
        "reservation_line",
        ["tenant_id", "sku", "warehouse_id", "reservation_id"],
    )
    op.create_index(
        "reservation_line_held_index",
        "reservation_line",
        ["tenant_id", "sku", "warehouse_id", "reservation_id"],
        **_where("held > 0"),
    )

    # Quantities reserved before this revision become reservations without expiry.
    number = "row_number() OVER (ORDER BY tenant_id, sku, warehouse_id)"
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    padded = f"printf('%026d', {number})" if is_sqlite else f"lpad(({number})::text, 26, '0')"
    held = f"(SELECT *, 'rsv_' || {padded} AS id FROM stock_level WHERE reserved > 0) AS held"  # noqa: S608 - constant text
    op.execute(
        "INSERT INTO reservation (tenant_id, id, status, note, created_by, created_at, version) "  # noqa: S608
        "SELECT held.tenant_id, id, 'open', 'Reserved before there were reservations.', "
        f"'migration', updated_at, 1 FROM {held} JOIN sku ON sku.tenant_id = held.tenant_id "
        "AND sku.sku = held.sku"
    )
    op.execute(
        "INSERT INTO reservation_line (tenant_id, reservation_id, sku, warehouse_id, quantity, "  # noqa: S608
        "held, committed) SELECT tenant_id, id, sku, warehouse_id, reserved, reserved, 0 "
        f"FROM {held}"
    )


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("reservation_line")
    op.drop_table("reservation")
    for name in ("actor", "reversal", *(name.removesuffix("_id") for name in LINKS)):
        kind = "key" if name == "reversal" else "index"
        prefix = "" if name == "reversal" else "by_"
        op.drop_index(f"adjustment_{prefix}{name}_{kind}", "adjustment")
    for name in ("bulk_id", "reservation_id", "reversal_of", "reference"):
        op.drop_column("adjustment", name)
    op.drop_column("tenant", "permits_oversell_since")
