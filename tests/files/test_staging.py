"""Rows for the same SKU and warehouse in the staging of a file."""

import sqlite3

import pytest

from app.domain.quantities import MAX_QUANTITY
from app.files.columns import FileKind
from app.files.problems import RowProblem
from app.files.staging import Duplicates, Staging

# SQLite calls the progress handler once for so many instructions.
INSTRUCTIONS = 1_000


def found(kind: FileKind, rows: list[dict[str, object]], duplicates: Duplicates) -> Staging:
    staging = Staging()
    staging.kind = kind
    staging.add_rows(enumerate(rows, start=2))
    staging.find_duplicates(duplicates)
    return staging


def counted(quantity: int, code: str = "A") -> dict[str, object]:
    return {"sku": code, "warehouse_id": "w", "quantity": quantity}


@pytest.mark.parametrize("rows", [1, 2, 100, 2_000])
def test_many_rows_of_one_level_are_added_up(rows: int) -> None:
    staging = found(FileKind.COUNTS, [counted(3)] * rows + [counted(1, code="B")], Duplicates.SUM)

    [batch] = staging.batches(10)
    assert [(line, row["quantity"]) for line, row in batch] == [(2, 3 * rows), (rows + 2, 1)]
    assert staging.number_of_bad_rows == 0


def test_a_sum_beyond_the_numbers_of_the_database_is_refused() -> None:
    # SUM of SQLite ends at 2 ** 63.
    staging = found(FileKind.COUNTS, [counted(2**62)] * 2, Duplicates.SUM)
    assert [problem.line for problem in staging.problems()] == [2]
    staging = found(FileKind.COUNTS, [counted(MAX_QUANTITY - 1), counted(1)], Duplicates.SUM)
    assert staging.number_of_bad_rows == 0


def test_problems_of_two_values_of_a_column_are_both_kept() -> None:
    staging = Staging()
    problems = [
        RowProblem(line=2, column="quantity", value=value, reason="is refused")
        for value in ("1", "2", None)
    ]
    for _ in range(2):
        staging.add_problems(problems)
    assert [*staging.problems()] == problems
    assert staging.number_of_bad_rows == 1


def instructions(kind: FileKind, duplicates: Duplicates, rows: int) -> int:
    """Return the work of the database for rows of one key."""
    staging = Staging()
    staging.kind = kind
    is_sku = kind is FileKind.SKUS
    staging.add_rows(
        (line, {"sku": "A", "title": f"Thing {line}"} if is_sku else counted(line))
        for line in range(rows)
    )
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    database: sqlite3.Connection = staging._database
    database.set_progress_handler(step, INSTRUCTIONS)
    staging.find_duplicates(duplicates)
    return steps


@pytest.mark.parametrize(
    ("kind", "duplicates"),
    [
        (FileKind.SKUS, Duplicates.REFUSE),
        (FileKind.COUNTS, Duplicates.REFUSE),
        (FileKind.COUNTS, Duplicates.SUM),
        (FileKind.COUNTS, Duplicates.LAST),
    ],
)
def test_the_work_for_rows_of_one_key_is_linear(kind: FileKind, duplicates: Duplicates) -> None:
    few, many = (instructions(kind, duplicates, rows) for rows in (1_000, 4_000))

    assert 0 < many < 6 * few
