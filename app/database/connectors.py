"""Functions that open connections of the drivers."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import URL

from app.database.clocks import Clock
from app.database.compilation import DriverConnection
from app.database.servers import Servers
from app.database.sqlite import READ_PRAGMA, WRITE_PRAGMA, connect_sqlite
from app.errors import Unavailable
from app.settings import Settings

Connect = Callable[[], Awaitable[DriverConnection]]
SQLITE_PRAGMAS: Final = ("foreign_keys = ON", "synchronous = FULL")


class Connectors(NamedTuple):
    """Functions that open a connection for reads, and one for writes."""

    for_reads: Connect
    for_writes: Connect


def connectors(url: URL, settings: Settings, clock: Clock) -> Connectors:
    """Create the functions that open connections of a database.

    Raises:
        Unavailable: the directory of a SQLite file is missing.

    """
    if url.get_backend_name() == "postgresql":
        connect = Servers(url, settings).connect
        return Connectors(connect, connect)
    file = url.database or ""
    directory = Path(file).parent
    if not directory.is_dir():
        message = f"There is no directory {directory} for the database; create it first."
        raise Unavailable(message)
    pragmas = sqlite_pragmas(settings)
    return Connectors(
        partial(connect_sqlite, file, clock, pragmas=[*pragmas, READ_PRAGMA]),
        partial(connect_sqlite, file, clock, pragmas=[*pragmas, WRITE_PRAGMA]),
    )


def sqlite_pragmas(settings: Settings) -> list[str]:
    """Return the pragmas of every connection to SQLite."""
    return [f"busy_timeout = {settings.database_lock_timeout_ms}", *SQLITE_PRAGMAS]
