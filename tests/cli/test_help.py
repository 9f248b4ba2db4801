"""Help and version: quick, with examples, and without the service."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any, Final

import pytest
import typer

from app.cli.main import app
from app.domain.hash_chain import parse_head
from tests.cli.conftest import Command
from tests.house.documents import PAGES, ROOT, text_of

HEAVY: Final = {
    *("alembic", "asyncpg", "graphql", "httpx", "pydantic_settings", "rich", "sqlalchemy"),
    *("starlette", "strawberry", "uvicorn"),
}


def leaves(group: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, each in getattr(group, "commands", {}).items():
        if hasattr(each, "commands"):
            yield from leaves(each, *words, name)
        else:
            yield (*words, name), each


LEAVES: Final = dict(leaves(typer.main.get_command(app)))


def test_heads_in_help_texts_and_pages_have_the_form_that_is_printed(command: Command) -> None:
    texts = [command(*words, "-h").output for words in LEAVES] + [text_of(page) for page in PAGES]
    heads = [head for text in texts for head in re.findall(r"\bhead_\d[^\s`]*", text)]

    assert len(heads) > 3
    for head in heads:
        # The hash may be cut.
        position = re.fullmatch(r"(head_1\.[a-z0-9_]+\.\d+)\.[0-9a-f]+(\.\.)?", head)
        assert position, head
        assert parse_head(f"{position[1]}.{64 * '0'}")


def test_help_imports_no_library_of_the_service() -> None:
    program = (
        "import sys; sys.argv = ['inventory', 'import', '--help']\n"
        "from app.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n    print('modules', *(name for name in sys.modules if '.' not in name))\n"
    )
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )

    assert done.stdout.startswith("Usage: "), done.stderr
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == set()


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_shows_examples_of_itself(words: tuple[str, ...], command: Command) -> None:
    shown = command(*words, "-h")
    examples = re.findall(r"^ +inventory (.*)$", shown.output, re.MULTILINE)

    assert shown.status == 0
    assert examples
    assert all(example.split()[: len(words)] == list(words) for example in examples)
    options = {option for each in LEAVES[words].params for option in each.opts}
    for example in examples:
        used = {word for word in example.split() if word.startswith("--")}
        assert used <= options, example


def test_every_command_with_a_database_takes_its_address() -> None:
    lacking = [
        words
        for words, each in LEAVES.items()
        if "--database-url"
        not in {option for parameter in each.params for option in parameter.opts}
    ]

    assert lacking == [("schema",)]


def test_the_version_is_that_of_the_project(command: Command) -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]

    assert command("--version").output == f"inventory {project['version']}\n"


def test_a_mistyped_command_gets_a_suggestion(command: Command) -> None:
    done = command("tenants")

    assert done.status == 2
    assert "Did you mean 'tenant'" in done.errors


def test_words_are_completed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_INVENTORY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "inventory tenant l")
    monkeypatch.setenv("COMP_CWORD", "2")

    assert command().output.split() == ["list"]
