"""Audit of the writes of contenders by queries to their database."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.data import STATUS
from benchmarks.load import WrongAnswer

STATUS_OF_LEVEL: Final = STATUS.format(
    on_hand="on_hand", reserved="reserved", safety="safety_stock"
)
STATUS_OF_SKU: Final = STATUS.format(
    on_hand="SUM(on_hand)", reserved="SUM(reserved)", safety="SUM(safety_stock)"
)
# Each statement counts contradictions. With the unique sequences of a level, the first two prove
# that every level has exactly the adjustments 1 to version and the quantity of the last one.
AUDIT: Final = {
    "levels without their last adjustment": """
        SELECT COUNT(*) FROM stock_level l WHERE NOT EXISTS (
          SELECT 1 FROM adjustment a
          WHERE a.tenant_id = l.tenant_id AND a.sku = l.sku AND a.warehouse_id = l.warehouse_id
            AND a.sequence = l.version AND a.after_quantity = l.on_hand
        )
    """,
    "adjustments too many or too few": """
        SELECT (SELECT SUM(version) FROM stock_level) - (SELECT COUNT(*) FROM adjustment)
    """,
    "levels of a wrong status": f"""
        SELECT COUNT(*) FROM stock_level WHERE status <> {STATUS_OF_LEVEL}
    """,
    "SKUs of a wrong status": f"""
        SELECT COUNT(*) FROM sku s JOIN (
          SELECT tenant_id, sku, {STATUS_OF_SKU} AS derived
          FROM stock_level GROUP BY tenant_id, sku
        ) l ON l.tenant_id = s.tenant_id AND l.sku = s.sku AND l.derived <> s.status
    """,
}
ACTIVE_CONNECTIONS: Final = """
SELECT COUNT(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger in a database of either engine."""

    database_url: str

    def length(self) -> int:
        """Return the number of adjustments."""
        return int(scalar(self.database_url, "SELECT COUNT(*) FROM adjustment"))

    def is_idle(self) -> bool:
        """Whether no other connection of PostgreSQL is active; always true for SQLite."""
        return self.database_url.startswith("sqlite") or not scalar(
            self.database_url, ACTIVE_CONNECTIONS
        )

    def audit(self) -> None:
        """Check that every level, status and adjustment agrees with the others.

        Raises:
            WrongAnswer: there are contradictions.

        """
        for contradiction, statement in AUDIT.items():
            if count := int(scalar(self.database_url, statement)):
                message = f"{count} {contradiction}"
                raise WrongAnswer(message)


def scalar(database_url: str, statement: str) -> Any:
    """Return the single value of a statement."""

    async def work() -> Any:
        engine = create_async_engine(database_url)
        try:
            async with engine.connect() as connection:
                return await connection.scalar(text(statement))
        finally:
            await engine.dispose()

    return asyncio.run(work())
