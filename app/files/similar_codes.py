"""Codes that differ from those of SKUs only as a spreadsheet or a keyboard changes them."""

import re
import sqlite3
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

from sqlalchemy import Select, select

from app.database.engine import Database
from app.database.tables import sku
from app.files.exports import EXPORTED_TENANT, exported_rows
from app.files.import_runs import UNKNOWN_SKU, FileRows, ImportRun
from app.files.problems import RowProblem, shown
from app.files.staging import Staging

SHORTENED: Final = "looks like a number that a spreadsheet shortened"
WITHOUT_ZEROS: Final = "also exists with more zeros, which a spreadsheet removes"
ALMOST_EXISTING: Final = "differs from another code only in case or in zeros"
_SCIENTIFIC: Final = re.compile(r"([0-9])(?:[.,]([0-9]+))?[eE]\+?([0-9]{1,2})")
_DECIMAL: Final = re.compile(r"0*([0-9]+)(?:\.([0-9]*?)0*)?")
_DATE: Final = re.compile(
    r"([0-9]{1,2})[-. /]([A-Za-z]{3})[a-z]*|([A-Za-z]{3})[a-z]*[-. /]([0-9]{1,4})"
)
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_BATCH: Final = 1_000


def folded_code(code: str) -> str:
    """Return a code without case, separators, leading zeros and zeros after a decimal point."""
    text = unicodedata.normalize("NFKC", code).casefold()
    if number := _DECIMAL.fullmatch(text):
        return f"{number[1]}{number[2] or ''}"
    return re.sub(r"[\W_]+", "", text)


def is_twin(code: str, other: str) -> bool:
    """Whether two codes differ only in case, or as numbers only in zeros at an end."""
    if code.casefold() == other.casefold():
        return True
    numbers = _DECIMAL.fullmatch(code), _DECIMAL.fullmatch(other)
    return None not in numbers and folded_code(code) == folded_code(other)


class SimilarCodes:
    """Codes of a file to be compared with the codes of all SKUs, in a temporary database."""

    def __init__(self, run: ImportRun, staging: Staging) -> None:
        self._run = run
        self._staging = staging
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("""
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE looked_up (line INTEGER NOT NULL, code TEXT NOT NULL, is_known INTEGER);
            CREATE TABLE known (code TEXT PRIMARY KEY, folded TEXT NOT NULL) WITHOUT ROWID;
        """)

    def add(self, rows: FileRows, known: Mapping[str, object]) -> None:
        """Add the rows whose codes are unknown, or may be damaged ones of other SKUs."""
        found = [
            (line, row["sku"], row["sku"] in known)
            for line, row in rows
            if row["sku"] not in known or _may_be_damaged(row["sku"])
        ]
        if found:
            self._insert("INSERT INTO looked_up VALUES (?, ?, ?)", found)

    async def find(self, database: Database) -> None:
        """Add hints to the problems of unknown codes, and warnings of damaged ones."""
        [(number, unknown)] = self._database.execute(
            "SELECT COUNT(*), COUNT(*) FILTER (WHERE NOT is_known) FROM looked_up"
        )
        if not number:
            return
        statement = _all_codes() if unknown else _codes_with_leading_zeros()
        async for rows in exported_rows(database, statement, self._run.tenant_id):
            self._insert(
                "INSERT OR IGNORE INTO known VALUES (?, ?)",
                [(str(code), folded_code(str(code))) for (code,) in rows],
            )
        self._database.execute("CREATE INDEX known_by_folded ON known (folded)")
        rows_ = self._database.execute("SELECT line, code, is_known FROM looked_up ORDER BY line")
        creates = self._run.creates_skus or self._run.kind == "skus"
        while batch := rows_.fetchmany(_BATCH):
            hints: list[tuple[int, str]] = []
            warnings: list[RowProblem] = []
            for line, code, is_known in batch:
                if is_known:
                    warnings += self._warnings_of_known(line, code)
                elif creates:
                    warnings += self._warnings_of_new(line, code)
                elif similar := self._similar(code):
                    hints.append((line, f"Did you mean {' or '.join(map(shown, similar))}?"))
                elif _SCIENTIFIC.fullmatch(code):
                    hints.append((line, f"It {SHORTENED}."))
                elif _spellings_of_date(code):
                    hints.append((line, "It looks like a date that a spreadsheet made of a code."))
            self._staging.add_hints(UNKNOWN_SKU, hints)
            self._staging.add_problems(warnings)

    def close(self) -> None:
        """Close and delete the temporary database."""
        self._database.close()

    def _warnings_of_known(self, line: int, code: str) -> Iterator[RowProblem]:
        if _SCIENTIFIC.fullmatch(code):
            yield self._warning(line, code, SHORTENED)
            return
        twins = [
            twin
            for twin in self._by_fold(code)
            if len(twin) > len(code) and is_twin(code, twin) and not self._staging.has_code(twin)
        ]
        if twins:
            hint = f"The other code is {shown(twins[0])}; check which one is meant."
            yield self._warning(line, code, WITHOUT_ZEROS, hint)

    def _warnings_of_new(self, line: int, code: str) -> Iterator[RowProblem]:
        if _SCIENTIFIC.fullmatch(code):
            yield self._warning(line, code, SHORTENED)
        elif twins := [twin for twin in self._by_fold(code) if is_twin(code, twin)]:
            yield self._warning(
                line, code, ALMOST_EXISTING, f"The existing code is {shown(twins[0])}."
            )

    def _warning(self, line: int, code: str, reason: str, hint: str = "") -> RowProblem:
        return RowProblem(
            line=line,
            column=self._run.labels.get("sku", "sku"),
            value=code,
            reason=reason,
            hint=hint,
            is_warning=True,
        )

    def _similar(self, code: str) -> list[str]:
        """Return at most two codes that may be meant."""
        if number := _SCIENTIFIC.fullmatch(code):
            return self._rounded_to(number)
        spellings = [code, *_spellings_of_date(code)]
        found = [other for spelling in spellings for other in self._by_fold(spelling)]
        return [*dict.fromkeys(found)][:2]

    def _by_fold(self, code: str) -> list[str]:
        rows = self._database.execute(
            "SELECT code FROM known WHERE folded = ? AND code <> ? ORDER BY code LIMIT 3",
            (folded_code(code), code),
        )
        return [found for (found,) in rows]

    def _rounded_to(self, number: re.Match[str]) -> list[str]:
        """Return codes that a spreadsheet shortens to a number such as 4.26E+12."""
        digits, length = number[1] + (number[2] or ""), int(number[3]) + 1
        zeros = length - len(digits)
        if zeros < 0:
            return []
        middle, half = int(digits) * 10**zeros, 10**zeros // 2
        rows = self._database.execute(
            "SELECT code FROM known WHERE code BETWEEN ? AND ? AND length(code) = ? LIMIT 2",
            (str(middle - half), str(middle + half), length),
        )
        return [code for (code,) in rows]

    def _insert(self, statement: str, rows: list[Any]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(statement, rows)
        self._database.execute("COMMIT")


def _may_be_damaged(code: str) -> bool:
    if code[0] not in "123456789":
        return False
    return (_DECIMAL.fullmatch(code) or _SCIENTIFIC.fullmatch(code)) is not None


def _spellings_of_date(code: str) -> list[str]:
    """Return codes of which a spreadsheet makes a date such as 2-Jan or Oct-12."""
    date = _DATE.fullmatch(code)
    if date is None:
        return []
    day, name = date[1] or date[4], (date[2] or date[3]).casefold()
    if name not in _MONTHS:
        return []
    number = str(_MONTHS.index(name) + 1)
    pairs = product((day, day.zfill(2)), (name, number, number.zfill(2)))
    return [spelling for a, b in pairs for spelling in (f"{a}-{b}", f"{b}-{a}")]


def _all_codes() -> Select[Any]:
    return select(sku.c.sku).where(sku.c.tenant_id == EXPORTED_TENANT)


def _codes_with_leading_zeros() -> Select[Any]:
    return _all_codes().where(sku.c.sku >= "0", sku.c.sku < "1")
