"""`inventory tenant delete` asks for the id of the tenant."""

import io

import pytest

from tests.cli.conftest import Command


def test_a_tenant_is_deleted_after_its_id_is_typed(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("migrate").status == 0
    assert command("tenant", "create", "acme").status == 0
    for typed, status in (("acne\n", 2), ("\n\n", 1), ("", 1)):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert command("tenant", "delete", "acme").status == status
    assert "acme" in command("tenant", "list").output

    monkeypatch.setattr("sys.stdin", io.StringIO("acme\n"))
    assert command("tenant", "delete", "acme").output.endswith("Deleted acme: 1 rows.\n")
    assert "acme" not in command("tenant", "list").output


def test_yes_deletes_without_a_question_and_an_unknown_tenant_is_refused(command: Command) -> None:
    assert command("migrate").status == 0
    assert command("tenant", "create", "acme").status == 0
    assert command("tenant", "delete", "acme", "--yes").output == "Deleted acme: 1 rows.\n"
    missing = command("tenant", "delete", "acme", "--yes")
    assert missing.status == 1
    assert missing.errors.startswith("inventory: There is no tenant acme")
