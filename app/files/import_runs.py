"""Values of an import: the run, its tally, and the decision on a batch of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.domain.stock import UNCHANGED, Changes, Stock
from app.files.columns import FileKind, FileRow
from app.writes.decisions import Needs

# Rows with their lines in the file.
FileRows = Sequence[tuple[int, FileRow]]


@dataclass(kw_only=True)
class ImportTally:
    """Numbers of rows by their effect."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    # Counts that an earlier start of the same run has written.
    already_imported: int = 0

    def add(self, other: "ImportTally") -> None:
        """Add the numbers of another tally."""
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRun:
    """An import of a file into a tenant; ledger entries name `created_by` and the id."""

    tenant_id: str
    kind: FileKind
    id: str
    created_by: str


@dataclass(slots=True)
class BatchDecision:
    """The effect of a batch: its tally, the problems of its lines, and its changes."""

    tally: ImportTally = field(default_factory=ImportTally)
    problems: list[tuple[int, str]] = field(default_factory=list)
    changes: Changes = UNCHANGED


class DecideBatch(Protocol):
    """Decides on a batch by the rules of every other write."""

    def __call__(self, stock: Stock, *, is_final: bool) -> BatchDecision:
        """Decide; `is_final` is False for the check of the file."""


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """Rows of a file: the rows of the database that they need, and their decision."""

    needs: Needs
    decide: DecideBatch


PrepareBatch = Callable[[ImportRun, FileRows], ImportBatch]
