"""The documentation as data: its pages, its examples, its links."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
DEMO_ADDRESS: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Example:
    """A request of a page with the answer that the page shows below it."""

    request: str
    answer: str

    @property
    def is_graphql(self) -> bool:
        """Whether the request is a GraphQL document instead of a `curl` command."""
        return not self.request.startswith("curl ")


def text_of(page: Path) -> str:
    """Read a page."""
    return page.read_text(encoding="utf-8")


def prose_of(text: str) -> str:
    """Replace the code in Markdown by a placeholder, and keep the line numbers."""
    without_blocks = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    return re.sub(r"`[^`]*`", lambda code: "CODE" + "\n" * code[0].count("\n"), without_blocks)


def examples_of(page: Path) -> list[Example]:
    """List the examples of a page, in its order; each request must have an answer."""
    blocks = [(block[1], block[2]) for block in BLOCK.finditer(text_of(page))]
    result = []
    for index, (language, content) in enumerate(blocks):
        if language == "graphql" or (language == "sh" and content.startswith("curl ")):
            following = blocks[index + 1] if index + 1 < len(blocks) else ("", "")
            assert following[0] == "json", f"{page.name}: no answer follows\n{content}"
            result.append(Example(content, following[1]))
    return result


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words of each `inventory` command that a page shows, in blocks and in lines."""
    text = text_of(page)
    for inline in re.finditer(r"`inventory ([a-z][^`]*)`", BLOCK.sub("", text)):
        yield inline[1].split()
    for block in BLOCK.finditer(text):
        if block[1] not in ("sh", "console"):
            continue
        for line in block[2].replace("\\\n", " ").splitlines():
            if command := re.match(r"(?:\$ )?(?:\.venv/bin/)?inventory (.*)", line):
                yield shlex.split(re.split(r"[|>]| #", command[1])[0])


def anchors_of(page: Path) -> set[str]:
    """Derive the anchors of a page's headings as GitHub does."""
    without_blocks = BLOCK.sub("", text_of(page))
    headings = re.findall(r"^#+ (.*)$", without_blocks, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


async def send(client: httpx.AsyncClient, example: Example) -> httpx.Response:
    """Send the request of an example to the demo."""
    if example.is_graphql:
        token = "demo-admin" if example.request.startswith("mutation") else "demo-read"
        headers = {"Authorization": f"Bearer {token}"}
        return await client.post("/graphql", json={"query": example.request}, headers=headers)
    return await client.request(**request_of(example.request))


def request_of(curl: str) -> dict[str, Any]:
    """Parse a `curl` command."""
    words = shlex.split(curl.replace("\\\n", " "))[1:]
    request: dict[str, Any] = {"method": None, "headers": {}, "content": None}
    rest = iter(words)
    for word in rest:
        if word == "-X":
            request["method"] = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            request["headers"][name] = value
        elif word == "-d":
            request["content"] = next(rest)
        else:
            assert word.startswith(DEMO_ADDRESS), word
            request["url"] = word
    request["method"] = request["method"] or ("POST" if request["content"] else "GET")
    return request


def matches(expected: Any, real: Any) -> bool:
    """Compare two answers, keys in order; `abc..` matches any text that starts with abc."""
    if isinstance(expected, dict):
        return (
            isinstance(real, dict)
            and list(expected) == list(real)
            and all(matches(expected[key], real[key]) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(real, list)
            and len(expected) == len(real)
            and all(map(matches, expected, real))
        )
    if isinstance(expected, str) and expected.endswith(".."):
        return isinstance(real, str) and real.startswith(expected[:-2])
    return type(expected) is type(real) and bool(expected == real)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(answer: object) -> str:
    """Render an answer as the pages show it."""
    return json.dumps(answer, indent=2, ensure_ascii=False)
