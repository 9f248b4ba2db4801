"""Migrations and checks of the schema; the same Alembic revisions serve both databases."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, MetaData, NullPool, Text, column, func, select, table, text
from sqlalchemy.exc import DBAPIError
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


# The key of the lock of a migration, among the locks of a database that applications define.
MIGRATION_LOCK: Final = 1_768_846_958
TRY_MIGRATION_LOCK: Final = text("SELECT pg_try_advisory_lock(0, :lock)")
# The longest wait for a lock of a table. It is shorter than the `deadlock_timeout` of PostgreSQL,
# which would end the transaction of a writer.
MIGRATION_LOCK_MS: Final = 500
_DESCRIPTION: Final = (
    "format('process %s of %s (%s, %s) since %s', pid, usename, application_name, state,"
    " date_trunc('second', coalesce(xact_start, backend_start)))"
)
MIGRATION_LOCK_HOLDERS: Final = text(
    f"SELECT {_DESCRIPTION} FROM pg_stat_activity JOIN pg_locks USING (pid)"  # noqa: S608
    " WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = :lock AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
OPEN_TRANSACTIONS: Final = text(
    f"SELECT {_DESCRIPTION} FROM pg_stat_activity"  # noqa: S608
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    f" AND xact_start < now() - interval '{MIGRATION_LOCK_MS} ms' ORDER BY xact_start LIMIT 5"
)
# Citus creates no function in a transaction that has changed several shards at once.
ONE_CONNECTION: Final = "SET LOCAL citus.multi_shard_modify_mode TO sequential"
# Lock timeout and deadlock of PostgreSQL, and the message of SQLite.
BLOCKED_STATES: Final = {"55P03", "40P01", "database is locked"}


def _ignore(_message: str) -> None:
    """Report nothing."""


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


async def migrate(
    database: Database,
    wanted: Placement | None = None,
    *,
    report: Callable[[str], None] = _ignore,
) -> None:
    """Upgrade the database to the newest revision, each revision in a transaction of its own.

    It waits until other migrations have ended, and for the locks of a revision only briefly, again
    and again: a transaction that waits for the lock of a table keeps all others from the table.
    `report` gets the reasons to wait.

    An empty database gets the wanted placement of its tables.

    Raises:
        NotCurrent: the database has a revision of a newer version.
        ValidationFailed: the database cannot get the wanted placement, or has another one.

    """
    missing = await _missing_revisions(database)
    if not missing and wanted is None:
        return
    is_empty = await current_revision(database) is None
    placement = await _placement(database, wanted, is_empty=is_empty)
    if not missing:
        return
    async with schema_connection(database) as connection:
        if database.dialect == "postgresql":
            await _exclude_migrations(connection, report)
        for revision in await _missing_revisions(database):
            await _upgrade(connection, revision, placement, report)


async def _missing_revisions(database: Database) -> list[str]:
    """List the revisions that the database lacks; none if a newer version has migrated it."""
    present = await current_revision(database) or ""
    return [revision for revision in revisions() if revision > present]


async def _exclude_migrations(connection: AsyncConnection, report: Callable[[str], None]) -> None:
    """Wait until no other migration runs in the database, and set the limits of this one.

    The lock is that of the session: it ends with the process. It is tried again and again, because
    an index that another migration builds would wait for a statement that waits.
    """
    number = {"lock": MIGRATION_LOCK}
    while True:
        async with connection.begin():
            if await connection.scalar(TRY_MIGRATION_LOCK, number):
                await connection.execute(text("SET statement_timeout = 0"))
                await connection.execute(text(f"SET lock_timeout = {MIGRATION_LOCK_MS}"))
                return
            holders = [*await connection.scalars(MIGRATION_LOCK_HOLDERS, number)]
        report(f"Another migration runs: {', '.join(holders) or 'it has ended just now'}.")
        await asyncio.sleep(_pause_seconds())


async def _upgrade(
    connection: AsyncConnection,
    revision: str,
    placement: Placement,
    report: Callable[[str], None],
) -> None:
    """Upgrade to a revision, unless the database has it; repeat it while others have locks."""
    from alembic import command  # noqa: PLC0415 - on demand, as above

    def upgrade(sync: Connection) -> None:
        set_placement(sync, placement)
        if placement.is_distributed:
            sync.execute(text(ONE_CONNECTION))
        command.upgrade(alembic_config(sync), revision)

    while True:
        try:
            async with connection.begin():
                await connection.run_sync(upgrade)
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None) or str(error.orig)
            if state not in BLOCKED_STATES:
                raise
        else:
            return
        holders: list[str] = []
        if connection.dialect.name == "postgresql":
            async with connection.begin():
                holders = [*await connection.scalars(OPEN_TRANSACTIONS)]
        report(
            f"Revision {revision} waits for a lock. "
            f"Open transactions: {', '.join(holders) or 'none now'}."
        )
        await asyncio.sleep(_pause_seconds())


def _pause_seconds() -> float:
    """Seconds until a lock is tried again, different for each of several processes."""
    return random.uniform(0.5, 1.5)  # noqa: S311 - jitter


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
async def schema_connection(database: Database) -> AsyncIterator[AsyncConnection]:
    """Open a connection of SQLAlchemy's engine for changes of the schema."""
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
            async with engine.connect() as connection:
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

    A migration notes the oldest revision whose version of the service works with its schema.

    Raises:
        NotCurrent: the revision is unknown to this version and not compatible with it.
        Unavailable: the database is unreachable.

    """
    async with database.reading() as session:
        has_revision = await session.scalar(text(HAS_REVISION[database.dialect]))
        # A database of before 0.1.0 lacks the second column.
        rows = await session.execute(text("SELECT * FROM alembic_version")) if has_revision else ()
    revision, compatible_since = (*rows[0], None)[:2] if rows else (None, None)
    if revision is not None and revision < revisions()[0]:
        message = (
            f"The database is at revision {revision}, of a development state before 0.1.0, which "
            "cannot be upgraded. Export its data with the version that created it, and import the "
            "files into an empty database."
        )
        raise NotCurrent(message)
    is_compatible = compatible_since is not None and compatible_since <= newest_revision()
    if revision not in (None, *revisions()) and not is_compatible:
        message = (
            f"The database is at revision {revision}, of a newer version of this service than the "
            f"installed one, which supports revisions up to {newest_revision()}. Install the newer "
            "version."
        )
        raise NotCurrent(message)
    return str(revision) if rows else None


async def require_current(database: Database) -> None:
    """Require the newest revision, or one of a newer version that is compatible with this one.

    Raises:
        NotCurrent: the database has another revision; the message names the command to run.
        Unavailable: the database is unreachable.

    """
    revision = await current_revision(database)
    if revision is None or revision < newest_revision():
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
