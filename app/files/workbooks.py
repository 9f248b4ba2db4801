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

# Sheets are read as streams; openpyxl holds all other parts in memory, above all the shared texts.
MAX_SHEET_BYTES: Final = 2_147_483_648
MAX_OTHER_BYTES: Final = 134_217_728
_SAVE_AS_CSV: Final = "Open it in a spreadsheet program and save it as CSV (UTF-8)."
MAX_ROWS: Final = 1_048_576
# The header is among these cells.
HEADER_ROWS: Final = 1_000
MAX_COLUMNS: Final = 256
# A number format such as 00000, which shows 1234 as 01234.
_ZEROS: Final = re.compile("0+")


class ReadCell(Protocol):
    """A cell of openpyxl."""

    value: Any
    number_format: Any


class ReadSheet(Protocol):
    """A sheet of openpyxl."""

    def iter_rows(
        self, min_row: int | None, max_row: int | None, *, max_col: int
    ) -> Iterator[Sequence[ReadCell]]:
        """Yield the rows."""


def workbook_table(content: BinaryIO) -> ParsedTable:
    """Read the header of the first sheet of a workbook.

    Raises:
        UnreadableFile: the file is not a workbook, is too large, or openpyxl is missing.

    """
    _check_archive(content)
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UnreadableFile(
            1,
            "is a workbook of Excel, and the package that reads it is not installed",
            f"{_SAVE_AS_CSV} Or install the extra: pip install 'inventory-api[xlsx]'.",
        ) from error
    try:
        with warnings.catch_warnings(action="ignore"):
            workbook = load_workbook(content, read_only=True, data_only=True)
        visible = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
        sheet = (visible or workbook.worksheets)[0]
        # Other programs write wrong dimensions.
        sheet.reset_dimensions()
        header_rows = _numbered(sheet.iter_rows(1, HEADER_ROWS, max_col=MAX_COLUMNS), 1)
        line, header = next(header_rows, (1, []))
    except UnreadableFile:
        raise
    except Exception as error:
        raise UnreadableFile(1, "is a damaged workbook", _SAVE_AS_CSV) from error
    if not header:
        raise UnreadableFile(1, "is empty: the first row must name the columns")
    names = [normal_name(str(value or "")) for value in header]
    # One more column shows whether rows are longer than the header.
    cells = sheet.iter_rows(line + 1, None, max_col=len(names) + 1)
    rows = _numbered(cells, line + 1)
    number = len(workbook.worksheets)
    return ParsedTable(
        [str(value or "") for value in header],
        line,
        lambda _mapping: _rows(names, rows),
        notes=[f"Read the sheet {shown(sheet.title)}, one of {number}."] if number > 1 else [],
    )


def _check_archive(content: BinaryIO) -> None:
    """Refuse archives that are not workbooks or unpack to too much; sizes are declared."""
    try:
        with zipfile.ZipFile(content) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UnreadableFile(1, "is a damaged ZIP archive or workbook", _SAVE_AS_CSV) from error
    finally:
        content.seek(0)
    if "content.xml" in sizes:
        raise UnreadableFile(1, "is an OpenDocument spreadsheet", _SAVE_AS_CSV)
    if "xl/workbook.xml" not in sizes:
        raise UnreadableFile(
            1, f"is a ZIP archive with {listed(sizes, most=3)}", "Unpack it and import the files."
        )
    sheets = sum(size for name, size in sizes.items() if name.startswith("xl/worksheets/"))
    if sheets > MAX_SHEET_BYTES or sum(sizes.values()) - sheets > MAX_OTHER_BYTES:
        raise UnreadableFile(1, "is a workbook that unpacks to too many bytes", _SAVE_AS_CSV)


def _numbered(
    rows: Iterator[Sequence[ReadCell]], first: int
) -> Iterator[tuple[int, Sequence[object]]]:
    """Yield the rows with a value, without empty cells at the end."""
    line = first - 1
    try:
        with warnings.catch_warnings(action="ignore"):
            for line, cells in enumerate(rows, first):
                _check_row_number(line)
                values = [_value(cell) for cell in cells]
                while values and (values[-1] is None or values[-1] == ""):
                    values.pop()
                if values:
                    yield line, values
    except UnreadableFile:
        raise
    except Exception as error:
        raise UnreadableFile(line + 1, "is in a damaged workbook", _SAVE_AS_CSV) from error


def _check_row_number(line: int) -> None:
    if line > MAX_ROWS:
        raise UnreadableFile(line, "is beyond the last row that a sheet can have")


def _rows(
    names: Sequence[str], rows: Iterator[tuple[int, Sequence[object]]]
) -> Iterator[ParsedRow]:
    width = len(names)
    for line, values in rows:
        if len(values) > width:
            reason = f"has {len(values)} cells, and the header has {width}"
            yield ParsedRow(line, {}, RowProblem(line=line, reason=reason))
        else:
            yield ParsedRow(line, dict(zip_longest(names, values)))


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
