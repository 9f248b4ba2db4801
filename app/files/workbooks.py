"""Rows of a workbook of Excel (.xlsx), read with openpyxl, which the extra `xlsx` installs."""

import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import zip_longest
from typing import Any, BinaryIO, Final, Protocol

from app.files.layouts import normal_name
from app.files.parsing import ParsedTable
from app.files.problems import RowProblem, UnreadableFile, listed, shown
from app.files.row_reading import ParsedRow
from app.files.sources import SAVE_AS_CSV

MAX_COLUMNS: Final = 256
BLANK: Final = (None, "")
# A number format such as 00000, which shows 1234 as 01234.
_ZEROS: Final = re.compile("0+")


class ReadCell(Protocol):
    """A cell of openpyxl."""

    column: Any
    value: Any
    number_format: Any


def workbook_table(content: BinaryIO) -> ParsedTable:
    """Read the header of the first sheet of a workbook.

    Raises:
        UnreadableFile: the file is not a workbook, is too large, or openpyxl is missing.

    """
    _check_archive(content)
    try:
        from app.files.workbook_reader import (  # noqa: PLC0415 - openpyxl is an extra
            read_workbook,
            sheet_rows,
        )
    except ImportError as error:
        raise UnreadableFile(
            1,
            "is a workbook of Excel, and the package that reads it is not installed",
            f"{SAVE_AS_CSV} Or install the extra: pip install 'inventory-api[xlsx]'.",
        ) from error
    try:
        with warnings.catch_warnings(action="ignore"):
            workbook = read_workbook(content)
        visible = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
        sheet = (visible or workbook.worksheets)[0]
    except UnreadableFile:
        raise
    except Exception as error:
        raise UnreadableFile(1, "is a damaged workbook", SAVE_AS_CSV) from error
    rows = _values(sheet_rows(sheet))
    line, header = next(rows, (1, []))
    if not header:
        raise UnreadableFile(1, "is empty: the first row must name the columns")
    names = [normal_name(str(value or "")) for value in header]
    number = len(workbook.worksheets)
    return ParsedTable(
        [str(value or "") for value in header],
        line,
        lambda _mapping: _rows(names, rows),
        notes=[f"Read the sheet {shown(sheet.title)}, one of {number}."] if number > 1 else [],
    )


def _check_archive(content: BinaryIO) -> None:
    """Refuse archives that are not workbooks."""
    try:
        with zipfile.ZipFile(content) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UnreadableFile(1, "is a damaged ZIP archive or workbook", SAVE_AS_CSV) from error
    finally:
        content.seek(0)
    if "content.xml" in names:
        raise UnreadableFile(1, "is an OpenDocument spreadsheet", SAVE_AS_CSV)
    if "xl/workbook.xml" not in names:
        raise UnreadableFile(
            1, f"is a ZIP archive with {listed(names, most=3)}", "Unpack it and import the files."
        )


def _values(
    rows: Iterator[tuple[int, Sequence[ReadCell]]],
) -> Iterator[tuple[int, Sequence[object]]]:
    """Yield the rows with a value, without empty cells at the end."""
    line = 0
    try:
        with warnings.catch_warnings(action="ignore"):
            for line, cells in rows:
                filled = {cell.column: _value(cell) for cell in cells if cell.column <= MAX_COLUMNS}
                last = max(
                    (column for column, value in filled.items() if value not in BLANK), default=0
                )
                if last:
                    yield line, [filled.get(column) for column in range(1, last + 1)]
    except UnreadableFile:
        raise
    except Exception as error:
        raise UnreadableFile(line + 1, "is in a damaged workbook", SAVE_AS_CSV) from error


def _rows(
    names: Sequence[str], rows: Iterator[tuple[int, Sequence[object]]]
) -> Iterator[ParsedRow]:
    width = len(names)
    for line, values in rows:
        # Notes beside the table, behind an empty column, are ignored.
        if any(value not in BLANK for value in values[width : width + 1]):
            reason = f"has {width + 1} cells, and the header has {width}"
            yield ParsedRow(line, {}, RowProblem(line=line, reason=reason))
        else:
            yield ParsedRow(line, dict(zip_longest(names, values[:width])))


def _value(cell: ReadCell) -> object:
    """Return the value of a cell as a cell of JSON has it."""
    value = cell.value
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
            return str(value)
        value = int(value) if value.is_integer() else Decimal(repr(value))
    if isinstance(value, int):
        is_padded = _ZEROS.fullmatch(cell.number_format or "") and len(cell.number_format) > 1
        return str(value).zfill(len(cell.number_format)) if is_padded else value
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    return value if isinstance(value, Decimal) else str(value)
