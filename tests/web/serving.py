"""The demo as `inventory demo` starts it, and a browser to look at it."""

import asyncio
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import uvicorn

from app.database import Database
from app.demo import prepare_demo
from app.main import create_app
from app.settings import Settings

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
NO_CHROMIUM: Final = "there is no Chromium on this machine (Debian: apt-get install chromium)"
ARGUMENTS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def serving_demo(directory: Path, *, page_token: str | None) -> Iterator[str]:
    """Fill a database in a directory with the demo's data, serve it and yield the address."""
    settings = Settings(
        database_url=f"sqlite+aiosqlite:///{directory}/demo.db",
        page_token=page_token,
        log_level="error",
    )
    asyncio.run(_prepare(settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Who connects before the server accepts waits in the queue of the socket.
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(settings), log_config=None, access_log=False, server_header=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            httpx.get(f"{address}/readyz", timeout=60).raise_for_status()
            yield address
        finally:
            server.should_exit = True
            thread.join()


async def _prepare(settings: Settings) -> None:
    database = Database(settings)
    await prepare_demo(database)
    await database.dispose()
