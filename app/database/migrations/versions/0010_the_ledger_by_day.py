"""Rollups of past days of the ledger.

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

from app.database.migrations.row_level_security import enable_row_level_security

revision = "0010"
down_revision = "0009"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")

REOPENING = {
    "sqlite": [
        """
        CREATE TRIGGER adjustment_reopens_its_day AFTER INSERT ON adjustment
        WHEN NEW.created_at < (SELECT summed_until FROM tenant WHERE tenant_id = NEW.tenant_id)
        BEGIN
          UPDATE tenant SET summed_until = substr(NEW.created_at, 1, 10) || 'T00:00:00.000Z'
          WHERE tenant_id = NEW.tenant_id;
        END
        """,
    ],
    "postgresql": [
        """
        CREATE FUNCTION reopen_day_of_adjustment() RETURNS trigger LANGUAGE plpgsql AS
        $$DECLARE known timestamptz;
        BEGIN
          SELECT summed_until INTO known FROM tenant WHERE tenant_id = NEW.tenant_id
          FOR NO KEY UPDATE;
          IF NEW.created_at < known THEN
            UPDATE tenant SET summed_until = date_trunc('day', NEW.created_at, 'UTC')
            WHERE tenant_id = NEW.tenant_id;
          END IF;
          RETURN NULL;
        END$$
        """,
        """
        CREATE TRIGGER adjustment_reopens_its_day AFTER INSERT ON adjustment FOR EACH ROW
        WHEN (NEW.created_at < now() - interval '1 hour')
        EXECUTE FUNCTION reopen_day_of_adjustment()
        """,
    ],
}


def upgrade() -> None:
    """Upgrade."""
    dialect = op.get_bind().dialect.name
    op.add_column("tenant", sa.Column("summed_until", INSTANT, nullable=True))
    op.create_table(
        "ledger_day",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("day", INSTANT, nullable=False),
        sa.Column("warehouse_id", KEY, nullable=False),
        sa.Column("reason", KEY, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("sign", "entries", "delta_upper", "delta_lower")
        ),
        sa.PrimaryKeyConstraint(
            *("tenant_id", "day", "warehouse_id", "reason", "created_by", "sign"),
            name="ledger_day_pkey",
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], name="ledger_day_tenant_fkey"),
        sa.CheckConstraint("sign IN (-1, 0, 1)", name=op.f("ledger_day_sign_check")),
        sa.CheckConstraint("entries >= 1", name=op.f("ledger_day_entries_check")),
    )
    for statement in REOPENING[dialect]:
        op.execute(statement)
    enable_row_level_security("ledger_day")


def downgrade() -> None:
    """Downgrade."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER adjustment_reopens_its_day ON adjustment")
        op.execute("DROP FUNCTION reopen_day_of_adjustment()")
    else:
        op.execute("DROP TRIGGER adjustment_reopens_its_day")
    op.drop_table("ledger_day")
    op.drop_column("tenant", "summed_until")
