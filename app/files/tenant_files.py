"""The files of a whole tenant: a manifest, and a file of JSON Lines for each moved table.

A line has all columns of a row but the tenant id, which the manifest has. Rows are in the order of
their primary key, so that two exports of the same rows are equal to the byte.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, NamedTuple

import msgspec
from sqlalchemy import Column, Table

from app.database.columns import UtcDateTime
from app.database.external_id_table import external_id
from app.database.migration import newest_revision
from app.database.schema import METADATA
from app.database.tables import (
    adjustment,
    api_token,
    change,
    idempotency_key,
    ledger_sum,
    reservation,
    reservation_count,
    sku,
    sku_count,
    sku_word,
    tenant,
    warehouse,
)
from app.database.webhook_tables import webhook, webhook_attempt
from app.domain.hash_chain import parse_head
from app.domain.object_details import (
    ObjectDetails,
    details_problems,
    metadata_problems,
    require_external_id,
)
from app.domain.validation import (
    MAX_TITLE_LENGTH,
    check_code,
    name_problem,
    note_problem,
    reason_problem,
    reference_problem,
)
from app.errors import InventoryError
from app.files.exports import json_lines
from app.files.problems import ReportRows, listed, shown
from app.files.sources import MAX_LINE_LENGTH
from app.reads.object_details import METADATA_DECODER
from app.writes.rows import metadata_text
from app.writes.tenants import tenant_id_problem

MANIFEST_FILE: Final = "manifest.json"
# The version of the form of the files. Their columns belong to a revision of the tables.
TENANT_FORMAT: Final = 1
# The import derives these tables from the others.
DERIVED_TABLES: Final = frozenset({ledger_sum, reservation_count, sku_count, sku_word})
# Tokens, webhooks with their secrets, answers to requests of the last day, and the changes of the
# feed stay with their installation.
UNMOVED_TABLES: Final = frozenset({api_token, change, idempotency_key, webhook, webhook_attempt})
# In an order in which every row follows the rows that it refers to.
MOVED_TABLES: Final = tuple(
    table for table in METADATA.sorted_tables if table not in DERIVED_TABLES | UNMOVED_TABLES
)
# The rows of one INSERT come from at least so many bytes of a file.
BATCH_BYTES: Final = 524_288
_INTEGER: Final = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_KEY_TEXT: Final = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]+\Z")]
_TEXT: Final = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z")]


def _metadata_problem(text: str | None) -> str | None:
    """Describe the fault of the stored metadata of an object, if any."""
    if text is None:
        return None
    entries = METADATA_DECODER.decode(text)
    problems = metadata_problems((entry.key, entry.value) for entry in entries)
    problems += details_problems(ObjectDetails(metadata=entries))
    if problems:
        return f"has {problems[0][0]}, which {problems[0][1]}"
    keys = [entry.key for entry in entries]
    if text != metadata_text(entries) or keys != sorted(set(keys)):
        return "is not written as the service writes it"
    return None


_CHECKS: Final[Mapping[Table, Mapping[str, Callable[[Any], str | None]]]] = {
    sku: {
        "title": partial(name_problem, longest=MAX_TITLE_LENGTH),
        "metadata_entries": _metadata_problem,
    },
    warehouse: {"metadata_entries": _metadata_problem},
    adjustment: {
        "reason": reason_problem,
        "note": note_problem,
        "reference": reference_problem,
    },
    reservation: {"note": note_problem, "reference": reference_problem},
}


class TenantRefused(Exception):
    """An export of a tenant cannot be imported, and nothing of it was."""

    def __init__(self, reason: str) -> None:
        message = f"{reason}. Nothing was imported."
        # Other characters of a foreign file could control the terminal.
        super().__init__("".join(each if each.isprintable() else "?" for each in message))


class TableFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The number of rows of a file, and its SHA-256 in hex."""

    rows: int
    sha256: str


class TenantManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest of an export: its tenant, the head of the ledger, and its files by name."""

    format: int
    revision: str
    tenant: str
    head: str
    files: dict[str, TableFile]


class FileBatch(NamedTuple):
    """Rows of a file that follow each other, and the number of the first line."""

    first_line: int
    rows: Sequence[Mapping[str, object]]


class _Format(msgspec.Struct):
    format: int


def moved_columns(table: Table) -> list[Column[Any]]:
    """List the columns of a table that are in its file."""
    unmoved = {tenant.c.tenant_id.name, tenant.c.deleted_since.name}
    return [column for column in table.c if column.name not in unmoved]


def table_file_name(table: Table) -> str:
    """Return the name of the file of a table."""
    return f"{table.name}.jsonl"


def read_manifest(directory: Path) -> TenantManifest:
    """Read and check the manifest of an export.

    Raises:
        TenantRefused: the directory is not a whole export that this version can import.

    """
    with _opened(directory, MANIFEST_FILE) as file:
        text = file.read(MAX_LINE_LENGTH)
    try:
        format_ = msgspec.json.decode(text, type=_Format).format
        if format_ != TENANT_FORMAT:
            message = (
                f"The export has format {format_}, and this version imports format {TENANT_FORMAT}"
                ". Import it with the version of the service that wrote it"
            )
            raise TenantRefused(message)
        manifest = msgspec.json.decode(text, type=TenantManifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        message = f"{MANIFEST_FILE} is not the manifest of an export: {error}"
        raise TenantRefused(message) from error
    _check_manifest(manifest)
    return manifest


def _check_manifest(manifest: TenantManifest) -> None:
    if manifest.revision != newest_revision():
        message = (
            f"The export has the columns of revision {shown(manifest.revision)}, and this version "
            f"has revision {newest_revision()!r}. Export and import with the same version"
        )
        raise TenantRefused(message)
    names = {table_file_name(table) for table in MOVED_TABLES}
    if manifest.files.keys() != names:
        unknown = sorted(manifest.files.keys() - names)
        missing = sorted(names - manifest.files.keys())
        problem = f"names {listed(unknown)}" if unknown else f"lacks {listed(missing)}"
        message = f"{MANIFEST_FILE} does not list the files of an export: it {problem}"
        raise TenantRefused(message)
    if id_problem := tenant_id_problem(manifest.tenant):
        message = (
            f"{MANIFEST_FILE} names the tenant {shown(manifest.tenant)}, whose id {id_problem}"
        )
        raise TenantRefused(message)
    try:
        is_own_head = parse_head(manifest.head).tenant_id == manifest.tenant
    except InventoryError:
        is_own_head = False
    if not is_own_head:
        message = f"{MANIFEST_FILE} has no head of this tenant, but {shown(manifest.head)}"
        raise TenantRefused(message)
    if manifest.files[table_file_name(tenant)].rows != 1:
        message = f"{MANIFEST_FILE} does not say that the export has one tenant"
        raise TenantRefused(message)


def check_files(directory: Path, manifest: TenantManifest, progress: ReportRows) -> None:
    """Compare every file with the manifest, before any row is imported.

    Raises:
        TenantRefused: a file is missing or changed.

    """
    rows = 0
    for name, file in manifest.files.items():
        for _ in _lines(directory, name, file):
            rows += 1
            if rows % 10_000 == 0:
                progress("rows checked", rows)


def file_batches(directory: Path, manifest: TenantManifest, table: Table) -> Iterator[FileBatch]:
    """Yield the rows of the file of a table in batches.

    Raises:
        TenantRefused: the file has changed, or a row is malformed.

    """
    name = table_file_name(table)
    parse = _row_parser(table)
    first, size, rows = 1, 0, list[Mapping[str, object]]()
    for number, line in enumerate(_lines(directory, name, manifest.files[name]), start=1):
        try:
            rows.append({"tenant_id": manifest.tenant, **parse(line)})
        except (msgspec.MsgspecError, InventoryError, OverflowError) as error:
            message = f"{name}, line {number}: {str(error).removesuffix('.')}"
            raise TenantRefused(message) from error
        size += len(line)
        if size >= BATCH_BYTES:
            yield FileBatch(first, rows)
            first, size, rows = number + 1, 0, []
    if rows:
        yield FileBatch(first, rows)


def _lines(directory: Path, name: str, expected: TableFile) -> Iterator[bytes]:
    """Yield the lines of a file; at its end, compare it with the manifest."""
    digest, number = sha256(), 0
    with _opened(directory, name) as file:
        while line := file.readline(MAX_LINE_LENGTH + 1):
            number += 1
            if len(line) > MAX_LINE_LENGTH:
                message = f"{name}, line {number}, is longer than {MAX_LINE_LENGTH} bytes"
                raise TenantRefused(message)
            digest.update(line)
            yield line
    if (number, digest.hexdigest()) != (expected.rows, expected.sha256):
        message = (
            f"{name} is not as it was exported: it has {number:,} rows with the SHA-256 "
            f"{digest.hexdigest()}, and {MANIFEST_FILE} says {expected.rows:,} rows with "
            f"{shown(expected.sha256)}"
        )
        raise TenantRefused(message)


def _opened(directory: Path, name: str) -> BinaryIO:
    """Open a regular file; a link could lead out of the directory, a pipe would block."""
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        message = f"{directory} is not a whole export: it has no {name}"
        raise TenantRefused(message) from error
    except OSError as error:
        message = f"{name} of {directory} cannot be opened as a regular file: {error.strerror}"
        raise TenantRefused(message) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        message = f"{name} of {directory} is not a regular file"
        raise TenantRefused(message)
    return os.fdopen(descriptor, "rb")


def _row_parser(table: Table) -> Callable[[bytes], dict[str, object]]:
    """Create the function from a line of the file of a table to the row."""
    columns = moved_columns(table)
    fields = [(column.name, _field_type(column)) for column in columns]
    row_type = msgspec.defstruct(table.name, fields, forbid_unknown_fields=True)
    decoder = msgspec.json.Decoder(row_type)
    encode = json_lines([column.name for column in columns])
    checks = _CHECKS.get(table, {})

    def parse(line: bytes) -> dict[str, object]:
        row = msgspec.structs.asdict(decoder.decode(line))
        if table is sku:
            check_code(row["sku"])
        if table is external_id:
            _check_external_id(row)
        for name, problem_of in checks.items():
            if problem := problem_of(row[name]):
                message = f"{name} {problem}"
                raise msgspec.ValidationError(message)
        if encode([[*row.values()]]) != line:
            message = "the row is not written as an export writes it"
            raise msgspec.ValidationError(message)
        return row

    return parse


def _check_external_id(row: Mapping[str, Any]) -> None:
    """Check that an external id is in its stored form."""
    id_ = require_external_id(row["namespace"], row["value"], external_id.name)
    if id_.value != row["value"]:
        message = f"value must be {id_.value!r}, the stored form of the id"
        raise msgspec.ValidationError(message)


def _field_type(column: Column[Any]) -> Any:  # noqa: ANN401 - a type, or a union of types
    if isinstance(column.type, UtcDateTime):
        result: Any = Annotated[datetime, msgspec.Meta(tz=True)]
    elif column.type.python_type is int:
        result = _INTEGER
    elif column.type.python_type is str:
        result = _KEY_TEXT if column.primary_key else _TEXT
    else:
        result = column.type.python_type
    return result | None if column.nullable else result
