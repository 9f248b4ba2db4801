"""Rollups of the ledger by group instead of day and level; counts of reservations by reference.

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op

from app.database.migrations.row_level_security import enable_row_level_security

revision = "0013"
down_revision = "0012"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
HAS_REFERENCE = sa.text("reference IS NOT NULL")
IS_MILESTONE = sa.text("sequence % 500 = 0")
# A running service computes the rollups again in the new form.
NOTHING_SUMMED = "UPDATE tenant SET summed_until = NULL"
OF_ALL = """
INSERT INTO reservation_count (tenant_id, {reference} status, part, reservations)
SELECT tenant_id, {nothing} status, 0, COUNT(*) FROM reservation GROUP BY tenant_id, status
"""
OF_REFERENCES = """
INSERT INTO reservation_count (tenant_id, reference, status, part, reservations)
SELECT tenant_id, reference, status, 0, COUNT(*) FROM reservation WHERE reference IS NOT NULL
GROUP BY tenant_id, reference, status
"""


def upgrade() -> None:
    """Upgrade."""
    op.create_table(
        "ledger_sum",
        *(sa.Column(it, KEY, nullable=False) for it in ("tenant_id", "kind", "reference", "sku")),
        sa.Column("until", INSTANT, nullable=False),
        *_combination(),
        *_numbers("sign", "entries", "delta_upper", "delta_lower"),
        sa.PrimaryKeyConstraint(
            *("tenant_id", "kind", "reference", "sku", "until"),
            *("warehouse_id", "reason", "created_by", "sign"),
            name="ledger_sum_pkey",
        ),
        *_checked("ledger_sum"),
    )
    enable_row_level_security("ledger_sum")
    op.drop_table("ledger_day")
    op.drop_table("history_count")
    op.drop_index("adjustment_milestone_index", "adjustment")
    op.create_index(
        "adjustment_by_reference_and_sku_index",
        "adjustment",
        ["tenant_id", "reference", "sku", "created_at", "sequence", "id"],
        postgresql_where=HAS_REFERENCE,
        sqlite_where=HAS_REFERENCE,
    )
    op.execute(NOTHING_SUMMED)
    _count_reservations("reference")
    op.execute(OF_ALL.format(reference="reference,", nothing="'',"))
    op.execute(OF_REFERENCES)


def downgrade() -> None:
    """Downgrade."""
    _count_reservations()
    op.execute(OF_ALL.format(reference="", nothing=""))
    op.execute(NOTHING_SUMMED)
    op.drop_index("adjustment_by_reference_and_sku_index", "adjustment")
    op.create_index(
        "adjustment_milestone_index",
        "adjustment",
        ["tenant_id", "sku", "warehouse_id", "sequence"],
        postgresql_where=IS_MILESTONE,
        sqlite_where=IS_MILESTONE,
    )
    level = ("tenant_id", "sku", "warehouse_id")
    op.create_table(
        "history_count",
        *(sa.Column(name, KEY, nullable=False) for name in level),
        *_numbers("sequence"),
        *_combination()[1:],
        *_numbers("sign", "entries"),
        sa.PrimaryKeyConstraint(
            *(*level, "sequence", "reason", "created_by", "sign"), name="history_count_pkey"
        ),
        sa.ForeignKeyConstraint(
            level,
            [f"stock_level.{name}" for name in level],
            name="history_count_stock_level_fkey",
        ),
        *_checked("history_count")[1:],
    )
    enable_row_level_security("history_count")
    op.create_table(
        "ledger_day",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("day", INSTANT, nullable=False),
        *_combination(),
        *_numbers("sign", "entries", "delta_upper", "delta_lower"),
        sa.PrimaryKeyConstraint(
            *("tenant_id", "day", "warehouse_id", "reason", "created_by", "sign"),
            name="ledger_day_pkey",
        ),
        *_checked("ledger_day"),
    )
    enable_row_level_security("ledger_day")
    op.drop_table("ledger_sum")


def _combination() -> list[sa.Column[str]]:
    return [
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("reason", KEY, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
    ]


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _checked(table: str) -> list[sa.Constraint]:
    return [
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], name=f"{table}_tenant_fkey"),
        sa.CheckConstraint("sign IN (-1, 0, 1)", name=op.f(f"{table}_sign_check")),
        sa.CheckConstraint("entries >= 1", name=op.f(f"{table}_entries_check")),
    ]


def _count_reservations(*by: str) -> None:
    """Recreate the table of the counts of reservations, with additional key columns."""
    keys = ("tenant_id", *by, "status")
    op.drop_table("reservation_count")
    op.create_table(
        "reservation_count",
        *(sa.Column(name, KEY, nullable=False) for name in keys),
        *_numbers("part", "reservations"),
        sa.PrimaryKeyConstraint(*keys, "part", name="reservation_count_pkey"),
        _checked("reservation_count")[0],
    )
    enable_row_level_security("reservation_count")
