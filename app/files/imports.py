"""Imports of SKUs, warehouses, stock levels, counts and marketplace reports from files.

A file is validated as a whole before anything is written, and then written in batches. Each batch
is a write of its tenant like any other and is decided again when it is written. Existing rows stay
as they are, so an interrupted import continues when it is started again.

Ledger entries of an import carry the id of the run, which is derived from the rows of the file.
The id marks the counts that are already imported. Unlike an idempotency key, it never expires.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, func, select
from ulid import ULID

from app.database.engine import Database
from app.database.parameters import TENANT
from app.database.tables import adjustment
from app.domain.caller import Caller
from app.domain.stock import OnError, Stock
from app.errors import ValidationFailed
from app.files.catalogue_imports import batch_of_skus, batch_of_warehouses
from app.files.columns import FileKind
from app.files.import_runs import (
    BatchDecision,
    FileRows,
    ImportBatch,
    ImportResult,
    ImportRun,
    PrepareBatch,
)
from app.files.problems import ReportRows, shown
from app.files.report_imports import batch_of_reports
from app.files.similar_codes import SimilarCodes
from app.files.staging import Staging
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
    FileKind.REPORTS: batch_of_reports,
}


_NUMBER_OF_ENTRIES: Final = select(func.count()).where(
    adjustment.c.tenant_id == TENANT,
    adjustment.c.bulk_id == bindparam("run", type_=adjustment.c.bulk_id.type),
)


class FileRefused(Exception):
    """Rows of the file have problems; nothing was changed."""


def run_of(
    staging: Staging, tenant_id: str, *, name: str, created_by: str, repetition: int = 0
) -> ImportRun:
    """Return the run of a file; its id is the same for the same rows, name and repetition."""
    parts = f"{staging.kind}\n{name}\n{staging.digest}"
    if repetition:
        parts += f"\n{repetition}"
    digest = hashlib.sha256(parts.encode()).digest()
    id_ = f"bulk_{ULID.from_bytes(digest[:16])}"
    return ImportRun(tenant_id=tenant_id, kind=staging.kind, id=id_, created_by=created_by)


async def next_repetition(database: Database, staging: Staging, tenant_id: str) -> int:
    """Return the repetition of an import without a name, because the same rows may come daily.

    It is the last one if its ledger entries are fewer than the rows, so that an interrupted import
    continues. Otherwise it is a new one.
    """

    async def entries(repetition: int) -> int:
        run = run_of(staging, tenant_id, name="", created_by="", repetition=repetition)
        parameters = {"tenant_id": tenant_id, "run": run.id}
        async with database.snapshot() as snapshot:
            [(number,)] = await snapshot.rows(_NUMBER_OF_ENTRIES, parameters)
        return int(number)

    if staging.kind is not FileKind.COUNTS:
        return 0
    # Repetitions have no gaps, so the first one without entries is found by halving.
    used, free = -1, 0
    while await entries(free):
        used, free = free, 2 * free + 1
    while free - used > 1:
        middle = (used + free) // 2
        if await entries(middle):
            used = middle
        else:
            free = middle
    if used < 0:
        return 0
    return used if await entries(used) < staging.number_of_good_rows else free


async def validate(
    database: Database,
    staging: Staging,
    run: ImportRun,
    progress: ReportRows,
    *,
    on_error: OnError = OnError.ABORT,
) -> ImportResult:
    """Check every row against the database; return the result that `write` would have.

    Problems are added to the staging. With CONTINUE, `write` leaves out the bad rows.

    Raises:
        FileRefused: rows have problems, or a part of the file could not be read.

    """
    result, checked = ImportResult(), 0
    similar = SimilarCodes(run, staging)
    for rows in staging.batches(IMPORT_BATCH_ROWS):
        batch = _prepare_batch(run, rows)
        async with database.snapshot() as snapshot:
            stock, _ = await read_batch(snapshot, run.tenant_id, [batch.needs])
        decision = batch.decide(stock, is_final=False)
        staging.add_problems(decision.problems)
        if run.kind is not FileKind.WAREHOUSES:
            similar.add(rows, stock.skus)
        result.add(decision)
        checked += len(rows)
        progress("rows checked", checked)
    await similar.find(database)
    similar.close()
    bad = staging.number_of_bad_rows
    if bad and staging.is_incomplete:
        message = "The file cannot be imported; nothing was changed."
        raise FileRefused(message)
    if bad and on_error is OnError.ABORT:
        message = (
            f"Bad rows: {bad:,}; nothing was changed. Correct them, or import the good rows alone "
            "by --on-error continue."
        )
        raise FileRefused(message)
    return result


async def write(
    database: Database,
    staging: Staging,
    run: ImportRun,
    progress: ReportRows,
    *,
    on_error: OnError = OnError.ABORT,
) -> ImportResult:
    """Write the validated rows batch by batch.

    Raises:
        InventoryError: a row is refused because the database has changed since its validation.
            Earlier batches stay written, and the same import continues from there. With CONTINUE,
            its problem is added to the staging instead.

    """
    result, written = ImportResult(), 0
    for rows in staging.batches(IMPORT_BATCH_ROWS):
        decision = await _write_batch(database, run, rows, on_error)
        staging.add_problems(decision.problems)
        result.add(decision)
        written += len(rows)
        progress("rows written", written)
    return result


def _prepare_batch(run: ImportRun, rows: FileRows) -> ImportBatch:
    batch = PREPARE_BATCH[run.kind](run, rows)
    # The codes like unknown ones are found once per file.
    return replace(batch, needs=replace(batch.needs, may_create_skus=True))


async def _write_batch(
    database: Database, run: ImportRun, rows: FileRows, on_error: OnError
) -> BatchDecision:
    batch = _prepare_batch(run, rows)

    def decide_batch(stock: Stock) -> Decision[BatchDecision]:
        decision = batch.decide(stock, is_final=True)
        if decision.problems and on_error is OnError.ABORT:
            problem = decision.problems[0]
            message = (
                f"Stock has changed since the file was checked: line {problem.line}, "
                f"{shown(problem.value)} {problem.reason}. Earlier batches stay imported. Correct "
                "the row, and start the import again."
            )
            return Decision(ValidationFailed(message))
        return Decision(decision, decision.changes)

    caller = Caller(run.tenant_id, run.created_by, run.created_by)
    context = WriteContext(database=database, caller=caller)
    request = WriteRequest("import", run.id, BatchDecision)
    return (await run_write(context, request, batch.needs, decide_batch)).result
