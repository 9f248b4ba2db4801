"""Staging: the rows of an import file, and their problems, in a temporary SQLite database.

Memory holds one row of the file, whatever its size. The database finds duplicate keys and sorts
the rows by key; SQLite deletes it when it is closed.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from app.domain.quantities import MAX_QUANTITY
from app.domain.stock import LevelKey
from app.files.columns import QUANTITY_KINDS, FileKind, FileRow, row_key
from app.files.problems import LISTED_CAUSES, LISTED_ROWS, ProblemCause, RowProblem

_PROBLEM_COLUMNS: Final = "line, is_warning, name, value, reason, remedy, hint"
_TWINS: Final = "SELECT key FROM staged GROUP BY key HAVING COUNT(*) > 1"
# The first row of a key gets the quantity of all its rows. TOTAL cannot overflow, and is exact for
# all accepted quantities.
_ADD_UP: Final = f"""
    UPDATE staged SET body = json_set(body, '$.quantity', total.quantity) FROM (
        SELECT MIN(id) AS id, CAST(
            MIN(TOTAL(json_extract(body, '$.quantity')), {MAX_QUANTITY + 1}) AS INTEGER
        ) AS quantity
        FROM staged GROUP BY key HAVING COUNT(*) > 1
    ) total WHERE total.id = staged.id
"""  # noqa: S608 - constants
_SAME: Final = {
    FileKind.SKUS: "the same SKU",
    FileKind.WAREHOUSES: "the same warehouse",
}


class Duplicates(StrEnum):
    """The treatment of rows for the same SKU, warehouse or stock level."""

    REFUSE = "refuse"
    SUM = "sum"
    LAST = "last"


class StagedRow(NamedTuple):
    """A row of a file with its number in the staging and its line."""

    id: int
    line: int
    content: FileRow


class Staging:
    """The rows of a file in the order of their keys, and the problems of its lines."""

    def __init__(self, *, strict: bool = False) -> None:
        self.kind = FileKind.COUNTS
        # Whether the rows below a line could not be read.
        self.is_incomplete = False
        # Whether a line has several rows, such as a quantity for each warehouse.
        self.has_wide_rows = False
        self._last_line = 0
        self._is_strict = strict
        self._digest = hashlib.sha256()
        # An empty name makes a temporary file for this connection.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("""
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE staged (
                id INTEGER PRIMARY KEY, line INTEGER NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL
            );
            CREATE TABLE problem (
                line INTEGER NOT NULL, is_warning INTEGER NOT NULL, name TEXT NOT NULL, value TEXT,
                reason TEXT NOT NULL, remedy TEXT NOT NULL, hint TEXT NOT NULL
            );
            CREATE TABLE imported (
                run TEXT NOT NULL, sku TEXT NOT NULL, warehouse_id TEXT NOT NULL,
                PRIMARY KEY (run, sku, warehouse_id)
            ) WITHOUT ROWID;
            CREATE UNIQUE INDEX problem_once ON problem (line, name, reason, IFNULL(value, ''));
        """)

    @property
    def digest(self) -> str:
        """A digest of all rows, in hex."""
        return self._digest.hexdigest()

    @property
    def number_of_bad_rows(self) -> int:
        """Number of lines with an error."""
        statement = "SELECT COUNT(DISTINCT line) FROM problem WHERE NOT is_warning"
        [(number,)] = self._database.execute(statement)
        return int(number)

    def add_rows(self, rows: Iterable[tuple[int, FileRow]]) -> None:
        """Store rows with their lines."""
        staged = []
        for line, row in rows:
            body = orjson.dumps(row)
            self._digest.update(body)
            staged.append((line, row_key(self.kind, row), body.decode()))
            self.has_wide_rows = self.has_wide_rows or line == self._last_line
            self._last_line = line
        self._insert("INSERT INTO staged (line, key, body) VALUES (?, ?, ?)", staged)

    def add_problems(self, problems: Iterable[RowProblem]) -> None:
        """Store problems that are not stored yet. A strict import has no warnings."""
        rows = [
            tuple(
                # A text of the file that is quoted may not be encodable.
                value.encode(errors="backslashreplace").decode()
                if isinstance(value, str)
                else value
                for value in (
                    problem.line,
                    problem.is_warning and not self._is_strict,
                    *(problem.column, problem.value, problem.reason, problem.remedy, problem.hint),
                )
            )
            for problem in problems
        ]
        if rows:
            self._insert("INSERT OR IGNORE INTO problem VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def find_duplicates(self, duplicates: Duplicates) -> None:
        """Merge rows with the same key by the option --duplicates, or store a problem for each."""
        self._digest.update(duplicates.encode())
        self._database.execute("CREATE INDEX staged_by_key ON staged (key, id)")
        if self.kind not in QUANTITY_KINDS:
            # A row that says the same again, such as a SKU with a row for each location.
            self._keep("MIN(id)", "key, body")
        if duplicates is Duplicates.LAST:
            self._keep("MAX(id)", "key")
        elif duplicates is Duplicates.SUM and self.kind in QUANTITY_KINDS:
            self._database.execute(_ADD_UP)
            self._keep("MIN(id)", "key")
            self._refuse(
                f"json_extract(body, '$.quantity') > {MAX_QUANTITY}",
                "adds up with the rows of the same SKU and warehouse to more than "
                f"{MAX_QUANTITY:,}",
                "",
            )
        else:
            same = _SAME.get(self.kind, "the same SKU and warehouse")
            sums = "--duplicates sum adds them up, " if self.kind in QUANTITY_KINDS else ""
            remedy = f"Remove all but one; or {sums}--duplicates last takes the last of them."
            self._refuse(f"key IN ({_TWINS})", f"is for {same} as another row", remedy)

    def row_batches(self, size: int) -> Iterator[list[StagedRow]]:
        """Yield batches of all staged rows in the order of the file."""
        last = 0
        statement = "SELECT id, line, body FROM staged WHERE id > ? ORDER BY id LIMIT ?"
        while found := self._database.execute(statement, (last, size)).fetchall():
            yield [StagedRow(id_, line, orjson.loads(body)) for id_, line, body in found]
            last = found[-1][0]

    def set_codes(self, rows: Iterable[tuple[StagedRow, str]]) -> None:
        """Store the codes of the SKUs of rows, before duplicates are found."""
        changed: list[tuple[str, str, int]] = []
        for row, code in rows:
            content = {**row.content, "sku": code}
            changed.append((row_key(self.kind, content), orjson.dumps(content).decode(), row.id))
        self._insert("UPDATE staged SET key = ?, body = ? WHERE id = ?", changed)

    def remove(self, rows: Iterable[StagedRow]) -> None:
        """Remove rows, whose problems stay."""
        self._insert("DELETE FROM staged WHERE id = ?", [(row.id,) for row in rows])

    def has_code(self, code: str) -> bool:
        """Whether a row is for a SKU."""
        statement = "SELECT 1 FROM staged WHERE key = ?1 OR key >= ?2 AND key < ?3 LIMIT 1"
        found = self._database.execute(statement, (code, f"{code}\t", f"{code}\n"))
        return found.fetchone() is not None

    def batches(self, size: int) -> Iterator[list[tuple[int, FileRow]]]:
        """Yield batches of at most `size` rows without errors with their lines, sorted by key."""
        good = ""
        if self.number_of_bad_rows:
            good = "WHERE line NOT IN (SELECT line FROM problem WHERE NOT is_warning)"
        cursor = self._database.execute(f"SELECT line, body FROM staged {good} ORDER BY key")  # noqa: S608
        while batch := cursor.fetchmany(size):
            yield [(line, orjson.loads(body)) for line, body in batch]

    def add_imported(self, run_id: str, levels: Iterable[LevelKey]) -> None:
        """Store levels that a run has written."""
        self._insert(
            "INSERT OR IGNORE INTO imported VALUES (?, ?, ?)", [(run_id, *each) for each in levels]
        )

    def imported_among(self, run_id: str, levels: Iterable[LevelKey]) -> set[LevelKey]:
        """Return those of some levels that a run has written."""
        statement = "SELECT 1 FROM imported WHERE run = ? AND sku = ? AND warehouse_id = ?"
        find = self._database.execute
        return {level for level in levels if find(statement, (run_id, *level)).fetchone()}

    def problems(self) -> Iterator[RowProblem]:
        """Yield all problems, sorted by line."""
        statement = f"SELECT {_PROBLEM_COLUMNS} FROM problem ORDER BY line, rowid"  # noqa: S608
        return map(_problem_of, self._database.execute(statement))

    def causes(self) -> Iterator[ProblemCause]:
        """Yield the causes of problems, errors first, each with its first problems."""
        groups = self._database.execute(
            "SELECT is_warning, name, reason, remedy, hint = '', COUNT(DISTINCT line) FROM problem "
            "GROUP BY 1, 2, 3, 4, 5 ORDER BY is_warning, MIN(line), MIN(rowid) LIMIT ?",
            (LISTED_CAUSES + 1,),
        ).fetchall()
        for *key, rows in groups:
            found = self._database.execute(
                f"SELECT {_PROBLEM_COLUMNS} FROM problem WHERE is_warning = ? AND name = ? "  # noqa: S608
                "AND reason = ? AND remedy = ? AND (hint = '') = ? ORDER BY line, rowid LIMIT ?",
                (*key, LISTED_ROWS),
            )
            yield ProblemCause(rows, tuple(map(_problem_of, found)))

    def close(self) -> None:
        """Close and delete the temporary database."""
        self._database.close()

    def _keep(self, chosen: str, by: str) -> None:
        """Delete all but the chosen row of each group of rows."""
        self._database.execute(
            f"DELETE FROM staged WHERE id NOT IN (SELECT {chosen} FROM staged GROUP BY {by})"  # noqa: S608
        )

    def _refuse(self, condition: str, reason: str, remedy: str) -> None:
        """Store a problem for the rows that meet a condition; its value is their key."""
        self._database.execute(
            "INSERT OR IGNORE INTO problem "  # noqa: S608
            "SELECT line, 0, '', replace(key, char(9), ' in '), ?, ?, '' "
            f"FROM staged WHERE {condition}",
            (reason, remedy),
        )

    def _insert(self, statement: str, rows: Sequence[Any]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(statement, rows)
        self._database.execute("COMMIT")


def _problem_of(row: Sequence[Any]) -> RowProblem:
    line, is_warning, column, value, reason, remedy, hint = row
    return RowProblem(
        line=line,
        is_warning=bool(is_warning),
        column=column,
        value=value,
        reason=reason,
        remedy=remedy,
        hint=hint,
    )
