"""Exports of a whole tenant: a directory with every row, of one snapshot, streamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EEXIST, ENOTDIR
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, BinaryIO, Final

import msgspec
from sqlalchemy import ColumnElement, Table, select

from app.database.engine import Database
from app.database.migration import newest_revision
from app.database.parameters import TENANT
from app.database.session import DriverSession
from app.database.tables import adjustment, tenant
from app.domain.hash_chain import Head
from app.files.exports import EXPORT_BATCH_ROWS, json_lines
from app.files.problems import ReportRows
from app.files.tenant_files import (
    MANIFEST_FILE,
    MOVED_TABLES,
    TENANT_FORMAT,
    TableFile,
    TenantManifest,
    moved_columns,
    table_file_name,
)
from app.reads.changes import newest_position

_LAST_ADJUSTMENT: Final = (
    select(adjustment.c.position, adjustment.c.hash)
    .where(adjustment.c.tenant_id == TENANT)
    .order_by(adjustment.c.position.desc())
    .limit(1)
)


async def export_tenant(
    database: Database, tenant_id: str, directory: Path, progress: ReportRows
) -> TenantManifest:
    """Write a tenant to a new directory, which appears when it is complete.

    Raises:
        OSError: the directory exists, or cannot be written.

    """
    parameters = {"tenant_id": tenant_id}
    files: dict[str, TableFile] = {}
    with _new_directory(directory) as unfinished:
        async with database.reading() as session:
            await session.lift_time_limits()
            for table in MOVED_TABLES:
                name = table_file_name(table)
                with _new_file(unfinished / name) as target:
                    files[name] = await _write_rows(session, tenant_id, table, target, progress)
            last = await session.execute(_LAST_ADJUSTMENT, parameters)
        manifest = TenantManifest(
            format=TENANT_FORMAT,
            revision=newest_revision(),
            tenant=tenant_id,
            head=str(Head(tenant_id, *last[0]) if last else Head(tenant_id)),
            files=files,
        )
        with _new_file(unfinished / MANIFEST_FILE) as target:
            target.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


async def _write_rows(
    session: DriverSession, tenant_id: str, table: Table, target: BinaryIO, progress: ReportRows
) -> TableFile:
    columns: dict[str, ColumnElement[Any]] = {
        column.name: column for column in moved_columns(table)
    }
    if table is tenant:
        # The moved tenant has none of the changes of its feed.
        columns[tenant.c.changes_deleted_until.name] = newest_position()
    encode = json_lines([*columns])
    statement = (
        select(*columns.values()).where(table.c.tenant_id == TENANT).order_by(*table.primary_key)
    )
    parameters = {"tenant_id": tenant_id}
    digest, written = sha256(), 0
    async for rows in session.stream(statement, parameters, size=EXPORT_BATCH_ROWS):
        text = encode(rows)
        target.write(text)
        digest.update(text)
        written += len(rows)
        progress(f"rows of {table.name} written", written)
    return TableFile(written, digest.hexdigest())


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file, and store its content on the disk at the end."""
    with path.open("xb") as target:
        yield target
        target.flush()
        os.fsync(target.fileno())


@contextmanager
def _new_directory(path: Path) -> Iterator[Path]:
    """Create a directory under a temporary name, and give it its name at the end.

    It has personal data and a key, so only its owner can read it.
    """
    if os.path.lexists(path):
        raise FileExistsError(EEXIST, "exists already; name a new directory", str(path))
    if not path.parent.is_dir():
        raise NotADirectoryError(ENOTDIR, "is not a directory; create it first", str(path.parent))
    unfinished = Path(mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield unfinished
        _store_names(unfinished)
        unfinished.rename(path)
        _store_names(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _store_names(directory: Path) -> None:
    """Store the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
