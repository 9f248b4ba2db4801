"""The commands that move a tenant: their output, their refusals and their options."""

import json
import os
from pathlib import Path

import pytest

from tests.files.commands import TENANT, Commands

COUNTS = "sku,warehouse_id,quantity\nNSC-BOOK-1,wh_main,5\n"
TARGET = ("--database-url", "sqlite:///target.db")


@pytest.fixture
def source(
    own_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Commands:
    """Run commands on a database with a tenant and one count, and on an empty one."""
    monkeypatch.chdir(tmp_path)
    commands = Commands(own_database_url, monkeypatch, capfd)
    commands.load_catalogue(tmp_path)
    (tmp_path / "counts.csv").write_text(COUNTS, encoding="utf-8")
    assert commands.import_file(tmp_path / "counts.csv").status == 0
    assert commands.run("migrate", *TARGET).status == 0
    return commands


def test_the_commands_move_a_tenant_and_print_its_head(source: Commands) -> None:
    head = source.run("verify").stdout.splitlines()[-1]

    exported = source.run("export", "--all", "moved", "--tenant", TENANT)
    assert exported.status == 0
    assert exported.stdout == f"acme: exported 20 rows to moved.\n{head}\n"

    imported = source.run("import", "moved", *TARGET)
    assert imported.stdout == (
        "acme: 12 SKUs, 1 stock levels, 1 adjustments, 3 counts. All add up.\n" + head + "\n"
    )
    assert source.run("verify", "--head", head, *TARGET).status == 0


def test_a_refused_import_is_one_line_and_an_import_prints_json(source: Commands) -> None:
    assert source.run("export", "--all", "moved", "--tenant", TENANT).status == 0

    refused = source.run("import", "moved")
    assert (refused.status, refused.stdout) == (1, "")
    assert refused.stderr == (
        "inventory: The tenant acme is not empty: it has rows in the table person. "
        "Nothing was imported.\n"
    )
    imported = json.loads(source.run("import", "moved", "--json", *TARGET).stdout)
    assert (imported["tenant"], imported["adjustments"]) == ("acme", 1)
    again = source.run("export", "--all", "moved", "--tenant", TENANT)
    assert again.stderr == "inventory: moved: exists already; name a new directory\n"
    unknown = source.run("export", "--all", "x", "--tenant", "nobody")
    assert "There is no tenant nobody" in unknown.stderr
    assert not Path("x").exists()
    assert source.run("import", ".").stderr == (
        "inventory: . is not a whole export: it has no manifest.json. Nothing was imported.\n"
    )


def test_the_author_of_an_import_is_stored_like_other_addresses(source: Commands) -> None:
    counts = Path("counts.csv")

    assert source.import_file(counts, "--by", "Anna@Example.com").status == 0
    erased = source.run("person", "erase", TENANT, "anna@example.com")
    assert erased.stdout == "Erased anna@example.com from acme.\n"
    assert source.run("verify").status == 0
    for author in ("", "\udcff", "\x1b[2J", f"{249 * 'x'}@x.com"):
        refused = source.import_file(counts, "--by", author)
        assert refused.status == 1
        assert (
            "created_by must have printed characters, and at most 254 bytes of them"
            in refused.stderr
        )


@pytest.mark.parametrize("options", [(), ("--tenant", TENANT)])
def test_a_path_without_a_file_is_refused(source: Commands, options: tuple[str, ...]) -> None:
    refused = source.run("import", "nodir\x1b[2J", *options)

    assert refused.status == 1
    assert refused.stderr == "inventory: There is no file or directory nodir?[2J.\n"


def test_an_export_needs_the_directory_that_takes_it(source: Commands) -> None:
    refused = source.run("export", "--all", "nope/x", "--tenant", TENANT)

    assert refused.status == 1
    assert refused.stderr == "inventory: nope: is not a directory; create it first\n"
    file = source.run("export", "--all", "counts.csv/x", "--tenant", TENANT)
    assert file.stderr == "inventory: counts.csv: is not a directory; create it first\n"


def test_the_rest_of_a_killed_export_does_not_prevent_another_one(source: Commands) -> None:
    Path(f".moved.{os.getpid()}").mkdir()

    assert source.run("export", "--all", "moved", "--tenant", TENANT).status == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("export", "--tenant", TENANT), "name the data to export, or --all DIR"),
        (("export", "stock", "--all", "x", "--tenant", TENANT), "does not take subject"),
        (("export", "--all", "x", "--tenant", TENANT, "-o", "y"), "does not take --output"),
        (("import", ".", "--tenant", TENANT), "directory does not take --tenant"),
        (("import", ".", "--dry-run"), "directory does not take --dry-run"),
        (("import", "-"), "--tenant is missing"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: tuple[str, ...],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    refused = Commands("sqlite:///nothing.db", monkeypatch, capfd).run(*words)

    assert refused.status == 2
    assert reason in " ".join(refused.stderr.split())
