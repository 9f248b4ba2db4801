"""The kinds of import files and their columns."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from app.domain.quantities import MAX_QUANTITY
from app.domain.validation import (
    MAX_NAME_LENGTHS,
    MAX_TITLE_LENGTH,
    name_problem,
    normalized_code,
    note_problem,
    sku_problem,
)
from app.domain.validation import reason_problem as problem_of_reason
from app.domain.warehouses import WarehouseType

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
FileRow = dict[str, Any]


class FileKind(StrEnum):
    """What the rows of a file are."""

    SKUS = "skus"
    WAREHOUSES = "warehouses"
    LEVELS = "levels"
    COUNTS = "counts"


class ExportSubject(StrEnum):
    """The rows of an export: stock levels or ledger entries."""

    STOCK = "stock"
    LEDGER = "ledger"


def _unchanged(value: object) -> object:
    return value


@dataclass(frozen=True, slots=True)
class FileColumn:
    """The type of a column and the check of its values, which are normalized before."""

    type: type[str] | type[int] | type[bool]
    problem: Callable[[Any], str | None]
    required: bool = False
    normalize: Callable[[Any], Any] = _unchanged


def _id_problem(text: str) -> str | None:
    if _ID.fullmatch(text):
        return None
    return "must be 1 to 64 of A-Z, a-z, 0-9 and _.:-, a letter or digit first"


def _type_problem(text: str) -> str | None:
    names = [type_.value for type_ in WarehouseType]
    return None if text in names else f"must be one of {', '.join(names)}"


def _quantity_problem(quantity: int) -> str | None:
    return None if 0 <= quantity <= MAX_QUANTITY else f"must be 0 to {MAX_QUANTITY}"


def _no_problem(_: object) -> None:
    return None


def _name_column(longest: int, *, required: bool = False) -> FileColumn:
    return FileColumn(str, partial(name_problem, longest=longest), required=required)


SKU_COLUMN: Final = FileColumn(str, sku_problem, required=True, normalize=normalized_code)
WAREHOUSE_ID_COLUMN: Final = FileColumn(str, _id_problem, required=True)
FILE_COLUMNS: Final[Mapping[FileKind, Mapping[str, FileColumn]]] = {
    FileKind.SKUS: {"sku": SKU_COLUMN, "title": _name_column(MAX_TITLE_LENGTH, required=True)},
    FileKind.WAREHOUSES: {
        "id": FileColumn(str, _id_problem),
        "name": _name_column(MAX_NAME_LENGTHS["name"], required=True),
        "type": FileColumn(str, _type_problem, required=True),
        "address": _name_column(MAX_NAME_LENGTHS["address"]),
        "marketplace": _name_column(MAX_NAME_LENGTHS["marketplace"]),
        "is_active": FileColumn(bool, _no_problem),
    },
    FileKind.LEVELS: {
        "sku": SKU_COLUMN,
        "warehouse_id": WAREHOUSE_ID_COLUMN,
        "on_hand": FileColumn(int, _quantity_problem),
        "safety_stock": FileColumn(int, _quantity_problem),
    },
    FileKind.COUNTS: {
        "sku": SKU_COLUMN,
        "warehouse_id": WAREHOUSE_ID_COLUMN,
        "quantity": FileColumn(int, _quantity_problem, required=True),
        "reason": FileColumn(str, problem_of_reason),
        "note": FileColumn(str, note_problem),
    },
}
# Columns that an export of stock adds to those of levels; an import ignores them.
EXPORT_COLUMNS: Final = frozenset(
    {"title", "reserved", "available", "status", "version", "adjusted_at"}
)


def names_problem(names: list[str], kind: FileKind) -> str | None:
    """Return the problem of unknown column names; None if all are known."""
    known = FILE_COLUMNS[kind].keys() | (EXPORT_COLUMNS if kind is FileKind.LEVELS else set())
    unknown = [name[:64] for name in names if name not in known]
    if not unknown:
        return None
    return (
        f"names an unknown column: {', '.join(unknown)}; known are {', '.join(FILE_COLUMNS[kind])}"
    )


def row_key(kind: FileKind, row: FileRow) -> str:
    """Return the key that is unique among the rows of a file."""
    if kind is FileKind.SKUS:
        return str(row["sku"])
    if kind is FileKind.WAREHOUSES:
        # A warehouse without an id is identified by its name.
        return f"id {row['id']}" if row["id"] else f"name {row['name']}"
    return f"{row['sku']}\t{row['warehouse_id']}"
