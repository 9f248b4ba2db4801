"""A served application, and a browser that records its requests and its errors."""

import asyncio
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from app.database.engine import Database
from app.demo import prepare_demo
from app.main import create_app
from app.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# The origin of pages that may call the service without a token of its own.
SHOP_ORIGIN = "http://shop.localhost"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The page of another origin and the service are on one machine, which no shop is.
    "--disable-features=LocalNetworkAccessChecks",
]


@dataclass(frozen=True)
class Visit:
    """A browser page, the addresses that it and its workers requested, and its errors."""

    page: Page
    base_url: str
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Record requests, failures and console messages of a browser context."""
        context.on("request", lambda request: self.requested.append(request.url))
        # The browser aborts the requests of a page that it leaves.
        context.on(
            "requestfailed",
            lambda request: (
                self.complaints.append(f"failed {request.url}")
                if request.failure != "net::ERR_ABORTED"
                else None
            ),
        )
        context.on(
            "response",
            lambda response: (
                self.complaints.append(f"{response.status} {response.url}")
                if not response.ok
                else None
            ),
        )
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on(
            "console",
            lambda message: (
                self.complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )

    @property
    def requests_to_other_hosts(self) -> list[str]:
        """Requested addresses outside the service and the page."""
        own = (f"{self.base_url}/", "data:")
        return [url for url in self.requested if not url.startswith(own)]


@contextmanager
def demo(directory: Path, *, prefix: str = "", **settings: str) -> Iterator[str]:
    """Serve the demo data on a free port, at a path prefix, and yield the address."""
    url = f"sqlite+aiosqlite:///{directory}/demo.db"
    chosen = Settings(database_url=url, log_level="error", **settings)  # type: ignore[arg-type]
    asyncio.run(_prepare(chosen))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = Starlette(routes=[Mount(prefix, create_app(chosen))])
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{prefix}"
        finally:
            server.should_exit = True
            thread.join()


async def _prepare(settings: Settings) -> None:
    database = Database(settings)
    await prepare_demo(database)
    await database.dispose()


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the demo; its pages contain a token."""
    tokens = {"page_token": "demo-admin", "shop_token": "demo-shop"}
    with demo(tmp_path_factory.mktemp("demo"), **tokens) as address:
        yield address


@pytest.fixture(scope="session")
def prefixed_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the demo as behind a proxy that publishes it at a path prefix."""
    directory = tmp_path_factory.mktemp("demo")
    with demo(directory, prefix="/inventory", page_token="demo-admin") as address:
        yield address


@pytest.fixture(scope="session")
def url_without_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the same data with pages without a token, as in production."""
    cors = {"cors_origins": SHOP_ORIGIN, "rate_limit": "1000/minute"}
    with demo(tmp_path_factory.mktemp("demo"), **cors) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Start a browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, base_url: str) -> AsyncIterator[Visit]:
    """Open a page without the data of earlier tests."""
    context = await browser.new_context(base_url=base_url, viewport={"width": 1280, "height": 800})
    visit = Visit(page=await context.new_page(), base_url=base_url)
    visit.watch(context)
    yield visit
    await context.close()
