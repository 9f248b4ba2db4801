"""Imports of SKUs, warehouses, stock levels, counts and marketplace reports from files.

A file is validated as a whole before anything is written, and then written in batches. Each batch
is a write of its tenant like any other and is decided again when it is written. Existing rows stay
as they are, so an interrupted import continues when it is started again.

Ledger entries of an import carry the id of the run, which is derived from the rows of the file.
The id marks the counts that are already imported. Unlike an idempotency key, it never expires. A
feed may repeat its rows, so counts without a name can have several runs (`validate_next_run`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import bindparam, select
from ulid import ULID

from app.database.clocks import Present
from app.database.engine import Database
from app.database.parameters import TENANT
from app.database.tables import adjustment
from app.domain.caller import Caller
from app.domain.persons import email_problem, normalized_email
from app.domain.stock import OnError, Stock
from app.errors import ValidationFailed, invalid_field
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
from app.files.imported_levels import ImportedLevels
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

# Counts without a name whose last batch is older than this are another run.
CONTINUED_SECONDS: Final = 3_600
_LAST_ENTRY: Final = (
    select(adjustment.c.created_at > Present(-CONTINUED_SECONDS))
    .where(
        adjustment.c.tenant_id == TENANT,
        adjustment.c.bulk_id == bindparam("run", type_=adjustment.c.bulk_id.type),
    )
    .order_by(adjustment.c.position.desc())
    .limit(1)
)


class FileRefused(Exception):
    """Rows of the file have problems; nothing was changed."""


@dataclass(frozen=True, slots=True)
class ValidatedRun:
    """The run of a file, and the result that it would have."""

    run: ImportRun
    result: ImportResult
    # Whether an earlier run wrote the same rows, and this one writes them again.
    is_repetition: bool


def run_of(staging: Staging, tenant_id: str, *, name: str, created_by: str) -> ImportRun:
    """Return the first run of a file; its id is the same for the same rows and name.

    Raises:
        ValidationFailed: the author cannot be stored.

    """
    created_by = normalized_email(created_by)
    if problem := email_problem(created_by):
        raise invalid_field("created_by", problem)
    id_ = _run_id(staging, name, 0)
    return ImportRun(
        tenant_id=tenant_id,
        kind=staging.kind,
        name=name,
        id=id_,
        created_by=created_by,
        imported=ImportedLevels(staging, id_),
    )


def _repeated(run: ImportRun, staging: Staging, repetition: int) -> ImportRun:
    id_ = _run_id(staging, run.name, repetition)
    return replace(run, id=id_, imported=ImportedLevels(staging, id_))


def _run_id(staging: Staging, name: str, repetition: int) -> str:
    parts = f"{staging.kind}\n{name}\n{staging.digest}"
    if repetition:
        parts += f"\n{repetition}"
    digest = hashlib.sha256(parts.encode()).digest()
    return f"bulk_{ULID.from_bytes(digest[:16])}"


async def validate_next_run(
    database: Database,
    staging: Staging,
    run: ImportRun,
    progress: ReportRows,
    *,
    on_error: OnError = OnError.ABORT,
) -> ValidatedRun:
    """Choose the run of a file, given its first one, and validate it (see `validate`).

    Counts without a name continue the last run of the same rows, if its last entry is younger than
    CONTINUED_SECONDS and rows are left. Otherwise they are another run. Every other import has one
    run.
    """
    repetition, is_continued = 0, False
    if run.kind is FileKind.COUNTS and not run.name:
        last, is_continued = await _last_repetition(database, staging, run)
        repetition = last if is_continued else last + 1
    run = _repeated(run, staging, repetition)
    result = await validate(database, staging, run, progress, on_error=on_error)
    if is_continued and result.is_complete:
        repetition += 1
        run = _repeated(run, staging, repetition)
        result = await validate(database, staging, run, progress, on_error=on_error)
    return ValidatedRun(run, result, repetition > 0 and not result.tally.already_imported)


async def _last_repetition(
    database: Database, staging: Staging, run: ImportRun
) -> tuple[int, bool]:
    """Return the last repetition with ledger entries, else -1, and whether it is continued."""
    is_recent = {-1: False}
    async with database.snapshot() as snapshot:

        async def has_entries(repetition: int) -> bool:
            id_ = _run_id(staging, run.name, repetition)
            rows = await snapshot.rows(_LAST_ENTRY, {"tenant_id": run.tenant_id, "run": id_})
            is_recent.update((repetition, bool(recent)) for (recent,) in rows)
            return bool(rows)

        # Repetitions have no gaps, so the first one without entries is found by halving.
        used, free = -1, 0
        while await has_entries(free):
            used, free = free, 2 * free + 1
        while free - used > 1:
            middle = (used + free) // 2
            if await has_entries(middle):
                used = middle
            else:
                free = middle
    return used, is_recent[used]


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
    result = await _check(database, staging, run, progress, SimilarCodes(run, staging))
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
    if bad and staging.has_wide_rows:
        # `write` leaves out the other levels of a bad row, too.
        result = await _check(database, staging, run, progress)
    return result


async def _check(
    database: Database,
    staging: Staging,
    run: ImportRun,
    progress: ReportRows,
    similar: SimilarCodes | None = None,
) -> ImportResult:
    """Decide on all good rows, and add the problems and the damaged codes to the staging."""
    result, checked = ImportResult(), 0
    for rows in staging.batches(IMPORT_BATCH_ROWS):
        batch = _prepare_batch(run, rows)
        async with database.snapshot() as snapshot:
            stock, _ = await read_batch(snapshot, run.tenant_id, [batch.needs])
            decision = batch.decide(stock, is_final=False)
            problems = decision.problems
            if similar is not None and run.kind is not FileKind.WAREHOUSES:
                problems = await similar.add_hints(snapshot, problems)
                problems += await similar.warn(snapshot, rows, stock.skus)
        staging.add_problems(problems)
        result.add(decision)
        checked += len(rows)
        progress("rows checked", checked)
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
    # The import adds the similar codes to its problems itself.
    return replace(batch, needs=replace(batch.needs, finds_similar_codes=False))


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
