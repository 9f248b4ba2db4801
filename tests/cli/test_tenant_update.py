"""`inventory tenant update` changes the permissions and the availability limit of a tenant."""

import json

from tests.cli.conftest import Command


def test_the_availability_limit_is_10_until_it_is_changed(command: Command) -> None:
    def limit() -> int:
        [row] = json.loads(command("tenant", "list", "--json").output)
        return int(row["availability_limit"])

    assert command("migrate").status == 0
    assert command("tenant", "create", "acme").status == 0
    assert limit() == 10
    done = command("tenant", "update", "acme", "--availability-limit", "2000", "--permit-oversell")
    assert done.output == ("acme permits oversell.\nFrontends of acme see up to 2,000 available.\n")
    assert limit() == 2_000
    for words in (["--availability-limit", "-1"], ["--availability-limit", "many"], []):
        assert command("tenant", "update", "acme", *words).status == 2
    unknown = command("tenant", "update", "acne", "--availability-limit", "1")
    assert (unknown.status, limit()) == (1, 2_000)
    assert unknown.errors.startswith("inventory: There is no tenant acne")


def test_a_token_with_the_scope_of_frontends_is_created(command: Command) -> None:
    assert command("migrate").status == 0
    assert command("tenant", "create", "acme").status == 0
    words = ("--name", "shop", "--email", "it@acme.example", "--scope", "inventory:availability")
    assert command("token", "create", "acme", *words).output.startswith("inv_acme-")

    [row] = json.loads(command("token", "list", "acme", "--json").output)
    assert row["scopes"] == "inventory:availability"
