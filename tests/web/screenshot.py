"""Take the README's picture of GraphiQL: python -m tests.web.screenshot."""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from playwright.async_api import async_playwright, expect

from tests.web.conftest import ARGUMENTS, CHROMIUM, demo

PICTURE: Final = Path(__file__).parents[2] / "docs" / "graphiql.png"


async def take(address: str) -> None:
    """Run the first tab and take the picture."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page(viewport={"width": 1280, "height": 760})
        await page.goto(f"{address}/graphql")
        await expect(page.locator(".graphiql-query-editor .view-line").first).to_be_visible()
        await page.get_by_role("button", name="Execute query").click()
        answer = page.locator(".graphiql-response .view-lines")
        await expect(answer).to_contain_text("Blue Widget", use_inner_text=True, timeout=20_000)
        await page.screenshot(path=PICTURE)
        await browser.close()


def main() -> None:
    """Serve the demo and take the picture."""
    with (
        tempfile.TemporaryDirectory() as directory,
        demo(Path(directory), page_token="demo-write") as address,
    ):
        asyncio.run(take(address))
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
