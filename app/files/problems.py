"""Problems of rows: the reason, the value and the remedy, as text for people."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from app.files.cell_values import marked_text

MAX_SHOWN_LENGTH: Final = 40
# Problems with one cause are listed one by one up to this number, and summed up beyond.
LISTED_ROWS: Final = 5
LISTED_CAUSES: Final = 20
# Called with a unit, such as "rows read", and the number so far.
ReportRows = Callable[[str, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """A problem of a row. Problems with the same column, reason and remedy have one cause."""

    line: int
    reason: str
    # As the file names it; empty if the problem is one of the whole row.
    column: str = ""
    value: str | None = None
    remedy: str = ""
    # Text about this row alone, such as a similar code.
    hint: str = ""
    is_warning: bool = False


@dataclass(frozen=True, slots=True)
class ProblemCause:
    """The problems with one cause: their number and the first of them."""

    rows: int
    problems: tuple[RowProblem, ...]


class UnreadableFile(Exception):
    """The file cannot be parsed from a line on."""

    def __init__(self, line: int, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.remedy = remedy


def shown(value: object) -> str:
    """Quote a value of a file for people: at most 40 characters, without control characters."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= MAX_SHOWN_LENGTH else f"{text[: MAX_SHOWN_LENGTH - 1]}…")


def listed(names: Iterable[object], *, most: int = 12) -> str:
    """List quoted values, the first ones of many."""
    quoted = [shown(name) for name in names]
    more = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return ", ".join(quoted[:most]) + more


def problem_lines(file: str, causes: Iterable[ProblemCause]) -> Iterator[str]:
    """Yield the lines that describe problems; many problems with one cause are one line."""
    for number, cause in enumerate(causes):
        if number == LISTED_CAUSES:
            yield f"{file}: There are more problems; --report FILE lists them all."
            return
        if cause.rows <= LISTED_ROWS:
            for problem in cause.problems:
                yield _sentence(f"{file}, line {problem.line}", problem)
        else:
            first = cause.problems[0]
            rows = f"{file}: {cause.rows:,} rows, first at line {first.line}"
            yield _sentence(rows, first)


def _sentence(place: str, problem: RowProblem) -> str:
    column = f", column {shown(problem.column)}" if problem.column else ""
    value = "" if problem.value is None else f"{shown(problem.value)} "
    kind = "Warning: " if problem.is_warning else ""
    more = "".join(f" {text}" for text in (problem.hint, problem.remedy) if text)
    return f"{place}{column}: {kind}{value}{problem.reason}.{more}"


def write_report(path: Path, problems: Iterable[RowProblem]) -> None:
    """Write all problems to a file: JSON Lines if its name ends so, else CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix in (".jsonl", ".ndjson"):
            for problem in problems:
                file.write(orjson.dumps(_cells(problem)).decode() + "\n")
            return
        writer = csv.DictWriter(file, ["line", "severity", "column", "value", "reason", "remedy"])
        writer.writeheader()
        for problem in problems:
            cells = _cells(problem)
            writer.writerow(cells | {"column": marked_text(str(cells["column"]))})


def _cells(problem: RowProblem) -> dict[str, object]:
    return {
        "line": problem.line,
        "severity": "warning" if problem.is_warning else "error",
        "column": shown(problem.column)[1:-1] if problem.column else "",
        "value": "" if problem.value is None else shown(problem.value),
        "reason": problem.reason,
        "remedy": " ".join(text for text in (problem.hint, problem.remedy) if text),
    }
