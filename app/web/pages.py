"""The web pages (GraphiQL, the REST reference, live stock and a shop) and the files they load.

The files are bundled from npm packages when the Python package is built (`hatch_build.py`). The
Content-Security-Policy forbids requests to other hosts.
"""

import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC: Final = Path(__file__).with_name("static")
TABS: Final = Path(__file__).with_name("tabs")
# Monaco and Swagger UI write style elements and attributes, hence the inline styles.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; "
    "script-src 'self'; "
    "worker-src 'self'; "
    "connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; "
    "font-src 'self' data:; "
    "frame-ancestors 'none'; "
    "base-uri 'none'; "
    "form-action 'none'"
)
# The policy of a web worker comes with its own script, so the files have the policy too.
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
}
# Encodings of the built files, the smallest first, with the endings of their names.
ENCODING_SUFFIXES: Final[Mapping[str, str]] = {"br": ".br", "gzip": ".gz"}
# The SKU that the page of live stock shows first: the tab Count of GraphiQL sets its stock.
LIVE_SKU: Final = "SKU-002"
OPENAPI: Final = "api/openapi.json"
NOT_BUILT: Final = (
    "The web pages are not built. From the root of the source tree, run: pip install -e .\n"
)
_FAVICON: Final = "data:image/svg+xml," + quote(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<path fill="#3b5bdb" d="M8 1l6 3v8l-6 3-6-3V4z"/>'
    '<path fill="none" stroke="#fff" d="M2 4l6 3 6-3M8 7v8"/></svg>'
)
_NOSCRIPT: Final = "<noscript>This page needs JavaScript.</noscript>"
# The main landmark and the heading of GraphiQL. Swagger UI has its own.
_GRAPHIQL: Final = f'<main><h1>GraphiQL</h1><div id="app">{_NOSCRIPT}</div></main>'
_DOCS: Final = f'<div id="app">{_NOSCRIPT}</div>'
_LIVE: Final = f"""\
<main>
<h1>Live stock</h1>
{_NOSCRIPT}
<form id="choice">
<label for="sku">SKU</label>
<input id="sku" value="{LIVE_SKU}" autocomplete="off" required>
<button>Watch</button>
</form>
<p id="state" role="status"></p>
<h2 id="title">Stock</h2>
<table aria-labelledby="title">
<thead><tr><th scope="col">Warehouse</th><th scope="col">On hand</th><th scope="col">Reserved</th>
<th scope="col">Available</th></tr></thead>
<tbody id="levels"></tbody>
</table>
<figure>
<figcaption>On hand, by day; the top is <span id="most"></span></figcaption>
<svg id="chart" role="img" aria-label="On hand" viewBox="0 -2 600 164">
<polyline id="line"/></svg>
</figure>
<h2 id="latest">Latest changes</h2>
<ol id="changes" aria-labelledby="latest"></ol>
<p><a href="graphql">Set stock in GraphiQL</a> (the tab Count) and watch it here.</p>
</main>"""
_SHOP: Final = f"""\
<main>
<h1>Shop</h1>
{_NOSCRIPT}
<form id="search" role="search">
<label for="text">Search</label>
<input id="text" type="search" autocomplete="off">
<button>Search</button>
</form>
<p id="state" role="status"></p>
<h2 id="list">Articles</h2>
<table aria-labelledby="list">
<thead><tr><th scope="col">SKU</th><th scope="col">Title</th><th scope="col">Stock</th></tr></thead>
<tbody id="articles"></tbody>
</table>
<p><button id="first" type="button">First page</button>
<button id="next" type="button">Next page</button></p>
<h2>Staff</h2>
<p>The page itself reads only what is available. With a token that may read, it shows the history
of an article; with one that may write, it reserves.</p>
<form id="sign-in">
<label for="token">Token</label>
<input id="token" autocomplete="off" spellcheck="false" required>
<button>Use token</button>
</form>
<p id="staff-state" role="status"></p>
<section id="details" aria-labelledby="title" hidden>
<h3 id="title" tabindex="-1"></h3>
<figure>
<figcaption>On hand, by day; the top is <span id="most"></span></figcaption>
<svg id="chart" role="img" aria-label="On hand" viewBox="0 -2 600 164">
<polyline id="line"/></svg>
</figure>
<form id="reserve">
<label for="quantity">Quantity</label>
<input id="quantity" type="number" min="1" value="1" required>
<button>Reserve</button>
<button id="release" type="button" hidden>Release</button>
</form>
</section>
</main>"""
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{favicon}">
<link rel="stylesheet" href="static/{style}">
{preloads}
<script type="application/json" id="config">{config}</script>
<script type="module" src="static/{script}"></script>
</head>
<body>
{content}
</body>
</html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A GraphiQL tab. Its title is the name of its operation."""

    query: str
    variables: Mapping[str, object] = field(default_factory=dict)


def graphiql_tabs() -> tuple[Tab, ...]:
    """Load the tabs of `web/tabs` in the order of their file names.

    A `.json` file with the same name has the variables of a `.graphql` file.
    """
    return tuple(
        Tab(query=path.read_text(encoding="utf-8"), variables=_variables(path.with_suffix(".json")))
        for path in sorted(TABS.glob("*.graphql"))
    )


def _variables(path: Path) -> dict[str, object]:
    return json.loads(path.read_bytes()) if path.exists() else {}


def graphiql_page(*, authorization: str | None = None, tabs: Sequence[Tab]) -> Response:
    """Render GraphiQL with tabs.

    `authorization` is the Authorization header of every tab, such as "Bearer inv_..". Without it
    the headers editor has a header without a token.
    """
    headers = _pretty({"Authorization": authorization or "Bearer "})
    config = {
        "endpoint": "graphql",
        "headers": headers,
        "tabs": [
            {
                "query": tab.query.strip(),
                "variables": _pretty(tab.variables) if tab.variables else "",
                "headers": headers,
            }
            for tab in tabs
        ],
    }
    return _page("graphiql", title="GraphiQL · Inventory API", content=_GRAPHIQL, config=config)


def docs_page(*, authorization: str | None = None) -> Response:
    """Render the REST reference; its requests have the given Authorization header."""
    config = {
        "openapiUrl": OPENAPI,
        "token": authorization.removeprefix("Bearer ") if authorization else None,
    }
    preload = f'<link rel="preload" as="fetch" crossorigin href="{OPENAPI}">'
    title = "REST reference · Inventory API"
    return _page("docs", title=title, content=_DOCS, config=config, preloads=[preload])


def live_page(*, authorization: str) -> Response:
    """Render the page of live stock; its requests have the given Authorization header."""
    config = {"endpoint": "graphql", "authorization": authorization}
    return _page("live", title="Live stock · Inventory API", content=_LIVE, config=config)


def shop_page(*, authorization: str) -> Response:
    """Render the page of a shop, which reads availability with the given Authorization header."""
    config = {"endpoint": "graphql", "authorization": authorization}
    return _page("shop", title="Shop · Inventory API", content=_SHOP, config=config)


def static_routes() -> list[BaseRoute]:
    """Route of the files that the pages load."""
    return [Mount("/static", _BuiltFiles(directory=STATIC, check_dir=False), name="static")]


class _BuiltFiles(StaticFiles):
    """Static files, compressed at build time. Browsers cache those with a hash in their name."""

    async def check_config(self) -> None:
        """Allow a missing directory: files are then 404, and the pages name the build command."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        hashed = re.search(r"-[0-9A-Z]{8}\.\w+$", os.fspath(full_path))
        lifetime = "public, max-age=31536000, immutable" if hashed else "no-cache"
        headers = {**SECURITY_HEADERS, "Cache-Control": lifetime, "Vary": "Accept-Encoding"}
        for encoding in accepted_encodings(Headers(scope=scope).get("accept-encoding", "")):
            compressed = Path(f"{os.fspath(full_path)}{ENCODING_SUFFIXES[encoding]}")
            if compressed.is_file():
                full_path, stat_result = compressed, compressed.stat()
                headers["Content-Encoding"] = encoding
                break
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(headers)
        return response


def accepted_encodings(header: str) -> list[str]:
    """Return the encodings of the built files that a client accepts, the smallest first."""
    items = [item.replace(" ", "").lower().partition(";") for item in header.split(",")]
    accepted = {name for name, _, quality in items if not re.fullmatch(r"q=0(\.0*)?", quality)}
    return [encoding for encoding in ENCODING_SUFFIXES if encoding in accepted]


def _page(
    name: str,
    *,
    title: str,
    content: str,
    config: Mapping[str, object],
    preloads: Sequence[str] = (),
) -> Response:
    # A page may contain a token, so it must not be cached.
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-store"}
    try:
        files = json.loads((STATIC / "manifest.json").read_text(encoding="utf-8"))[name]
    except FileNotFoundError:
        return PlainTextResponse(NOT_BUILT, status_code=503, headers=headers)
    # Otherwise a browser finds an import only in the script that imports it.
    scripts = [
        f'<link rel="modulepreload" href="static/{name}">'
        for name in (files["script"], *files["imports"])
    ]
    page = _PAGE.format(
        title=html.escape(title),
        favicon=_FAVICON,
        preloads="\n".join([*scripts, *preloads]),
        style=files["style"],
        script=files["script"],
        config=_inert(config),
        content=content,
    )
    return HTMLResponse(page, headers=headers)


def _pretty(value: Mapping[str, object]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _inert(value: object) -> str:
    """Render JSON that cannot open or close an HTML element."""
    text = json.dumps(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
