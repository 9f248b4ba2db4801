"""The documentation agrees with the code."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import typer
from typer.testing import CliRunner

from app import errors
from app.cli.main import app as command
from app.settings import Settings
from tests.house.architecture import rooms
from tests.house.documents import (
    LINK,
    PAGES,
    ROOT,
    anchors_of,
    commands_of,
    examples_of,
    matches,
    prose_of,
    send,
    shown,
    text_of,
)
from tests.house.generated import generated
from tests.service import running

README: Final = ROOT / "README.md"
DOCS: Final = ROOT / "docs"
WITH_EXAMPLES: Final = [page for page in PAGES if examples_of(page)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
async def demo(own_demo_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running(own_demo_url) as (_, client):
        yield client


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_of)
async def test_examples_return_the_documented_responses(
    page: Path, demo: httpx.AsyncClient
) -> None:
    for example in examples_of(page):
        response = await send(demo, example)
        real = response.json()
        assert matches(json.loads(example.answer), real), f"{example.request}\n{shown(real)}"


def test_every_guide_has_examples() -> None:
    guides = {"README.md", "docs/guide-rest.md", "docs/guide-graphql.md", "docs/errors.md"}
    assert {name_of(page) for page in WITH_EXAMPLES} >= {*guides, "docs/writing-safely.md"}
    assert sum(len(examples_of(page)) for page in WITH_EXAMPLES) >= 20


def test_the_readme_fits_on_150_lines() -> None:
    assert len(text_of(README).splitlines()) <= 150


def test_every_setting_is_documented_with_its_default() -> None:
    page = text_of(DOCS / "settings.md")
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"INVENTORY_{name.upper()}")
        default = "" if field.default is None else f"`{field.default}`"
        assert field.description
        assert f"| `{variable}` | {default} | {field.description} |" in page, variable


def test_every_setting_is_read() -> None:
    files = [file for room in ("app", "rest_shim") for file in (ROOT / room).rglob("*.py")]
    source = "".join(text_of(file) for file in files)
    # `page_token` is read by a property of the settings.
    unread = {
        name for name in Settings.model_fields if not re.search(rf"ettings\.{name}\b", source)
    }
    assert unread <= {"page_token"}


def test_every_error_code_is_documented() -> None:
    page = text_of(DOCS / "errors.md")
    for error in errors.ERRORS:
        assert f"| {error.status} | `{error.code}` | {error.__doc__} |" in page, error.code
        assert error.code in (errors.__doc__ or ""), error.code


@pytest.mark.parametrize("path", generated(), ids=name_of)
def test_derived_parts_are_current(path: Path) -> None:
    assert text_of(path) == generated()[path], "run: python -m tests.house.generated"


def test_every_command_is_documented_and_explains_itself() -> None:
    shown_commands = " ".join(text_of(page) for page in PAGES)
    for line in command_lines(typer.main.get_command(command)):
        result = CliRunner().invoke(command, [*line.split(), "--help"])
        assert result.exit_code == 0
        assert f"inventory {line}" in shown_commands, line


def command_lines(group: Any, *words: str) -> list[str]:
    if not hasattr(group, "commands"):
        return [" ".join(words)]
    return [
        line for name, each in group.commands.items() for line in command_lines(each, *words, name)
    ]


def test_every_command_line_of_a_page_exists_with_its_options() -> None:
    lines = [words for page in PAGES for words in commands_of(page)]
    assert len(lines) >= 10
    for words in lines:
        result: Any = typer.main.get_command(command)
        rest = list(words)
        while rest and hasattr(result, "commands"):
            result = result.commands[rest.pop(0)]
        options = {option for parameter in result.params for option in parameter.opts}
        used = {word for word in rest if re.match(r"--?[a-z]", word)}
        assert used <= {*options, "--help"}, words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_have_targets(page: Path) -> None:
    for link in LINK.findall(prose_of(text_of(page))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


def test_every_page_is_reachable_from_the_index() -> None:
    for index in (DOCS / "index.md", DOCS / "decisions" / "README.md"):
        linked = {
            (index.parent / link.partition("#")[0]).resolve()
            for link in LINK.findall(text_of(index))
        }
        assert {page for page in index.parent.glob("*.md") if page != index} <= linked


DECISION_PARTS: Final = ("Context", "Decision", "Alternatives", "Consequences")
DECISIONS: Final = sorted((DOCS / "decisions").glob("0*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_its_parts(page: Path) -> None:
    text = text_of(page)
    assert re.match(
        r"# \d+\. .+\n\n- Status: (accepted|proposed|superseded by \[\d+\]\(.+\))\n"
        r"- Date: \d{4}-\d\d-\d\d\n",
        text,
    )
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert tuple(headings) == DECISION_PARTS
    assert 30 <= len(text.splitlines()) <= 60


def test_speed_figures_match_the_results() -> None:
    measured = set(table_rows(text_of(ROOT / "benchmarks" / "RESULTS.md")))
    claimed = [row for row in table_rows(text_of(DOCS / "performance.md")) if len(row) == 5]
    assert len(claimed) >= 8
    assert set(claimed) <= measured

    medians = {tuple(re.sub(r" \(.*\)", "", cell) for cell in row) for row in measured}
    readme = [row for row in table_rows(text_of(README)) if re.match(r"[\d.]+$", row[-1])]
    assert len(readme) == 5
    assert set(readme) <= medians


def table_rows(text: str) -> list[tuple[str, ...]]:
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    rows = [tuple(cell.strip() for cell in line.split("|")) for line in lines]
    return [row for row in rows if row[0] and not set("".join(row)) <= {"-", " "}]


def test_every_room_is_described() -> None:
    page = text_of(DOCS / "architecture.md")
    assert [room for room in rooms() if f"`{room}`" not in page] == []
