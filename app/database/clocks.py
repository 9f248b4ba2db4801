"""The current time, by the clock of the database.

For PostgreSQL, the clock of the server counts for all workers. SQLite has no server, but all
processes of a file run on one machine and share its uptime. The first process of a file stores the
boot time by its own clock. A process whose clock differs by more than MAX_CLOCK_DIFFERENCE computes
the time from the stored boot time and the uptime.
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

from app.database.columns import UtcDateTime
from app.domain.instants import format_instant

log = structlog.get_logger()
# The accepted difference from the clock of the first process, in seconds.
MAX_CLOCK_DIFFERENCE: Final = 60
# The name of the SQL function on SQLite connections.
CLOCK_FUNCTION: Final = "inventory_present"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
# Pragmas store 32 bits: seconds since 2020 fit until 2088.
EPOCH: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
# The pragmas of a SQLite file that store the boot id and the boot time.
BOOT_PRAGMAS: Final = ("application_id", "user_version")


class Present(FunctionElement[datetime]):
    """The current time to the millisecond, shifted by a constant number of seconds."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: int = 0) -> None:
        super().__init__(literal_column(str(seconds)))


@compiles(Present, "postgresql")
def _compile_for_postgresql(element: Present, compiler: SQLCompiler, **_options: object) -> str:
    seconds = compiler.process(element.clauses)
    now = "date_trunc('milliseconds', statement_timestamp())"
    return now if seconds == "0" else f"({now} + interval '{seconds} seconds')"


@compiles(Present, "sqlite")
def _compile_for_sqlite(element: Present, compiler: SQLCompiler, **_options: object) -> str:
    return f"{CLOCK_FUNCTION}({compiler.process(element.clauses)})"


def uptime() -> float:
    """Seconds since the machine was booted, equal in all its processes."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """The clock of a process, checked against that of the first process of a SQLite file."""

    def __init__(self, file: str | None) -> None:
        self.wall = time.time
        # SQLite deletes this file when the last process closes the database.
        self._is_first = file is not None and not Path(f"{file}-shm").exists()
        self._booted_at: int | None = None
        self._is_logged = False

    def now(self) -> datetime:
        """Return the current time to the millisecond."""
        seconds = self.wall()
        if self._booted_at is not None:
            expected = self._booted_at + uptime()
            if abs(seconds - expected) > MAX_CLOCK_DIFFERENCE:
                self._log_difference(seconds - expected)
                seconds = expected
        return datetime.fromtimestamp(math.floor(seconds * 1000) / 1000, UTC)

    def sql_function(self, seconds: int) -> str:
        """Implement CLOCK_FUNCTION: the current time as text, shifted by seconds."""
        return format_instant(self.now() + timedelta(seconds=seconds))

    def adopt_boot(self, boot: int, booted_at: int) -> None:
        """Adopt the stored boot time of a file.

        The first process ignores it, and so do all if it is of an earlier boot.
        """
        if boot == _boot() and not self._is_first:
            self._booted_at = EPOCH + booted_at

    def boot_to_store(self) -> tuple[int, int] | None:
        """Return the boot id and time for the pragmas.

        None if the file has them already, or if the machine has no boot id.
        """
        boot = _boot()
        if boot is None or self._booted_at is not None:
            return None
        self._booted_at = math.floor(self.wall() - uptime())
        return boot, self._booted_at - EPOCH

    def _log_difference(self, ahead: float) -> None:
        if not self._is_logged:
            self._is_logged = True
            log.warning("clock_ignored", seconds_ahead=round(ahead))


def _boot() -> int | None:
    try:
        name = BOOT_ID.read_bytes()
    except OSError:
        return None
    return zlib.crc32(name) >> 1 or 1
