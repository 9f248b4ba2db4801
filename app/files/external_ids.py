"""Files that name SKUs by ids of another system."""

from collections.abc import Iterator, Mapping, Sequence

from app.database.engine import Database
from app.domain.object_details import (
    ExternalIdRecord,
    ObjectKind,
    external_id_of,
    external_id_problem,
)
from app.files.import_runs import ImportRun
from app.files.problems import ReportRows, RowProblem
from app.files.reading import STAGING_BATCH_ROWS
from app.files.staging import Duplicates, StagedRow, Staging
from app.reads.object_details import find_by_external_ids


async def resolve_external_ids(
    database: Database,
    run: ImportRun,
    staging: Staging,
    progress: ReportRows,
    *,
    namespace: str,
    duplicates: Duplicates,
) -> None:
    """Replace the external ids of a namespace in staged rows by the codes of their SKUs.

    Problems of unknown and malformed ids are added to the staging.
    """
    resolved = 0
    for rows in staging.row_batches(STAGING_BATCH_ROWS):
        ids = {row.id: external_id_of(namespace, row.content["sku"]) for row in rows}
        wanted = sorted({id_ for id_ in ids.values() if external_id_problem(id_) is None})
        async with database.snapshot() as snapshot:
            codes = await find_by_external_ids(
                snapshot, run.tenant_id, kind=ObjectKind.SKU, ids=wanted
            )
        staging.add_problems(_problems(run, rows, ids, codes))
        # Their values could equal codes of other rows.
        staging.remove(row for row in rows if ids[row.id] not in codes)
        staging.set_codes([(row, codes[ids[row.id]]) for row in rows if ids[row.id] in codes])
        resolved += len(rows)
        progress("SKUs looked up", resolved)
    staging.find_duplicates(duplicates)


def _problems(
    run: ImportRun,
    rows: Sequence[StagedRow],
    ids: Mapping[int, ExternalIdRecord],
    codes: Mapping[ExternalIdRecord, str],
) -> Iterator[RowProblem]:
    for row in rows:
        id_ = ids[row.id]
        if id_ in codes:
            continue
        if problem := external_id_problem(id_):
            yield run.problem(row.line, "sku", row.content["sku"], problem[1])
        else:
            reason = f"is not the {id_.namespace} of a SKU"
            remedy = "Give a SKU this external id first."
            yield run.problem(row.line, "sku", row.content["sku"], reason, remedy)
