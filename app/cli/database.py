"""Commands with a database: run work on DATABASE_URL, and migrate it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from app.database.engine import Database
from app.database.migration import grant, migrate, require_full_access
from app.http.logs import configure_logs
from app.reads.tenants import list_tenants
from app.settings import Settings
from app.writes.tenants import tenant_not_found

Result = TypeVar("Result")


def run_with_database(
    work: Callable[[Database], Awaitable[Result]], settings: Settings | None = None
) -> Result:
    """Run a coroutine with the database of the settings, by default those of the environment."""
    settings = settings or Settings()
    configure_logs(settings.log_level)

    async def run() -> Result:
        database = Database(settings)
        try:
            return await work(database)
        finally:
            await database.dispose()

    return asyncio.run(run())


async def require_tenant(database: Database, tenant_id: str) -> None:
    """Check that the database is current and has a tenant.

    Raises:
        NotFound: the tenant does not exist.
        Unavailable: the database is not current.

    """
    await require_full_access(database)
    async with database.snapshot() as snapshot:
        if tenant_id not in await list_tenants(snapshot):
            raise tenant_not_found(tenant_id)


def migrate_command(
    grant_to: Annotated[
        str | None,
        typer.Option(
            help="A PostgreSQL role that gets the privileges to serve without owning the tables, "
            "for INVENTORY_ROW_LEVEL_SECURITY."
        ),
    ] = None,
) -> None:
    """Migrate the database at DATABASE_URL to the schema of this version."""

    async def work(database: Database) -> None:
        await migrate(database)
        if grant_to is not None:
            await grant(database, grant_to)

    run_with_database(work)
    typer.echo("The database is current.")
