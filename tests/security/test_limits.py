"""Limits on HTTP: the speed and size of requests, and the number of connections."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from app.http import edge as http
from app.http.logs import configure_logs
from app.http.uvicorn_protocol import MAX_PIPELINED, bounded_protocol
from app.settings import Settings
from tests.processes import free_port
from tests.service import Service, running


@asynccontextmanager
async def served(directory: Path, **settings: Any) -> AsyncIterator[int]:
    """Serve an application with an empty database on a real socket."""
    database_url = f"sqlite+aiosqlite:///{directory}/none.db"
    async with (
        running(database_url, **settings) as (app, _client),
        serving(app, **settings) as port,
    ):
        yield port


@asynccontextmanager
async def serving(app: ASGIApp, **settings: Any) -> AsyncIterator[int]:
    """Serve an application on a real socket, with the protocol of the command."""
    port = free_port()
    protocol = bounded_protocol(Settings(**settings))
    options = {"ws": "none", "log_config": None, "lifespan": "off", "timeout_keep_alive": 1}
    config = uvicorn.Config(app, port=port, http=protocol, **options)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        await task


async def answer_to(port: int, *parts: bytes) -> bytes:
    """Send parts, and return all bytes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


async def test_a_client_that_left_before_the_response_is_logged_as_that() -> None:
    arrived = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        if scope["path"] == "/left":
            while (await receive())["type"] != "http.disconnect":
                continue
        await JSONResponse({})(scope, receive, send)

    configure_logs("info")
    with capture_logs() as lines:
        async with serving(http.HttpEdge(app)) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD.replace(b"/healthz", b"/left") + b"\r\n")
            await arrived.wait()
            writer.transport.abort()
            assert (await answer_to(port, HEAD, b"\r\n")).startswith(b"HTTP/1.1 200")

    requests = [line for line in lines if line["event"] == "request"]
    assert {line["path"]: line["status"] for line in requests} == {"/left": 499, "/healthz": 200}


async def test_a_long_request_head_in_time_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        answer = await answer_to(port, HEAD, b"X: " + b"x" * 20_000 + b"\r\n", b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200")


def refused_with(answer: bytes) -> tuple[int, str]:
    """Status and code of the only response, which ends the connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = httpx.Headers(dict(re.findall(rb"(?m)^([^:\r\n]+): ([^\r\n]*)", head)))
    facts = json.loads(body)
    facts = facts["error"] if "error" in facts else facts["errors"][0]["extensions"]
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"] == facts["request_id"]
    return int(head.split(b" ")[1]), facts["code"]


@pytest.mark.parametrize(
    "parts",
    [(b"GET /heal",), (HEAD,), (HEAD, b"X: y\r\n")],
    ids=["half a request line", "no end", "one header more"],
)
async def test_an_unfinished_head_times_out(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    async with served(tmp_path, head_timeout_seconds=0.2) as port:
        answer = await answer_to(port, *parts)

    assert refused_with(answer) == (408, "REQUEST_TIMEOUT")


@pytest.mark.parametrize("parts", [(), (b"\r\n",)], ids=["nothing", "an empty line"])
async def test_a_connection_without_a_request_is_closed_without_a_response(
    tmp_path: Path, parts: tuple[bytes, ...]
) -> None:
    async with served(tmp_path, head_timeout_seconds=0.2) as port:
        assert await answer_to(port, *parts) == b""


@pytest.mark.parametrize("rest", [b"", b"\r\n"], ids=["nothing", "an empty line"])
async def test_an_idle_kept_connection_is_closed_without_a_response(
    tmp_path: Path, rest: bytes
) -> None:
    async with served(tmp_path, head_timeout_seconds=0.2) as port:
        answer = await answer_to(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + rest)

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1


async def test_an_unfinished_pipelined_head_times_out() -> None:
    app = Slow()
    async with serving(app, head_timeout_seconds=0.2) as port:
        half = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /half"
        answering = asyncio.create_task(answer_to(port, half))
        await app.is_called.wait()
        app.may_answer.set()
        first, _, second = (await answering).partition(b"0\r\n\r\n")

    assert first.startswith(b"HTTP/1.1 200")
    assert refused_with(second) == (408, "REQUEST_TIMEOUT")


@pytest.mark.parametrize(
    "parts",
    [
        (HEAD, b"X: ", b"x" * 2_000_000),
        (HEAD, *(b"X-%d: %s\r\n" % (n, b"x" * 100) for n in range(1_000))),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
    ],
    ids=["a header without end", "many headers", "a long path"],
)
async def test_an_overlong_head_is_refused(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    async with served(tmp_path) as port:
        try:
            answer = await answer_to(port, *parts)
        except ConnectionError:
            # The server closed the connection before all bytes were sent.
            answer = b"HTTP/1.1 400"
        fine = await answer_to(port, HEAD, b"\r\n")

    assert answer.startswith(b"HTTP/1.1 400")
    assert fine.startswith(b"HTTP/1.1 200")


REFUSED = (
    b"PUT /api/inventory/A HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\n"
    b"Content-Type: application/json\r\n"
)


async def test_the_rest_of_a_refused_body_is_discarded(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REFUSED + b"Content-Length: 200000\r\n\r\n")
        refusal = await reader.readuntil(b'"}}')
        writer.write(b"x" * 200_000 + HEAD + b"\r\n")
        answer = await reader.read()
        writer.close()

    assert refusal.startswith(b"HTTP/1.1 401")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 9\r\n\r\nx",
        b"Content-Length: 1\r\n\r\nx\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 2_000_000,
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 100_000,
        b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 2_000_000,
        b"Transfer-Encoding: chunked\r\n\r\nno number\r\n",
    ],
    ids=["half", "a line more", "an endless trailer", "trailers", "an extension", "no chunk"],
)
async def test_no_second_response_after_trailing_garbage(tmp_path: Path, rest: bytes) -> None:
    head, _, tail = rest.partition(b"\r\n\r\n")
    async with served(tmp_path, head_timeout_seconds=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REFUSED + head + b"\r\n\r\n")
        refusal = await reader.readuntil(b'"}}')
        writer.write(tail)
        try:
            afterwards = await reader.read()
        except ConnectionError:
            # Unread bytes reset the connection.
            afterwards = b""
        writer.close()

    assert refusal.startswith(b"HTTP/1.1 401")
    assert afterwards == b""


class Slow:
    """An application that waits before each response."""

    def __init__(self) -> None:
        self.is_called, self.may_answer = asyncio.Event(), asyncio.Event()
        self.requests = 0

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.requests += 1
        self.is_called.set()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.mark.parametrize(
    "next_one",
    [b"NO METHOD\r\n\r\n", HEAD + b"X: " + b"x" * 50_000 + b"\r\n\r\n"],
    ids=["a malformed request", "a long header"],
)
async def test_a_malformed_pipelined_request_gets_no_response(next_one: bytes) -> None:
    app = Slow()
    async with serving(app) as port:
        answering = asyncio.create_task(
            answer_to(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + next_one)
        )
        await app.is_called.wait()
        app.may_answer.set()
        answer = await answering

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1


async def test_an_endless_header_is_not_buffered_during_another_request() -> None:
    app = Slow()
    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await app.is_called.wait()
        writer.write(HEAD + b"X: " + b"x" * 16_000_000)
        flood = asyncio.create_task(writer.drain())
        read, _ = await asyncio.wait({flood}, timeout=1)
        app.may_answer.set()
        await asyncio.gather(flood, return_exceptions=True)
        writer.close()

    assert not read


async def test_a_missing_body_times_out(service: Service, database_url: str) -> None:
    async with running(database_url, body_timeout_seconds=0.1) as (app, client):
        shop = Service(app, client, app.state.database, service.tenant_id)

        async def slowly() -> AsyncIterator[bytes]:
            yield b'{"query": '
            await asyncio.get_running_loop().create_future()

        headers = {"Content-Type": "application/json"}
        for method, path in (("PUT", "/api/inventory/A"), ("POST", "/graphql")):
            response = await shop.rest(method, path, content=slowly(), headers=headers)
            assert response.status_code == 408
            assert response.headers["Connection"] == "close"
            assert "REQUEST_TIMEOUT" in response.text


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the request as the application sees it."""
    request = Request(scope, receive)
    seen = {
        "path": request.url.path,
        "headers": dict(request.headers),
        "body": (await request.body()).decode(),
    }
    await JSONResponse(seen)(scope, receive, send)


async def seen_by_application(port: int, request: bytes) -> list[dict[str, Any]]:
    """Pipelined requests as the application saw them."""
    answer = await answer_to(port, request)
    assert set(re.findall(rb"HTTP/1.1 (\d+)", answer)) == {b"200"}, answer
    bodies = re.findall(rb"\r\n\r\n(\{.*?\}\}?.*?\})(?=HTTP/1.1|$)", answer)
    return [json.loads(body) for body in bodies]


POST = b"POST /x HTTP/1.1\r\nHost: x\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n"


@pytest.mark.parametrize(
    "trailer",
    [
        b"Authorization: Bearer x", b"Content-Type: application/json", b'If-Match: "1"', b"Host: y",
        b"Idempotency-Key: k", b"Expect: 100-continue", b"Connection: Upgrade\r\nUpgrade: h2c",
    ],
)  # fmt: skip
async def test_trailer_fields_never_become_headers(trailer: bytes) -> None:
    async with serving(echo) as port:
        seen = await seen_by_application(
            port, POST + CHUNKS + trailer + b"\r\n\r\n" + HEAD + b"\r\n"
        )

    assert [request["body"] for request in seen] == ["body", ""]
    assert seen[0]["headers"] == {"host": "x", "transfer-encoding": "chunked"}


SIZED = b"Content-Length: 4\r\n\r\nbody"
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
    "TLS": b"Upgrade: TLS/1.0\r\nConnection: upgrade\r\n",
}


@pytest.mark.parametrize("offer", UPGRADES)
@pytest.mark.parametrize("body", [SIZED, CHUNKS + b"\r\n"], ids=["sized", "chunked"])
@pytest.mark.parametrize("bytewise", [False, True])
async def test_an_upgrade_offer_does_not_lose_the_body(
    offer: str, body: bytes, *, bytewise: bool
) -> None:
    request = (POST + UPGRADES[offer] + body) * 2 + HEAD + b"\r\n"
    parts = [request[i : i + 1] for i in range(len(request))] if bytewise else [request]
    async with serving(echo) as port:
        answer = await answer_to(port, *parts)

    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.count(b'"body":"body"') == 2
    assert b'"upgrade":' not in answer


@pytest.mark.parametrize("path", [b"/x", b"/graphql"])
async def test_a_websocket_is_refused_in_the_format_of_its_api(path: bytes) -> None:
    offer = b" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with serving(echo) as port:
        answer = await answer_to(port, b"GET " + path + offer)

    assert refused_with(answer) == (400, "MALFORMED_REQUEST")
    assert (b'"errors"' in answer) is (path == b"/graphql")
    assert b"WebSocket" in answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        b"POST / HTTP/1.1\nHost: x\n\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
    ids=[
        "no host", "no version", "another version", "an address of another host",
        "an address of another scheme", "an address with a user", "a fragment", "a tunnel",
        "chunks in HTTP/1.0", "a coding", "a folded header", "bare line feeds",
        "a bare line feed in a chunk", "a length in a trailer", "TLS",
    ],
)  # fmt: skip
async def test_an_ambiguous_request_head_is_refused(request_: bytes) -> None:
    async with serving(echo) as port:
        assert refused_with(await answer_to(port, request_)) == (400, "MALFORMED_REQUEST")


async def test_an_absolute_request_target_is_reduced_to_its_path() -> None:
    request = b"GET HTTP://X/y?z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with serving(echo) as port:
        [seen] = await seen_by_application(port, request)

    assert seen["path"] == "/y"


async def test_a_client_of_http_1_0_gets_no_interim_response() -> None:
    request = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n" + SIZED
    async with serving(echo) as port:
        answer = await answer_to(port, request)

    assert answer.startswith(b"HTTP/1.1 200")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Status and code of each request in the log."""
    logged: list[tuple[int, str]] = []

    class Log:
        def info(self, event: str, *, status: int, code: str, **_facts: object) -> None:
            assert event == "request"
            logged.append((status, code))

        warning = info

    monkeypatch.setattr(http, "log", Log())
    return logged


async def test_a_connection_over_the_limit_is_refused_and_others_are_served(
    lines: list[tuple[int, str]],
) -> None:
    async with serving(echo, max_connections=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + SIZED)
        assert b"200" in await reader.readuntil(b"}")
        rest = await answer_to(port, b"GET /graphql HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write(POST + SIZED)
        assert b"200" in await reader.readuntil(b"HTTP/1.1 200")
        writer.close()

    assert refused_with(rest) == (503, "UNAVAILABLE")
    assert b"retry-after: 1\r\n" in rest
    assert b'"errors"' in rest
    assert lines == [(503, "UNAVAILABLE")]


async def test_a_refusal_before_the_application_is_logged(lines: list[tuple[int, str]]) -> None:
    async with serving(echo) as port:
        await answer_to(port, b"no HTTP\r\n\r\n")

    assert lines == [(400, "MALFORMED_REQUEST")]


async def test_the_queue_of_pipelined_requests_is_bounded() -> None:
    app = Slow()
    async with serving(app) as port:
        answering = asyncio.create_task(answer_to(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500))
        await app.is_called.wait()
        app.may_answer.set()
        answer = await answering

    assert answer.count(b"HTTP/1.1 200") == app.requests == 1 + MAX_PIPELINED


async def test_an_application_is_notified_of_a_disconnect_behind_a_queue() -> None:
    is_called, left = asyncio.Event(), asyncio.Event()

    async def endless(_scope: Scope, receive: Receive, _send: Send) -> None:
        is_called.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with serving(endless) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        await is_called.wait()
        writer.transport.abort()
        async with asyncio.timeout(30):
            await left.wait()
