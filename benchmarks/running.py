"""What the commands of the benchmarks share."""

import sys

import typer

from benchmarks.load import WrongAnswer
from benchmarks.peers.node import PeerFailed
from benchmarks.servers import DoesNotSettle, DoesNotStart


def progress(line: str) -> None:
    """Tell how far it is."""
    typer.echo(line, err=True)


def run(app: typer.Typer) -> None:
    """Run a command; what is wrong is one line and a non-zero exit."""
    try:
        app()
    except (WrongAnswer, DoesNotStart, DoesNotSettle, PeerFailed) as error:
        sys.exit(f"benchmarks: {error}")
