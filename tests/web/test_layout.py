"""The layout and the accessibility of the pages, in a real browser."""

import json
from collections.abc import Sequence
from typing import Final, Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, Page, ViewportSize, expect

from app.web.pages import STATIC
from tests.web.conftest import Visit
from tests.web.test_pages_in_chromium import run_query

# They share a browser.
pytestmark = pytest.mark.asyncio(loop_scope="module")

PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
DESKTOP: Final[ViewportSize] = {"width": 1_440, "height": 900}
# Serious faults of third parties: the rule, and a class of the elements.
THIRD_PARTY: Final = {
    # GraphiQL's tabs and Swagger UI's operations contain buttons.
    ("nested-interactive", "graphiql-tab"),
    ("nested-interactive", "opblock-summary-control"),
    # The colours of code in Monaco, the editor of GraphiQL.
    ("color-contrast", "mtk"),
}


async def faults_of(page: Page) -> list[str]:
    """Serious and critical faults that axe-core finds in a page, without those of third parties."""
    results = await Axe().run(page)
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in results.response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
        if not any(
            rule == violation["id"] and name in node["html"].partition(">")[0]
            for rule, name in THIRD_PARTY
        )
    ]


async def assert_within_width(page: Page, elements: Sequence[Locator]) -> None:
    """Check that nothing scrolls sideways and that scrolling down reaches all elements."""
    width = await page.evaluate("innerWidth")
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    for element in elements:
        await element.scroll_into_view_if_needed()
        await expect(element).to_be_in_viewport()
        box = await element.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width, element


async def test_graphiql_is_usable_on_a_phone_and_a_desktop_and_accessible(visit: Visit) -> None:
    await visit.page.set_viewport_size(PHONE)
    await visit.page.goto("/")
    await run_query(visit.page)
    answer = visit.page.locator(".graphiql-response .result-window")
    await expect(answer).to_contain_text("Blue Widget 500ml", use_inner_text=True)
    elements = (
        answer,
        visit.page.locator(".graphiql-query-editor"),
        visit.page.locator(".graphiql-editor-tool"),
        visit.page.get_by_role("button", name="Execute query"),
        visit.page.get_by_role("button", name="Headers"),
        visit.page.get_by_role("button", name="Show Documentation Explorer"),
        visit.page.get_by_role("tab").last,
        visit.page.get_by_role("link", name="REST reference"),
    )
    for size in (PHONE, DESKTOP):
        await visit.page.set_viewport_size(size)
        await assert_within_width(visit.page, elements)

    assert await visit.page.get_by_role("main").count() == 1
    assert await visit.page.get_by_role("heading", level=1).all_text_contents() == ["GraphiQL"]
    assert await faults_of(visit.page) == []
    assert visit.complaints == [f"307 {visit.base_url}/"]


async def test_the_reference_is_readable_on_a_phone_and_a_desktop_and_accessible(
    visit: Visit,
) -> None:
    await visit.page.set_viewport_size(PHONE)
    await visit.page.goto("/docs")
    operations = visit.page.locator(".opblock")
    await expect(operations).to_have_count(19)
    elements = (
        visit.page.get_by_role("button", name="Authorize").first,
        visit.page.get_by_role("combobox", name="Server"),
        operations.first,
        operations.last,
    )
    for size in (PHONE, DESKTOP):
        await visit.page.set_viewport_size(size)
        await assert_within_width(visit.page, elements)

    assert await visit.page.get_by_role("main").count() == 1
    [heading] = await visit.page.get_by_role("heading", level=1).all_text_contents()
    assert heading.startswith("Inventory API")
    assert await faults_of(visit.page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_opened_panels_of_graphiql_are_accessible(
    visit: Visit, scheme: Literal["light", "dark"]
) -> None:
    await visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await visit.page.goto("/graphql")
    await run_query(visit.page)
    answer = visit.page.locator(".graphiql-response .result-window")
    await expect(answer).to_contain_text("Blue Widget 500ml", use_inner_text=True)
    await visit.page.get_by_role("button", name="Show Documentation Explorer").click()
    panel = visit.page.locator(".graphiql-plugin")
    await panel.get_by_role("link", name="Query").click()
    await expect(panel).to_contain_text("skusByCode")

    assert await faults_of(visit.page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_opened_operations_of_the_reference_are_accessible(
    visit: Visit, scheme: Literal["light", "dark"]
) -> None:
    await visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await visit.page.goto("/docs")
    operation = visit.page.locator(".opblock").nth(2)
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    # Examples have the colours of code, which are not ours.
    for tab in await operation.get_by_role("tab", name="Schema").all():
        await tab.click()
    await expect(operation.locator(".json-schema-2020-12").first).to_be_visible()

    assert await faults_of(visit.page) == []


async def test_the_page_preloads_all_scripts_of_the_editor(visit: Visit) -> None:
    files = json.loads((STATIC / "manifest.json").read_bytes())["graphiql"]
    await visit.page.goto("/graphql")
    await expect(visit.page.locator(".graphiql-query-editor .view-line").first).to_be_visible()
    await visit.page.get_by_role("button", name="Show Documentation Explorer").click()
    scripts = {url.rpartition("/")[2] for url in visit.requested if url.endswith(".js")}

    assert {name for name in scripts if ".worker-" not in name} == {
        files["script"],
        *files["imports"],
    }
