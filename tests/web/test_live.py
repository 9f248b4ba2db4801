"""The page of live stock, and subscriptions in GraphiQL."""

import re

import httpx
import pytest
from playwright.async_api import expect

from app.demo import WAREHOUSE_A
from app.web.pages import LIVE_SKU
from tests.web.conftest import Visit
from tests.web.test_layout import DESKTOP, PHONE, assert_within_width, faults_of
from tests.web.test_pages_in_chromium import run_query, until_stored

# They share a browser.
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def count(visit: Visit, quantity: int) -> None:
    """Set the stock of the watched SKU, as another client does."""
    body = {"warehouse_id": WAREHOUSE_A, "quantity": quantity, "reason": "cycle_count"}
    headers = {"Authorization": "Bearer demo-write"}
    async with httpx.AsyncClient(base_url=visit.base_url, headers=headers) as client:
        response = await client.put(f"/api/inventory/{LIVE_SKU}", json=body)
    assert response.status_code == 200, response.text


async def test_the_page_shows_stock_as_it_changes_and_fits_every_width(visit: Visit) -> None:
    page = visit.page
    await page.set_viewport_size(PHONE)
    await page.goto("/live")
    await expect(page.get_by_role("status")).to_contain_text("Live")
    await count(visit, 7_654)
    row = page.get_by_role("row", name="Warehouse A")
    await expect(row.get_by_role("cell").first).to_have_text("7,654")
    await expect(page.get_by_role("listitem")).to_contain_text(["7,654 on hand, cycle_count"])
    chart = page.get_by_role("img")
    await expect(chart).to_have_attribute("aria-label", re.compile("60 days"))
    assert (await page.locator("#line").get_attribute("points") or "").count(",") == 61
    elements = (row, chart, page.get_by_role("button"), page.get_by_role("listitem").first)
    for size in (PHONE, DESKTOP):
        await page.set_viewport_size(size)
        await assert_within_width(page, elements)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        assert await faults_of(page) == []
    await page.get_by_role("textbox").fill("NO-SUCH-SKU")
    await page.get_by_role("button", name="Watch").click()
    await expect(page.get_by_role("status")).to_have_text("There is no SKU NO-SUCH-SKU.")
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


async def test_graphiql_shows_the_events_of_a_subscription(visit: Visit) -> None:
    await visit.page.goto("/graphql")
    await visit.page.get_by_role("tab", name="Watch").click()
    await until_stored(visit.page, "tabState", '"operationName":"Watch"')
    async with visit.page.expect_response(
        lambda response: "event-stream" in response.headers["content-type"]
    ):
        await run_query(visit.page)
    await count(visit, 4_321)
    answer = visit.page.locator(".graphiql-response .view-lines")
    await expect(answer).to_contain_text('"onHand": 4321', use_inner_text=True)
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


async def test_a_service_without_a_token_for_pages_has_no_live_page(
    url_without_token: str,
) -> None:
    async with httpx.AsyncClient(base_url=url_without_token) as client:
        response = await client.get("/live")
    assert response.status_code == 404
