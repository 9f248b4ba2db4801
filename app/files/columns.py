"""The kinds of import files and their columns."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from ulid import ULID

from app.domain.periods import parse_instant
from app.domain.validation import (
    MAX_NAME_LENGTHS,
    MAX_TITLE_LENGTH,
    name_problem,
    note_problem,
    sku_problem,
)
from app.domain.validation import reason_problem as problem_of_reason
from app.domain.warehouses import WarehouseType
from app.files.details_cells import external_ids_problem, metadata_problem

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_TYPES: Final = {type_.value.casefold(): type_.value for type_ in WarehouseType}
FileRow = dict[str, Any]


class FileKind(StrEnum):
    """The kind of the rows of a file."""

    SKUS = "skus"
    WAREHOUSES = "warehouses"
    LEVELS = "levels"
    COUNTS = "counts"
    REPORTS = "reports"


# The kinds whose rows are stock levels.
STOCK_KINDS: Final = frozenset({FileKind.LEVELS, FileKind.COUNTS, FileKind.REPORTS})
# The kinds whose rows without a quantity are passed over.
QUANTITY_KINDS: Final = frozenset({FileKind.COUNTS, FileKind.REPORTS})


class ExportSubject(StrEnum):
    """The rows of an export."""

    STOCK = "stock"
    LEDGER = "ledger"
    SKUS = "skus"
    WAREHOUSES = "warehouses"


@dataclass(frozen=True, slots=True)
class FileColumn:
    """The type of a column and the check of its values."""

    type: type[str] | type[int] | type[bool]
    problem: Callable[[Any], str | None]
    required: bool = False
    # The only values, by their text without case.
    choices: Mapping[str, str] | None = None


def _id_problem(text: str) -> str | None:
    if _ID.fullmatch(text):
        return None
    return "must be 1 to 64 of A-Z, a-z, 0-9 and _.:-, a letter or digit first"


def _type_problem(text: str) -> str | None:
    names = _TYPES.values()
    return None if text in names else f"must be one of {', '.join(names)}"


def _timestamp_problem(text: str) -> str | None:
    try:
        parse_instant(text)
    except ValueError as error:
        return str(error)
    return None


def _no_problem(_: object) -> None:
    return None


def _name_column(longest: int, *, required: bool = False) -> FileColumn:
    return FileColumn(str, partial(name_problem, longest=longest), required=required)


SKU_COLUMN: Final = FileColumn(str, sku_problem, required=True)
# Of new SKUs in a file of stock.
TITLE_COLUMN: Final = FileColumn(str, partial(name_problem, longest=MAX_TITLE_LENGTH))
# An id or a name: the import looks it up.
WAREHOUSE_ID_COLUMN: Final = FileColumn(str, _no_problem, required=True)
FILE_COLUMNS: Final[Mapping[FileKind, Mapping[str, FileColumn]]] = {
    FileKind.SKUS: {
        "sku": SKU_COLUMN,
        "title": _name_column(MAX_TITLE_LENGTH, required=True),
        "external_ids": FileColumn(str, external_ids_problem),
        "metadata": FileColumn(str, metadata_problem),
    },
    FileKind.WAREHOUSES: {
        "id": FileColumn(str, _id_problem),
        "name": _name_column(MAX_NAME_LENGTHS["name"], required=True),
        "type": FileColumn(str, _type_problem, required=True, choices=_TYPES),
        "address": _name_column(MAX_NAME_LENGTHS["address"]),
        "marketplace": _name_column(MAX_NAME_LENGTHS["marketplace"]),
        "is_active": FileColumn(bool, _no_problem),
        "is_sellable": FileColumn(bool, _no_problem),
    },
    FileKind.LEVELS: {
        "sku": SKU_COLUMN,
        "warehouse_id": WAREHOUSE_ID_COLUMN,
        "on_hand": FileColumn(int, _no_problem),
        "safety_stock": FileColumn(int, _no_problem),
        "reorder_point": FileColumn(int, _no_problem),
    },
    FileKind.COUNTS: {
        "sku": SKU_COLUMN,
        "warehouse_id": WAREHOUSE_ID_COLUMN,
        "quantity": FileColumn(int, _no_problem, required=True),
        "reason": FileColumn(str, problem_of_reason),
        "note": FileColumn(str, note_problem),
        "occurred_at": FileColumn(str, _timestamp_problem),
    },
    FileKind.REPORTS: {
        "sku": SKU_COLUMN,
        "warehouse_id": WAREHOUSE_ID_COLUMN,
        "quantity": FileColumn(int, _no_problem, required=True),
    },
}


def new_warehouse_id(tenant_id: str, name: str) -> str:
    """Return the id of a new warehouse, which depends on the tenant and the name only."""
    digest = hashlib.sha256(f"{tenant_id}\n{name}".encode()).digest()
    return f"wh_{ULID.from_bytes(digest[:16])}"


def row_key(kind: FileKind, row: FileRow) -> str:
    """Return the key that is unique among the rows of a file."""
    if kind is FileKind.SKUS:
        return str(row["sku"])
    if kind is FileKind.WAREHOUSES:
        return str(row["id"])
    return f"{row['sku']}\t{row['warehouse_id']}"
