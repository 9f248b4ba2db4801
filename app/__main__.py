"""Entry points of processes: the command `inventory` (`python -m app`), and its workers.

An installation enters through `inventory_api`.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette


def main() -> None:
    """Run the command."""
    from app.cli.main import main as command  # noqa: PLC0415 - a worker does not need it

    command()


def create_app() -> "Starlette":
    """Build the application of a worker."""
    with _importing():
        from app.main import create_app as create  # noqa: PLC0415
    return create()


@contextmanager
def _importing() -> Iterator[None]:
    # Imported objects live as long as the process, so the garbage collector skips them.
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main()
