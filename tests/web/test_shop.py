"""The page of a shop: what is available, live, and the tools of its staff."""

import json
import re
from itertools import islice
from typing import Final

import httpx
import pytest
from playwright.async_api import Locator, Page, Route, expect

from app.demo import WAREHOUSE_A, demo_skus
from app.files.seeding import LoadedSku
from tests.web.conftest import SHOP_ORIGIN, Visit
from tests.web.test_layout import DESKTOP, PHONE, assert_within_width, faults_of

# They share a browser.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# A SKU of one warehouse for each test, far from those that other tests change.
SOLD, RESERVED, LOST = islice(
    (
        sku
        for sku in demo_skus()
        if sku.sku > "SKU-700" and [level.warehouse_id for level in sku.levels] == [WAREHOUSE_A]
    ),
    3,
)


def row_of(page: Page, code: str) -> Locator:
    """Find the row of an article."""
    return page.get_by_role("row").filter(has=page.get_by_role("button", name=code, exact=True))


async def sell_down_to(visit: Visit, article: LoadedSku, available: int) -> None:
    """Set the stock of an article so that some pieces are available, as another client does."""
    [level] = article.levels
    body = {
        "warehouse_id": WAREHOUSE_A,
        "quantity": level.reserved + level.safety_stock + available,
        "reason": "cycle_count",
    }
    headers = {"Authorization": "Bearer demo-write"}
    async with httpx.AsyncClient(base_url=visit.base_url, headers=headers) as client:
        response = await client.put(f"/api/inventory/{article.sku}", json=body)
    assert response.status_code == 200, response.text


async def use_token(page: Page, token: str) -> None:
    """Enter the token of the staff with the keyboard."""
    await page.get_by_label("Token").fill(token)
    await page.keyboard.press("Enter")


async def test_a_visitor_searches_pages_and_sees_stock_as_it_is_sold(visit: Visit) -> None:
    page = visit.page
    await page.goto("/shop")
    state = page.get_by_role("status").first
    await expect(state).to_contain_text("Live")
    rows = page.locator("#articles tr")
    await expect(rows).to_have_count(20)
    await expect(row_of(page, "SKU-001")).to_contain_text("10 or more")
    await page.get_by_role("button", name="Next page").click()
    await expect(row_of(page, "SKU-021")).to_be_visible()
    await page.get_by_role("button", name="First page").click()
    await expect(row_of(page, "SKU-001")).to_be_visible()

    await page.get_by_label("Search").fill(SOLD.sku)
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text(SOLD.title)
    await expect(state).to_contain_text("Live")
    for available, text in ((3, "3 left"), (0, "Out of stock"), (500, "10 or more")):
        await sell_down_to(visit, SOLD, available)
        await expect(rows).to_contain_text(text)
    await page.get_by_label("Search").fill("no-such-article")
    await page.keyboard.press("Enter")
    await expect(state).to_have_text("No article has these words.")
    await page.get_by_label("Search").fill("---")
    await page.keyboard.press("Enter")
    await expect(state).to_contain_text("The list cannot be read: text must have 1 to 8 words")
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


async def test_staff_see_the_history_and_reserve_at_every_width(visit: Visit) -> None:
    page = visit.page
    await sell_down_to(visit, RESERVED, 3)
    await page.set_viewport_size(PHONE)
    await page.goto("/shop")
    await page.get_by_label("Search").fill(RESERVED.sku)
    await page.keyboard.press("Enter")
    row = row_of(page, RESERVED.sku)
    await expect(row).to_contain_text("3 left")
    await row.get_by_role("button").press("Enter")
    tools = page.locator("#staff-state")
    await expect(tools).to_contain_text("Enter a token that may read")
    await expect(page.get_by_label("Token")).to_be_focused()
    await expect(page.locator("#details")).to_be_hidden()

    await use_token(page, "demo-shop")
    await expect(tools).to_contain_text("needs the scope inventory:read")
    await use_token(page, "demo-read")
    chart = page.get_by_role("img")
    await expect(chart).to_have_attribute("aria-label", re.compile("365 days"))
    assert (await page.locator("#line").get_attribute("points") or "").count(",") == 366
    await page.get_by_role("button", name="Reserve").click()
    await expect(tools).to_contain_text("needs the scope inventory:write")

    await use_token(page, "demo-write")
    await expect(page.get_by_role("heading", name=RESERVED.title)).to_be_focused()
    await page.get_by_label("Quantity").fill("2")
    await page.keyboard.press("Enter")
    await expect(tools).to_contain_text(f"Reserved 2 of {RESERVED.sku} until")
    await expect(row).to_contain_text("1 left")
    elements = (
        row,
        chart,
        *(page.get_by_role("button", name=name) for name in ("Search", "Use token", "Reserve")),
        page.get_by_role("button", name="Release"),
    )
    for size in (PHONE, DESKTOP):
        await page.set_viewport_size(size)
        await assert_within_width(page, elements)
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            assert await faults_of(page) == []

    await page.get_by_role("button", name="Release").click()
    await expect(tools).to_contain_text("Released the reservation")
    await expect(row).to_contain_text("3 left")
    await page.get_by_label("Quantity").fill("4")
    await page.keyboard.press("Enter")
    await expect(tools).to_contain_text("available")
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


async def test_a_reservation_whose_answer_is_lost_is_made_once(visit: Visit) -> None:
    page = visit.page
    await sell_down_to(visit, LOST, 5)
    await page.goto("/shop")
    await page.get_by_label("Search").fill(LOST.sku)
    await page.keyboard.press("Enter")
    row = row_of(page, LOST.sku)
    await row.get_by_role("button").click()
    await use_token(page, "demo-write")
    await expect(page.locator("#details")).to_be_visible()

    async def lose_the_answer(route: Route) -> None:
        if "reserveStock" not in (route.request.post_data or ""):
            await route.continue_()
            return
        await route.fetch()
        await route.abort()

    await page.route("**/graphql", lose_the_answer)
    await page.get_by_role("button", name="Reserve").click()
    await expect(page.locator("#staff-state")).to_contain_text("Failed to fetch")
    await expect(row).to_contain_text("4 left")
    await page.unroute("**/graphql")
    await page.get_by_role("button", name="Reserve").click()
    await expect(page.locator("#staff-state")).to_contain_text("Reserved 1 of")
    await page.get_by_role("button", name="Reserve").click()
    await expect(row).to_contain_text("3 left")


async def test_titles_are_text_and_long_ones_fit_on_a_phone(visit: Visit) -> None:
    page = visit.page
    title = f"<img src=x onerror=alert(1)> {'W' * 200}"
    rename = "mutation ($input: UpdateSkuInput!) { updateSku(input: $input) { sku { sku } } }"
    variables = {"input": {"sku": "SKU-900", "title": title}}
    headers = {"Authorization": "Bearer demo-admin"}
    async with httpx.AsyncClient(base_url=visit.base_url, headers=headers) as client:
        body = {"query": rename, "variables": variables}
        response = await client.post("/graphql", json=body)
    assert "errors" not in response.json(), response.text
    await page.set_viewport_size(PHONE)
    await page.goto("/shop")
    await page.get_by_label("Search").fill("SKU-900")
    await page.keyboard.press("Enter")
    await expect(page.locator("#articles tr")).to_have_count(1)
    row = row_of(page, "SKU-900")
    await expect(row).to_contain_text(title)
    await assert_within_width(page, [row])
    assert visit.complaints == []


async def test_the_page_has_the_token_of_availability_alone(
    base_url: str, url_without_token: str
) -> None:
    async with httpx.AsyncClient() as client:
        page = await client.get(f"{base_url}/shop")
        missing = await client.get(f"{url_without_token}/shop")
    config = page.text.partition('id="config">')[2].partition("</script>")[0]
    assert json.loads(config)["authorization"] == "Bearer demo-shop"
    assert "demo-admin" not in page.text
    assert missing.status_code == 404


READ: Final = """async ([url, authorization]) => {
  const headers = {Authorization: authorization, "Content-Type": "application/json"};
  const body = JSON.stringify({query: '{ availability(sku: "SKU-001") { available } }'});
  const graphql = await fetch(`${url}/graphql`, {method: "POST", headers, body});
  const rest = await fetch(`${url}/api/availability?sku=SKU-001`, {headers});
  return [
    (await graphql.json()).data.availability.available,
    (await rest.json()).data[0].available,
    rest.headers.has("RateLimit") && rest.headers.has("X-Request-ID"),
  ];
}"""


async def test_a_page_of_another_origin_reads_availability(
    visit: Visit, url_without_token: str
) -> None:
    async def page_of_the_shop(route: Route) -> None:
        await route.fulfill(content_type="text/html", body="<title>Shop</title>")

    for origin, is_permitted in ((SHOP_ORIGIN, True), ("http://other.localhost", False)):
        await visit.page.route(f"{origin}/**", page_of_the_shop)
        await visit.page.goto(f"{origin}/")
        reading = visit.page.evaluate(READ, [url_without_token, "Bearer demo-shop"])
        if is_permitted:
            assert await reading == [10, 10, True]
        else:
            with pytest.raises(Exception, match="Failed to fetch"):
                await reading
