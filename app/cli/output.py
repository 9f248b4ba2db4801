"""Output of commands: JSON on standard output, progress on a terminal."""

import sys
from typing import Annotated

import orjson
import typer

TenantOption = Annotated[str, typer.Option("--tenant", help="The id of the tenant.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class BadOption(Exception):
    """The value of an option is not valid."""


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def show_progress(unit: str, number: int) -> None:
    """Replace the progress line, such as "2,000 rows read". Without a terminal nothing is shown."""
    _write_line(f"{number:,} {unit}")


def clear_progress() -> None:
    """Clear the progress line."""
    _write_line("")


def _write_line(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{text:<40}\r", err=True, nl=False)
