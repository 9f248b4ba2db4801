"""The command `inventory` in this process, which is faster than a process of its own."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from app.cli.main import main
from tests.files.cases import SKUS, WAREHOUSES

TENANT = "acme"


@dataclass(frozen=True)
class Outcome:
    """The exit status and the output of a command."""

    status: int
    stdout: str
    stderr: str


class Commands:
    """Runs commands on a database."""

    def __init__(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.database_url = database_url
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def run(self, *words: str) -> Outcome:
        """Run a command."""
        self._monkeypatch.setenv("DATABASE_URL", self.database_url)
        self._monkeypatch.setattr(sys, "argv", ["inventory", *words])
        # As on a terminal; elsewhere Typer removes the sequences that control one.
        echo = sys.modules[typer.echo.__module__]
        self._monkeypatch.setattr(echo, "should_strip_ansi", lambda *_arguments: False)
        self._capfd.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return Outcome(status, *self._capfd.readouterr())

    def import_file(self, path: Path, *options: str) -> Outcome:
        """Import a file into the tenant."""
        return self.run("import", str(path), "--tenant", TENANT, *options)

    def load_catalogue(self, directory: Path) -> None:
        """Create the tenant, with the warehouses and the SKUs of the cases."""
        assert self.run("tenant", "create", TENANT).status == 0
        for kind, content in (("warehouses", WAREHOUSES), ("skus", SKUS)):
            path = directory / f"{kind}.csv"
            path.write_text(content, encoding="utf-8")
            assert self.import_file(path, "--kind", kind).status == 0
