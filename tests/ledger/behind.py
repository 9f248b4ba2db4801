"""Changes to the database that bypass the service and the constraints."""

import sqlite3
from contextlib import closing

from sqlalchemy import select, text

from app.database.tables import adjustment
from app.database.triggers import APPEND_ONLY
from app.domain.hash_chain import HASHED_COLUMNS, chain_hash
from app.domain.instants import format_instant
from tests.engines import writer_of
from tests.service import Service


async def change_behind_its_back(shop: Service, *statements: str) -> None:
    """Run statements without constraints and triggers."""
    if shop.database.dialect == "sqlite":
        with closing(sqlite3.connect(str(shop.database.url.database))) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("DROP TRIGGER IF EXISTS adjustment_refuses_update")
            connection.execute("DROP TRIGGER IF EXISTS adjustment_refuses_delete")
            # Other tests share the database, so the triggers return.
            for statement in (*statements, *APPEND_ONLY["sqlite"]):
                connection.execute(statement)
            connection.commit()
        return
    async with writer_of(shop.database).connect() as connection:
        for step in (
            "SET LOCAL session_replication_role = replica",
            "ALTER TABLE adjustment DROP CONSTRAINT IF EXISTS adjustment_delta_check",
            "ALTER TABLE stock_level DROP CONSTRAINT IF EXISTS stock_level_reserved_check",
            *statements,
        ):
            await connection.execute(text(step))
        await connection.commit()


async def rehash(shop: Service) -> None:
    """Recompute the positions and the hashes of adjustments from the present rows."""
    of_tenant = adjustment.c.tenant_id == shop.tenant_id
    in_order = select(adjustment).where(of_tenant).order_by(adjustment.c.position)
    async with shop.database.snapshot() as snapshot:
        rows = await snapshot.rows(in_order, {})
    last = None
    hashing = []
    for position, row in enumerate(rows, start=1):
        entry = {name: getattr(row, name) for name in HASHED_COLUMNS} | {"position": position}
        entry["created_at"] = format_instant(row.created_at)
        entry["occurred_at"] = row.occurred_at and format_instant(row.occurred_at)
        last = chain_hash(last, shop.tenant_id, entry)
        values = f"position = {position}, hash = '{last}'"
        hashing.append(f"UPDATE adjustment SET {values} WHERE position = {row.position}")
    await change_behind_its_back(shop, *hashing)
