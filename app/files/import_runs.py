"""Values of an import: the run, its tally, and the decision on a batch of rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from app.domain.records import WarehouseRecord
from app.domain.stock import UNCHANGED, Changes, Stock
from app.files.columns import FileKind, FileRow
from app.files.imported_levels import ImportedLevels
from app.files.problems import RowProblem
from app.writes.decisions import Needs

# Rows with their lines in the file.
FileRows = Sequence[tuple[int, FileRow]]
MAX_EXAMPLES: Final = 10
UNKNOWN_SKU: Final = "is not the code of a SKU"


@dataclass(kw_only=True)
class ImportTally:
    """Numbers of rows by their effect."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    # Counts that an earlier start of the same run has written.
    already_imported: int = 0
    # Levels of a marketplace that a later report has set.
    superseded: int = 0

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
    imported: ImportedLevels
    # The name of an import that is written only once; empty if it has none.
    name: str = ""
    # Whether unknown SKUs of a file of stock are created.
    creates_skus: bool = False
    # Unknown warehouses of the file, which are created.
    new_warehouses: Mapping[str, WarehouseRecord] = field(default_factory=dict)
    # The time of a marketplace's report; None: now.
    reported_at: datetime | None = None
    # The names of the file's columns by those of the import.
    labels: Mapping[str, str] = field(default_factory=dict)
    # The name of the column with the quantities of each warehouse, if the file has such columns.
    warehouse_labels: Mapping[str, str] = field(default_factory=dict)

    def problem(
        self,
        line: int,
        column: str,
        value: object,
        reason: str,
        remedy: str = "",
        *,
        warehouse_id: str = "",
    ) -> RowProblem:
        """Describe a problem of a value in a column of the import, or of a warehouse's quantity."""
        name = self.warehouse_labels.get(warehouse_id) or self.labels.get(column, column)
        return RowProblem(line=line, column=name, value=str(value), reason=reason, remedy=remedy)

    def unknown_sku(self, line: int, code: str) -> RowProblem:
        """Describe the problem of an unknown SKU."""
        remedy = "Import the SKU first, or create it by --create-skus."
        return self.problem(line, "sku", code, UNKNOWN_SKU, remedy)


@dataclass(slots=True)
class BatchDecision:
    """The effect of a batch: its tally, the problems of its lines, and its changes."""

    tally: ImportTally = field(default_factory=ImportTally)
    problems: list[RowProblem] = field(default_factory=list)
    changes: Changes = UNCHANGED
    # The SKUs and warehouses that files of stock create.
    new_skus: list[str] = field(default_factory=list)
    new_warehouses: dict[str, str] = field(default_factory=dict)


class DecideBatch(Protocol):
    """Decides on a batch by the rules of every other write."""

    def __call__(self, stock: Stock, *, is_final: bool) -> BatchDecision:
        """Decide; `is_final` is False for the check of the file."""


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """Rows of a file: the rows of the database that they need, and their decision."""

    needs: Needs
    decide: DecideBatch


@dataclass(slots=True)
class ImportResult:
    """The effect of an import: its tally, and the SKUs and warehouses that it creates."""

    tally: ImportTally = field(default_factory=ImportTally)
    new_skus: int = 0
    # The first of them.
    sku_examples: list[str] = field(default_factory=list)
    # Names by id.
    new_warehouses: dict[str, str] = field(default_factory=dict)
    _last_sku: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether earlier starts of the run have written all that it writes."""
        tally = self.tally
        return bool(tally.already_imported) and not (tally.created or tally.updated)

    def add(self, decision: BatchDecision) -> None:
        """Add the decision on the next batch; a SKU may continue in it."""
        self.tally.add(decision.tally)
        codes = [code for code in decision.new_skus if code != self._last_sku]
        self.new_skus += len(codes)
        self.sku_examples += codes[: MAX_EXAMPLES - len(self.sku_examples)]
        self._last_sku = decision.new_skus[-1] if decision.new_skus else ""
        self.new_warehouses |= decision.new_warehouses


PrepareBatch = Callable[[ImportRun, FileRows], ImportBatch]
