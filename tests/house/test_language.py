"""The prose of the project is plain."""

from functools import cache
from typing import Final

import pytest

from tests.house.language import Kind, Text, python_texts, texts, whats_per_thousand

# Prefixes of paths whose prose is not yet plain. Remove a line once its files are rewritten.
EXCEPTIONS: Final[tuple[str, ...]] = ()
MOST_WHATS: Final = 3.0


@cache
def all_texts() -> tuple[Text, ...]:
    return tuple(texts())


def without_exceptions() -> list[Text]:
    return [text for text in all_texts() if not text.path.startswith(EXCEPTIONS)]


def test_no_text_has_a_forbidden_phrase() -> None:
    faults = [fault for text in without_exceptions() for fault in text.faults()]
    assert faults == []


def test_what_is_rare_in_docstrings_and_comments() -> None:
    assert whats_per_thousand(without_exceptions()) <= MOST_WHATS


def test_every_exception_is_needed() -> None:
    for prefix in EXCEPTIONS:
        excepted = [text for text in all_texts() if text.path.startswith(prefix)]
        has_faults = any(text.faults() for text in excepted)
        assert has_faults or whats_per_thousand(excepted) > MOST_WHATS, f"remove {prefix}"


def test_every_kind_of_text_is_collected() -> None:
    kinds = {text.kind for text in all_texts()}
    paths = {text.path for text in all_texts()}
    assert kinds == set(Kind)
    assert paths >= {"README.md", "docs/index.md", "schema.graphql", "openapi.json"}
    assert "rest_shim/openapi.yaml" in paths
    assert paths >= {"inventory --help", "inventory token rotate --help", "app/settings.py"}


@pytest.mark.parametrize(
    "prose",
    [
        "what is told",
        "the names, and that of those that follow",
        "whoever asks",
        "what they come to",
        "somebody's token",
        "decide anew",
        "lest it break",
        "Meanwhile, it waits",
        "it starts by\nitself",
        "a text that is no GraphQL",
    ],
)
def test_a_forbidden_phrase_is_found(prose: str) -> None:
    assert Text("page.md", 1, Kind.PAGE, prose).faults()


@pytest.mark.parametrize(
    "prose",
    [
        "There is no tenant acme.",
        "It is no longer current.",
        "The least of them, honestly.",
        "`meanwhile` and `by itself` are names here.",
        "The command prints what the file contains.",
    ],
)
def test_plain_prose_has_no_fault(prose: str) -> None:
    assert Text("page.md", 1, Kind.PAGE, prose).faults() == []


def test_docstrings_comments_names_and_messages_are_searched() -> None:
    source = '''"""Return what was found."""
# Decided
# anew.
def test_nothing_is_done_meanwhile():
    raise ValueError("The text is no query.")
'''
    kinds = [text.kind for text in python_texts("app/x.py", source) if text.faults()]
    assert kinds == [Kind.COMMENT, Kind.NAME, Kind.DOCSTRING, Kind.MESSAGE]
    assert [text for text in python_texts("tests/x.py", source) if text.kind is Kind.MESSAGE] == []
