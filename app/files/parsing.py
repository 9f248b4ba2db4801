"""Parsing of import files: CSV and JSON Lines, line by line."""

import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Final, NoReturn

from app.domain.quantities import MAX_QUANTITY
from app.files.columns import FILE_COLUMNS, FileColumn, FileKind, FileRow, names_problem

MAX_LINE_BYTES: Final = 1_048_576
BOM: Final = b"\xef\xbb\xbf"
# Texts that a spreadsheet takes for a formula: an export puts a ' before them, an import removes
# it.
FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_WHOLE_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,12}")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class FileFormat(StrEnum):
    """The format of a file."""

    CSV = "csv"
    JSONL = "jsonl"


class UnreadableFile(Exception):
    """The file cannot be parsed from a line on."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """The cells of a row that begins on a line, or the problem of the row."""

    line: int
    cells: Mapping[str, object]
    problem: str | None = None


ParseCell = Callable[[FileColumn, object], object]


class FileLines:
    """Iterator over the lines of a file as text, with their number and the file's digest."""

    def __init__(self, source: BinaryIO) -> None:
        self.number = 0
        self.digest = hashlib.sha256()
        # The last line that is not UTF-8.
        self.undecodable = 0
        self._source = source

    def __iter__(self) -> "FileLines":
        return self

    def __next__(self) -> str:
        raw = self._source.readline(MAX_LINE_BYTES + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise UnreadableFile(self.number, f"is longer than {MAX_LINE_BYTES} bytes")
        self.digest.update(raw)
        if self.number == 1:
            raw = raw.removeprefix(BOM)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.undecodable = self.number
            return raw.decode(errors="replace")


def csv_rows(lines: FileLines, kind: FileKind) -> Iterator[ParsedRow]:
    """Yield the rows of a CSV file with a header.

    Raises:
        UnreadableFile: the header or the CSV syntax is invalid.

    """
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, None)
        _check_header(header, kind, lines)
        while True:
            first = lines.number + 1
            cells = next(reader, None)
            if cells is None:
                return
            if cells:
                yield _csv_row(first, header or [], cells, lines)
    except csv.Error as error:
        raise UnreadableFile(lines.number, f"is not valid CSV: {error}") from error


def _csv_row(first: int, header: list[str], cells: list[str], lines: FileLines) -> ParsedRow:
    if lines.undecodable >= first:
        return ParsedRow(lines.undecodable, {}, "is not UTF-8")
    if len(cells) != len(header):
        return ParsedRow(first, {}, f"has {len(cells)} cells, and the header has {len(header)}")
    return ParsedRow(first, dict(zip(header, cells, strict=True)))


def _check_header(header: list[str] | None, kind: FileKind, lines: FileLines) -> None:
    if not header:
        raise UnreadableFile(1, "must be a header that names the columns")
    if lines.undecodable:
        raise UnreadableFile(lines.undecodable, "is not UTF-8")
    if duplicates := sorted({name for name in header if header.count(name) > 1}):
        raise UnreadableFile(1, f"names a column twice: {', '.join(duplicates)}")
    if problem := names_problem(header, kind):
        raise UnreadableFile(1, problem)
    required = [name for name, column in FILE_COLUMNS[kind].items() if column.required]
    if missing := [name for name in required if name not in header]:
        raise UnreadableFile(1, f"lacks the column {', '.join(missing)}")


def json_rows(lines: FileLines, kind: FileKind) -> Iterator[ParsedRow]:
    """Yield the rows of a file with one JSON object on each line; empty lines are skipped."""
    for line in lines:
        if lines.undecodable == lines.number:
            yield ParsedRow(lines.number, {}, "is not UTF-8")
        elif line.strip():
            yield _json_row(lines.number, line, kind)


def _json_row(number: int, line: str, kind: FileKind) -> ParsedRow:
    try:
        cells = json.loads(line, object_pairs_hook=_unique_names, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return ParsedRow(number, {}, f"is not valid JSON: {error}")
    if not isinstance(cells, dict):
        return ParsedRow(number, {}, "must be a JSON object")
    return ParsedRow(number, cells, names_problem(list(cells), kind))


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    cells = dict(pairs)
    if len(cells) != len(pairs):
        names = [name for name, _ in pairs]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        message = f"it names twice: {', '.join(duplicates)}"
        raise ValueError(message)
    return cells


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise ValueError(message)


def checked_row(
    cells: Mapping[str, object], kind: FileKind, parse_cell: ParseCell
) -> tuple[FileRow, str | None]:
    """Return the values of a row, and its problems as one text; None if it has none."""
    row: FileRow = {}
    problems = []
    for name, column in FILE_COLUMNS[kind].items():
        try:
            value = parse_cell(column, cells.get(name))
        except ValueError as error:
            problems.append(f"{name} {error}")
            continue
        if value is not None:
            value = column.normalize(value)
        if problem := _problem(value, column):
            problems.append(f"{name} {problem}")
        row[name] = value
    return row, "; ".join(problems) or None


def _problem(value: object, column: FileColumn) -> str | None:
    if value is None:
        return "is required" if column.required else None
    if isinstance(value, str) and not value.isascii():
        if not unicodedata.is_normalized("NFC", value):
            return "must be in Unicode's form NFC"
        if _UNSTORABLE.search(value):
            return "must not contain surrogates"
    if isinstance(value, str) and "\x00" in value:
        return "must not contain the character NUL"
    return column.problem(value)


def csv_value(column: FileColumn, cell: object) -> object:
    """Return the value of a CSV cell; None if it is empty.

    Raises:
        ValueError: the cell has another type than the column.

    """
    if cell is None or cell == "":
        return None
    text = str(cell)
    if column.type is int:
        if not _WHOLE_NUMBER.fullmatch(text):
            message = f"must be a whole number, digits only, 0 to {MAX_QUANTITY}"
            raise ValueError(message)
        return int(text)
    if column.type is bool:
        if text not in ("true", "false"):
            message = "must be true or false"
            raise ValueError(message)
        return text == "true"
    return text[1:] if text[0] == "'" and FORMULA.match(text) else text


def json_value(column: FileColumn, cell: object) -> object:
    """Return the value of a JSON member; None if it is null or empty.

    Raises:
        ValueError: the member has another type than the column.

    """
    if cell is None or type(cell) is column.type:
        return None if cell == "" else cell
    names = {str: "text", int: "a whole number", bool: "true or false"}
    message = f"must be {names[column.type]}"
    raise ValueError(message)
