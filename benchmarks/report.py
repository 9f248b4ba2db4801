"""The results as text and Markdown."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.load import Sample
from benchmarks.table import Row

# Rows by the number of workers of each server.
Passes = Mapping[int, Sequence[Row]]

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "RESULTS.md"
PICTURE: Final = ROOT / "docs" / "benchmark.svg"
NOTES: Final = """\
Each figure is a ratio to the floor: requests per second divided by those of the floor in the same
round. The median of the rounds stands first, then the least and the greatest. Absolute figures
depend on the machine, which the database and the load share with the servers; only the ratios are
comparable.

- **LIST50**: the first 50 SKUs with totals, status, and nested stock with its warehouse; 16
  connections. **One SKU**: the same of one of 500 SKUs in turn; 16 connections. **Set stock**:
  another quantity for one stock level, with ledger row and status; 16 connections. **64**: the same
  from 64 connections. **Bulk 500**: 500 of them, all or nothing; 4 connections.
- **The floor** is hand-written for these requests only: Starlette, asyncpg, orjson. A read takes
  two statements, a write five in a transaction; it has no tokens, tenants, rules, keys or totals.
- **This service** checks a bearer token; every write has a new idempotency key. REST lists carry
  the exact total.
- **PostGraphile** returns the columns of the tables, without totals over the levels; its writes are
  plpgsql functions. **Mercurius** writes three pipelined statements. **FastAPI + SQLModel** follows
  their tutorials. None of the peers checks tokens or keys, or stores counts of SKUs by status.
- One PostgreSQL serves all, with the same durability; each contender has its own copy of the data.
  Each worker has ten connections at most. The floor and the peers number adjustments by a sequence
  of PostgreSQL, which has gaps; this service gives each adjustment the next position of its tenant.
  The SQLite rows read and write a file of the same data, in WAL mode with `synchronous = FULL`.
- Before the first sample, the responses of all contenders must be equal. During a sample, the body
  of every read must equal one of them, and every write must have status 200, no errors and the
  right number of SKUs. After each sample the ledger must have grown by at least the number of
  responses. At the end every level, status and adjustment must agree with the others.
"""


def as_text(rows: Sequence[Row]) -> str:
    """Return a table for a terminal."""
    return as_columns(table(rows))


def as_columns(lines: Sequence[Sequence[str]]) -> str:
    """Return lines as text with aligned cells."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(passes: Passes, facts: Mapping[str, str]) -> str:
    """Return the page of the results."""
    parts = ["# Results", bullet_list(facts)]
    for workers, rows in passes.items():
        parts += [f"## {title(workers)}", markdown_table(table(rows))]
    parts += ["![The ratios as bars](../docs/benchmark.svg)", "## Method", NOTES.rstrip()]
    parts += ["## Absolute figures", "Medians of requests a second, and of p50 and p99 in ms."]
    for workers, rows in passes.items():
        parts += [f"### {title(workers)}", markdown_table(absolute(rows))]
    return "\n\n".join(parts) + "\n"


def title(workers: int) -> str:
    """Return the title of a pass."""
    return "One worker each" if workers == 1 else f"{workers} workers each"


def bullet_list(facts: Mapping[str, str]) -> str:
    """Return facts as a Markdown list."""
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Return the lines of a table of ratios, the heading first."""
    return _lines(rows, _ratio)


def absolute(rows: Sequence[Row]) -> list[list[str]]:
    """Return the lines of a table of absolute figures, the heading first."""
    return _lines(rows, _figures)


def markdown_table(lines: Iterable[Sequence[str]]) -> str:
    """Return lines as a table, the first one as its heading."""
    heading, *rest = lines
    ruled = [heading, ["---"] * len(heading), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def _lines(rows: Sequence[Row], cell: Callable[[Row], str]) -> list[list[str]]:
    works = list(dict.fromkeys(row.work for row in rows))
    cells = {(row.contender, row.work): cell(row) for row in rows}
    contenders = list(dict.fromkeys(row.contender for row in rows))
    return [
        ["", *works],
        *([name, *(cells[name, work] for work in works)] for name in contenders),
    ]


def _ratio(row: Row) -> str:
    if row.samples is row.floor:
        return f"1.00 = {_median(row, lambda sample: sample.requests_per_second):,.0f}/s"
    return f"{row.ratio:.2f} ({min(row.ratios):.2f}-{max(row.ratios):.2f})"


def _figures(row: Row) -> str:
    return (
        f"{_median(row, lambda sample: sample.requests_per_second):,.0f}/s, "
        f"{_median(row, lambda sample: sample.p50_ms):.1f}, "
        f"{_median(row, lambda sample: sample.p99_ms):.1f}"
    )


def _median(row: Row, read: Callable[[Sample], float]) -> float:
    return statistics.median(read(sample) for sample in row.samples)
