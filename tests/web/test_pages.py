"""What the pages and their files say to a browser before it runs anything."""

import json
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from app import pages
from app.pages import Tab, docs_page, graphiql_page, static_routes


async def get(path: str) -> httpx.Response:
    """Ask the route of the files."""
    transport = httpx.ASGITransport(Starlette(routes=static_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.get(path)


def test_a_config_cannot_break_out_of_its_element() -> None:
    query = "{ a } # </script><script>alert(1)</script><!--"
    content = bytes(graphiql_page(tabs=[Tab(query=query)]).body).decode()

    assert "alert(1)</script>" not in content
    config = content.partition('id="config">')[2].partition("</script>")[0]
    assert json.loads(config)["tabs"][0]["query"] == query


def test_the_pages_forbid_other_hosts_and_are_not_stored() -> None:
    for page in (graphiql_page(tabs=[]), docs_page()):
        assert page.status_code == 200
        assert page.headers["content-security-policy"] == pages.CONTENT_SECURITY_POLICY
        assert page.headers["cache-control"] == "no-store"


async def test_hashed_files_are_kept_for_good_and_workers_bring_the_policy() -> None:
    [worker] = [path.name for path in pages.STATIC.glob("json.worker-*.js")]
    response = await get(f"/static/{worker}")

    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["content-security-policy"] == pages.CONTENT_SECURITY_POLICY
    assert (await get("/static/manifest.json")).headers["cache-control"] == "no-cache"


async def test_a_missing_build_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "STATIC", tmp_path / "static")
    response = docs_page()

    assert response.status_code == 503
    assert bytes(response.body).decode() == pages.NOT_BUILT
    assert (await get("/static/anything.js")).status_code == 404
