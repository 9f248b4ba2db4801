"""Costs and plans of statements, counted by the database."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from tests.engines import reader_of, transact

BIG: Final = {
    *("sku", "sku_word", "stock_level", "adjustment", "idempotency_key"),
    *("reservation", "reservation_line", "change", "external_id"),
}


@dataclass(frozen=True)
class Cost:
    """Amount of data that a statement reads, and the big tables that it scans completely."""

    read: int
    scanned: frozenset[str]


class Engine(Protocol):
    """Costs and plans of statements in a database."""

    async def costs(self, statement: str, parameters: Any) -> Sequence[Cost]:
        """Run a SELECT with every possible plan."""

    async def scanned(self, statement: str, parameters: Any) -> frozenset[str]:
        """Plan a statement and return the big tables that it would scan completely."""


class PostgreSQLEngine:
    """EXPLAIN with the custom plan and with the generic plan."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def costs(self, statement: str, parameters: Any) -> Sequence[Cost]:
        plans = await self._plans("ANALYZE, BUFFERS, TIMING OFF", statement, parameters)
        return [
            Cost(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], scans(plan))
            for plan in plans
        ]

    async def scanned(self, statement: str, parameters: Any) -> frozenset[str]:
        plans = await self._plans("COSTS", statement, parameters)
        return frozenset[str]().union(*map(scans, plans))

    async def _plans(self, options: str, statement: str, parameters: Any) -> list[Any]:
        values = f"({', '.join(map(literal_of, parameters))})" if parameters else ""
        await self.connection.execute(f"PREPARE explained AS {statement}")
        plans = []
        for mode in ("force_custom_plan", "force_generic_plan"):
            await self.connection.execute(f"SET plan_cache_mode = {mode}")
            explain = f"EXPLAIN ({options}, FORMAT JSON) EXECUTE explained{values}"
            [explained] = await self.connection.fetchval(explain)
            plans.append(explained["Plan"])
        await self.connection.execute("DEALLOCATE explained")
        return plans


class SQLiteEngine:
    """Counts of virtual machine instructions, with and without statistics."""

    EVERY: Final = 10

    def __init__(self, *connections: Any) -> None:
        self.connections = connections

    async def costs(self, statement: str, parameters: Any) -> Sequence[Cost]:
        return [await self._cost(each, statement, parameters) for each in self.connections]

    async def scanned(self, statement: str, parameters: Any) -> frozenset[str]:
        result = [await self._scanned(each, statement, parameters) for each in self.connections]
        return frozenset[str]().union(*result)

    async def _cost(self, connection: Any, statement: str, parameters: Any) -> Cost:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += self.EVERY

        await connection.set_progress_handler(step, self.EVERY)
        await connection.execute_fetchall(statement, parameters)
        await connection.set_progress_handler(None, 0)
        return Cost(steps, await self._scanned(connection, statement, parameters))

    async def _scanned(self, connection: Any, statement: str, parameters: Any) -> frozenset[str]:
        plan = await connection.execute_fetchall(f"EXPLAIN QUERY PLAN {statement}", parameters)
        lines = [row[3].split() for row in plan]
        return frozenset(line[1] for line in lines if line[0] == "SCAN") & BIG


def scans(plan: Any) -> frozenset[str]:
    """Return the big tables that a plan scans completely."""
    own = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return frozenset(own & BIG).union(*map(scans, plan.get("Plans", ())))


def literal_of(value: object) -> str:
    """Return a value as a PostgreSQL literal."""
    match value:
        case None:
            return "NULL"
        case list():
            return f"ARRAY[{', '.join(map(literal_of, value))}]::text[]"
        case bytes():
            return f"'\\x{value.hex()}'::bytea"
        case int():
            return str(value)
        case datetime():
            return f"'{value.isoformat()}'"
    return "'" + str(value).replace("'", "''") + "'"


@asynccontextmanager
async def explaining(database: Database) -> AsyncIterator[Engine]:
    """Open connections that explain the statements of a database."""
    async with reader_of(database).connect() as first, reader_of(database).connect() as second:
        one: Any = (await first.get_raw_connection()).driver_connection
        if database.dialect == "postgresql":
            yield PostgreSQLEngine(one)
        else:
            # The first connection keeps the statistics in its cache; most databases have none.
            await one.execute_fetchall("SELECT * FROM sku LIMIT 1")
            await transact(database, forget_statistics)
            other: Any = (await second.get_raw_connection()).driver_connection
            yield SQLiteEngine(one, other)
        await first.invalidate()


async def forget_statistics(connection: AsyncConnection) -> None:
    """Delete the statistics of ANALYZE."""
    await connection.execute(text("DELETE FROM sqlite_stat1"))
