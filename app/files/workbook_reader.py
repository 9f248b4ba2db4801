"""The sheets of a workbook, read with bounded memory. It needs openpyxl.

openpyxl holds the whole tree of most parts, of a row, and of each shared text. A small file can
unpack to a large one of these, so their sizes are checked while they are read.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, BinaryIO, Final, Literal
from xml.parsers import expat

from openpyxl import Workbook
from openpyxl.cell.read_only import ReadOnlyCell
from openpyxl.reader.excel import ExcelReader
from openpyxl.worksheet._read_only import ReadOnlyWorksheet
from openpyxl.worksheet._reader import WorkSheetParser
from openpyxl.xml.constants import SHEET_MAIN_NS

from app.files.problems import UnreadableFile
from app.files.sources import SAVE_AS_CSV

MAX_ROWS: Final = 1_048_576
MAX_SHARED_TEXTS: Final = 2_097_152
MAX_SHARED_TEXT_BYTES: Final = 134_217_728
MAX_SHEET_BYTES: Final = 2_147_483_648
# A part whose tree is held whole, a row, or a shared text. A row of all 16,384 columns is smaller.
MAX_TREE_BYTES: Final = 1_048_576
_SHARED_TEXT: Final = f"{SHEET_MAIN_NS} si"
_ROW: Final = f"{SHEET_MAIN_NS} row"
_ALL_ROWS: Final = f"{SHEET_MAIN_NS} sheetData"


class _EndOfRows(Exception):
    """The rows of a sheet are read; the parts after them are not needed."""


class _TooLarge(UnreadableFile):
    def __init__(self) -> None:
        super().__init__(1, "is a workbook that unpacks to too many bytes", SAVE_AS_CSV)


class _PartStream(io.BytesIO):
    """The XML of a part that is read element by element."""

    def __init__(self, part: IO[bytes], element: str, *, most: int, most_bytes: int) -> None:
        super().__init__()
        self._part = part
        self._element = element
        self._left = most
        self._bytes_left = most_bytes
        self._position = 0
        self._end_of_last = 0
        self._is_finished = False
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype

    def read(self, size: int | None = -1) -> bytes:
        """Read a chunk.

        Raises:
            UnreadableFile: the part, or one of its elements, is too large.
            _EndOfRows: the rows before this chunk were the last ones.

        """
        if self._is_finished:
            raise _EndOfRows
        chunk = self._part.read(MAX_TREE_BYTES if size is None or size < 0 else size)
        self._position += len(chunk)
        self._parser.Parse(chunk, not chunk)
        if self._left < 0 or self._position > self._bytes_left:
            raise _TooLarge
        if self._position - self._end_of_last > MAX_TREE_BYTES and not self._is_finished:
            raise _TooLarge
        return chunk

    def close(self) -> None:
        """Close the part."""
        self._part.close()
        super().close()

    def _end(self, name: str) -> None:
        if name == self._element:
            self._left -= 1
            self._end_of_last = self._parser.CurrentByteIndex
        elif name == _ALL_ROWS:
            self._is_finished = True

    def _refuse_doctype(self, *_arguments: object) -> None:
        message = "a workbook has no DOCTYPE"
        raise ValueError(message)


class _Archive(zipfile.ZipFile):
    """The parts of a workbook."""

    def read(self, name: str | zipfile.ZipInfo, pwd: bytes | None = None) -> bytes:
        """Read a part whose tree is held whole."""
        with super().open(name, pwd=pwd) as part:
            content = part.read(MAX_TREE_BYTES + 1)
        if len(content) > MAX_TREE_BYTES:
            raise _TooLarge
        return content

    def open(
        self,
        name: str | zipfile.ZipInfo,
        mode: Literal["r", "w"] = "r",
        pwd: bytes | None = None,
        *,
        force_zip64: bool = False,
    ) -> IO[bytes]:
        """Open the shared texts."""
        part = super().open(name, mode, pwd, force_zip64=force_zip64)
        return _PartStream(
            part, _SHARED_TEXT, most=MAX_SHARED_TEXTS, most_bytes=MAX_SHARED_TEXT_BYTES
        )

    def open_sheet(self, name: str) -> IO[bytes]:
        """Open a sheet."""
        return _PartStream(super().open(name), _ROW, most=MAX_ROWS, most_bytes=MAX_SHEET_BYTES)


class _Sheet(ReadOnlyWorksheet):
    """A sheet. Its size is not read: the whole sheet would be parsed if it is not declared."""

    def _get_size(self) -> None:
        pass


class _Reader(ExcelReader):
    """Reads the parts that concern the rows: no links, charts and comments."""

    def __init__(self, content: BinaryIO) -> None:
        super().__init__(content, read_only=True, data_only=True, keep_links=False)
        self.archive = _Archive(content)

    def read_worksheets(self) -> None:
        """Find the sheets with rows."""
        sheets: Any = self.wb
        for sheet, relation in self.parser.find_sheets():
            if relation.target in self.valid_files and "chartsheet" not in relation.Type:
                found = _Sheet(self.wb, sheet.name, relation.target, self.shared_strings)
                found.sheet_state = sheet.state or "visible"
                sheets._sheets.append(found)  # noqa: SLF001 - as openpyxl does


def read_workbook(content: BinaryIO) -> Workbook:
    """Read a workbook without its rows.

    Raises:
        UnreadableFile: a part is too large.

    """
    reader = _Reader(content)
    reader.read()
    return reader.wb


def sheet_rows(sheet: Any) -> Iterator[tuple[int, Sequence[Any]]]:  # noqa: ANN401
    """Yield the filled cells of each row with its number.

    Raises:
        UnreadableFile: a row is too large or beyond the last one.

    """
    book = sheet.parent
    with book._archive.open_sheet(sheet._worksheet_path) as source:  # noqa: SLF001
        parser = WorkSheetParser(
            source,
            sheet._shared_strings,  # noqa: SLF001
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,  # noqa: SLF001
            timedelta_formats=book._timedelta_formats,  # noqa: SLF001
        )
        try:
            for number, cells in parser.parse():
                # openpyxl collects the formats of all rows.
                parser.row_dimensions.clear()
                if number > MAX_ROWS:
                    reason = "is beyond the last row that a sheet can have"
                    raise UnreadableFile(MAX_ROWS + 1, reason)
                yield number, [ReadOnlyCell(sheet, **cell) for cell in cells]
        except _EndOfRows:
            return
