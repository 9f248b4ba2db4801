"""`inventory serve` and `inventory demo`: their address, and their greeting."""

import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from app.cli.listening import server_options
from app.settings import Settings
from tests.cli.conftest import Command
from tests.processes import free_port, run, started


def serve_in_terminal(*words: str, directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command whose standard error is a terminal; return it and the terminal."""
    terminal, standard_error = pty.openpty()
    environment = {name: os.environ[name] for name in os.environ if name != "DATABASE_URL"}
    process = subprocess.Popen(  # noqa: S603 - fixed arguments
        [sys.executable, "-m", "app", *words],
        env={**environment, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=directory,
        stdout=standard_error,
        stderr=standard_error,
    )
    os.close(standard_error)
    return process, terminal


def text_until(terminal: int, *words: str) -> str:
    text = ""
    while not all(word in text for word in words):
        is_ready, _, _ = select.select([terminal], [], [], 60)
        try:
            text += os.read(terminal, 4096).decode() if is_ready else ""
        except OSError:
            is_ready = []
        if not is_ready:
            pytest.fail(text)
    return text.replace("\r\n", "\n")


def test_a_terminal_is_greeted_when_the_service_responds(tmp_path: Path) -> None:
    port = free_port()
    process, terminal = serve_in_terminal("serve", "--port", str(port), directory=tmp_path)
    try:
        text = text_until(terminal, "inventory token create acme")
        assert f"Serving the database sqlite {tmp_path}/inventory.db." in text
        assert f"http://127.0.0.1:{port}/graphql" in text
        assert f"http://127.0.0.1:{port}/docs" in text
        assert "inventory tenant create acme" in text
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").text == "ready\n"
        log = text_until(terminal, "path=/readyz")
        assert "status=200" in log
        assert '{"' not in log
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        os.close(terminal)
    assert process.returncode == 0


def test_a_demo_responds_when_it_says_ready_and_opens_a_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    process, terminal = serve_in_terminal("demo", "--open", "--port", "0", directory=tmp_path)
    try:
        text = text_until(terminal, "Press Ctrl+C", "totalAvailable")
        assert text.startswith("The demo is ready: 1,248 SKUs in three warehouses.")
        [address] = set(re.findall(r"(http://\S+)/graphql", text))
        headers = {"Authorization": "Bearer demo-read"}
        warehouses = httpx.get(f"{address}/api/inventory/warehouses", headers=headers).json()
        assert len(warehouses["data"]) == 3
        assert "inventory_http_requests" in httpx.get(f"{address}/metrics").text
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        os.close(terminal)
    assert (tmp_path / "opened").read_text() == f"{address}/graphql\n"


def test_a_used_port_is_refused_before_any_work(command: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for words in (("demo",), ("serve",), ("serve", "--workers", "2")):
            done = command(*words, "--port", port)
            assert done.status == 1
            assert done.errors.startswith(f"inventory: Cannot listen on port {port} of 127.0.0.1")
            assert "--port" in done.errors
            assert done.output == ""
    assert list(tmp_path.iterdir()) == []


def test_bad_settings_of_a_demo_are_refused_first(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_RATE_LIMIT", "often")
    done = command("demo")

    assert done.status == 1
    assert done.output == ""
    assert done.errors.startswith("inventory: INVENTORY_RATE_LIMIT: ")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_unix_socket_is_served_and_removed(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    # A server that was killed leaves its socket.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    process, terminal = serve_in_terminal(
        "serve", "--uds", str(path), "--workers", workers, directory=tmp_path
    )
    try:
        text = text_until(terminal, "Application startup complete", f"http://unix:{path}:/graphql")
        assert text.index("startup complete") < text.index("Serving the database")
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://service") as client:
            assert client.get("/healthz").text == "alive\n"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        os.close(terminal)
    assert not path.exists()


def test_workers_of_a_killed_parent_free_the_port(tmp_path: Path) -> None:
    words = ("serve", "--workers", "2")
    with started(*words, database_url=f"sqlite:///{tmp_path}/inventory.db") as (parent, address):
        workers = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        parent.wait()
        ended, alive = psutil.wait_procs(workers, timeout=60)
    assert len(ended) >= 2
    assert alive == []
    socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))).close()


@pytest.mark.parametrize("command_word", ["migrate", "serve"])
def test_only_its_owner_can_read_a_new_database_file(command_word: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/inventory.db"
    before = os.umask(0)
    try:
        if command_word == "migrate":
            assert run("migrate", database_url=url).returncode == 0
        else:
            with started("serve", database_url=url) as (_, address):
                assert httpx.get(f"{address}/readyz").text == "ready\n"
                beside = [tmp_path / f"inventory.db{suffix}" for suffix in ("-wal", "-shm")]
                assert [stat.S_IMODE(path.stat().st_mode) for path in beside] == [0o600, 0o600]
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "inventory.db").stat().st_mode) == 0o600


def test_the_permissions_of_an_existing_database_file_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "inventory.db"
    file.touch()
    file.chmod(0o640)
    assert run("migrate", database_url=f"sqlite:///{file}").returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_path_prefix_is_in_no_route_and_in_the_description(
    tmp_path: Path, command: Command
) -> None:
    url = f"sqlite:///{tmp_path}/inventory.db"
    words = ("serve", "--root-path", "/one/two")
    with started(*words, database_url=url) as (_, address):
        # The proxy has removed the prefix.
        assert 'src="static/docs-' in httpx.get(f"{address}/docs").text
        assert httpx.get(f"{address}/").headers["location"] == "graphql"
        document = httpx.get(f"{address}/api/openapi.json").json()
        assert document["servers"][0]["url"] == "/one/two"
        refused = httpx.post(f"{address}/graphql", json={"query": "{ skus { totalCount } }"})
        assert refused.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert httpx.get(f"{address}/api/inventory/A").status_code == 401
        assert httpx.get(f"{address}/one/two/healthz").status_code == 404
    for path in ("one", "/one/", "/", "/a b", "/../x?"):
        assert command("serve", "--root-path", path).status == 2


def test_connections_stay_open_longer_than_those_of_load_balancers() -> None:
    assert server_options(Settings())["timeout_keep_alive"] > 60
    assert server_options(Settings(keep_alive_seconds=5))["timeout_keep_alive"] == 5


def test_the_port_is_read_from_the_environment(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        monkeypatch.setenv("PORT", port)
        assert f"port {port} of" in command("serve").errors


def test_another_file_is_not_replaced_by_a_socket(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("kept")
    assert "it exists" in command("serve", "--uds", str(path)).errors
    assert path.read_text() == "kept"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()
        assert "it exists" in command("serve", "--uds", str(tmp_path / "s")).errors
        assert (tmp_path / "s").exists()


def test_a_replica_of_another_database_is_refused_at_start(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = f"sqlite+aiosqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("INVENTORY_READ_DATABASE_URL", other)
    done = command("serve", "--port", str(free_port()))
    assert done.status == 1
    assert "INVENTORY_READ_DATABASE_URL leads to sqlite" in done.errors
    assert "which is not a replica of sqlite" in done.errors
