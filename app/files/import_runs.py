"""Values of an import: the run, its tally, and the decision on a batch of rows."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.database.session import Session
from app.files.columns import FileKind, FileRow

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
    """The effect of a batch: its tally, the problems of its lines and the function that writes.

    The function returns False on a conflict.
    """

    tally: ImportTally = field(default_factory=ImportTally)
    problems: list[tuple[int, str]] = field(default_factory=list)
    write: Callable[[Session], Awaitable[bool]] | None = None


class DecideBatch(Protocol):
    """Reads the rows that a batch needs and decides by the rules of every other write."""

    async def __call__(
        self, session: Session, run: ImportRun, rows: FileRows, *, locked: bool
    ) -> BatchDecision:
        """Decide; if `locked`, the rows are locked until the transaction ends."""
