"""Staging: the parsed rows of an import file in a temporary SQLite database.

Memory holds one line of the file, whatever its size. The database finds duplicate keys and sorts
the rows by key; SQLite deletes it when it is closed.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import BinaryIO, Final

import orjson

from app.files.columns import FileKind, FileRow, row_key
from app.files.parsing import (
    FileFormat,
    FileLines,
    ParseCell,
    ParsedRow,
    UnreadableFile,
    checked_row,
    csv_rows,
    csv_value,
    json_rows,
    json_value,
)

STAGING_BATCH_ROWS: Final = 1_000
# Called with a unit, such as "rows read", and the number so far.
ReportRows = Callable[[str, int], None]


class Staging:
    """The rows of a file in the order of their keys, and the problems of its lines."""

    def __init__(self, kind: FileKind) -> None:
        self.kind = kind
        self.digest = ""
        # An empty name makes a temporary file for this connection.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("""
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE staged (line INTEGER PRIMARY KEY, key TEXT NOT NULL, body TEXT NOT NULL);
            CREATE TABLE problem (line INTEGER NOT NULL, reason TEXT NOT NULL);
        """)

    def read(self, source: BinaryIO, form: FileFormat, progress: ReportRows) -> None:
        """Parse and stage a whole file; problems are stored, not raised."""
        lines = FileLines(source)
        rows_of = csv_rows if form is FileFormat.CSV else json_rows
        parse_cell = csv_value if form is FileFormat.CSV else json_value
        rows = _readable_rows(rows_of(lines, self.kind))
        read = 0
        while batch := list(islice(rows, STAGING_BATCH_ROWS)):
            self._stage(batch, parse_cell)
            read += len(batch)
            progress("rows read", read)
        self.digest = lines.digest.hexdigest()
        self._database.execute("CREATE INDEX staged_by_key ON staged (key, line)")
        self._find_duplicates()

    @property
    def number_of_problems(self) -> int:
        """Number of lines with a problem."""
        [(number,)] = self._database.execute("SELECT COUNT(DISTINCT line) FROM problem")
        return int(number)

    def add_problems(self, problems: Sequence[tuple[int, str]]) -> None:
        """Store problems by line."""
        # A text of the file that is quoted may not be encodable.
        encodable = [
            (line, reason.encode(errors="backslashreplace").decode()) for line, reason in problems
        ]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO problem VALUES (?, ?)", encodable)
        self._database.execute("COMMIT")

    def problems(self) -> Iterator[tuple[int, str]]:
        """Yield lines with their problems, sorted by line."""
        yield from self._database.execute("SELECT line, reason FROM problem ORDER BY line, rowid")

    def batches(self, size: int) -> Iterator[list[tuple[int, FileRow]]]:
        """Yield batches of at most `size` rows with their lines, sorted by key."""
        cursor = self._database.execute("SELECT line, body FROM staged ORDER BY key")
        while batch := cursor.fetchmany(size):
            yield [(line, orjson.loads(body)) for line, body in batch]

    def close(self) -> None:
        """Close and delete the temporary database."""
        self._database.close()

    def _stage(self, batch: Sequence[ParsedRow], parse_cell: ParseCell) -> None:
        staged, problems = [], []
        for parsed in batch:
            row: FileRow = {}
            problem = parsed.problem
            if problem is None:
                row, problem = checked_row(parsed.cells, self.kind, parse_cell)
            if problem is None:
                staged.append((parsed.line, row_key(self.kind, row), orjson.dumps(row).decode()))
            else:
                problems.append((parsed.line, problem))
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO staged VALUES (?, ?, ?)", staged)
        self._database.execute("COMMIT")
        if problems:
            self.add_problems(problems)

    def _find_duplicates(self) -> None:
        self._database.execute("""
            INSERT INTO problem
            SELECT staged.line, 'is for the same as line ' || first
            FROM (SELECT key, MIN(line) AS first FROM staged GROUP BY key HAVING COUNT(*) > 1) twin
            JOIN staged ON staged.key = twin.key AND staged.line > first
        """)


def _readable_rows(rows: Iterator[ParsedRow]) -> Iterator[ParsedRow]:
    """Yield rows; the last one has the problem of the line from which the file is unreadable."""
    try:
        yield from rows
    except UnreadableFile as error:
        yield ParsedRow(error.line, {}, f"{error.reason}; nothing below was read")
