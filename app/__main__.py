"""Entry points of processes: the command `inventory` (`python -m app`), and its workers.

An installation enters through `inventory_api`.
"""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette


def main() -> None:
    """Run the command."""
    from app.cli.main import main as command  # noqa: PLC0415 - a worker does not need it

    command()


def create_app() -> "Starlette":
    """Build the application of a worker."""
    threading.Thread(target=_stop_after_parent, daemon=True).start()
    with _importing():
        from app.main import create_app as create  # noqa: PLC0415
    return create()


def _stop_after_parent() -> None:
    """Stop this worker when its parent has ended; it would keep the port."""
    if parent := parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _importing() -> Iterator[None]:
    # Imported objects live as long as the process, so the garbage collector skips them.
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main()
