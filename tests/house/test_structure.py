"""Imports point one way."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Which modules a room may not import; a room is a file, or a folder and all in it.
FORBIDDEN = {
    "app/errors.py": ["app", "rest_shim", "sqlalchemy", "starlette", "strawberry"],
    "app/settings.py": ["app", "rest_shim", "sqlalchemy", "starlette", "strawberry"],
    "app/stock.py": [
        *("rest_shim", "sqlalchemy", "sqlmodel", "starlette", "strawberry"),
        *("app.models", "app.database", "app.queries", "app.commands", "app.graphql"),
    ],
    "app/records.py": ["rest_shim", "sqlalchemy", "starlette", "strawberry", "app.database"],
    "app/models.py": ["rest_shim", "starlette", "strawberry", "app.database", "app.queries"],
    "app/database.py": ["rest_shim", "starlette", "strawberry", "app.queries", "app.commands"],
    "app/sums.py": ["rest_shim", "starlette", "strawberry", "app.database", "app.queries"],
    "app/queries.py": ["rest_shim", "starlette", "strawberry", "graphql", "app.commands"],
    "app/commands": ["rest_shim", "starlette", "strawberry", "graphql", "app.graphql", "app.http"],
    "app/verify.py": ["rest_shim", "starlette", "strawberry", "graphql", "app.commands"],
    "app/upkeep.py": ["rest_shim", "starlette", "strawberry", "graphql", "app.graphql", "app.http"],
    "app/auth.py": ["rest_shim", "starlette", "strawberry", "graphql", "app.graphql"],
    "app/identity.py": ["rest_shim", "sqlalchemy", "starlette", "strawberry", "app.database"],
    "app/rates.py": ["rest_shim", "sqlalchemy", "starlette", "strawberry", "app.database"],
    "app/shares.py": ["rest_shim", "sqlalchemy", "starlette", "strawberry", "app.database"],
    "app/scheduling.py": ["app", "rest_shim", "sqlalchemy", "starlette", "strawberry"],
    "app/protocol.py": ["rest_shim", "sqlalchemy", "starlette", "strawberry", "app.database"],
    "app/graphql": ["rest_shim", "sqlalchemy", "sqlmodel", "app.main", "app.cli", "app.demo"],
    "rest_shim": [
        *("sqlalchemy", "sqlmodel", "strawberry", "app.main", "app.cli", "app.demo"),
        *("app.commands", "app.queries", "app.models"),
    ],
    "app/http.py": ["rest_shim", "sqlalchemy", "strawberry", "app.graphql", "app.database"],
    "app/pages.py": ["rest_shim", "sqlalchemy", "strawberry", "app.graphql", "app.database"],
}


def imported(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(room: str) -> list[Path]:
    """Return the files of a room."""
    path = ROOT / room
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_that_is_above_it(room: str) -> None:
    found = {
        (path.name, module)
        for path in files(room)
        for module in imported(path)
        for forbidden in FORBIDDEN[room]
        if f"{module}.".startswith(f"{forbidden}.") and module != "app.errors"
    }

    assert found == set()


def test_only_those_who_start_it_know_the_root() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in [*files("app"), *files("rest_shim")]
        if any(f"{module}.".startswith("app.main.") for module in imported(path))
    }

    assert users == {"app/__main__.py", "app/cli.py"}


def test_only_the_command_imports_the_demo() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in [*files("app"), *files("rest_shim")]
        if any(f"{module}.".startswith("app.demo.") for module in imported(path))
    }

    assert users == {"app/cli.py"}


def test_a_start_waits_for_nothing_that_only_some_need() -> None:
    words = (
        "import sys, app.cli; "
        "print(*{'alembic', 'cryptography', 'jwt', 'limits', 'yaml'} & {*sys.modules})"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", words], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == []


def test_only_the_database_module_commits() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in [*files("app"), *files("rest_shim")]
        if ".commit(" in path.read_text(encoding="utf-8")
    }

    assert users == {"app/database.py"}
