"""Hash chains of adjustments, one per stock level.

Revision: 0009, after 0008
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

AT_ONCE: Final = 2_000
# The hashed columns of this revision.
COLUMNS: Final = (
    "id",
    "sku",
    "warehouse_id",
    "sequence",
    "before_quantity",
    "after_quantity",
    "delta",
    "reason",
    "note",
    "created_by",
    "created_at",
    "bulk_id",
    "transfer_id",
    "reservation_id",
    "reversal_of",
    "reference",
)
POSITION: Final = ("tenant_id", "sku", "warehouse_id", "sequence")
REFUSING: Final = [
    f"""
        CREATE TRIGGER adjustment_refuses_{action} BEFORE {action.upper()} ON adjustment
        BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END
        """
    for action in ("update", "delete")
]

adjustment: Final = sa.table("adjustment", *map(sa.column, ("tenant_id", "hash", *COLUMNS)))
stock_level: Final = sa.table(
    "stock_level", *map(sa.column, ("tenant_id", "sku", "warehouse_id", "last_hash"))
)


def upgrade() -> None:
    """Upgrade."""
    op.add_column("stock_level", sa.Column("last_hash", sa.Text(), nullable=True))
    op.add_column("adjustment", sa.Column("hash", sa.Text(), nullable=True))
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    if is_postgresql:
        op.execute("ALTER TABLE adjustment DISABLE TRIGGER adjustment_is_append_only")
    else:
        op.execute("DROP TRIGGER adjustment_refuses_update")
    _hash_all(op.get_bind())
    # SQLite recreates the table for this, without its triggers.
    with op.batch_alter_table("adjustment") as batch:
        batch.alter_column("hash", existing_type=sa.Text(), nullable=False)
    if is_postgresql:
        op.execute("ALTER TABLE adjustment ENABLE TRIGGER adjustment_is_append_only")
    else:
        for trigger in REFUSING:
            op.execute(trigger)


def downgrade() -> None:
    """Downgrade."""
    op.drop_column("adjustment", "hash")
    op.drop_column("stock_level", "last_hash")


def _hash_all(connection: sa.Connection) -> None:
    """Hash the existing adjustments in pages."""
    position = sa.tuple_(*(adjustment.c[name] for name in POSITION))
    page = sa.select(adjustment).order_by(*position.clauses).limit(AT_ONCE)
    rows = connection.execute(page).mappings().all()
    last: tuple[Any, str | None] = (None, None)
    while rows:
        hashed = []
        for row in rows:
            level = (row["tenant_id"], row["sku"], row["warehouse_id"])
            last = level, _link(last[1] if last[0] == level else None, row)
            hashed.append((row, last[1]))
        _write(connection, hashed)
        after = sa.tuple_(*(rows[-1][name] for name in POSITION))
        rows = connection.execute(page.where(position > after)).mappings().all()


def _write(connection: sa.Connection, hashed: Sequence[tuple[Any, str | None]]) -> None:
    connection.execute(
        adjustment.update()
        .where(
            adjustment.c.tenant_id == sa.bindparam("tenant"),
            adjustment.c.id == sa.bindparam("entry"),
        )
        .values(hash=sa.bindparam("value")),
        [{"tenant": row["tenant_id"], "entry": row["id"], "value": hash_} for row, hash_ in hashed],
    )
    levels = {(row["tenant_id"], row["sku"], row["warehouse_id"]): hash_ for row, hash_ in hashed}
    connection.execute(
        stock_level.update()
        .where(
            stock_level.c.tenant_id == sa.bindparam("tenant"),
            stock_level.c.sku == sa.bindparam("code"),
            stock_level.c.warehouse_id == sa.bindparam("place"),
        )
        .values(last_hash=sa.bindparam("value")),
        [
            {"tenant": tenant, "code": code, "place": place, "value": hash_}
            for (tenant, code, place), hash_ in levels.items()
        ],
    )


def _link(previous: str | None, entry: sa.RowMapping) -> str:
    values = {**entry, "created_at": _as_text(entry["created_at"])}
    content = [previous, values["tenant_id"], *(values[name] for name in COLUMNS)]
    return sha256(orjson.dumps(content)).hexdigest()


def _as_text(instant: datetime | str) -> str:
    """Format an instant for SQLite: RFC 3339 in UTC with milliseconds."""
    if isinstance(instant, str):
        return instant
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
