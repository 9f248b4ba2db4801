"""The scripts of the documentation follow the feed, and go on from their position."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app.database.engine import Database
from app.settings import Settings
from tests.databases import migrated
from tests.house.documents import BLOCK, ROOT, text_of
from tests.service import Service, new_tenant, sku, warehouse
from tests.torture.run import Server

PAGE: Final = ROOT / "docs" / "follow-changes.md"
SUFFIXES: Final = {"python": "py", "js": "mjs"}
NODE_VERSION: Final = 18
SECONDS: Final = 60
MAIN: Final = warehouse()


def node() -> str | None:
    """Return the path of Node, if it has `fetch`."""
    path = shutil.which("node")
    if path is None:
        return None
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    found = re.match(r"v(\d+)", shown.stdout)
    return path if found and int(found[1]) >= NODE_VERSION else None


@contextmanager
def following(program: str, script: Path, environment: dict[str, str]) -> Iterator[Iterator[Any]]:
    """Run a script, and yield the changes that it prints; it is killed at the end."""
    process = subprocess.Popen(  # noqa: S603 - a script of the documentation
        [program, str(script)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    # Ends the output, and so the test, if the script prints nothing.
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    try:
        yield map(json.loads, process.stdout)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


async def tenant_with_sku(database_url: str) -> Service:
    """Create a tenant with one SKU."""
    database = Database(Settings(database_url=database_url))
    service = Service(None, None, database, await new_tenant(database))  # type: ignore[arg-type]
    await service.load([MAIN], [sku("A")])
    await database.dispose()
    return service


@pytest.mark.parametrize("language", SUFFIXES)
def test_a_script_of_the_documentation_misses_no_change(language: str, tmp_path: Path) -> None:
    program = sys.executable if language == "python" else node()
    if program is None:
        pytest.skip("Node 18 is not installed.")
    [source] = [block[2] for block in BLOCK.finditer(text_of(PAGE)) if block[1] == language]
    script = tmp_path / f"follow.{SUFFIXES[language]}"
    script.write_text(source, encoding="utf-8")
    url = migrated(f"sqlite+aiosqlite:///{tmp_path}/inventory.db")
    service = asyncio.run(tenant_with_sku(url))
    server = Server(url, workers=1, log=tmp_path / "server.log")
    stored = tmp_path / "position.txt"
    stored.write_text("0")
    environment = {
        "FEED_URL": server.address,
        "FEED_TOKEN": service.token("read"),
        "FEED_POSITION": str(stored),
    }

    def set_stock(quantity: int) -> None:
        body = {"warehouse_id": MAIN.id, "quantity": quantity, "reason": "cycle_count"}
        headers = {"Authorization": f"Bearer {service.token('write')}"}
        path = f"{server.address}/api/inventory/A"
        httpx.put(path, json=body, headers=headers).raise_for_status()

    def quantities(changes: Iterator[Any], number: int) -> list[int]:
        found = (it["after"]["on_hand"] for it in changes if it["type"] == "stock_changed")
        return [next(found) for _ in range(number)]

    try:
        set_stock(1)
        with following(program, script, environment) as changes:
            assert quantities(changes, 1) == [1]
            set_stock(2)
            assert quantities(changes, 1) == [2]
        seen = int(stored.read_text())
        set_stock(3)
        with following(program, script, environment) as changes:
            expected = [2, 3] if seen == 2 else [3]
            assert quantities(changes, len(expected)) == expected
    finally:
        server.kill()
