"""Load by wrk: many connections send prepared requests, and every response is checked."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import orjson

from benchmarks.peers.contender import Ask
from benchmarks.servers import HEADERS, KEY

PATIENCE_SECONDS: Final = 30
REPLAY: Final = Path(__file__).with_name("replay.lua")


class WrongAnswer(Exception):
    """A server sent a wrong response."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to repeat, and the check of their responses.

    The response to a read is one of the `expected` bodies; the response to a write is JSON that
    names the number of `skus`.
    """

    asks: Sequence[Ask]
    expected: frozenset[bytes] = frozenset()
    skus: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """Throughput and latency of a server under a load."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float


def measure(port: int, load: Load, *, connections: int, seconds: int) -> Sample:
    """Run a load on a server for `seconds`, or longer if no response arrives in that time.

    Raises:
        WrongAnswer: a body was wrong, or a response is missing.

    """
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("The benchmarks need `wrk`: apt-get install wrk")
    with TemporaryDirectory() as directory:
        requests = Path(directory, "requests.lua")
        requests.write_bytes(_lua(load))
        done = subprocess.run(  # noqa: S603 - the words are constants
            [
                wrk,
                "--threads=1",
                f"--connections={connections}",
                f"--duration={seconds}s",
                "--timeout=10s",
                f"--script={REPLAY}",
                f"http://127.0.0.1:{port}",
            ],
            env={**os.environ, "REQUESTS": str(requests)},
            capture_output=True,
            check=True,
        )
    _, _, result = done.stdout.partition(b"RESULT ")
    numbers, _, example = result.partition(b"\n")
    count, microseconds, p50, p99, bad, lost = map(int, numbers.split())
    if bad or lost or (not count and seconds > PATIENCE_SECONDS):
        message = f"{bad} wrong responses, {lost} lost, of {count}: {example.decode()}"
        raise WrongAnswer(message)
    if not count:
        return measure(port, load, connections=connections, seconds=2 * seconds)
    return Sample(count, count / microseconds * 1e6, p50 / 1000, p99 / 1000)


def _lua(load: Load) -> bytes:
    keyed = any(KEY in value for value in load.headers.values()) or any(
        KEY in str(ask.body) for ask in load.asks
    )
    lines = [
        b"return {",
        b"  run = %s," % _text(secrets.token_hex(4)),
        b"  keyed = %s," % (b"true" if keyed else b"false"),
        b"  skus = %d," % load.skus,
    ]
    if load.expected:
        bodies = b", ".join(b"[%s] = true" % _text(body) for body in load.expected)
        lines.append(b"  expected = { %s }," % bodies)
    lines.append(b"  requests = {")
    for ask in load.asks:
        headers = {**HEADERS, **load.headers}
        body = b"" if ask.body is None else orjson.dumps(ask.body)
        pairs = b", ".join(b"[%s] = %s" % (_text(n), _text(v)) for n, v in headers.items())
        lines.append(
            b"    { method = %s, path = %s, headers = { %s }, body = %s },"
            % (_text(ask.method), _text(ask.path), pairs, _text(body))
        )
    return b"\n".join([*lines, b"  },", b"}", b""])


def _text(value: str | bytes) -> bytes:
    """Return a Lua string."""
    raw = value.encode() if isinstance(value, str) else value
    escaped = (
        raw.replace(b"\\", b"\\\\")
        .replace(b'"', b'\\"')
        .replace(b"\n", b"\\n")
        .replace(b"\r", b"\\r")
    )
    return b'"' + escaped + b'"'
