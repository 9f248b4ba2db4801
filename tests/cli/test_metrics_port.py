"""The metrics of several workers are one truth, also after one of them is replaced."""

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from app.cli import listening
from app.cli.listening import serving_metrics
from app.settings import Settings
from tests.cli.conftest import Command
from tests.processes import free_port, started

READY: Final = 'inventory_http_requests_total{method="GET",route="/readyz",status="200"}'
CLIENT: Final = httpx.Client(headers={"Connection": "close"})
TOKENS: Final = 'inventory_cache_entries{cache="tokens"}'


def values_at(url: str) -> dict[str, float]:
    """Read the samples of a page of metrics."""
    lines = CLIENT.get(url).text.splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


def ask(times: int, url: str) -> None:
    """Send requests, each on a connection of its own, so that all workers get some."""
    for _ in range(times):
        assert CLIENT.get(url).status_code == 200


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

        ask(20, f"{address}/readyz")
        until(lambda: values_at(page).get(READY, 0) == 20)
        assert values_at(page)[TOKENS] == 0
        if not has_own_port:
            return

        assert CLIENT.get(f"{address}/metrics").status_code == 404
        [victim, _] = workers_of(parent.pid)
        victim.kill()
        until(lambda: victim not in workers_of(parent.pid) and len(workers_of(parent.pid)) == 2)
        ask(5, f"{address}/readyz")
        until(lambda: values_at(page)[READY] == 25)


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


def test_a_silent_client_of_the_metrics_port_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    monkeypatch.setattr(listening, "METRICS_TIMEOUT_SECONDS", 0.05)
    settings = Settings(metrics=True, metrics_port=port)
    with (
        serving_metrics(settings, "127.0.0.1", workers=1),
        socket.create_connection(("127.0.0.1", port)) as silent,
    ):
        silent.sendall(b"GET /met")
        assert silent.recv(1) == b""
        assert "inventory_refusals" in CLIENT.get(f"http://127.0.0.1:{port}/metrics").text
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tracing_without_its_extra_is_refused_before_the_start(
    workers: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setenv("INVENTORY_TRACING", "true")
    done = command("serve", "--port", "0", "--workers", workers)
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert "pip install 'inventory-api[opentelemetry]'" in done.errors
    assert list(tmp_path.iterdir()) == []
