"""Migrations and checks of the schema; the same Alembic revisions serve both databases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, MetaData, NullPool, Text, column, func, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.database.compilation import DIALECTS
from app.database.connectors import sqlite_pragmas
from app.database.due_work import TENANT_SEARCHES
from app.database.engine import Database
from app.database.placement import (
    Placement,
    read_placement,
    require_possible,
    set_placement,
)
from app.database.schema import METADATA
from app.database.servers import Servers
from app.database.session import DriverSession
from app.database.sqlite import WRITE_PRAGMA, create_private_file, prepare_sqlite_engine
from app.database.tables import adjustment, api_token
from app.errors import Unavailable, ValidationFailed, invalid_field

if TYPE_CHECKING:
    from alembic.config import Config


MIGRATIONS: Final = Path(__file__).with_name("migrations")
# Alembic's table with the revision of a database.
ALEMBIC_VERSION: Final = table("alembic_version", column("version_num", Text))
HAS_REVISION: Final = {
    "postgresql": "SELECT to_regclass('alembic_version') IS NOT NULL",
    "sqlite": "SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'",
}


class NotCurrent(Unavailable):
    """The schema of the database is not the one of this version."""


class WrongRole(Unavailable):
    """The database role sees more or fewer rows than required."""


def alembic_config(connection: Connection | None = None) -> "Config":
    """Create Alembic's configuration for a connection."""
    # Imported on demand: a service on a current database does not need Alembic.
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


@cache
def revisions() -> list[str]:
    """Known revisions, oldest first, from the file names of the migrations."""
    files = (MIGRATIONS / "versions").glob("[0-9]*.py")
    return sorted(file.name.partition("_")[0] for file in files)


def newest_revision() -> str:
    """Return the revision that this version of the service needs."""
    return revisions()[-1]


async def migrate(database: Database, wanted: Placement | None = None) -> None:
    """Upgrade the database to the newest revision, in one transaction.

    An empty database gets the wanted placement of its tables.

    Raises:
        NotCurrent: the database has a revision of a newer version.
        ValidationFailed: the database cannot get the wanted placement, or has another one.

    """
    revision = await current_revision(database)
    if revision == newest_revision() and wanted is None:
        return
    placement = await _placement(database, wanted, is_empty=revision is None)
    if revision == newest_revision():
        return
    from alembic import command  # noqa: PLC0415 - on demand, as above

    def upgrade(connection: Connection) -> None:
        set_placement(connection, placement)
        command.upgrade(alembic_config(connection), "head")

    async with schema_transaction(database) as connection:
        if database.dialect == "postgresql":
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.run_sync(upgrade)


async def _placement(database: Database, wanted: Placement | None, *, is_empty: bool) -> Placement:
    """Return the placement of the tables of a database: the present one, or the wanted one."""
    async with database.reading() as session:
        if is_empty:
            placement = wanted or Placement()
            await require_possible(session, placement)
            return placement
        placement = await read_placement(session)
    if wanted not in (None, placement):
        message = (
            f"The tables of this database are {placement}, and a database keeps the placement that "
            "it was created with. Create an empty database, and move each tenant to it with "
            "`inventory export --all` and `inventory import`."
        )
        raise ValidationFailed(message)
    return placement


@asynccontextmanager
async def schema_transaction(database: Database) -> AsyncIterator[AsyncConnection]:
    """Open a connection of SQLAlchemy's engine for a change of the schema, in a transaction."""
    url, options = database.url, {"poolclass": NullPool, "hide_parameters": True}
    if database.dialect == "postgresql":
        # The driver implements more parameters of an address than SQLAlchemy. A change of the
        # schema may take long.
        options["async_creator"] = partial(
            Servers(url, database.settings).connect, command_timeout=None
        )
        url = url.set(query={})
    engine = create_async_engine(url, **options)
    if database.dialect == "sqlite":
        create_private_file(str(url.database))
        pragmas = [*sqlite_pragmas(database.settings), WRITE_PRAGMA]
        prepare_sqlite_engine(engine, database.clock, begin="BEGIN IMMEDIATE", pragmas=pragmas)
    with database.fault_translation:
        try:
            async with engine.begin() as connection:
                yield connection
        finally:
            await engine.dispose()


async def grant(database: Database, role: str) -> None:
    """Grant a PostgreSQL role the rights to serve: no ownership, and no changes of the ledger.

    Raises:
        ValidationFailed: the database is SQLite, which does not have roles.

    """
    if database.dialect != "postgresql":
        raise invalid_field("role", "is for PostgreSQL: SQLite has no roles")

    async def work(session: DriverSession) -> None:
        name = DIALECTS["postgresql"].identifier_preparer.quote(role)
        tables = set(METADATA.tables) - {adjustment.name}
        for rights, target in (
            ("SELECT, INSERT, UPDATE, DELETE", ", ".join(sorted(tables))),
            ("SELECT, INSERT", adjustment.name),
            ("SELECT", ALEMBIC_VERSION.name),
            ("EXECUTE", f"FUNCTION {', '.join(search.name for search in TENANT_SEARCHES)}"),
        ):
            await session.execute(text(f"GRANT {rights} ON {target} TO {name}"))

    await database.transaction(work)


async def current_revision(database: Database) -> str | None:
    """Read the revision of the database; None if it is empty.

    Raises:
        NotCurrent: the revision is unknown to this version.
        Unavailable: the database is unreachable.

    """
    async with database.reading() as session:
        has_revision = await session.scalar(text(HAS_REVISION[database.dialect]))
        version = select(ALEMBIC_VERSION.c.version_num)
        revision: str | None = await session.scalar(version) if has_revision else None
    if revision is not None and revision < revisions()[0]:
        message = (
            f"The database is at revision {revision}, of a development state before 0.1.0, which "
            "cannot be upgraded. Export its data with the version that created it, and import the "
            "files into an empty database."
        )
        raise NotCurrent(message)
    if revision not in (None, *revisions()):
        message = (
            f"The database is at revision {revision}, of a newer version of this service than the "
            f"installed one, which supports revisions up to {newest_revision()}. Install the newer "
            "version."
        )
        raise NotCurrent(message)
    return revision


async def require_current(database: Database) -> None:
    """Require the newest revision.

    Raises:
        NotCurrent: the database has another revision; the message names the command to run.
        Unavailable: the database is unreachable.

    """
    revision = await current_revision(database)
    if revision != newest_revision():
        message = (
            f"The database is at revision {revision or 'none'}, and this version needs "
            f"{newest_revision()}. Run: inventory migrate"
        )
        raise NotCurrent(message)


async def require_matching_role(database: Database) -> None:
    """Require that row-level security is on in the settings exactly if it restricts the role.

    Raises:
        WrongRole: they differ; the message says how to change that.
        Unavailable: the database is unreachable.

    """
    is_restricted = await is_restricted_role(database)
    if database.has_row_level_security and not is_restricted:
        message = (
            "INVENTORY_ROW_LEVEL_SECURITY is on, but the role of DATABASE_URL bypasses it: the "
            "role owns the tables or is a superuser. Run: inventory migrate --grant-to ROLE, and "
            "serve as that role"
        )
        raise WrongRole(message)
    if is_restricted and not database.has_row_level_security:
        message = (
            "The role of DATABASE_URL sees one tenant at a time; serve with "
            "INVENTORY_ROW_LEVEL_SECURITY=true"
        )
        raise WrongRole(message)


async def require_full_access(database: Database) -> None:
    """Require the newest revision and a role that sees the rows of all tenants.

    Raises:
        NotCurrent: the database has another revision.
        WrongRole: row-level security restricts the role.
        Unavailable: the database is unreachable.

    """
    await require_current(database)
    if await is_restricted_role(database):
        message = (
            "The role of DATABASE_URL sees one tenant at a time; run this command as the owner of "
            "the tables"
        )
        raise WrongRole(message)


async def is_restricted_role(database: Database) -> bool:
    """Check whether row-level security restricts the connected role."""
    if database.dialect != "postgresql":
        return False
    async with database.reading() as session:
        statement = select(func.row_security_active(api_token.name))
        return bool(await session.scalar(statement))


def drop_all(connection: Connection) -> None:
    """Drop all tables of the service, of any revision."""
    tables = MetaData()
    tables.reflect(connection)
    tables.drop_all(connection)
    if connection.dialect.name == "postgresql":
        functions = (
            *("refuse_change_of_adjustments", "reopen_day_of_adjustment"),
            *(search.name for search in TENANT_SEARCHES),
        )
        for function in functions:
            connection.execute(text(f"DROP FUNCTION IF EXISTS {function}"))
