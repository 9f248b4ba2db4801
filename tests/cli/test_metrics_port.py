"""The metrics of several workers are one truth, also after one of them is replaced."""

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from tests.cli.conftest import Command
from tests.processes import free_port, started

READY: Final = 'inventory_http_requests_total{method="GET",route="/readyz",status="200"}'
TOKENS: Final = 'inventory_cache_entries{cache="tokens"}'


def values_at(url: str) -> dict[str, float]:
    """Read the samples of a page of metrics."""
    lines = httpx.get(url).text.splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the time limit of the tests ends it."""
    while not condition():
        pass


@pytest.mark.parametrize("has_own_port", [False, True])
def test_workers_add_up_and_a_replaced_one_loses_no_count(
    *, has_own_port: bool, tmp_path: Path
) -> None:
    port = free_port()
    settings = {"INVENTORY_METRICS": "true"}
    if has_own_port:
        settings["INVENTORY_METRICS_PORT"] = str(port)
    url = f"sqlite:///{tmp_path}/inventory.db"
    with started("serve", "--workers", "2", database_url=url, **settings) as (parent, address):
        page = f"http://127.0.0.1:{port}/metrics" if has_own_port else f"{address}/metrics"
        until(lambda: len(workers_of(parent.pid)) == 2)

        def ask(times: int) -> None:
            # A connection each, so that both workers get some.
            for _ in range(times):
                assert httpx.get(f"{address}/readyz").status_code == 200

        ask(20)
        until(lambda: values_at(page).get(READY, 0) == 20)
        assert values_at(page)[TOKENS] == 0

        [victim, _] = workers_of(parent.pid)
        victim.kill()
        until(lambda: victim not in workers_of(parent.pid) and len(workers_of(parent.pid)) == 2)
        ask(5)
        until(lambda: values_at(page)[READY] == 25)
        if has_own_port:
            assert httpx.get(f"{address}/metrics").status_code == 404


def workers_of(parent: int) -> list[psutil.Process]:
    """List the worker processes of a service; Python starts another process beside them."""
    workers = []
    for child in psutil.Process(parent).children():
        # One that has ended has no command line.
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                workers.append(child)
    return workers


def test_a_used_port_for_metrics_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("INVENTORY_METRICS", "true")
        monkeypatch.setenv("INVENTORY_METRICS_PORT", str(port))
        done = command("serve", "--port", "0")
    assert done.status == 1
    assert done.errors.startswith(f"inventory: Cannot listen on the port {port} of the metrics")
