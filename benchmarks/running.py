"""Helpers of the benchmark commands."""

import sys

import typer

from benchmarks.load import WrongAnswer
from benchmarks.peers.node import PeerFailed
from benchmarks.servers import DoesNotSettle, DoesNotStart


def progress(line: str) -> None:
    """Print a line of progress."""
    typer.echo(line, err=True)


def run(app: typer.Typer) -> None:
    """Run a command; a failure is one line and a non-zero exit code."""
    try:
        app()
    except (WrongAnswer, DoesNotStart, DoesNotSettle, PeerFailed) as error:
        sys.exit(f"benchmarks: {error}")
