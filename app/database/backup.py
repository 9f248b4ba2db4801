"""Backups of a SQLite file while it is written."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from app.database.sqlite import create_private_file

# The pages that are copied between two reports of the progress: 16 MiB.
BACKUP_PAGES: Final = 4_096


def back_up_sqlite(source: Path, target: Path, *, progress: Callable[[int], None]) -> int:
    """Copy a SQLite file as of one instant, while others write it; return the number of bytes.

    The copy appears under its name when it is complete and stored. Only its owner can read it.

    Raises:
        FileExistsError: the target exists.
        OSError: the target cannot be written.
        sqlite3.Error: the source cannot be read.

    """
    if target.exists():
        raise FileExistsError(None, "it exists; name a new file", str(target))
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        create_private_file(str(unfinished))
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True)) as reading,
            closing(sqlite3.connect(unfinished)) as writing,
        ):
            # The open transaction keeps the state of its first statement for the whole copy.
            reading.execute("BEGIN")
            reading.execute("SELECT 1 FROM sqlite_schema").fetchone()
            reading.backup(
                writing,
                pages=BACKUP_PAGES,
                progress=lambda _status, left, total: progress(total - left),
            )
            # One file, without a write-ahead log beside it.
            writing.execute("PRAGMA journal_mode = DELETE")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target.stat().st_size
