"""The present, by the clock of the database.

PostgreSQL's server has one, which decides for all workers, however their own are set. SQLite has
none; but all processes on a file are on one machine and count its uptime alike. The first one to
open the file notes when the machine was started by its own clock. A process whose clock is more
than CLOCKS_APART from that counts from the note.
"""

import math
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.database.tables import UtcDateTime
from app.domain.instants import as_text

log = structlog.get_logger()
# How many seconds a clock may be from that of the first process.
CLOCKS_APART: Final = 60
# The name of the function that SQLite's connections have.
FUNCTION: Final = "inventory_present"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
# SQLite keeps two numbers of 32 bits for its user: seconds since 2020 last until 2088.
EPOCH: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
# SQLite's pragmas that keep the note: of which start, and when that was.
NOTE: Final = ("application_id", "user_version")


class Present(FunctionElement[datetime]):
    """The present to the millisecond, moved by a literal number of seconds."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: int = 0) -> None:
        super().__init__(literal_column(str(seconds)))


@compiles(Present, "postgresql")
def _of_postgresql(element: Present, compiler: SQLCompiler, **_options: object) -> str:
    seconds = compiler.process(element.clauses)
    now = "date_trunc('milliseconds', statement_timestamp())"
    return now if seconds == "0" else f"({now} + interval '{seconds} seconds')"


@compiles(Present, "sqlite")
def _of_sqlite(element: Present, compiler: SQLCompiler, **_options: object) -> str:
    return f"{FUNCTION}({compiler.process(element.clauses)})"


def uptime() -> float:
    """Count the seconds since the machine was started, the same for all of its processes."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """The clock of a process, compared with that of the first process on a SQLite file."""

    def __init__(self, file: str | None) -> None:
        self.wall = time.time
        # SQLite removes this file when the last process closes the database.
        self._is_first = file is not None and not Path(f"{file}-shm").exists()
        self._started_at: int | None = None
        self._is_told = False

    def now(self) -> datetime:
        """Tell the present, to the millisecond."""
        seconds = self.wall()
        if self._started_at is not None:
            counted = self._started_at + uptime()
            if abs(seconds - counted) > CLOCKS_APART:
                self._tell(seconds - counted)
                seconds = counted
        return datetime.fromtimestamp(math.floor(seconds * 1000) / 1000, UTC)

    def as_function(self, seconds: int) -> str:
        """Tell the present as SQLite's function returns it."""
        return as_text(self.now() + timedelta(seconds=seconds))

    def take_over(self, boot: int, started_at: int) -> None:
        """Take over the note of a file, unless it is of an earlier start or this is the first."""
        if boot == _boot() and not self._is_first:
            self._started_at = EPOCH + started_at

    def note(self) -> tuple[int, int] | None:
        """Note of the first process; None where there is one, or no start has a name."""
        boot = _boot()
        if boot is None or self._started_at is not None:
            return None
        self._started_at = math.floor(self.wall() - uptime())
        return boot, self._started_at - EPOCH

    def _tell(self, ahead: float) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning("clock_ignored", seconds_ahead=round(ahead))


def _boot() -> int | None:
    try:
        name = BOOT_ID.read_bytes()
    except OSError:
        return None
    return zlib.crc32(name) >> 1 or 1
