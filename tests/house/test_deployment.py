"""Files for containers. No container engine runs here: linters and schemas check the files."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from app.cli.main import app
from app.settings import Settings
from tests.house.documents import ROOT, text_of
from tests.processes import free_port, started

BIN: Final = Path(sys.executable).parent
KUBERNETES: Final = ROOT / "deploy" / "kubernetes.yaml"
DOCKERFILE: Final = text_of(ROOT / "Dockerfile")
LINTERS: Final = {
    "hadolint": ["hadolint", "Dockerfile"],
    "compose": ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
    "workflow": [
        *("check-jsonschema", "--builtin-schema", "vendor.github-workflows"),
        ".github/workflows/check.yml",
    ],
    "kubernetes": ["kubernetes-validate", "--strict", "deploy/kubernetes.yaml"],
}


@pytest.mark.parametrize("name", LINTERS)
def test_a_file_passes_its_linter(name: str) -> None:
    program, *words = LINTERS[name]
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [str(BIN / program), *words], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def python_of(instruction: str) -> str:
    """Return the program after `python -c` in an instruction of the Dockerfile."""
    [text] = re.findall(rf"^{instruction} .*?(?<!\\)$", DOCKERFILE, re.DOTALL | re.MULTILINE)
    if array := re.search(r"CMD (\[.*\])", text, re.DOTALL):
        program: str = json.loads(array[1].replace("\\\n", ""))[2]
        return program
    words = shlex.split(text)
    return words[words.index("-c") + 1]


def test_the_health_check_asks_the_port_in_use(tmp_path: Path) -> None:
    program = python_of("HEALTHCHECK")

    def status(port: str) -> int:
        return subprocess.run(  # noqa: S603 - the program of our own file
            [sys.executable, "-c", program], env={"PORT": port}, capture_output=True, check=False
        ).returncode

    url = f"sqlite:///{tmp_path}/inventory.db"
    with started("serve", database_url=url) as (_, address):
        assert status(address.rpartition(":")[2]) == 0
        assert status(str(free_port())) != 0


def test_the_image_installs_every_dependency() -> None:
    program = python_of("RUN python")
    printed = subprocess.run(  # noqa: S603 - the program of our own file
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    for requirement in ("asyncpg", "limits[redis]", "openpyxl", "defusedxml"):
        assert any(line.startswith(requirement) for line in printed)


def test_the_image_runs_as_a_numeric_user_and_starts_the_command() -> None:
    assert re.search(r"^USER \d+:\d+$", DOCKERFILE, re.MULTILINE)
    assert 'ENTRYPOINT ["inventory"]' in DOCKERFILE
    [words] = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert_exists(json.loads(words))


def test_commands_and_settings_of_the_examples_exist() -> None:
    services = yaml.safe_load(text_of(ROOT / "compose.yaml"))["services"]
    documents = list(yaml.safe_load_all(text_of(KUBERNETES)))
    containers = [
        container
        for document in documents
        if document["kind"] in ("Job", "Deployment")
        for container in document["spec"]["template"]["spec"]["containers"]
    ]
    names = {name for service in services.values() for name in service.get("environment", {})}
    names |= {entry["name"] for container in containers for entry in container["env"]}

    known = {"DATABASE_URL", "DATABASE_URL_FILE", "POSTGRES_USER", "POSTGRES_PASSWORD"}
    assert names <= known | {f"INVENTORY_{name.upper()}" for name in Settings.model_fields}
    for words in (
        *(service["command"] for service in services.values() if "command" in service),
        *(container["args"] for container in containers),
    ):
        assert_exists(words)


def assert_exists(words: list[str]) -> None:
    """Check that a command exists with its options."""
    command: Any = typer.main.get_command(app)
    known = command.commands[words[0]]
    options = {option for parameter in known.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, words
