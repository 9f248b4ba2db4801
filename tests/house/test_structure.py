"""Layers, file sizes and names of the code hold as the architecture page describes them."""

import ast
import os
import statistics
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CONTRACTS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
LARGEST_FILE: Final = 520
MEDIAN_FILE: Final = 130
# Names that mean the same in every module that defines them.
COMMON_NAMES: Final = {"log", "main", "create_app", "Result", "T"}


def python_files(*folders: str) -> list[Path]:
    """List the Python files below some folders, without Alembic's steps."""
    result = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in result if "versions" not in path.parts)


def imported_modules(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_level_names(path: Path) -> Iterator[str]:
    """Yield the public names that a file defines at its top level."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def test_imports_keep_their_contracts() -> None:
    program = "from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run(  # noqa: S603 - a program of this test
        [sys.executable, "-c", program, "--no-logo"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_every_module_of_the_application_has_a_layer() -> None:
    layers = {name for layer in CONTRACTS[0]["layers"] for name in layer.split(" | ")}
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in python_files("app", "rest_shim")
    ]

    without = [
        module
        for module in modules
        if module != "app" and not any(f"{module}.".startswith(f"{layer}.") for layer in layers)
    ]
    assert [module for module in without if module != "app.ledger"] == []


def users_of(module: str) -> set[str]:
    """List the files of the application that import a module."""
    return {
        str(path.relative_to(ROOT))
        for path in python_files("app", "rest_shim")
        if any(f"{name}.".startswith(f"{module}.") for name in imported_modules(path))
    }


def test_only_the_commands_and_the_process_import_the_application() -> None:
    users = {path for path in users_of("app.main") if not path.startswith("app/cli/")}
    assert users == {"app/__main__.py"}


def test_only_the_command_imports_the_demo() -> None:
    assert {path for path in users_of("app.demo") if not path.startswith("app/cli/")} == set()


def test_slow_imports_wait_until_they_are_needed() -> None:
    program = (
        "import sys, app.cli.main; "
        "print(*{'alembic', 'cryptography', 'jwt', 'limits', 'yaml'} & {*sys.modules})"
    )
    done = subprocess.run(  # noqa: S603 - a program of this test
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == []


def test_only_transactions_commit() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in python_files("app", "rest_shim")
        if ".commit(" in path.read_text(encoding="utf-8")
    }
    assert users == {"app/database/transactions.py"}


def test_files_are_short() -> None:
    files = python_files("app", "rest_shim", "tests", "benchmarks")
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    own = [lengths[path] for path in python_files("app", "rest_shim")]

    too_long = {
        str(path.relative_to(ROOT)): length
        for path, length in lengths.items()
        if length > LARGEST_FILE
    }
    assert too_long == {}
    assert statistics.median(own) <= MEDIAN_FILE


def test_public_names_mean_one_thing() -> None:
    files_of: defaultdict[str, list[str]] = defaultdict(list)
    for path in python_files("app", "rest_shim"):
        for name in top_level_names(path):
            files_of[name].append(str(path.relative_to(ROOT)))

    repeated = {
        name: files
        for name, files in sorted(files_of.items())
        if len(files) > 1 and name not in COMMON_NAMES
    }
    assert repeated == {}
