"""The schema's history, by Alembic: the same steps serve SQLite and PostgreSQL."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import Database
from app.errors import Unavailable, invalid_field
from app.models import METADATA, adjustment, api_token
from app.sessions import translated


class NotCurrent(Unavailable):
    """The database has another schema than this version needs."""


class WrongRole(Unavailable):
    """The database's role sees more of it, or less, than it is to."""


def alembic_config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration, bound to a connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


@cache
def head() -> str:
    """Return the revision that this version of the service needs."""
    return str(ScriptDirectory.from_config(alembic_config()).get_current_head())


async def migrate(database: Database) -> None:
    """Bring the database to the newest schema, in one transaction."""

    async def work(connection: AsyncConnection) -> None:
        if database.dialect == "postgresql":
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.run_sync(
            lambda connection: command.upgrade(alembic_config(connection), "head")
        )

    await database.transaction(work)


async def grant(database: Database, role: str) -> None:
    """Let a role of PostgreSQL serve: read and write, but neither own tables nor change history.

    Raises:
        ValidationFailed: the database is SQLite's, which has no roles.

    """
    if database.dialect != "postgresql":
        raise invalid_field("role", "is for PostgreSQL: SQLite has no roles")

    async def work(connection: AsyncConnection) -> None:
        name = connection.dialect.identifier_preparer.quote(role)
        tables = set(METADATA.tables) - {adjustment.name}
        for rights, of in (
            ("SELECT, INSERT, UPDATE, DELETE", ", ".join(sorted(tables))),
            ("SELECT, INSERT", adjustment.name),
            ("SELECT", "alembic_version"),
        ):
            await connection.execute(text(f"GRANT {rights} ON {of} TO {name}"))

    await database.transaction(work)


async def current(database: Database) -> str | None:
    """Return the revision that the database has; None when it is empty."""
    with translated():
        async with database.reader.connect() as connection:
            return await connection.run_sync(
                lambda connection: MigrationContext.configure(connection).get_current_revision()
            )


async def require_current(database: Database) -> None:
    """Refuse a database that is behind, or ahead.

    Raises:
        NotCurrent: says what to run.
        Unavailable: the database cannot be asked.

    """
    found = await current(database)
    if found != head():
        message = (
            f"The database is at revision {found or 'none'}, and this version needs {head()}. "
            "Run: inventory migrate"
        )
        raise NotCurrent(message)


async def require_wall(database: Database) -> None:
    """Refuse to serve behind a wall that is not there, or without knowing of one that is.

    Raises:
        WrongRole: says what to change.
        Unavailable: the database cannot be asked.

    """
    if database.is_walled and not await is_walled_in(database):
        message = (
            "INVENTORY_ROW_LEVEL_SECURITY is on, but the role of DATABASE_URL passes by it: it "
            "owns the tables, or is a superuser. Run: inventory migrate --grant-to ROLE, and serve "
            "as that role"
        )
        raise WrongRole(message)
    if not database.is_walled and await is_walled_in(database):
        message = (
            "The role of DATABASE_URL sees one tenant at a time; serve with "
            "INVENTORY_ROW_LEVEL_SECURITY=true"
        )
        raise WrongRole(message)


async def require_whole(database: Database) -> None:
    """Refuse a database that is not current, or of which the role does not see every tenant.

    Raises:
        NotCurrent: says what to run.
        WrongRole: says as whom to run it.
        Unavailable: the database cannot be asked.

    """
    await require_current(database)
    if await is_walled_in(database):
        message = (
            "The role of DATABASE_URL may only serve; run this as the owner of the tables, who "
            "sees all of them"
        )
        raise WrongRole(message)


async def is_walled_in(database: Database) -> bool:
    """Tell whether row-level security holds for the role that is connected."""
    if database.dialect != "postgresql":
        return False
    with translated():
        async with database.reader.connect() as connection:
            asked = select(func.row_security_active(api_token.name))
            return bool(await connection.scalar(asked))


def drop_all(connection: Connection) -> None:
    """Take every table of this service away, whatever revision they have."""
    tables = MetaData()
    tables.reflect(connection)
    tables.drop_all(connection)
    if connection.dialect.name == "postgresql":
        for function in ("refuse_change_of_adjustments", "reopen_day_of_adjustment"):
            connection.execute(text(f"DROP FUNCTION IF EXISTS {function}()"))
