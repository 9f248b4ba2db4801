"""The command `inventory` as real processes."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException

import pytest


def run(*words: str, database_url: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603 - fixed arguments
        [sys.executable, "-m", "app", *words],
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def started(
    *words: str, database_url: str | None, module: str = "app", **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a server on a free port. Yields the process and its address once it responds."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    address_setting = {} if database_url is None else {"DATABASE_URL": database_url}
    environment = {**os.environ, **address_setting, **settings}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - fixed arguments
            [sys.executable, "-m", module, *words, "--port", str(port)],
            env=environment,
            stderr=log,
            stdout=log,
        )
        try:
            while not answers(port):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.05)
                    log.seek(0)
                    pytest.fail(f"the server ended: {log.read().decode()}")
            yield process, address
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Whether a server on this machine responds."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def accepts(port: int) -> bool:
    """Whether a server on this machine accepts connections."""
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port)) == 0
