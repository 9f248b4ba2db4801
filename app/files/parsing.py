"""Parsing of import files: CSV with a header, JSON Lines, and a JSON array of objects."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Final, NoReturn, TextIO

from app.files.cell_values import MAX_DIGITS
from app.files.column_mapping import ColumnMapping, MappingOptions, number_of_known_names
from app.files.columns import FILE_COLUMNS, FileKind
from app.files.layouts import normal_name
from app.files.problems import RowProblem, UnreadableFile, shown
from app.files.row_reading import NUL_PROBLEM, ParsedRow
from app.files.sources import MAX_LINE_LENGTH, FileLines

DELIMITERS: Final = ",;\t|"
# Excel writes the delimiter of a file into such a line.
_SEPARATOR_LINE: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
# The objects of a JSON file whose names make the header.
HEADER_OBJECTS: Final = 100
_CHUNK_LENGTH: Final = 65_536
_SPACE: Final = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class ParsedTable:
    """The header of a file, and its rows by the columns of an import."""

    header: Sequence[str]
    line: int
    rows: Callable[[ColumnMapping], Iterator[ParsedRow]]
    # Whether rows may have columns that the header lacks.
    is_open: bool = False
    notes: Sequence[str] = ()


def csv_table(text: TextIO, options: MappingOptions) -> ParsedTable:
    """Read the header of a CSV file.

    Raises:
        UnreadableFile: there is no header.

    """
    lines = FileLines(text)
    delimiter, first = None, ""
    for first in lines:
        if separator := _SEPARATOR_LINE.fullmatch(first):
            delimiter = separator[1]
        elif first.strip(f"{DELIMITERS} \r\n"):
            break
    else:
        raise UnreadableFile(max(lines.number, 1), "is empty: the first line must name the columns")
    line = lines.number
    delimiter = delimiter or _delimiter_of(first, options)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = next(reader)
    except csv.Error as error:
        raise _syntax_error(error, line, lines.number) from error
    if lines.nul:
        raise UnreadableFile(lines.nul, NUL_PROBLEM)

    def rows(mapping: ColumnMapping) -> Iterator[ParsedRow]:
        # With other delimiters every system needs quotes.
        quotes = mapping.layout is None or mapping.layout.quotes or delimiter != "\t"
        quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        yield from _csv_rows(
            lines, [normal_name(name) for name in header], delimiter=delimiter, quoting=quoting
        )

    return ParsedTable(header, line, rows)


def _delimiter_of(line: str, options: MappingOptions) -> str:
    """Return the delimiter that splits the header into the most known names, then names."""

    def score(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([line], delimiter=delimiter), [])
        return number_of_known_names(names, options), len(names)

    return max(DELIMITERS, key=score)


def _csv_rows(
    lines: FileLines, names: Sequence[str], *, delimiter: str, quoting: int
) -> Iterator[ParsedRow]:
    reader: Iterator[list[str]] = csv.reader(
        lines,
        delimiter=delimiter,
        strict=True,
        quoting=quoting,  # type: ignore[arg-type]
    )
    first = lines.number + 1
    width = len(names)
    try:
        for cells in reader:
            line, first = first, lines.number + 1
            if lines.nul >= line:
                problem = RowProblem(line=lines.nul, reason=NUL_PROBLEM)
                yield ParsedRow(lines.nul, {}, problem)
            elif not any(cells) or not "".join(cells).strip():
                continue
            elif len(cells) > width and "".join(cells[width:]).strip():
                yield ParsedRow(line, {}, _too_many_cells(line, cells, width))
            else:
                yield ParsedRow(line, dict(zip(names, cells, strict=False)))
    except csv.Error as error:
        raise _syntax_error(error, first, lines.number) from error


def _too_many_cells(line: int, cells: Sequence[str], width: int) -> RowProblem:
    return RowProblem(
        line=line,
        reason=f"has {len(cells)} cells, and the header has {width}",
        remedy='A text that contains the delimiter needs quotes: "..".',
    )


def _syntax_error(error: csv.Error, first: int, last: int) -> UnreadableFile:
    """Describe an error of the CSV syntax in a row that begins on a line."""
    text = str(error)
    if "unexpected end" in text or "field limit" in text or last > first:
        return UnreadableFile(
            first, "opens a quote that is never closed", 'Close it, or write "" for a quote.'
        )
    return UnreadableFile(
        first, "has text after a closing quote", 'Write "" for a quote inside a quoted cell.'
    )


def json_table(text: TextIO, options: MappingOptions) -> ParsedTable:
    """Read the names of the first objects of a JSON file."""
    start = text.read(1)
    while start.isspace():
        start = text.read(1)
    text.seek(0)
    items = _array_rows(text) if start == "[" else _line_rows(FileLines(text))
    first: list[ParsedRow] = []
    fault: UnreadableFile | None = None
    try:
        first.extend(islice(items, HEADER_OBJECTS))
    except UnreadableFile as error:
        # Raised again after the rows above it.
        fault = error
    names: dict[str, str] = {}
    for row in first:
        for name in row.cells:
            names.setdefault(normal_name(name), name)
    header = [*names.values()] or [*FILE_COLUMNS[options.kind or FileKind.COUNTS]]

    def rows(_mapping: ColumnMapping) -> Iterator[ParsedRow]:
        yield from map(_with_normal_names, first)
        if fault is not None:
            raise fault
        yield from map(_with_normal_names, items)

    return ParsedTable(header, 1, rows, is_open=True)


def _with_normal_names(row: ParsedRow) -> ParsedRow:
    if row.problem is not None:
        return row
    cells = {normal_name(name): cell for name, cell in row.cells.items()}
    if len(cells) == len(row.cells):
        return ParsedRow(row.line, cells)
    return _bad_json(row.line, "it names a column twice")


def _line_rows(lines: FileLines) -> Iterator[ParsedRow]:
    """Yield the rows of a file with one JSON object on each line; empty lines are skipped."""
    for line in lines:
        if not line.strip():
            continue
        try:
            yield _json_row(lines.number, _DECODER.decode(line))
        except (ValueError, RecursionError) as error:
            yield _bad_json(lines.number, _json_reason(error))


def _array_rows(text: TextIO) -> Iterator[ParsedRow]:
    """Yield the objects of a JSON array. Memory holds one of them.

    Raises:
        UnreadableFile: the array is not valid JSON.

    """
    array = _JsonArray(text)
    array.expect("[")
    if array.peek() != "]":
        while True:
            array.peek()
            yield _json_row(array.line, array.next_value())
            if array.peek() != ",":
                break
            array.expect(",")
    array.expect("]")
    if array.peek():
        raise UnreadableFile(array.line, "has text after the JSON array")


class _JsonArray:
    """The text of an array, read in chunks."""

    def __init__(self, text: TextIO) -> None:
        self.line = 1
        self._text = text
        self._buffer = ""
        self._position = 0

    def peek(self) -> str:
        """Return the next character that is not white space; it is empty at the end."""
        while True:
            end = _SPACE.match(self._buffer, self._position).end()  # type: ignore[union-attr]
            self._advance(end)
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._fill():
                return ""

    def expect(self, char: str) -> None:
        """Read a character."""
        if self.peek() != char:
            raise UnreadableFile(self.line, f"is not valid JSON: {char} is missing")
        self._advance(self._position + 1)

    def next_value(self) -> object:
        """Read a value."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._position)
            except (ValueError, RecursionError) as error:
                size = len(self._buffer) - self._position
                if size <= MAX_LINE_LENGTH and self._fill():
                    continue
                raise UnreadableFile(
                    self.line, f"is not valid JSON: {_json_reason(error)}"
                ) from error
            self._advance(end)
            return value

    def _advance(self, position: int) -> None:
        self.line += self._buffer.count("\n", self._position, position)
        self._position = position

    def _fill(self) -> bool:
        chunk = self._text.read(_CHUNK_LENGTH)
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return bool(chunk)


def _json_row(line: int, value: object) -> ParsedRow:
    if isinstance(value, _RepeatedName):
        return _bad_json(line, f"it names twice: {shown(value.name)}")
    if not isinstance(value, dict):
        return ParsedRow(line, {}, RowProblem(line=line, reason="must be a JSON object"))
    return ParsedRow(line, value)


def _bad_json(line: int, reason: str) -> ParsedRow:
    return ParsedRow(line, {}, RowProblem(line=line, reason=f"is not valid JSON: {reason}"))


def _json_reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at character {error.colno}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


@dataclass(frozen=True, slots=True)
class _RepeatedName:
    """An object that names a member twice."""

    name: str


def _unique_names(pairs: list[tuple[str, Any]]) -> Mapping[str, Any] | _RepeatedName:
    cells: dict[str, Any] = {}
    for name, value in pairs:
        if name in cells:
            return _RepeatedName(name)
        cells[name] = value
    return cells


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        message = f"a number has more than {MAX_DIGITS} digits"
        raise ValueError(message)
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise ValueError(message)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_names,
    parse_constant=_refuse_constant,
    parse_float=Decimal,
    parse_int=_whole_number,
)
