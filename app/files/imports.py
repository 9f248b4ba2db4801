"""Imports of SKUs, warehouses, stock levels and counts from files.

A file is validated as a whole before anything is written, and then written in batches, one
transaction each. Every batch is decided again under its locks, and existing rows stay as they are,
so an interrupted import continues when it is started again.

Ledger entries of an import carry the id of the run, which is derived from the content of the file.
The id marks the counts that are already imported. Unlike an idempotency key, it never expires.
"""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from app.database.engine import Database
from app.database.faults import Conflict
from app.database.session import EngineSession
from app.errors import ValidationFailed
from app.files.catalogue_imports import decide_skus, decide_warehouses, warehouse_of_row
from app.files.columns import FileKind
from app.files.import_runs import DecideBatch, FileRows, ImportRun, ImportTally
from app.files.staging import ReportRows, Staging
from app.files.stock_imports import decide_stock
from app.writes.locked_reads import wait_for_warehouse_writes

# Few enough that the locks of a batch block other writers only briefly.
IMPORT_BATCH_ROWS: Final = 1_000
DECIDE_BATCH: Final[Mapping[FileKind, DecideBatch]] = {
    FileKind.SKUS: decide_skus,
    FileKind.WAREHOUSES: decide_warehouses,
    FileKind.LEVELS: decide_stock,
    FileKind.COUNTS: decide_stock,
}


class FileRefused(Exception):
    """Rows of the file have problems; nothing was changed."""


def run_of(staging: Staging, tenant_id: str, *, name: str, created_by: str) -> ImportRun:
    """Return the run of a file; its id is the same for the same content and name."""
    parts = f"{staging.kind}\n{name}\n{staging.digest}"
    digest = hashlib.sha256(parts.encode()).digest()
    id_ = f"bulk_{ULID.from_bytes(digest[:16])}"
    return ImportRun(tenant_id=tenant_id, kind=staging.kind, id=id_, created_by=created_by)


async def validate(
    database: Database, staging: Staging, run: ImportRun, progress: ReportRows
) -> ImportTally:
    """Check every row against the database; return the tally that `write` would have.

    Problems are added to the staging.

    Raises:
        FileRefused: rows have problems.

    """
    tally, checked = ImportTally(), 0
    for rows in staging.batches(IMPORT_BATCH_ROWS):
        async with database.snapshot() as snapshot:
            decision = await DECIDE_BATCH[run.kind](snapshot, run, rows, locked=False)
        staging.add_problems(decision.problems)
        tally.add(decision.tally)
        checked += len(rows)
        progress("rows checked", checked)
    if bad := staging.number_of_problems:
        message = f"{bad} of the rows are bad; nothing was changed"
        raise FileRefused(message)
    return tally


async def write(
    database: Database, staging: Staging, run: ImportRun, progress: ReportRows
) -> ImportTally:
    """Write the validated rows batch by batch.

    Raises:
        InventoryError: a row is refused because the database has changed since its validation.
            Earlier batches stay written, and the same import continues from there.

    """
    tally, written = ImportTally(), 0
    for rows in staging.batches(IMPORT_BATCH_ROWS):
        tally.add(await database.transaction(partial(_write_batch, run, rows)))
        if run.kind is FileKind.WAREHOUSES:
            warehouses = [warehouse_of_row(run.tenant_id, row) for _, row in rows]
            inactive = [warehouse.id for warehouse in warehouses if not warehouse.is_active]
            await wait_for_warehouse_writes(database, run.tenant_id, inactive)
        written += len(rows)
        progress("rows written", written)
    return tally


async def _write_batch(run: ImportRun, rows: FileRows, connection: AsyncConnection) -> ImportTally:
    session = EngineSession(connection)
    decision = await DECIDE_BATCH[run.kind](session, run, rows, locked=True)
    if decision.problems:
        line, reason = decision.problems[0]
        message = (
            f"Stock has changed since the file was checked: line {line}: {reason} Earlier batches "
            "stay imported. Correct the row, and start the import again."
        )
        raise ValidationFailed(message)
    if decision.write is not None and not await decision.write(session):
        raise Conflict
    return decision.tally
