"""Headers and content of the pages and their files, without a browser."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from app.demo import WAREHOUSES
from app.web import pages
from app.web.pages import (
    Tab,
    docs_page,
    graphiql_page,
    graphiql_tabs,
    live_page,
    shop_page,
    static_routes,
)


async def get(path: str, **options: Any) -> httpx.Response:
    """Request a static file."""
    transport = httpx.ASGITransport(Starlette(routes=static_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.get(path, **options)


def manifest() -> dict[str, Any]:
    """Files that each page loads."""
    files: dict[str, Any] = json.loads((pages.STATIC / "manifest.json").read_bytes())
    return files


def test_a_config_cannot_break_out_of_its_element() -> None:
    query = "{ a } # </script><script>alert(1)</script><!--"
    content = bytes(graphiql_page(tabs=[Tab(query=query)]).body).decode()

    assert "alert(1)</script>" not in content
    config = content.partition('id="config">')[2].partition("</script>")[0]
    assert json.loads(config)["tabs"][0]["query"] == query


def test_pages_forbid_other_hosts_and_caching() -> None:
    own = [page(authorization="Bearer x") for page in (live_page, shop_page)]
    for page in (graphiql_page(tabs=[]), docs_page(), *own):
        assert page.status_code == 200
        assert page.headers["content-security-policy"] == pages.CONTENT_SECURITY_POLICY
        assert page.headers["cache-control"] == "no-store"


async def test_hashed_files_are_immutable_and_workers_carry_the_policy() -> None:
    [worker] = [path.name for path in pages.STATIC.glob("json.worker-*.js")]
    response = await get(f"/static/{worker}")

    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["content-security-policy"] == pages.CONTENT_SECURITY_POLICY
    assert (await get("/static/manifest.json")).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip;q=1.0, br;q=0", "gzip"),
        ("GZIP", "gzip"),
        ("br;q=0.5", "br"),
        ("identity, *", None),
        ("", None),
    ],
)
async def test_files_are_sent_compressed(accepted: str, encoding: str | None) -> None:
    for page in manifest().values():
        for name in (page["script"], page["style"]):
            response = await get(f"/static/{name}", headers={"Accept-Encoding": accepted})
            content = (pages.STATIC / name).read_bytes()
            suffix = {"br": ".br", "gzip": ".gz", None: ""}[encoding]
            size = (pages.STATIC / f"{name}{suffix}").stat().st_size

            assert response.headers.get("content-encoding") == encoding
            assert int(response.headers["content-length"]) == size
            assert encoding is None or size < 0.6 * len(content)
            assert response.headers["vary"] == "Accept-Encoding"
            assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert re.match("text/(javascript|css)", response.headers["content-type"])
            if encoding != "br":
                # The client of the tests cannot decode Brotli.
                assert response.content == content


@pytest.mark.parametrize(("page", "kilobytes"), [("graphiql", 980), ("docs", 390)])
def test_a_page_is_small_enough_for_a_slow_connection(page: str, kilobytes: int) -> None:
    files = manifest()[page]
    names = (files["script"], files["style"], *files["imports"])
    size = sum((pages.STATIC / f"{name}.br").stat().st_size for name in names)

    assert kilobytes * 800 < size <= kilobytes * 1_000


async def test_fonts_are_files_that_are_loaded_on_demand_and_cached() -> None:
    style = (pages.STATIC / manifest()["graphiql"]["style"]).read_text(encoding="utf-8")
    names = re.findall(r"font-\w{8}\.\w+", style)

    assert len(names) > 2
    assert "data:font" not in style
    for name in set(names):
        response = await get(f"/static/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("font/")
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_missing_build_is_reported_with_the_build_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "STATIC", tmp_path / "static")
    response = docs_page()

    assert response.status_code == 503
    assert bytes(response.body).decode() == pages.NOT_BUILT
    assert (await get("/static/anything.js")).status_code == 404


def test_every_file_of_the_tabs_is_loaded() -> None:
    tabs = graphiql_tabs()
    queries = [path for path in pages.TABS.iterdir() if path.suffix == ".graphql"]
    variables = [path for path in pages.TABS.iterdir() if path.suffix == ".json"]

    assert len(tabs) == len(queries) > 0
    assert [tab.query for tab in tabs] == [path.read_text() for path in sorted(queries)]
    assert {path.stem for path in variables} <= {path.stem for path in queries}
    assert sum(1 for tab in tabs if tab.variables) == len(variables)


def test_lines_of_tabs_fit_into_the_editor() -> None:
    lines = [line for tab in graphiql_tabs() for line in tab.query.splitlines()]
    comments = [line for line in lines if line.startswith("#")]

    assert len(comments) >= len(graphiql_tabs())
    assert max(map(len, comments)) <= 60


def test_tabs_have_the_warehouse_ids_of_the_demo() -> None:
    text = json.dumps([dict(tab.variables) for tab in graphiql_tabs()])

    assert set(re.findall(r"wh_\w+", text)) == {warehouse.id for warehouse in WAREHOUSES}


# The test of the subscription in GraphiQL runs the tab Watch.
OF_ONE_ANSWER = [tab for tab in graphiql_tabs() if "\nsubscription " not in tab.query]


@pytest.mark.parametrize("number", range(len(OF_ONE_ANSWER)))
def test_every_tab_succeeds_on_the_demo(base_url: str, number: int) -> None:
    tab = OF_ONE_ANSWER[number]
    response = httpx.post(
        f"{base_url}/graphql",
        json={"query": tab.query, "variables": dict(tab.variables)},
        headers={"Authorization": "Bearer demo-admin"},
    )

    assert response.status_code == 200
    assert "errors" not in response.json()
    assert None not in response.json()["data"].values()
