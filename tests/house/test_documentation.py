"""What the README says is so."""

import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app import errors
from app.cli import app as command
from app.demo import prepare_demo
from app.settings import Settings
from tests.service import running

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def examples() -> list[tuple[str, str]]:
    """Return each `curl` of the README with the JSON that follows it."""
    found = re.findall(r"```sh\n(curl .*?)```\n+```json\n(.*?)```", README, re.DOTALL)
    assert len(found) >= 4
    return found


def same(expected: Any, real: Any) -> bool:
    """Compare two answers, keys in order; `abc..` stands for any text that starts with abc."""
    if isinstance(expected, dict):
        return (
            isinstance(real, dict)
            and list(expected) == list(real)
            and all(same(expected[key], real[key]) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(real, list) and len(expected) == len(real) and all(map(same, expected, real))
        )
    if isinstance(expected, str) and expected.endswith(".."):
        return isinstance(real, str) and real.startswith(expected[:-2])
    return bool(expected == real)


async def send(client: httpx.AsyncClient, curl: str) -> httpx.Response:
    """Send what a curl command would."""
    words = shlex.split(curl.replace("\\\n", " "))
    method, url, headers, body = None, "", {}, None
    rest = iter(words[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(rest)
        else:
            url = word
    method = method or ("POST" if body else "GET")
    return await client.request(method, url, headers=headers, content=body)


@pytest.fixture
async def demo(empty_database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run the demo."""
    async with running(empty_database_url) as (app, client):
        await prepare_demo(app.state.database)
        yield client


async def test_the_examples_get_the_answers_that_stand_below_them(
    demo: httpx.AsyncClient,
) -> None:
    for curl, expected in examples():
        response = await send(demo, curl)
        assert same(json.loads(expected), response.json()), f"{curl}\n{response.text}"


def test_every_setting_is_documented_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"INVENTORY_{name.upper()}")
        default = "" if field.default is None else f"`{field.default}`"
        assert field.description
        assert f"| `{variable}` | {default} | {field.description} |" in README, variable


def test_every_error_code_is_documented() -> None:
    for error in errors.ERRORS:
        assert f"| {error.status} | `{error.code}` |" in README, error.code
        assert error.code in (errors.__doc__ or ""), error.code


def test_every_command_is_documented_and_explains_itself() -> None:
    lines = ["demo", "serve", "migrate", "schema", "verify", "import", "export", "tenant create"]
    for line in [*lines, "token create", "token list", "token revoke", "token rotate"]:
        shown = CliRunner().invoke(command, [*line.split(), "--help"])
        assert shown.exit_code == 0
        assert f"inventory {line}" in README, line
