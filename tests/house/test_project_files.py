"""The project's commands agree with each other, and no file names a registry."""

import re
import subprocess
import tomllib
from typing import Final

from packaging.requirements import Requirement

from tests.house.documents import ROOT

# In two parts, so that this file contains no host.
REGISTRIES: Final = [
    b"pypi" + b".org",
    b"pythonhosted" + b".org",
    b"npmjs" + b".org",
    b"npmjs" + b".com",
    b"yarnpkg" + b".com",
]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def recipes() -> set[str]:
    return set(re.findall(r"^(\w+)(?: \*\w+)?:$", text_of("justfile"), re.MULTILINE))


def test_no_file_names_the_host_of_a_registry() -> None:
    done = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    result = [
        (file.name, host)
        for file in files
        if file.is_file()
        for host in REGISTRIES
        if host in file.read_bytes()
    ]
    assert len(files) > 100
    assert result == []


def test_continuous_integration_runs_the_commands_of_the_justfile() -> None:
    called = re.findall(r"^\.venv/bin/(just \w+|pytest -n auto)", text_of(".ci/run"), re.MULTILINE)

    commands = ["just clients", "just check", "pytest -n auto", "just coverage", "just mutants"]
    assert called == commands
    assert {command.removeprefix("just ") for command in called} - {"pytest -n auto"} <= recipes()
    assert "- run: .ci/run\n" in text_of(".github/workflows/check.yml")


def test_documented_commands_exist() -> None:
    shown = set(re.findall(r"`just (\w+)", text_of("CONTRIBUTING.md")))

    assert shown == recipes() - {"default"}


def test_the_readme_and_the_justfile_run_the_same_tests() -> None:
    install = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]'"

    assert f"{install} && .venv/bin/pytest -n auto\n" in text_of("README.md")
    assert f"{install}\n" in text_of(".ci/run")
    assert "{{ bin }}/pytest -n auto {{ arguments }}\n" in text_of("justfile")


def test_constraints_are_within_the_bounds_of_the_dependencies() -> None:
    lines = [line for line in text_of("constraints.txt").splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    versions = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["test"]]

    for text in required:
        requirement = Requirement(text)
        assert versions[requirement.name.lower()] in requirement.specifier, text


def test_every_dependency_has_an_upper_bound() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))
    optional = project["project"]["optional-dependencies"].values()
    groups = [project["build-system"]["requires"], project["project"]["dependencies"], *optional]

    for text in [requirement for group in groups for requirement in group]:
        operators = {each.operator for each in Requirement(text).specifier}
        assert operators == {">=", "<"}, text


def test_coverage_has_a_floor() -> None:
    report = tomllib.loads(text_of("pyproject.toml"))["tool"]["coverage"]["report"]

    assert 50 <= report["fail_under"] <= 100
