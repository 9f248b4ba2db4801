"""Rows of a file as rows of an import: values, problems, and rows that are passed over."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from app.files.cell_values import (
    BadCell,
    quantity_of,
    quantity_of_number,
    text_of,
    truth_of,
)
from app.files.column_mapping import ColumnMapping
from app.files.columns import QUANTITY_KINDS, STOCK_KINDS, FileColumn, FileKind, FileRow
from app.files.problems import RowProblem
from app.files.warehouse_names import WarehouseNames

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ABSENT: Final = object()
NUL_PROBLEM: Final = "must not contain the character NUL"


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """The cells of a row that begins on a line by normal column name, or its problem."""

    line: int
    cells: Mapping[str, object]
    problem: RowProblem | None = None


class RowReader:
    """Reads rows by the columns of the file; counts those that it passes over."""

    def __init__(self, mapping: ColumnMapping, warehouses: WarehouseNames) -> None:
        # Quantities that leave a stock level alone.
        self.left_alone = 0
        self.passed_over = 0
        self.problems: list[RowProblem] = []
        self.warnings: list[RowProblem] = []
        self._mapping = mapping
        self._layout = mapping.layout
        self._warehouses = warehouses
        self._counts = mapping.kind in QUANTITY_KINDS
        # The quantity columns of each warehouse; None is the warehouse that the row names.
        self._quantity_sources: Sequence[tuple[str | None, Sequence[str]]] = [
            *mapping.warehouses.items()
        ] or [(None, mapping.sources.get("quantity", ()))]
        self._columns = [
            (target, column, mapping.sources[target])
            for target, column in mapping.columns.items()
            if target in mapping.sources and not (self._counts and target == "quantity")
        ]
        # The values of columns that the file lacks. Every process must order them alike, because
        # the id of an import depends on it.
        self._absent: FileRow = {
            target: None for target in mapping.columns if target not in mapping.sources
        }
        if mapping.kind in STOCK_KINDS and "warehouse_id" in self._absent:
            self._absent["warehouse_id"] = warehouses.default
        self._blank = mapping.layout.blank if mapping.layout else frozenset()

    def rows_of(self, parsed: ParsedRow) -> list[FileRow]:
        """Return the rows that a row of the file stands for; problems are added."""
        if parsed.problem is not None:
            self.problems.append(parsed.problem)
            return []
        if self._layout is not None and self._is_passed_over(parsed.cells):
            self.passed_over += 1
            return []
        before = len(self.problems)
        quantities = self._quantities(parsed) if self._counts else [(None, None)]
        if not quantities and len(self.problems) == before:
            return []
        row = self._absent.copy()
        for target, column, sources in self._columns:
            row[target] = self._value(parsed, target, column, sources)
        if self._mapping.kind is FileKind.WAREHOUSES and len(self.problems) == before:
            row["id"] = self._warehouse_id_of(parsed, row)
        if len(self.problems) > before:
            return []
        if not self._counts:
            return [row]
        return [
            {**row, "quantity": quantity}
            if id_ is None
            else {**row, "warehouse_id": id_, "quantity": quantity}
            for id_, quantity in quantities
        ]

    def _is_passed_over(self, cells: Mapping[str, object]) -> bool:
        layout = self._mapping.layout
        if layout is None:
            return False
        for column, value in layout.only.items():
            if str(cells.get(column, "")).strip().casefold() != value.casefold():
                return True
        if not layout.skip_rows_without_sku:
            return False
        _, cell = _first_filled(cells, self._mapping.sources.get("sku", ()))
        return cell is None or (isinstance(cell, str) and not self._text("sku", cell))

    def _quantities(self, parsed: ParsedRow) -> list[tuple[str | None, int]]:
        """Return the quantities of a row by warehouse; blank ones are counted."""
        result = []
        for id_, sources in self._quantity_sources:
            name, cell = _first_filled(parsed.cells, sources)
            if cell is None and name is None:
                self._add(parsed, sources[0], None, BadCell("is missing in this row"))
                continue
            try:
                quantity = self._quantity(cell)
            except BadCell as error:
                self._add(parsed, name or sources[0], cell, error)
                continue
            if quantity is None:
                self.left_alone += 1
            else:
                result.append((id_, quantity))
        return result

    def _value(
        self, parsed: ParsedRow, target: str, column: FileColumn, sources: Sequence[str]
    ) -> object:
        """Return the value of a column of the import, or None and add its problem."""
        name, cell = _first_filled(parsed.cells, sources)
        try:
            if column.type is int:
                return self._quantity(cell)
            if column.type is bool:
                return cell if isinstance(cell, bool | None) else truth_of(self._text(target, cell))
            text = self._text(target, cell) if cell is not None else ""
            if not text:
                return self._blank_value(target, column, is_missing=name is None)
            if column.choices is not None:
                text = column.choices.get(text.casefold(), text)
            _check_text(text, column)
            if target == "warehouse_id":
                return self._warehouses.find(text)
            if target == "sku" and self._mapping.kind is FileKind.SKUS:
                self._warn_of_trimmed(parsed, name, cell)
        except BadCell as error:
            self._add(parsed, name or sources[0], cell, error)
            return None
        return text

    def _blank_value(self, target: str, column: FileColumn, *, is_missing: bool) -> str | None:
        if target == "warehouse_id" and self._warehouses.default:
            return self._warehouses.default
        if not column.required:
            return None
        raise BadCell("is missing in this row" if is_missing else "is required")

    def _quantity(self, cell: object) -> int | None:
        if isinstance(cell, str):
            text = text_of(cell)
            if text.casefold() in self._blank:
                return None
            return quantity_of(text, self._mapping.decimal)
        if cell is None:
            return None
        if isinstance(cell, bool) or not isinstance(cell, int | Decimal):
            raise BadCell("must be a whole number")
        return quantity_of_number(Decimal(cell))

    def _text(self, target: str, cell: object) -> str:
        if isinstance(cell, str):
            text = text_of(cell)
        elif isinstance(cell, bool) or not isinstance(cell, int | Decimal):
            raise BadCell("must be text")
        else:
            text = str(cell)
        pattern = self._layout.extract.get(target) if self._layout else None
        if pattern is None:
            return text
        match = pattern.search(text)
        return (match[1] or "") if match else ""

    def _warehouse_id_of(self, parsed: ParsedRow, row: FileRow) -> str | None:
        try:
            return self._warehouses.id_of_row(row["id"], row["name"])
        except BadCell as error:
            [source, *_] = self._mapping.sources["name"]
            self._add(parsed, source, row["name"], error)
            return None

    def _warn_of_trimmed(self, parsed: ParsedRow, name: str | None, cell: object) -> None:
        if isinstance(cell, str) and cell != cell.strip():
            warning = RowProblem(
                line=parsed.line,
                column=self._mapping.labels.get(name or "", "sku"),
                value=cell,
                reason="has spaces at its edge, which were removed",
                is_warning=True,
            )
            self.warnings.append(warning)

    def _add(self, parsed: ParsedRow, name: str, cell: object, error: BadCell) -> None:
        self.problems.append(
            RowProblem(
                line=parsed.line,
                column=self._mapping.labels.get(name, name),
                value=None if cell is None or cell == "" else str(cell),
                reason=error.reason,
                remedy=error.remedy,
            )
        )


def _first_filled(cells: Mapping[str, object], sources: Sequence[str]) -> tuple[str | None, object]:
    """Return the first filled cell with its column, else a blank one; (None, None): none exists."""
    found: str | None = None
    for name in sources:
        cell = cells.get(name, _ABSENT)
        if cell is _ABSENT:
            continue
        found = name
        if cell.strip() if isinstance(cell, str) else cell is not None:
            return name, cell
    return found, None


def _check_text(text: str, column: FileColumn) -> None:
    if "\x00" in text:
        raise BadCell(NUL_PROBLEM)
    if not text.isascii() and _SURROGATE.search(text):
        raise BadCell("must not contain surrogates")
    if problem := column.problem(text):
        raise BadCell(problem)
