"""SKU codes of the whole alphabet in a real browser: they are sent and shown unchanged."""

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import pytest
from playwright.async_api import expect

from tests.alphabet import codes_of_the_alphabet
from tests.web.conftest import Visit, demo
from tests.web.test_pages_in_chromium import READ_ONE, run_query

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Every printed character of ASCII, and codes from all parts of Unicode. The reference page counts
# UTF-16 units, so that it sends no code of more than 127 characters of two units.
ASCII: Final = "".join(map(chr, range(0x21, 0x7F)))
SAMPLES: Final = [code[:127].strip() for code in codes_of_the_alphabet()[::100]]
CODES: Final = [ASCII, "a/../b", "100%25", "Größe 4 2", *SAMPLES]
CREATE: Final = """
mutation ($input: CreateSkuInput!) { createSku(input: $input) { sku { sku } } }
"""
READ: Final = "query Codes($codes: [String!]!) { skusByCode(codes: $codes) { sku title } }"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the demo with SKUs of these codes."""
    with demo(tmp_path_factory.mktemp("demo"), page_token="demo-admin") as address:
        headers = {"Authorization": "Bearer demo-admin"}
        with httpx.Client(base_url=address, headers=headers) as client:
            for code in CODES:
                body = {"query": CREATE, "variables": {"input": {"sku": code, "title": code}}}
                assert client.post("/graphql", json=body).json()["data"]["createSku"]
        yield address


async def test_graphiql_sends_and_receives_codes_unchanged(visit: Visit, shop: str) -> None:
    variables = json.dumps({"codes": CODES[:8]}, ensure_ascii=False)
    await visit.page.goto(f"{shop}/graphql?{urlencode({'query': READ, 'variables': variables})}")
    async with visit.page.expect_response(
        lambda response: "query Codes" in (response.request.post_data or "")
    ) as sent:
        await run_query(visit.page)
    answer: Any = await (await sent.value).json()

    expected = [{"sku": code, "title": code} for code in CODES[:8]]
    assert answer == {"data": {"skusByCode": expected}}
    shown = visit.page.locator(".graphiql-response .view-lines")
    await expect(shown).to_contain_text("a/../b", use_inner_text=True)
    assert visit.complaints == []


async def test_the_reference_sends_codes_in_paths_unchanged(visit: Visit, shop: str) -> None:
    await visit.page.goto(f"{shop}/docs")
    operation = visit.page.locator(".opblock-get", has=visit.page.locator(READ_ONE))
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    for code in CODES:
        await operation.locator("tr[data-param-name='sku'] input").fill(code)
        async with visit.page.expect_response(
            lambda response: response.url.startswith(f"{shop}/api/inventory/")
        ) as sent:
            await operation.get_by_role("button", name="Execute").click()
        answer: Any = await (await sent.value).json()
        assert answer["data"]["sku"] == code
    assert visit.complaints == []
