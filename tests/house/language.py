"""Collect the project's prose and search it for phrases that the house rules forbid."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import typer

from app.cli.main import app as command
from rest_shim.openapi import openapi
from tests.house.documents import PAGES, ROOT, prose_of

PHRASES: Final = re.compile(
    r"""
    \b(?:
        what\ (?:is|are|was|were|they\ are|it\ is)\ told
        | (?:that|those)\ of\ those
        | what\ (?:it|they|all|\w+s|\w+\ \w+s)\ comes?\ to
        | whoever | whomever | somebody | somebody's
        | anew | lest | meanwhile
        | by\ (?:itself|themselves)
    )\b
    | (?<!\bthere\ )\b(?:is|are|was|were)\ no
      \ (?!(?:longer|more|less|fewer|earlier|later|greater)\b)\w+
    """,
    re.IGNORECASE | re.VERBOSE,
)
EMPTY_OPENING: Final = re.compile(r"\s*(?:Return|Yield|Tell)s?\ what\b")
WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
CODE: Final = re.compile(r"``?[^`]*``?|\"\w+\"")


class Kind(Enum):
    """Where a text stands."""

    DOCSTRING = "docstring"
    COMMENT = "comment"
    NAME = "test name"
    MESSAGE = "string"
    PAGE = "page"


@dataclass(frozen=True)
class Text:
    """A piece of prose with its place."""

    path: str
    line: int
    kind: Kind
    content: str

    def faults(self) -> list[str]:
        """List the forbidden phrases of the text."""
        plain = re.sub(r"\s+", " ", CODE.sub("CODE", self.content))
        result = [match[0] for match in PHRASES.finditer(plain)]
        if self.kind is Kind.DOCSTRING and (opening := EMPTY_OPENING.match(plain)):
            result.append(opening[0])
        return [f"{self.path}:{self.line}: {self.kind.value}: {phrase!r}" for phrase in result]


def texts() -> Iterator[Text]:
    """Yield all prose of the project."""
    for folder in ("app", "rest_shim", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            yield from texts_of(path)
    for path in sorted(ROOT.iterdir()):
        yield from texts_of(path)
    for page in (*PAGES, *other_pages()):
        yield from paragraphs(relative(page), prose_of(page.read_text(encoding="utf-8")))
    yield from (Text("openapi.json", 0, Kind.PAGE, text) for text in described(openapi()))
    yield from help_texts(typer.main.get_command(command), "inventory")


def other_pages() -> list[Path]:
    """List the Markdown files outside the documentation."""
    return sorted((*(ROOT / ".github").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")))


def texts_of(path: Path) -> Iterator[Text]:
    """Yield the prose of one source file."""
    name = relative(path)
    if "node_modules" in path.parts or "static" in path.parts or not path.is_file():
        return
    if path.suffix == ".py":
        yield from python_texts(name, path.read_text(encoding="utf-8"))
    elif path.suffix in {".graphql", ".toml", ".yaml", ".yml"} or path.name == "justfile":
        yield from marked_texts(name, path.read_text(encoding="utf-8"))


def relative(path: Path) -> str:
    """Name a file by its path from the root of the project."""
    return path.relative_to(ROOT).as_posix()


def python_texts(path: str, source: str) -> Iterator[Text]:
    """Yield docstrings, comments, names of tests and, of the product, strings with spaces."""
    yield from comments(path, source)
    product = path.startswith(("app/", "rest_shim/"))
    tree = ast.parse(source)
    docstrings: set[ast.expr] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstrings.update(first.value for first in node.body[:1] if isinstance(first, ast.Expr))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
            name := re.match(r"test_(.*)", node.name)
        ):
            yield Text(path, node.lineno, Kind.NAME, name[1].replace("_", " "))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node in docstrings:
                yield Text(path, node.lineno, Kind.DOCSTRING, node.value)
            elif product and " " in node.value.strip():
                yield Text(path, node.lineno, Kind.MESSAGE, node.value)


def comments(path: str, source: str) -> Iterator[Text]:
    """Yield comments, with adjacent lines as one text and without markers for tools."""
    pending: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if pending and token.start[0] != last + 1:
            yield Text(path, first, Kind.COMMENT, " ".join(pending))
            pending = []
        if not pending:
            first = token.start[0]
        last = token.start[0]
        words = re.sub(r"#\s*(?:noqa|type: ignore)[^-]*(?:- )?", "", token.string)
        pending.append(words.lstrip("# "))
    if pending:
        yield Text(path, first, Kind.COMMENT, " ".join(pending))


def marked_texts(path: str, source: str) -> Iterator[Text]:
    """Yield `#` comments and triple-quoted descriptions of a data file."""
    for match in re.finditer(r'"""(.*?)"""', source, re.DOTALL):
        yield Text(path, source.count("\n", 0, match.start()) + 1, Kind.PAGE, match[1])
    for number, line in enumerate(source.splitlines(), 1):
        if comment := re.match(r"(?:[^'\"]*\s)?#\s(.*)", line):
            yield Text(path, number, Kind.COMMENT, comment[1])


def paragraphs(path: str, prose: str) -> Iterator[Text]:
    """Yield the paragraphs of a page."""
    line = 1
    for part in re.split(r"(\n\s*\n)", prose):
        if part.strip():
            yield Text(path, line, Kind.PAGE, part)
        line += part.count("\n")


def described(node: Any) -> Iterator[str]:
    """Yield the titles, summaries and descriptions of an OpenAPI document."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"title", "summary", "description"} and isinstance(value, str):
                yield value
            else:
                yield from described(value)
    elif isinstance(node, list):
        for value in node:
            yield from described(value)


def help_texts(command_: Any, name: str) -> Iterator[Text]:
    """Yield the help of a command, its parameters and its subcommands."""
    yield Text(f"{name} --help", 0, Kind.PAGE, command_.help or "")
    for parameter in command_.params:
        yield Text(f"{name} --help", 0, Kind.PAGE, getattr(parameter, "help", None) or "")
    for subcommand, each in getattr(command_, "commands", {}).items():
        yield from help_texts(each, f"{name} {subcommand}")


def whats_per_thousand(collected: list[Text]) -> float:
    """Count "what" per 1,000 words of docstrings and comments."""
    words = [
        word.lower()
        for text in collected
        if text.kind in {Kind.DOCSTRING, Kind.COMMENT}
        for word in WORD.findall(CODE.sub(" ", text.content))
    ]
    return 1_000 * words.count("what") / len(words) if words else 0.0
