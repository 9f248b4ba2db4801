"""The socket of a server, and its run by uvicorn."""

import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import uvicorn
from prometheus_client import start_http_server
from prometheus_client.multiprocess import mark_process_dead
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from app.http.uvicorn_protocol import bounded_protocol
from app.runtime.metrics import METRICS_DIRECTORY, metrics_registry
from app.settings import Settings

GRACE_SECONDS: Final = 10
BACKLOG: Final = 2048
METRICS_TIMEOUT_SECONDS: Final = 5
# A file in memory: writes to a mapped file kill the process when the disk is full.
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - the name in it is random
# As uvicorn's: the directory of the socket decides who can connect.
SOCKET_MODE: Final = 0o666
CAUSES: Final = {
    errno.EADDRINUSE: "it is in use. Stop the other program, or choose another with --port",
    errno.EACCES: "a port below 1024 needs a privilege. Choose another with --port",
    errno.EADDRNOTAVAIL: "the host is not an address of this machine",
}


class CannotListen(Exception):
    """The address of the server cannot be used."""


@contextmanager
def listening(host: str, port: int, uds: Path | None = None) -> Iterator[socket.socket]:
    """Listen on a port, or on a Unix socket, which is removed at the end.

    Raises:
        CannotListen: the address is in use or not an address of this machine.

    """
    if uds is not None:
        listener = _unix_socket(uds)
        try:
            with listener:
                yield listener
        finally:
            uds.unlink(missing_ok=True)
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        cause = CAUSES.get(error.errno or 0, error.strerror)
        message = f"Cannot listen on port {port} of {host}: {cause}."
        raise CannotListen(message) from error
    with listener:
        yield listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of a server on this machine; a Unix socket in the form of nginx."""
    if listener.family == socket.AF_UNIX:
        return f"http://unix:{listener.getsockname()}:"
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(
    app: Starlette | str,
    settings: Settings,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    workers: int = 1,
    root_path: str = "",
) -> None:
    """Run an application, or workers with the application of a factory, until a signal."""
    is_factory = isinstance(app, str)
    config = uvicorn.Config(
        app,
        factory=is_factory,
        workers=workers,
        root_path=root_path,
        **server_options(settings),
    )
    with suppress(KeyboardInterrupt):
        if workers > 1:
            _Workers(config, listener, on_ready).run()
            return
        server = _Server(config, on_ready)
        server.run(sockets=[listener])
        if not server.started:
            sys.exit(1)


@contextmanager
def serving_metrics(settings: Settings, host: str, workers: int) -> Iterator[None]:
    """Let several workers share their metrics, and serve these on a port if the settings have one.

    Raises:
        CannotListen: the port is in use.

    """
    with ExitStack() as stack:
        if settings.metrics and workers > 1:
            shared = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
            directory = stack.enter_context(
                TemporaryDirectory(prefix="inventory-metrics-", dir=shared)
            )
            os.environ[METRICS_DIRECTORY] = directory
        if settings.metrics_port is not None:
            port = settings.metrics_port
            try:
                server, _ = start_http_server(port, addr=host, registry=metrics_registry())
            except OSError as error:
                message = f"Cannot listen on the port {port} of the metrics: {error.strerror}."
                raise CannotListen(message) from error
            # A client that sends nothing keeps its thread only so long.
            server.RequestHandlerClass.timeout = METRICS_TIMEOUT_SECONDS  # type: ignore[attr-defined]
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        yield


class _Server(uvicorn.Server):
    """A server that calls a function when it responds."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to respond."""
        await super().startup(sockets)
        self._on_ready()


class _Workers(Multiprocess):
    """Workers, and a function that is called when the first one responds."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config, sockets=[listener])
        self._on_ready: Callable[[], None] | None = on_ready
        self._pids: set[int | None] = set()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that ended; their gauges end with them."""
        super().keep_subprocess_alive()
        pids = {process.pid for process in self.processes}
        if METRICS_DIRECTORY in os.environ:
            for pid in self._pids - pids:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
        self._pids = pids
        if self._on_ready is not None and any(process.is_ready() for process in self.processes):
            self._on_ready()
            self._on_ready = None


def server_options(settings: Settings) -> dict[str, Any]:
    """Options of uvicorn besides the application and the address."""
    return {
        "loop": "app.runtime.fair_loop:FairLoop",
        "http": bounded_protocol(settings),
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": settings.trusted_proxies is not None,
        "forwarded_allow_ips": settings.trusted_proxies or "",
        "timeout_keep_alive": settings.keep_alive_seconds,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }


def _unix_socket(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            # A server that was killed left it.
            path.unlink()
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)
    except OSError as error:
        listener.close()
        cause = "it exists" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        message = f"Cannot listen on the Unix socket {path}: {cause}."
        raise CannotListen(message) from error
    listener.listen(BACKLOG)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False
