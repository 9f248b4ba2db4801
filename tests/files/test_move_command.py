"""The commands that move a tenant: their output, their refusals and their options."""

import json
from pathlib import Path

import pytest

from app.cli import output
from tests.databases import copied
from tests.files.commands import TENANT, Commands

COUNTS = "sku,warehouse_id,quantity\nA-1,wh_main,5\n"


@pytest.fixture
def source(
    own_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Commands:
    """Run commands on a database with a tenant and one count."""
    monkeypatch.chdir(tmp_path)
    commands = Commands(own_database_url, monkeypatch, capfd)
    commands.load_catalogue(tmp_path)
    (tmp_path / "counts.csv").write_text(COUNTS, encoding="utf-8")
    assert commands.import_file(tmp_path / "counts.csv").status == 0
    return commands
