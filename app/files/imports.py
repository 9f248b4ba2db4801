"""Imports of SKUs, warehouses, stock levels and counts from files.

A file is validated as a whole before anything is written, and then written in batches. Each batch
is a write of its tenant like any other and is decided again when it is written. Existing rows stay
as they are, so an interrupted import continues when it is started again.

Ledger entries of an import carry the id of the run, which is derived from the content of the file.
The id marks the counts that are already imported. Unlike an idempotency key, it never expires.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from ulid import ULID

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.stock import Stock
from app.errors import ValidationFailed
from app.files.catalogue_imports import batch_of_skus, batch_of_warehouses
from app.files.columns import FileKind
from app.files.import_runs import FileRows, ImportRun, ImportTally, PrepareBatch
from app.files.staging import ReportRows, Staging
from app.files.stock_imports import batch_of_stock
from app.writes.batch_reads import read_batch
from app.writes.decisions import Decision
from app.writes.idempotency_keys import WriteRequest
from app.writes.pipeline import WriteContext, run_write

# Few enough that other writes of the tenant wait only briefly for a batch.
IMPORT_BATCH_ROWS: Final = 1_000
PREPARE_BATCH: Final[Mapping[FileKind, PrepareBatch]] = {
    FileKind.SKUS: batch_of_skus,
    FileKind.WAREHOUSES: batch_of_warehouses,
    FileKind.LEVELS: batch_of_stock,
    FileKind.COUNTS: batch_of_stock,
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
        batch = PREPARE_BATCH[run.kind](run, rows)
        async with database.snapshot() as snapshot:
            stock, _ = await read_batch(snapshot, run.tenant_id, [batch.needs])
        decision = batch.decide(stock, is_final=False)
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
        tally.add(await _write_batch(database, run, rows))
        written += len(rows)
        progress("rows written", written)
    return tally


async def _write_batch(database: Database, run: ImportRun, rows: FileRows) -> ImportTally:
    batch = PREPARE_BATCH[run.kind](run, rows)

    def decide_batch(stock: Stock) -> Decision[ImportTally]:
        decision = batch.decide(stock, is_final=True)
        if decision.problems:
            line, reason = decision.problems[0]
            message = (
                f"Stock has changed since the file was checked: line {line}: {reason} Earlier "
                "batches stay imported. Correct the row, and start the import again."
            )
            return Decision(ValidationFailed(message))
        return Decision(decision.tally, decision.changes)

    caller = Caller(run.tenant_id, run.created_by, run.created_by)
    context = WriteContext(database=database, caller=caller)
    request = WriteRequest("import", run.id, ImportTally)
    return (await run_write(context, request, batch.needs, decide_batch)).result
