"""The pages in a real browser: they work, and send no request to another host."""

import asyncio
import json
from urllib.parse import urlencode, urljoin

import pytest
from playwright.async_api import Locator, Page, expect

from tests.web.conftest import Visit

# A busy machine with two cores needs more than Playwright's five seconds.
expect.set_options(timeout=20_000)

# They share a browser.
pytestmark = pytest.mark.asyncio(loop_scope="module")

READ_ONE = "[data-path='/api/inventory/{sku}']"


async def run_query(page: Page) -> None:
    """Press the run button of GraphiQL once its editors are visible."""
    await expect(page.locator(".graphiql-query-editor .view-line").first).to_be_visible()
    await page.get_by_role("button", name="Execute query").click()


async def click_line(line: Locator) -> None:
    """Click the beginning of a line of an editor: a scroll bar may cover its middle."""
    await line.click(position={"x": 2, "y": 2})


async def write_query(page: Page, text: str) -> None:
    """Replace the query in the editor of GraphiQL, once the editor has the focus."""
    editor = page.locator(".graphiql-query-editor .monaco-editor").first
    await click_line(editor.locator(".view-line").first)
    await expect(editor).to_contain_class("focused")
    await page.keyboard.press("Control+A")
    await page.keyboard.type(text)


async def until_stored(page: Page, name: str, part: str) -> None:
    """Wait for GraphiQL to store an edit; Playwright's own wait needs eval, which is forbidden."""
    async with asyncio.timeout(10):
        # The browser is another process: there is no event to wait for.
        while part not in str(await page.evaluate(f"sessionStorage.getItem('graphiql:{name}')")):
            await asyncio.sleep(0.05)


async def test_graphiql_runs_the_unchanged_first_tab(visit: Visit) -> None:
    await visit.page.goto("/graphql")
    await run_query(visit.page)

    await expect(visit.page.locator(".graphiql-response .view-lines")).to_contain_text(
        "Blue Widget 500ml",
        use_inner_text=True,
    )
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


@pytest.mark.parametrize(
    "tab", ["History", "Chart", "Warehouses", "Count", "Transfer", "Reserve", "Holds", "Sync"]
)
async def test_graphiql_runs_every_unchanged_tab(visit: Visit, tab: str) -> None:
    await visit.page.goto("/graphql")
    await visit.page.get_by_role("tab", name=tab).click()
    # GraphiQL may still have the name of the operation of the first tab here.
    await run_query(visit.page)

    answer = visit.page.locator(".graphiql-response .view-lines")
    await expect(answer).to_contain_text('"data"', use_inner_text=True)
    await expect(answer).not_to_contain_text("errors")
    assert visit.complaints == []


async def test_graphiql_shows_tabs_variables_and_token(visit: Visit) -> None:
    await visit.page.goto("/graphql")

    tabs = ["Stock", "History", "Chart", "Warehouses", "Count", "Transfer", "Reserve", "Holds"]
    tabs += ["Sync", "Watch"]
    await expect(visit.page.get_by_role("tab")).to_contain_text(tabs)
    editor_tools = visit.page.locator(".graphiql-editor-tool")
    await expect(editor_tools).to_contain_text('"NORMAL"')
    await visit.page.get_by_role("button", name="Headers").click()
    await expect(editor_tools).to_contain_text("demo-admin")


async def test_graphiql_loads_the_schema_and_validates_in_workers(visit: Visit) -> None:
    async with visit.page.expect_request(
        lambda request: "IntrospectionQuery" in (request.post_data or ""),
    ):
        await visit.page.goto("/graphql")
    await visit.page.get_by_role("button", name="Show Documentation Explorer").click()
    await expect(visit.page.locator(".graphiql-plugin")).to_contain_text("Query")

    await write_query(visit.page, "query Mine { nonsense }")
    await expect(visit.page.locator(".graphiql-query-editor .squiggly-error")).not_to_have_count(0)
    workers = {
        url.rpartition("/")[2].partition(".")[0] for url in visit.requested if ".worker-" in url
    }
    assert workers == {"editor", "graphql", "json"}
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


async def test_the_explorer_adds_a_field_to_the_query(visit: Visit) -> None:
    await visit.page.goto("/graphql")
    await visit.page.get_by_role("button", name="Show GraphiQL Explorer").click()
    field = visit.page.locator(".graphiql-explorer-stock .graphiql-explorer-safetyStock")
    await field.first.locator("span").first.click()
    await until_stored(visit.page, "query", "safetyStock")
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


async def test_graphiql_accepts_variables_without_fields_that_have_a_default(visit: Visit) -> None:
    await visit.page.goto("/graphql")
    editor = visit.page.locator(".graphiql-editor-tool .graphiql-editor:not(.hidden)")
    for tab in ("Count", "Transfer", "Reserve", "Sync"):
        await visit.page.get_by_role("tab", name=tab).click()
        await until_stored(visit.page, "tabState", f'"operationName":"{tab}"')
        # An error of the test shows that the variables were checked.
        await click_line(editor.locator(".view-line").first)
        await visit.page.keyboard.press("Control+Home")
        await visit.page.keyboard.press("ArrowRight")
        await visit.page.keyboard.type('"unknown": 1,')
        await expect(editor.locator(".squiggly-error")).to_have_count(1)
    assert visit.complaints == []


async def test_graphiql_prettifies_a_query(visit: Visit) -> None:
    await visit.page.goto("/graphql")
    await write_query(visit.page, "query Mine { __typename }")
    lines = visit.page.locator(".graphiql-query-editor .view-line")
    await expect(lines).to_have_count(1)
    await visit.page.get_by_role("button", name="Prettify query").click()

    await expect(lines).to_have_count(4)
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


async def test_the_editor_suggests_fields_and_finds_text(visit: Visit) -> None:
    await visit.page.goto("/graphql")
    await expect(
        visit.page.get_by_role("button", name="Show Documentation Explorer")
    ).to_be_visible()
    await write_query(visit.page, "query Mine { ")
    editor = visit.page.locator(".graphiql-query-editor")
    await visit.page.keyboard.press("Control+Space")
    await expect(editor.get_by_role("option", name="skusByCode")).to_be_visible()
    await visit.page.keyboard.press("Escape")
    await visit.page.keyboard.press("Control+F")
    await expect(editor.get_by_role("textbox", name="Find")).to_be_visible()
    assert visit.complaints == []


async def test_graphiql_keeps_an_edit_over_a_reload(visit: Visit) -> None:
    await visit.page.goto("/graphql")
    await write_query(visit.page, "query Mine { __typename }")
    await expect(visit.page.get_by_role("tab")).to_contain_text(["Mine", "History"])
    await until_stored(visit.page, "tabState", "Mine")
    await until_stored(visit.page, "query", "Mine")
    await visit.page.reload()

    await expect(visit.page.get_by_role("tab")).to_contain_text(["Mine", "History"])
    await run_query(visit.page)
    await expect(visit.page.locator(".graphiql-response .view-lines")).to_contain_text("Query")
    assert visit.complaints == []


async def test_graphiql_without_a_token_shows_the_empty_header(
    visit: Visit, url_without_token: str
) -> None:
    await visit.page.goto(f"{url_without_token}/graphql")
    editor = visit.page.locator(".graphiql-editor-tool .graphiql-editor:not(.hidden)")
    await expect(editor).to_contain_text('"Bearer "', use_inner_text=True)
    assert visit.complaints == []

    async with visit.page.expect_request(
        lambda request: "IntrospectionQuery" in (request.post_data or ""),
    ) as request:
        await click_line(editor.locator(".view-line", has_text="Bearer"))
        await visit.page.keyboard.press("End")
        await visit.page.keyboard.press("ArrowLeft")
        await visit.page.keyboard.type("demo-write")
    assert (await (await request.value).all_headers())["authorization"] == "Bearer demo-write"


async def test_a_link_opens_a_tab_with_its_query(visit: Visit) -> None:
    variables = {"code": "SKU-001"}
    query = "query Linked($code: String!) { sku(sku: $code) { title } }"
    link = urlencode({"query": query, "variables": json.dumps(variables)})
    await visit.page.goto(f"/graphql?{link}")
    await expect(visit.page.get_by_role("tab")).to_contain_text(["Linked", "Stock"])
    await run_query(visit.page)

    answer = visit.page.locator(".graphiql-response .view-lines")
    await expect(answer).to_contain_text("Blue Widget 500ml", use_inner_text=True)
    assert visit.complaints == []


async def test_a_token_of_one_tab_counts_in_all(visit: Visit, url_without_token: str) -> None:
    await visit.page.goto(f"{url_without_token}/graphql")
    editor = visit.page.locator(".graphiql-editor-tool .graphiql-editor:not(.hidden)")
    async with visit.page.expect_request(
        lambda request: "IntrospectionQuery" in (request.post_data or ""),
    ):
        await click_line(editor.locator(".view-line", has_text="Bearer"))
        await visit.page.keyboard.press("End")
        await visit.page.keyboard.press("ArrowLeft")
        await visit.page.keyboard.type("demo-read")
    await visit.page.get_by_role("tab", name="Warehouses").click()
    await until_stored(visit.page, "tabState", '"operationName":"Warehouses"')
    await run_query(visit.page)

    answer = visit.page.locator(".graphiql-response .view-lines")
    await expect(answer).to_contain_text("Warehouse A", use_inner_text=True)
    assert visit.complaints == []


async def test_the_pages_link_to_each_other(visit: Visit) -> None:
    await visit.page.goto("/graphql")
    await visit.page.get_by_role("link", name="REST reference").click()
    await visit.page.wait_for_url("**/docs")
    link = visit.page.get_by_role("link", name="GraphiQL")
    address = await link.get_attribute("href")
    assert urljoin(visit.page.url, address) == f"{visit.base_url}/graphql"


async def test_the_reference_lists_an_operation_and_tries_it_out(visit: Visit) -> None:
    await visit.page.goto("/docs")
    await expect(visit.page.locator(".opblock")).to_have_count(19)
    operation = visit.page.locator(".opblock-get", has=visit.page.locator(READ_ONE))
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("tab", name="Schema").first.click()
    await expect(operation.get_by_role("button", name="InventoryResponse")).to_be_visible()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_role("button", name="Execute").click()
    await expect(operation.locator(".live-responses-table")).to_contain_text("total_on_hand")
    # The page has its script and the description loaded at the same time, and each once.
    assert visit.requested.count(f"{visit.base_url}/api/openapi.json") == 1
    assert visit.requests_to_other_hosts == []
    assert visit.complaints == []


async def test_graphiql_works_at_a_path_prefix(visit: Visit, prefixed_url: str) -> None:
    await visit.page.goto(f"{prefixed_url}/graphql")
    await run_query(visit.page)
    answer = visit.page.locator(".graphiql-response .view-lines")
    await expect(answer).to_contain_text("Blue Widget 500ml", use_inner_text=True)
    assert {url for url in visit.requested if not url.startswith((prefixed_url, "data:"))} == set()
    assert visit.complaints == []


async def test_the_reference_works_at_a_path_prefix(visit: Visit, prefixed_url: str) -> None:
    await visit.page.goto(f"{prefixed_url}/docs")
    operation = visit.page.locator(".opblock-get", has=visit.page.locator(READ_ONE))
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_role("button", name="Execute").click()
    await expect(operation.locator(".live-responses-table")).to_contain_text("total_on_hand")
    assert {url for url in visit.requested if not url.startswith((prefixed_url, "data:"))} == set()
    assert visit.complaints == []


@pytest.mark.parametrize("path", ["/graphql", "/docs"])
async def test_page_cannot_send_requests_to_another_host(visit: Visit, path: str) -> None:
    await visit.page.goto(path)
    blocked = await visit.page.evaluate(
        "fetch('http://other.invalid/').then(() => 'sent', error => String(error))",
    )

    assert "Failed to fetch" in blocked
    assert any("Content Security Policy" in complaint for complaint in visit.complaints)
