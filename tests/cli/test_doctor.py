"""`inventory doctor`, and commands that read: they name the fault and change nothing."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from app.cli import doctor as doctor_module
from app.files.seeding import LoadedLevel
from tests.cli.conftest import Command
from tests.databases import create_database, migrated
from tests.service import Service, counted, new_tenant, now, running, sku, warehouse

READING = [
    ("doctor",),
    ("migrate", "--status"),
    ("tenant", "list"),
    ("token", "list", "acme"),
    ("warehouse", "list", "acme"),
    ("export", "stock", "--tenant", "acme"),
    ("verify",),
]
RESULTS = ["settings", "database", "migrations", "role", "replica", "clock"]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_reading_command_creates_no_database(
    words: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    done = command(*words)

    assert done.status == 1
    assert "no database file" in done.errors + done.output
    assert list(tmp_path.iterdir()) == []


def checks(command: Command, *words: str) -> tuple[int, dict[str, str], str]:
    done = command("doctor", "--json", *words)
    rows = json.loads(done.output)
    assert [row["name"] for row in rows] == RESULTS
    failed = [row["message"] for row in rows if row["result"] == "failed"]
    return done.status, {row["name"]: row["result"] for row in rows}, " ".join(failed)


def test_a_healthy_installation_passes(command: Command, own_database_url: str) -> None:
    status, results, message = checks(command, "--database-url", own_database_url)

    assert (status, message) == (0, "")
    assert results == dict.fromkeys(RESULTS, "ok")


def test_entries_in_the_future_are_found(command: Command, own_database_url: str) -> None:
    async def count(years: int) -> str:
        async with running(own_database_url) as (app, client):
            database = app.state.database
            service = Service(app, client, database, await new_tenant(database))
            main = warehouse()
            at = f"{now().year + years}-01-01T00:00:00Z"
            counts = LoadedLevel(warehouse_id=main.id, history=[counted(5, at)])
            await service.load([main], [sku("A", counts)])
            return service.tenant_id

    asyncio.run(count(-1))
    assert checks(command, "--database-url", own_database_url)[0] == 0
    tenant_id = asyncio.run(count(2))
    status, results, message = checks(command, "--database-url", own_database_url)
    assert (status, results["clock"]) == (1, "failed")
    assert f"dated in the future: 1, among them that of {tenant_id}." in message


def test_checks_after_a_failure_are_skipped(
    command: Command, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(empty_database_url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as connection:
            connection.execute("VACUUM")
    status, results, message = checks(command, "--database-url", empty_database_url)
    assert (status, results["database"], results["migrations"]) == (1, "ok", "failed")
    assert results["role"] == results["clock"] == "skipped"
    assert "Run: inventory migrate" in message

    monkeypatch.setenv("INVENTORY_LOG_LEVEL", "loud")
    status, results, message = checks(command)
    assert (status, results["settings"], results["database"]) == (1, "failed", "skipped")
    assert "INVENTORY_LOG_LEVEL" in message


def test_a_file_of_another_kind_is_reported(command: Command, tmp_path: Path) -> None:
    (tmp_path / "inventory.db").write_bytes(b"not a database, but long enough for a header" * 99)
    status, results, message = checks(command)

    assert (status, results["migrations"]) == (1, "failed")
    assert "not a SQLite database" in message


def test_a_wrong_clock_is_reported(
    command: Command, own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_module, "MAX_CLOCK_DIFFERENCE_SECONDS", -1)
    status, results, message = checks(command, "--database-url", own_database_url)

    assert (status, results["clock"]) == (1, "failed")
    assert "Synchronise" in message


def test_the_role_is_checked(
    command: Command, postgresql: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = migrated(create_database(postgresql, "doctor_role"))
    monkeypatch.setenv("INVENTORY_ROW_LEVEL_SECURITY", "true")
    status, results, message = checks(command, "--database-url", url)

    assert (status, results["role"]) == (1, "failed")
    assert "inventory migrate --grant-to" in message


def test_the_state_of_migrations_is_printed(command: Command, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "inventory.db").close()
    (tmp_path / "inventory.db").touch()
    behind = command("migrate", "--status")
    assert behind.status == 1
    assert behind.output.endswith("Run: inventory migrate\n")

    assert command("migrate").status == 0
    current = json.loads(command("migrate", "--status", "--json").output)
    assert current["current"]
    assert current["revision"] == current["needed"]
    assert command("migrate", "--status", "--grant-to", "x").status == 2


def test_lists_are_tables_or_json(command: Command) -> None:
    command("migrate")
    assert "no tenants" in command("tenant", "list").errors
    assert command("tenant", "list", "--json").output == "[]\n"
    command("tenant", "create", "acme", "--name", "Acme\x1b[2J GmbH")
    [row] = json.loads(command("tenant", "list", "--json").output)
    assert (row["tenant_id"], row["permits_oversell_since"]) == ("acme", None)
    permissions = ["permits_oversell_since", "permits_no_expiry_since"]
    limit = "availability_limit"
    names = ["tenant_id", "name", "created_at", *permissions, limit, "deleted_since"]
    assert list(row) == names

    head, line = command("tenant", "list").output.splitlines()
    assert head.split() == [name.upper() for name in names]
    assert head.index("NAME") == line.index("Acme?[2J GmbH")
    assert "no warehouses" in command("warehouse", "list", "acme").errors
    assert command("warehouse", "list", "other").status == 1


def test_warehouses_are_listed(command: Command, own_demo_url: str) -> None:
    done = command("warehouse", "list", "demo", "--json", "--database-url", own_demo_url)
    [first, *_] = json.loads(done.output)

    assert first == {
        "id": "wh_01HXAAAAAAAAAAAAAAAAAAAAAA",
        "name": "Warehouse A",
        "type": "own",
        "address": "Industriestraße 1, 12345 Berlin, DE",
        "marketplace": None,
        "is_active": True,
        "is_sellable": True,
    }
