"""`inventory webhook` manages the webhooks of a tenant."""

import json

from tests.cli.conftest import Command


def test_a_webhook_is_created_listed_paused_rotated_and_deleted(command: Command) -> None:
    assert command("migrate").status == 0
    assert command("tenant", "create", "acme").status == 0
    url = "https://shop.example/stock"
    done = command("webhook", "create", "acme", url, "--type", "stock_changed", "--json")
    made = json.loads(done.output)
    assert made["secret"].startswith("whsec_")

    def listed() -> dict[str, object]:
        [row] = json.loads(command("webhook", "list", "acme", "--json").output)
        assert made["secret"] not in str(row)
        return dict(row)

    assert (listed()["url"], listed()["types"]) == (url, "stock_changed")
    id_ = made["id"]
    assert command("webhook", "pause", "acme", id_).output == f"Paused {id_}.\n"
    assert listed()["status"] == "paused"
    assert command("webhook", "resume", "acme", id_).output == f"Resumed {id_}.\n"
    assert listed()["status"] == "active"
    rotated = command("webhook", "rotate", "acme", id_, "--overlap-hours", "1").output
    assert rotated.startswith(f"{id_}\nwhsec_")
    assert listed()["previous_secret_until"]
    assert command("webhook", "send-again", "acme", id_, "--after", "0").status == 0
    gone = command("webhook", "send-again", "acme", id_, "--after", "7")
    assert (gone.status, "beyond the newest position" in gone.errors) == (1, True)
    assert json.loads(command("webhook", "log", "acme", id_, "--json").output) == []
    assert command("webhook", "delete", "acme", id_).output == f"Deleted {id_}.\n"
    missing = command("webhook", "delete", "acme", id_)
    assert (missing.status, missing.errors) == (1, f"inventory: Webhook '{id_}' does not exist.\n")


def test_a_public_key_is_printed_in_place_of_a_secret(command: Command) -> None:
    assert command("migrate").status == 0
    assert command("tenant", "create", "acme").status == 0
    url = "https://shop.example/"
    done = command("webhook", "create", "acme", url, "--signature", "ed25519")
    assert "\nwhpk_" in done.output
    refused = command("webhook", "create", "acme", "http://shop.example/")
    assert (refused.status, refused.errors) == (1, "inventory: url must begin with https://.\n")
