"""Commands with a database: run work on it, and migrate it."""

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.cli.options import BadOption, DatabaseOption, JsonOption, with_examples
from app.cli.output import clear_progress, print_json, show_progress

if TYPE_CHECKING:
    from app.database.engine import Database
    from app.settings import Settings

Result = TypeVar("Result")

database_commands = typer.Typer()


def settings_for(database_url: str | None, **overrides: object) -> "Settings":
    """Read the settings; the option --database-url replaces DATABASE_URL."""
    from app.settings import Settings

    if database_url is not None:
        overrides["database_url"] = database_url
    return Settings.model_validate(overrides)


def run_with_database(
    work: "Callable[[Database], Coroutine[Any, Any, Result]]",
    settings: "Settings",
    *,
    creates: bool = False,
    log_level: str = "error",
) -> Result:
    """Run a coroutine with the database of the settings.

    Only work that `creates` a database makes a missing SQLite file. By default faults are not
    logged, because the error of a command has their cause.

    Raises:
        Unavailable: the SQLite file does not exist.

    """
    import asyncio

    from app.database.engine import Database
    from app.http.logs import configure_logs

    configure_logs(log_level)

    async def run() -> Result:
        database = Database(settings)
        if not creates:
            require_file(database)
        try:
            return await work(database)
        finally:
            await database.dispose()

    return asyncio.run(run())


def require_file(database: "Database") -> None:
    """Require the file of a SQLite database.

    Raises:
        Unavailable: the file does not exist.

    """
    from app.errors import Unavailable

    if database.dialect == "sqlite" and not Path(database.url.database or "").is_file():
        message = (
            f"There is no database file {database.url.database}. Run: inventory migrate, or name "
            "another database with --database-url or DATABASE_URL."
        )
        raise Unavailable(message)


async def require_tenant(database: "Database", tenant_id: str) -> None:
    """Check that the database is current and has a tenant.

    Raises:
        NotFound: the tenant does not exist.
        Unavailable: the database is not current.

    """
    from app.database.migration import require_full_access
    from app.reads.tenants import list_tenants
    from app.writes.tenants import tenant_not_found

    await require_full_access(database)
    async with database.snapshot() as snapshot:
        if tenant_id not in await list_tenants(snapshot):
            raise tenant_not_found(tenant_id)


@database_commands.command(
    "migrate",
    epilog=with_examples(
        "inventory migrate",
        "inventory migrate --status",
        "inventory migrate --grant-to service",
        "inventory migrate --partitions 8",
    ),
)
def migrate_command(
    *,
    grant_to: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="A PostgreSQL role that gets the privileges to serve without owning the tables, "
            "for INVENTORY_ROW_LEVEL_SECURITY.",
        ),
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=2,
            help="Divide each table of an empty PostgreSQL database by tenant into partitions.",
        ),
    ] = None,
    distribute: Annotated[
        bool,
        typer.Option(
            "--distribute",
            help="Distribute each table of an empty PostgreSQL database with the extension Citus "
            "by tenant.",
        ),
    ] = False,
    status: Annotated[
        bool,
        typer.Option(
            "--status",
            help="Change nothing: print the revision of the database and the one that this version "
            "needs. The exit status is 1 if they differ.",
        ),
    ] = False,
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """Migrate the database to the schema of this version; create a missing SQLite file."""
    from app.database.migration import grant, migrate
    from app.database.placement import Placement

    settings = settings_for(database_url)
    if partitions is not None and distribute:
        raise typer.BadParameter("--partitions and --distribute exclude each other")
    is_placed = partitions is not None or distribute
    if status:
        if grant_to is not None or is_placed:
            raise typer.BadParameter("--status changes nothing, so it excludes the other options")
        _print_status(settings, json=json)
        return

    async def work(database: "Database") -> None:
        placement = Placement(partitions or 0, distribute) if is_placed else None
        await migrate(database, placement, report=partial(typer.echo, err=True))
        if grant_to is not None:
            await grant(database, grant_to)

    run_with_database(work, settings, creates=True)
    if json:
        _print_status(settings, json=True)
    else:
        typer.echo("The database is current.")


@database_commands.command(
    "backup",
    epilog=with_examples("inventory backup inventory-2026-12-01.db"),
)
def backup_command(
    file: Annotated[Path, typer.Argument(help="The new file.")],
    *,
    database_url: DatabaseOption = None,
) -> None:
    """Copy the SQLite database to a file, while the service runs.

    The copy shows one instant. It appears when it is complete. For PostgreSQL use pg_dump.
    """
    from app.database.backup import back_up_sqlite
    from app.database.engine import Database

    database = Database(settings_for(database_url))
    if database.dialect != "sqlite":
        message = (
            "This command copies SQLite databases. For PostgreSQL run: "
            "pg_dump --format=custom --file=FILE DATABASE_URL"
        )
        raise BadOption(message)
    require_file(database)
    try:
        size = back_up_sqlite(
            Path(str(database.url.database)), file, progress=partial(show_progress, "pages copied")
        )
    finally:
        clear_progress()
    typer.echo(f"Copied {size:,} bytes to {file}.")


def _print_status(settings: "Settings", *, json: bool) -> None:
    from app.database.migration import current_revision, newest_revision
    from app.database.placement import read_placement

    async def work(database: "Database") -> tuple[str | None, str | None]:
        revision = await current_revision(database)
        if revision is None:
            return None, None
        async with database.reading() as session:
            return revision, str(await read_placement(session))

    needed = newest_revision()
    revision, placement = run_with_database(work, settings)
    if json:
        facts = {"revision": revision, "needed": needed, "current": revision == needed}
        print_json({**facts, "placement": placement})
    else:
        typer.echo(f"The database is at revision {revision or 'none'}; {needed} is needed.")
        if placement is not None:
            typer.echo(f"Its tables are {placement}.")
    if revision != needed:
        if not json:
            typer.echo("Run: inventory migrate")
        raise typer.Exit(1)
