"""Attacks on the parser of a real server."""

import base64
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from tests.databases import migrated
from tests.fuzz.raw import exchange
from tests.fuzz.target import CODES, Target, target


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Real server process."""
    directory = tmp_path_factory.mktemp("attacked")
    with target(migrated(f"sqlite+aiosqlite:///{directory}/inventory.db")) as started:
        yield started


SMUGGLED: Final = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
WIRE: Final = {
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 40", b"{}" + SMUGGLED, {400}),
    "two equal lengths": (b"Content-Length: 2\r\nContent-Length: 2", b"{}", {400}),
    "a length and chunks": (b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + SMUGGLED, {400}),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\nContent-Length: 2", b"0\r\n\r\n" + SMUGGLED, {400}),
    "chunks that are not the last": (b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n" + SMUGGLED, {400}),
    "another coding": (b"Transfer-Encoding: xchunked", b"0\r\n\r\n", {400}),
    "a coding after a line break": (b"Transfer-Encoding:\n chunked", b"0\r\n\r\n", {400}),
    "a negative length": (b"Content-Length: -2", b"{}", {400}),
    "a length in words": (b"Content-Length: two", b"{}", {400}),
    "a plus in a length": (b"Content-Length: +2", b"{}", {400}),
    "a huge length": (b"Content-Length: 99999999999999999999999", b"{}", {400}),
    "a chunk of no size": (b"Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n", {400}),
    "a chunk of negative size": (b"Transfer-Encoding: chunked", b"-2\r\n{}\r\n0\r\n\r\n", {400}),
    "a chunk of endless size": (b"Transfer-Encoding: chunked", b"F" * 20 + b"\r\n{}\r\n0\r\n\r\n", {400}),
    "a chunk longer than it says": (b"Transfer-Encoding: chunked", b"1\r\n{}\r\n0\r\n\r\n", {400}),
    "a space before the colon": (b"Content-Length : 2", b"{}", {400}),
    "a header without a name": (b": x\r\nContent-Length: 2", b"{}", {400}),
    "a NUL in a header": (b"X-A: a\x00b\r\nContent-Length: 2", b"{}", {400}),
    "a bare carriage return": (b"X-A: a\rX-B: b\r\nContent-Length: 2", b"{}", {400}),
    "good chunks": (b"Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n", {422}),
    "an expectation": (b"Expect: 100-continue\r\nContent-Length: 2", b"{}", {422}),
    "an upgrade to HTTP/2": (b"Upgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 2", b"{}", {422}),
}  # fmt: skip


@pytest.mark.parametrize("what", WIRE)
def test_an_ambiguous_request_is_refused_and_nothing_is_smuggled(server: Target, what: str) -> None:
    headers, body, statuses = WIRE[what]
    request = (
        b"PUT /api/inventory/A HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Authorization: %b\r\n%b\r\n\r\n%b" % (server.authorization.encode(), headers, body)
    )

    assert exchange(server, request) in statuses


@pytest.mark.parametrize("path", ["/graphql", "/api/inventory", "/"])
def test_no_websocket_is_opened(server: Target, path: str) -> None:
    key = base64.b64encode(b"0123456789abcdef").decode()
    request = (
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request.encode())
        answer = connection.recv(65_536)

    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"WebSocket" in answer
    assert b"x-request-id" in answer.lower()


@pytest.mark.parametrize(
    "line",
    [
        b"GET /healthz", b"GET  /healthz HTTP/1.1", b"GET /healthz HTTP/9.9", b"GET /health\x00z HTTP/1.1",
        b"GET /a b HTTP/1.1", b"G\x00T /healthz HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"PRI * HTTP/2.0",
        b"GET http://evil.example/api/inventory HTTP/1.1", b"CONNECT evil.example:443 HTTP/1.1", b"GET * HTTP/1.1",
        b"GET /api/inventory/A/../B HTTP/1.1", b"GET //evil.example HTTP/1.1", b"GET /%0d%0aX:y HTTP/1.1", b"GET /#a HTTP/1.1", b"GET ?a HTTP/1.1",
    ],
)  # fmt: skip
def test_any_request_line_gets_a_documented_status(server: Target, line: bytes) -> None:
    status = exchange(server, line + b"\r\nHost: a\r\n\r\n")

    assert status in (200, 307, 400, 401, 404, 405), status


def test_the_server_survives_all_attacks(server: Target) -> None:
    assert server.survives().skus == len(CODES)
