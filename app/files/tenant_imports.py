"""Imports of a whole tenant from a directory, in one transaction that ends with a verification."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sqlalchemy import Table, exists, select, update

from app.database.engine import Database
from app.database.faults import refused_row
from app.database.parameters import TENANT
from app.database.schema import METADATA
from app.database.session import DriverSession
from app.database.tables import sku, sku_word, tenant
from app.domain.hash_chain import parse_head
from app.domain.words import stored_words
from app.files.problems import ReportRows
from app.files.tenant_files import (
    MOVED_TABLES,
    UNMOVED_TABLES,
    FileBatch,
    TenantManifest,
    TenantRefused,
    check_files,
    file_batches,
    read_manifest,
    table_file_name,
)
from app.ledger.derived_figures import replace_counts
from app.ledger.replay import LedgerBroken
from app.ledger.rollup import roll_up_in
from app.ledger.verification import Proof, prove
from app.writes.rows import word_rows


async def import_tenant(database: Database, directory: Path, progress: ReportRows) -> Proof:
    """Import the tenant of an export under its id; the tenant is new, or it is empty.

    Raises:
        TenantRefused: the export is damaged or breaks a rule, or the tenant is not empty.

    """
    manifest = read_manifest(directory)
    check_files(directory, manifest, progress)
    async with database.writing(manifest.tenant) as session:
        await _require_empty(session, manifest.tenant)
        for table in MOVED_TABLES:
            for batch in file_batches(directory, manifest, table):
                await _insert(session, table, batch)
                read = batch.first_line - 1 + len(batch.rows)
                progress(f"rows of {table.name} imported", read)
        await replace_counts(session, manifest.tenant)
        await roll_up_in(session, manifest.tenant)
        return await _proven(session, manifest, progress)


async def _require_empty(session: DriverSession, tenant_id: str) -> None:
    is_deleted = exists().where(tenant.c.tenant_id == TENANT, tenant.c.deleted_since.is_not(None))
    if await session.scalar(select(is_deleted), {"tenant_id": tenant_id}):
        message = (
            f"The deletion of the tenant {tenant_id} has not ended. Run: inventory tenant delete "
            f"{tenant_id}"
        )
        raise TenantRefused(message)
    for table in METADATA.tables.values():
        if table is tenant or table in UNMOVED_TABLES:
            continue
        any_row = select(exists().where(table.c.tenant_id == TENANT))
        if await session.scalar(any_row, {"tenant_id": tenant_id}):
            message = f"The tenant {tenant_id} is not empty: it has rows in the table {table.name}"
            raise TenantRefused(message)


async def _insert(session: DriverSession, table: Table, batch: FileBatch) -> None:
    try:
        if table is tenant:
            await _write_tenant(session, batch.rows[0])
        else:
            await session.insert(table, batch.rows)
        if table is sku:
            await session.insert(sku_word, _words_of_skus(batch))
    except Exception as error:
        if (refusal := refused_row(error)) is None:
            raise
        last = batch.first_line + len(batch.rows) - 1
        message = (
            f"{table_file_name(table)}, lines {batch.first_line} to {last}: the database refuses "
            f"a row: {refusal}"
        )
        raise TenantRefused(message) from error


def _words_of_skus(batch: FileBatch) -> list[dict[str, object]]:
    """Return the rows of `sku_word` of SKUs. The words depend on the version of Python."""
    return [
        {"tenant_id": row["tenant_id"], **words}
        for row in batch.rows
        for words in word_rows(str(row["sku"]), stored_words(str(row["sku"]), str(row["title"])))
    ]


async def _write_tenant(session: DriverSession, row: Mapping[str, object]) -> None:
    """Insert the tenant, or give an empty one the properties of the exported one."""
    changed = await session.execute(
        update(tenant)
        .where(tenant.c.tenant_id == row["tenant_id"])
        .values(**row)
        .returning(tenant.c.tenant_id)
    )
    if not changed:
        await session.execute(tenant.insert().values(**row))


async def _proven(session: DriverSession, manifest: TenantManifest, progress: ReportRows) -> Proof:
    """Verify the imported rows, which must have the head of the manifest."""
    report = partial(progress, "adjustments verified")
    try:
        proof = await prove(
            session, manifest.tenant, head=parse_head(manifest.head), progress=report
        )
    except LedgerBroken as error:
        message = f"The export breaks a rule of the ledger: {error}"
        raise TenantRefused(message) from error
    if proof.head != manifest.head:
        message = f"The ledger ends at {proof.head}, and not at the head of the manifest"
        raise TenantRefused(message)
    return proof
