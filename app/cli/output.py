"""Output of commands: tables and JSON on standard output, progress on a terminal."""

import sys
from collections.abc import Mapping, Sequence

import typer


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_rows(rows: Sequence[Mapping[str, object]], *, json: bool, empty: str) -> None:
    """Print rows as JSON or as a table with aligned columns; without rows, say so."""
    if json:
        print_json(rows)
    elif not rows:
        typer.echo(empty, err=True)
    else:
        cells = [
            [name.upper() for name in rows[0]],
            *([_cell(value) for value in row.values()] for row in rows),
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            typer.echo("  ".join(padded).rstrip())


def printable(text: str) -> str:
    """Replace characters that do not print, because they could control the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def show_progress(unit: str, number: int) -> None:
    """Replace the progress line, such as "2,000 rows read". Without a terminal nothing is shown."""
    _write_line(f"{number:,} {unit}")


def clear_progress() -> None:
    """Clear the progress line."""
    _write_line("")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable("-" if value in (None, "") else str(value))


def _write_line(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{text:<40}\r", err=True, nl=False)
