"""Imports as the command runs them, in this process or in one that is killed."""

import asyncio
from io import BytesIO

from app.database.engine import Database
from app.files import imports as importing
from app.files.columns import FileKind
from app.files.import_runs import ImportTally
from app.files.reading import ReadOptions, read_file
from app.files.sources import FileFormat
from app.files.staging import Staging
from app.files.warehouse_names import WarehouseNames
from app.reads.warehouses import list_warehouses
from app.settings import Settings
from tests.ledger.dying import Clock

# Small files have several batches of this size.
BATCH = 3


def silent(_what: str, _number: int | None) -> None:
    """Show no progress."""


def staged(
    content: str | bytes,
    kind: FileKind,
    form: FileFormat | None = None,
    names: WarehouseNames | None = None,
    sku_namespace: str | None = None,
) -> Staging:
    """Return a parsed file; without names it may name any warehouse."""
    staging = Staging()
    raw = content if isinstance(content, bytes) else content.encode()
    names = names or WarehouseNames("t", [], creates=True)
    options = ReadOptions(kind=kind, form=form, sku_namespace=sku_namespace)
    read_file(BytesIO(raw), staging, options, names, silent)
    return staging


async def warehouse_names(database: Database, tenant: str) -> WarehouseNames:
    """Read the warehouses of a tenant."""
    async with database.snapshot() as snapshot:
        return WarehouseNames(tenant, await list_warehouses(snapshot, tenant))


async def imported(
    database: Database,
    tenant: str,
    content: str | bytes,
    kind: FileKind,
    form: FileFormat | None = None,
    *,
    name: str = "",
) -> ImportTally:
    """Import a file; the tally of its rows."""
    staging = staged(content, kind, form, await warehouse_names(database, tenant))
    try:
        run = importing.run_of(staging, tenant, name=name, created_by="importer")
        await importing.validate(database, staging, run, silent)
        return (await importing.write(database, staging, run, silent)).tally
    finally:
        staging.close()


def die_importing(
    moment: int, database_url: str, tenant: str, content: str, kind: FileKind
) -> None:
    """Import a file in a process that kills itself at a moment (`tests.ledger.dying`)."""

    async def import_until_killed() -> None:
        database = Database(Settings(database_url=database_url))
        vars(importing)["IMPORT_BATCH_ROWS"] = BATCH
        with Clock(moment).watching():
            await imported(database, tenant, content, kind)
        await database.dispose()

    asyncio.run(import_until_killed())
