"""Measure how soon the pages are usable: python -m tests.web.loading.

Each run is a new Chromium without a cache, on a connection of 10 Mbit/s with a latency of 20 ms.
GraphiQL is usable when its editor shows the query, the REST reference when it shows the operations.
With addresses of running services, the command measures these in turn, to compare two versions.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, async_playwright

from tests.web.conftest import ARGUMENTS, CHROMIUM, demo

CONNECTION: Final = {
    "offline": False,
    "latency": 20,
    "downloadThroughput": 10_000_000 / 8,
    "uploadThroughput": 10_000_000 / 8,
}
# The first element without which a page is not usable.
PAGES: Final = {"/graphql": ".graphiql-query-editor .view-line", "/docs": ".opblock"}


async def seconds_until_usable(browser: Browser, address: str, path: str) -> float:
    """Open a page and return the time until it is usable."""
    page = await browser.new_page()
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    await session.send("Network.emulateNetworkConditions", CONNECTION)
    start = time.perf_counter()
    await page.goto(f"{address}{path}", wait_until="commit")
    await page.locator(PAGES[path]).first.wait_for()
    return time.perf_counter() - start


async def measure(addresses: Sequence[str], runs: int) -> None:
    """Print the least and the median time of each page of each service."""
    async with async_playwright() as playwright:
        for path in PAGES:
            times: dict[str, list[float]] = {address: [] for address in addresses}
            for address in [*addresses] * runs:
                browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                times[address].append(await seconds_until_usable(browser, address, path))
                await browser.close()
            for address, seconds in times.items():
                least, median = min(seconds), statistics.median(seconds)
                print(f"{address}{path}: least {least:.2f} s, median {median:.2f} s of {runs} runs")


def main() -> None:
    """Measure the given services, or a demo of this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="*", help="of running services")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    if options.addresses:
        asyncio.run(measure(options.addresses, options.runs))
        return
    with (
        tempfile.TemporaryDirectory() as directory,
        demo(Path(directory), page_token="demo-write") as address,
    ):
        asyncio.run(measure([address], options.runs))


if __name__ == "__main__":
    main()
