"""Files to import: read line by line, checked by themselves, and laid out on disk.

Whatever the size of a file, memory holds a line of it: its rows go into a database of SQLite's
own making, which is gone when it is closed and finds what is there twice.
"""

import csv
import hashlib
import json
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, BinaryIO, Final, NoReturn

import orjson

from app.domain.quantities import MAX_QUANTITY
from app.domain.validation import SHADOWED_SKUS, is_sku, note_problem
from app.domain.validation import reason_problem as problem_of_reason
from app.domain.warehouses import WarehouseType

MAX_LINE_BYTES: Final = 1_048_576
MAX_TEXT_LENGTH: Final = 500
STAGED_AT_ONCE: Final = 1_000
BOM: Final = b"\xef\xbb\xbf"
# What a spreadsheet takes for a formula: exported with a ' before it, and imported without it.
FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,12}")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
FileRow = dict[str, Any]
ReportRows = Callable[[str, int], None]


class FileKind(StrEnum):
    """What the rows of a file are."""

    SKUS = "skus"
    WAREHOUSES = "warehouses"
    LEVELS = "levels"
    COUNTS = "counts"


class FileFormat(StrEnum):
    """How a file is written."""

    CSV = "csv"
    JSONL = "jsonl"


class UnreadableFile(Exception):
    """A file that cannot be read on from a line."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FileColumn:
    """What a cell holds, and what can be wrong with it."""

    type: type[str] | type[int] | type[bool]
    problem: Callable[[Any], str | None]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """The cells of a row that begins on a line, or why there are none."""

    line: int
    cells: Mapping[str, object]
    problem: str | None = None


def _text_problem(text: str) -> str | None:
    if len(text) > MAX_TEXT_LENGTH:
        return f"must have at most {MAX_TEXT_LENGTH} characters, and has {len(text)}"
    return None


def _sku_problem(code: str) -> str | None:
    if code in SHADOWED_SKUS:
        return f"must not be {code}, the name of a route"
    if not is_sku(code):
        return (
            "must be 1 to 64 characters: letters, digits, space and ._:/+-, a letter or digit first"
        )
    return None


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


SKU_COLUMN: Final = FileColumn(str, _sku_problem, required=True)
WAREHOUSE_ID_COLUMN: Final = FileColumn(str, _id_problem, required=True)
FILE_COLUMNS: Final[Mapping[FileKind, Mapping[str, FileColumn]]] = {
    FileKind.SKUS: {"sku": SKU_COLUMN, "title": FileColumn(str, _text_problem, required=True)},
    FileKind.WAREHOUSES: {
        "id": FileColumn(str, _id_problem),
        "name": FileColumn(str, _text_problem, required=True),
        "type": FileColumn(str, _type_problem, required=True),
        "address": FileColumn(str, _text_problem),
        "marketplace": FileColumn(str, _text_problem),
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
# What an export of stock has beside the columns of levels: derived, so it is passed over.
DERIVED: Final = frozenset({"title", "reserved", "available", "status", "version", "adjusted_at"})


class Staging:
    """The rows of a file in the order of their keys, and what is wrong with them."""

    def __init__(self, kind: FileKind) -> None:
        self.kind = kind
        self.digest = ""
        # An empty name: a file that SQLite makes for this connection alone.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("""
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE staged (line INTEGER PRIMARY KEY, key TEXT NOT NULL, body TEXT NOT NULL);
            CREATE TABLE problem (line INTEGER NOT NULL, reason TEXT NOT NULL);
        """)

    def read(self, source: BinaryIO, form: FileFormat, progress: ReportRows) -> None:
        """Take in a whole file."""
        lines = _Lines(source)
        rows = _csv_rows if form is FileFormat.CSV else _json_rows
        convert = _from_csv if form is FileFormat.CSV else _from_json
        parsed = rows(lines, self.kind)
        read = 0
        try:
            while batch := list(islice(parsed, STAGED_AT_ONCE)):
                self._stage(batch, convert)
                read += len(batch)
                progress("rows read", read)
        except UnreadableFile as error:
            self.add_problems([(error.line, f"{error.reason}; nothing below was read")])
        self.digest = lines.digest.hexdigest()
        self._database.execute("CREATE INDEX staged_by_key ON staged (key, line)")
        self._find_twins()

    @property
    def number_of_rows(self) -> int:
        """How many rows are good by themselves."""
        [(number,)] = self._database.execute("SELECT COUNT(*) FROM staged")
        return int(number)

    @property
    def number_of_problems(self) -> int:
        """How many rows are bad."""
        [(number,)] = self._database.execute("SELECT COUNT(DISTINCT line) FROM problem")
        return int(number)

    def add_problems(self, problems: Sequence[tuple[int, str]]) -> None:
        """Keep what is wrong with lines."""
        # What a file holds may be no text that can be written.
        told = [
            (line, reason.encode(errors="backslashreplace").decode()) for line, reason in problems
        ]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO problem VALUES (?, ?)", told)
        self._database.execute("COMMIT")

    def problems(self) -> Iterator[tuple[int, str]]:
        """Yield what is wrong, by line."""
        yield from self._database.execute("SELECT line, reason FROM problem ORDER BY line, rowid")

    def batches(self, size: int) -> Iterator[list[tuple[int, FileRow]]]:
        """Yield the rows with their lines, by key."""
        cursor = self._database.execute("SELECT line, body FROM staged ORDER BY key")
        while batch := cursor.fetchmany(size):
            yield [(line, orjson.loads(body)) for line, body in batch]

    def close(self) -> None:
        """Let go of it, and of the disk."""
        self._database.close()

    def _stage(self, batch: Sequence[Parsed], convert: "ParseCell") -> None:
        staged, problems = [], []
        for parsed in batch:
            row: FileRow = {}
            problem = parsed.problem
            if problem is None:
                row, problem = _checked(parsed.cells, self.kind, convert)
            if problem is None:
                staged.append((parsed.line, _key(self.kind, row), orjson.dumps(row).decode()))
            else:
                problems.append((parsed.line, problem))
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO staged VALUES (?, ?, ?)", staged)
        self._database.execute("COMMIT")
        if problems:
            self.add_problems(problems)

    def _find_twins(self) -> None:
        self._database.execute("""
            INSERT INTO problem
            SELECT staged.line, 'is for the same as line ' || first
            FROM (SELECT key, MIN(line) AS first FROM staged GROUP BY key HAVING COUNT(*) > 1) twin
            JOIN staged ON staged.key = twin.key AND staged.line > first
        """)


ParseCell = Callable[[FileColumn, object], object]


class _Lines:
    """The lines of a file as text, counted, and hashed as they are."""

    def __init__(self, source: BinaryIO) -> None:
        self.number = 0
        self.digest = hashlib.sha256()
        # The last line that is not UTF-8.
        self.undecodable = 0
        self._source = source

    def __iter__(self) -> "_Lines":
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


def _csv_rows(lines: _Lines, kind: FileKind) -> Iterator[Parsed]:
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
        raise UnreadableFile(lines.number, f"is no CSV: {error}") from error


def _csv_row(first: int, header: list[str], cells: list[str], lines: _Lines) -> Parsed:
    if lines.undecodable >= first:
        return Parsed(lines.undecodable, {}, "is not UTF-8")
    if len(cells) != len(header):
        return Parsed(first, {}, f"has {len(cells)} cells, and the header has {len(header)}")
    return Parsed(first, dict(zip(header, cells, strict=True)))


def _check_header(header: list[str] | None, kind: FileKind, lines: _Lines) -> None:
    if not header:
        raise UnreadableFile(1, "must be a header that names the columns")
    if lines.undecodable:
        raise UnreadableFile(lines.undecodable, "is not UTF-8")
    if twins := sorted({name for name in header if header.count(name) > 1}):
        raise UnreadableFile(1, f"names a column twice: {', '.join(twins)}")
    if problem := _problem_of_names(header, kind):
        raise UnreadableFile(1, problem)
    required = [name for name, column in FILE_COLUMNS[kind].items() if column.required]
    if missing := [name for name in required if name not in header]:
        raise UnreadableFile(1, f"lacks the column {', '.join(missing)}")


def _problem_of_names(names: Sequence[str], kind: FileKind) -> str | None:
    known = FILE_COLUMNS[kind].keys() | (DERIVED if kind is FileKind.LEVELS else set())
    unknown = [name[:64] for name in names if name not in known]
    if not unknown:
        return None
    return (
        f"names an unknown column: {', '.join(unknown)}; known are {', '.join(FILE_COLUMNS[kind])}"
    )


def _json_rows(lines: _Lines, kind: FileKind) -> Iterator[Parsed]:
    for line in lines:
        if lines.undecodable == lines.number:
            yield Parsed(lines.number, {}, "is not UTF-8")
        elif line.strip():
            yield _json_row(lines.number, line, kind)


def _json_row(number: int, line: str, kind: FileKind) -> Parsed:
    try:
        cells = json.loads(line, object_pairs_hook=_without_twins, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Parsed(number, {}, f"is no JSON: {error}")
    if not isinstance(cells, dict):
        return Parsed(number, {}, "must be a JSON object")
    return Parsed(number, cells, _problem_of_names(list(cells), kind))


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    cells = dict(pairs)
    if len(cells) != len(pairs):
        names = [name for name, _ in pairs]
        twins = sorted({name for name in names if names.count(name) > 1})
        message = f"it names twice: {', '.join(twins)}"
        raise ValueError(message)
    return cells


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is no number of JSON"
    raise ValueError(message)


def _checked(
    cells: Mapping[str, object], kind: FileKind, convert: ParseCell
) -> tuple[FileRow, str | None]:
    """Return the values of a row, and what is wrong with them."""
    row: FileRow = {}
    problems = []
    for name, column in FILE_COLUMNS[kind].items():
        try:
            value = convert(column, cells.get(name))
        except ValueError as error:
            problems.append(f"{name} {error}")
            continue
        if problem := _problem_of(value, column):
            problems.append(f"{name} {problem}")
        row[name] = value
    return row, "; ".join(problems) or None


def _problem_of(value: object, column: FileColumn) -> str | None:
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


def _from_csv(column: FileColumn, cell: object) -> object:
    if cell is None or cell == "":
        return None
    text = str(cell)
    if column.type is int:
        if not _WHOLE.fullmatch(text):
            message = f"must be a whole number of digits alone, 0 to {MAX_QUANTITY}"
            raise ValueError(message)
        return int(text)
    if column.type is bool:
        if text not in ("true", "false"):
            message = "must be true or false"
            raise ValueError(message)
        return text == "true"
    return text[1:] if text[0] == "'" and FORMULA.match(text) else text


def _from_json(column: FileColumn, cell: object) -> object:
    if cell is None or type(cell) is column.type:
        return None if cell == "" else cell
    names = {str: "text", int: "a whole number", bool: "true or false"}
    message = f"must be {names[column.type]}"
    raise ValueError(message)


def _key(kind: FileKind, row: FileRow) -> str:
    """Return what there may be one row of."""
    if kind is FileKind.SKUS:
        return str(row["sku"])
    if kind is FileKind.WAREHOUSES:
        # A warehouse without an id is known by its name.
        return f"id {row['id']}" if row["id"] else f"name {row['name']}"
    return f"{row['sku']}\t{row['warehouse_id']}"
