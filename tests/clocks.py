"""Clocks that tests set: of a SQLite database, or of PostgreSQL's server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from tests.engines import transact

# The search path finds this function before PostgreSQL's own. It returns the time in the table, if
# one is set.
FAKED: Final = (
    "CREATE SCHEMA faked",
    "CREATE TABLE faked.clock (at timestamptz)",
    "INSERT INTO faked.clock VALUES (NULL)",
    """
    CREATE FUNCTION faked.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS $$
      SELECT coalesce((SELECT at FROM faked.clock), pg_catalog.statement_timestamp())
    $$
    """,
    "GRANT USAGE ON SCHEMA faked TO PUBLIC",
    "GRANT SELECT ON faked.clock TO PUBLIC",
    """
    DO $$BEGIN
      EXECUTE format(
        'ALTER DATABASE %I SET search_path = faked, pg_catalog, public', current_database()
      );
    END$$
    """,
)


async def fake_clock(database: Database) -> None:
    """Let `set_clock` set the clock of a PostgreSQL database, for new connections."""

    async def work(connection: AsyncConnection) -> None:
        for statement in FAKED:
            await connection.execute(text(statement))

    if database.dialect == "postgresql":
        await transact(database, work)
        database.drop_connections()


async def set_clock(database: Database, instant: datetime | None) -> None:
    """Stop the clock of a database at an instant; None restarts it."""
    if database.dialect == "sqlite":
        attributes: Any = vars(database.clock)
        attributes.pop("now", None)
        if instant is not None:
            attributes["now"] = lambda: instant
        return

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE faked.clock SET at = :at"), {"at": instant})

    await transact(database, work)


@asynccontextmanager
async def clocks_at(database: Database, instant: datetime) -> AsyncIterator[None]:
    """Stop the clock of a database at an instant during the block."""
    await set_clock(database, instant)
    try:
        yield
    finally:
        await set_clock(database, None)
