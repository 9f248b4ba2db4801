"""The command line in real processes on real databases."""

import json
from pathlib import Path
from typing import Final

import httpx

from tests.databases import migrated
from tests.processes import free_port, run, started

SCHEMA: Final = (Path(__file__).parents[2] / "schema.graphql").read_text(encoding="utf-8")


def test_commands_create_a_working_token_from_an_empty_database(empty_database_url: str) -> None:
    url = empty_database_url
    assert run("migrate", database_url=url).stdout == "The database is current.\n"
    assert "Created acme" in run("tenant", "create", "acme", database_url=url).stdout
    options = ("--name", "shop", "--email", "it@acme.example", "--scope", "inventory:write")
    made = json.loads(run("token", "create", "acme", *options, "--json", database_url=url).stdout)
    [listed] = json.loads(run("token", "list", "acme", "--json", database_url=url).stdout)

    assert made["token"].startswith("inv_acme-")
    assert (listed["id"], listed["scopes"]) == (made["id"], "inventory:write")
    assert made["token"] not in str(listed)
    with started("serve", database_url=url) as (_, address):
        headers = {"Authorization": f"Bearer {made['token']}"}
        listing = httpx.get(f"{address}/api/inventory", headers=headers)
        assert listing.json()["meta"] == {"total": 0, "limit": 50, "nextCursor": None}

    assert "Revoked" in run("token", "revoke", "acme", made["id"], database_url=url).stdout
    [listed] = json.loads(run("token", "list", "acme", "--json", database_url=url).stdout)
    assert listed["revoked_at"] is not None


def test_command_errors_are_one_line_and_a_failure(empty_database_url: str) -> None:
    url = migrated(empty_database_url)
    refusals = {
        ("tenant", "create", "Acme!"): "id must be 1 to 32 of a-z, 0-9 and _, a letter first.",
        ("tenant", "create", "demo"): "id must not be demo, which `inventory demo` empties.",
        ("token", "list", "acme"): "There is no tenant acme; `inventory tenant create` makes one.",
        ("token", "create", "acme", "--name", "x", "--email", "y"): "There is no tenant acme; "
        "`inventory tenant create` makes one.",
        ("verify", "--tenant", "acme"): "There is no tenant acme; "
        "`inventory tenant create` makes one.",
    }
    for words, message in refusals.items():
        done = run(*words, database_url=url)
        assert (done.returncode, done.stderr) == (1, f"inventory: {message}\n")


def test_outdated_postgresql_is_not_served(empty_database_url: str, engine: str) -> None:
    if engine == "sqlite":
        with started("serve", database_url=empty_database_url) as (_, address):
            assert httpx.get(f"{address}/readyz").text == "ready\n"
        return
    done = run("serve", "--port", "0", database_url=empty_database_url)
    assert done.returncode == 1
    assert "Run: inventory migrate" in done.stderr


def test_an_unknown_database_is_refused(tmp_path: object) -> None:
    done = run("migrate", database_url=f"sqlite+aiosqlite:///{tmp_path}/missing/inventory.db")
    assert done.returncode == 1
    assert done.stderr == (
        f"inventory: There is no directory {tmp_path}/missing for the database; create it first.\n"
    )
    done = run("migrate", database_url="mysql://localhost/x")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_demo_resets_its_data_and_passes_verification(empty_database_url: str) -> None:
    url = empty_database_url
    for _ in range(2):
        with started("demo", "--database-url", url, database_url=url) as (_, address):
            headers = {"Authorization": "Bearer demo-read"}
            listing = httpx.get(f"{address}/api/inventory", headers=headers).json()
            assert listing["meta"]["total"] == 1248
    done = run("verify", database_url=url)
    assert done.returncode == 0
    assert done.stdout.startswith("demo: 1,248 SKUs, ")


def test_demo_keeps_other_data(empty_database_url: str) -> None:
    url = migrated(empty_database_url)
    run("tenant", "create", "acme", database_url=url)
    port = str(free_port())
    done = run("demo", "--database-url", url, "--port", port, database_url=url)

    assert done.returncode == 1
    assert done.stderr.startswith("inventory: The database holds the tenants acme")
    assert json.loads(run("verify", "--json", database_url=url).stdout)[0]["tenant"] == "acme"


def test_the_schema_is_printed(empty_database_url: str) -> None:
    assert run("schema", database_url=empty_database_url).stdout == SCHEMA
