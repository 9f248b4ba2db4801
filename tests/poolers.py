"""PgBouncer in front of a database, for tests."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest
from sqlalchemy import URL, make_url

from tests.processes import accepts, free_port

# Startup parameters of the service that PgBouncer does not pass on.
UNTRACKED: Final = (
    *("idle_in_transaction_session_timeout", "jit", "lock_timeout", "plan_cache_mode"),
    *("random_page_cost", "statement_timeout"),
)


def pooler_program() -> str:
    """Return the PgBouncer of the variable PGBOUNCER, or the one that is installed."""
    program = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=_search_path())
    if program is None:
        pytest.skip("PgBouncer is not installed; run: apt-get install pgbouncer")
    return program


def pooler_version() -> tuple[int, ...]:
    """Return the version of PgBouncer."""
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [pooler_program(), "--version"], capture_output=True, text=True, check=True
    )
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:2])


@contextmanager
def pooled(database_url: str, **settings: str | int) -> Iterator[str]:
    """Run PgBouncer in transaction mode in front of a database. Yields the address to use."""
    target = make_url(database_url)
    port = free_port()
    chosen: dict[str, str | int] = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "auth_type": "any",
        "pool_mode": "transaction",
        "unix_socket_dir": "",
        "logfile": "",
        "ignore_startup_parameters": ",".join(UNTRACKED),
        **settings,
    }
    host = target.query.get("host") or target.host
    user = target.username or "postgres"
    server = f"host={host} port={target.port or 5432} user={user} password={target.password or 'x'}"
    text = f"[databases]\n{target.database} = {server}\n[pgbouncer]\n"
    text += "".join(f"{name} = {value}\n" for name, value in chosen.items() if value != "")
    with tempfile.TemporaryDirectory(prefix="inventory-pooler-") as directory:
        file = Path(directory) / "pgbouncer.ini"
        file.write_text(text, encoding="utf-8")
        # PgBouncer refuses to run as root; the owner of the socket can reach it.
        owner = Path(str(host)).owner() if str(host).startswith("/") else "nobody"
        as_user = ["-u", owner] if os.geteuid() == 0 else []
        Path(directory).chmod(0o755)
        process = psutil.Popen(
            [pooler_program(), "-q", *as_user, str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not accepts(port):
                assert process.poll() is None, "PgBouncer ended."
            address = URL.create(
                "postgresql", user, host="127.0.0.1", port=port, database=target.database
            )
            yield address.render_as_string(hide_password=False)
        finally:
            process.kill()
            process.wait()


def _search_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin"
