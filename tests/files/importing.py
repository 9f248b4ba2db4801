"""Imports as the command runs them, in this process or in one that is killed."""

import asyncio
from io import BytesIO

from app.database.engine import Database
from app.files import imports as importing
from app.files.columns import FileKind
from app.files.import_runs import ImportTally
from app.files.parsing import FileFormat
from app.files.staging import Staging
from app.settings import Settings
from tests.ledger.dying import Clock

# Small files have several batches of this size.
BATCH = 3


def silent(_what: str, _number: int | None) -> None:
    """Show no progress."""


def staged(content: str | bytes, kind: FileKind, form: FileFormat = FileFormat.CSV) -> Staging:
    """Return a parsed file."""
    staging = Staging(kind)
    raw = content if isinstance(content, bytes) else content.encode()
    staging.read(BytesIO(raw), form, silent)
    return staging


async def imported(
    database: Database,
    tenant: str,
    content: str | bytes,
    kind: FileKind,
    form: FileFormat = FileFormat.CSV,
    *,
    name: str = "",
) -> ImportTally:
    """Import a file; the tally of its rows."""
    staging = staged(content, kind, form)
    try:
        run = importing.run_of(staging, tenant, name=name, created_by="importer")
        await importing.validate(database, staging, run, silent)
        return await importing.write(database, staging, run, silent)
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
