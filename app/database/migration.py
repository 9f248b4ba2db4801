"""The schema's history, by Alembic: the same steps serve SQLite and PostgreSQL."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, MetaData, Text, column, func, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.tables import METADATA, adjustment, api_token
from app.errors import Unavailable, invalid_field

if TYPE_CHECKING:
    from alembic.config import Config


# Where Alembic keeps the revision of a database.
STEPS: Final = Path(__file__).with_name("migrations")
ALEMBIC_VERSION: Final = table("alembic_version", column("version_num", Text))


class NotCurrent(Unavailable):
    """The database has another schema than this version needs."""


class WrongRole(Unavailable):
    """The database's role sees more of it, or less, than it is to."""


def alembic_config(connection: Connection | None = None) -> "Config":
    """Return Alembic's configuration, bound to a connection."""
    # A service on a current database does not wait for Alembic, nor keep it in memory.
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(STEPS))
    config.attributes["connection"] = connection
    return config


@cache
def revisions() -> list[str]:
    """Return the revisions that this version knows, oldest first: the steps are named by them."""
    steps = (STEPS / "versions").glob("[0-9]*.py")
    return sorted(step.name.partition("_")[0] for step in steps)


def head() -> str:
    """Return the revision that this version of the service needs."""
    return revisions()[-1]


async def migrate(database: Database) -> None:
    """Bring the database to the newest schema, in one transaction.

    Raises:
        NotCurrent: a newer version has brought it further.

    """
    if await current(database) == head():
        return
    from alembic import command  # noqa: PLC0415 - as above

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
            ("SELECT", ALEMBIC_VERSION.name),
        ):
            await connection.execute(text(f"GRANT {rights} ON {of} TO {name}"))

    await database.transaction(work)


async def current(database: Database) -> str | None:
    """Return the revision that the database has; None when it is empty.

    Raises:
        NotCurrent: it is one that this version does not know.
        Unavailable: the database cannot be asked.

    """
    async with database.connection(database.reader) as connection:
        found = await connection.run_sync(_revision)
    if found not in (None, *revisions()):
        message = (
            f"The database is at revision {found}, of a newer version of this service than the "
            f"installed one, which knows those up to {head()}. Install the newer version."
        )
        raise NotCurrent(message)
    return found


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(ALEMBIC_VERSION.name):
        return None
    found: str | None = connection.scalar(select(ALEMBIC_VERSION.c.version_num))
    return found


async def require_current(database: Database) -> None:
    """Refuse a database that is behind, or ahead.

    Raises:
        NotCurrent: says what to do.
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
    async with database.connection(database.reader) as connection:
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
