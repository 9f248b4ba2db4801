"""The servers of contenders as processes on a database."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import orjson
import psutil

from benchmarks.data import TENANT, TOKEN
from benchmarks.peers.contender import Ask, Contender
from tests.processes import free_port

POOL: Final = 10
# The placeholder of an idempotency key, of the same length as the keys.
KEY: Final = "@idempotency_key@"
START_SECONDS: Final = 60
SETTLE_SECONDS: Final = 60
HEADERS: Final = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


class DoesNotStart(Exception):
    """A server has ended, or sends no response."""


class DoesNotSettle(Exception):
    """A server keeps working without requests."""


@contextmanager
def serving(
    contender: Contender, database_url: str, *, workers: int
) -> Iterator[tuple[int, psutil.Process]]:
    """Start the server of a contender; yield its port and process after its first response."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "PORT": str(port),
        "TENANT": TENANT,
        "WORKERS": str(workers),
        "POOL": str(POOL),
        "INVENTORY_DATABASE_POOL_SIZE": str(POOL),
        "INVENTORY_LOG_LEVEL": "warning",
        "NODE_ENV": "production",
    }
    words = [word.format(port=port, workers=workers) for word in contender.command()]
    with ExitStack() as stack:
        log = stack.enter_context(TemporaryFile())
        process = psutil.Popen(words, env=environment, stdout=log, stderr=log)
        stack.callback(_end, process)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                ask(port, contender.list50(None))
                break
            except (OSError, URLError):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    message = f"{contender.name}: {log.read()[-2000:].decode()}"
                    raise DoesNotStart(message) from None
                time.sleep(0.01)
        yield port, process


def ask(port: int, what: Ask, headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Send one request and return the body of its response."""
    key = secrets.token_hex(8)
    body = b"" if what.body is None else orjson.dumps(what.body).replace(KEY.encode(), key.encode())
    request = Request(
        f"http://127.0.0.1:{port}{what.path}",
        method=what.method,
        headers={**HEADERS, **{name: value.replace(KEY, key) for name, value in headers.items()}},
        data=body or None,
    )
    with urlopen(request, timeout=10) as response:
        answer: bytes = response.read()
    return answer


def settle(process: psutil.Process, *, is_idle: Callable[[], bool]) -> None:
    """Wait until a server and its database have finished the requests of closed connections."""
    deadline = time.monotonic() + SETTLE_SECONDS
    quiet = 0
    while time.monotonic() < deadline:
        before = cpu_seconds(process)
        time.sleep(0.1)
        quiet = quiet + 1 if is_idle() and cpu_seconds(process) - before < 0.02 else 0
        # A process that waits for a lock of SQLite sleeps, so one quiet moment proves nothing.
        if quiet == 3:
            return
    raise DoesNotSettle(process.cmdline())


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [*process.children(recursive=True), process]


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process and its children in seconds."""
    seconds = 0.0
    for member in _family(process):
        # Workers of PostgreSQL may end at any time.
        with suppress(psutil.NoSuchProcess):
            seconds += sum(member.cpu_times()[:2])
    return seconds


def _end(process: psutil.Popen) -> None:
    family = _family(process)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family)
