"""Limits: how often a token may ask, and how slowly or how much a client may send."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from app import protocol
from app.protocol import BoundedProtocol
from app.settings import Settings
from tests.processes import free_port
from tests.service import Service, running

REDIS = shutil.which("redis-server")


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Redis, which workers share."""
    if REDIS is None:
        pytest.skip("no Redis on this machine (Debian: apt-get install redis-server)")
    port = free_port()
    directory = str(tmp_path_factory.mktemp("redis"))
    command = [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept" in line:
                break
        yield f"redis://127.0.0.1:{port}"
        process.terminate()


async def asked(shop: Service, times: int, *, token: str = "read") -> list[int]:
    return [
        (await shop.rest("GET", "/api/inventory", token=token)).status_code for _ in range(times)
    ]


async def test_a_token_that_asks_too_often_is_told_when_to_ask_again(
    service: Service, database_url: str
) -> None:
    async with running(database_url, rate_limit="3/hour") as (app, client):
        shop = Service(app, client, app.state.database, service.tenant)
        assert await asked(shop, 4) == [200, 200, 200, 429]
        refused = await shop.rest("GET", "/api/inventory", token="read")
        in_graphql = await shop.graphql("{ __typename }", token="read")
        # Others are not to suffer for it, nor do credentials that are none count.
        assert await asked(shop, 3, token="write") == [200, 200, 200]
        assert await asked(shop, 5, token="inv_x-y") == [401] * 5

    assert refused.json()["error"]["code"] == "RATE_LIMITED"
    assert 1 <= int(refused.headers["Retry-After"]) <= 3_600
    assert in_graphql["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


async def test_workers_that_share_a_redis_count_together(
    service: Service, database_url: str, redis_url: str
) -> None:
    options = {"rate_limit": "4/hour", "rate_limit_redis_url": redis_url}
    async with (
        running(database_url, **options) as (one, its_client),
        running(database_url, **options) as (other, other_client),
        AsyncExitStack() as redis,
    ):
        # Its end closes the connections to Redis.
        for app in (one, other):
            await redis.enter_async_context(app.router.lifespan_context(app))
        first = Service(one, its_client, one.state.database, service.tenant)
        second = Service(other, other_client, other.state.database, service.tenant)
        found = await asked(first, 2) + await asked(second, 2) + await asked(first, 1)

    assert found == [200, 200, 200, 200, 429]


async def test_while_who_counts_is_away_everybody_is_answered(
    service: Service, database_url: str
) -> None:
    options = {"rate_limit": "1/hour", "rate_limit_redis_url": f"redis://127.0.0.1:{free_port()}"}
    async with (
        running(database_url, **options) as (app, client),
        app.router.lifespan_context(app),
    ):
        shop = Service(app, client, app.state.database, service.tenant)
        assert await asked(shop, 2) == [200, 200]


@pytest.mark.parametrize("rate", ["", "often", "1", "-1/second", "1/second; 2/minute"])
def test_a_rate_that_is_none_stops_the_start(rate: str) -> None:
    with pytest.raises(ValueError, match="rate_limit"):
        Settings(rate_limit=rate)


@asynccontextmanager
async def served(
    directory: Path, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AsyncIterator[int]:
    """Serve an application that knows nobody, on a real socket."""
    for name, value in settings.items():
        monkeypatch.setenv(f"INVENTORY_{name.upper()}", value)
    protocol._settings.cache_clear()
    async with running(f"sqlite+aiosqlite:///{directory}/none.db", **settings) as (app, _client):
        port = free_port()
        options = {"ws": "none", "log_config": None, "lifespan": "off"}
        config = uvicorn.Config(app, port=port, http=BoundedProtocol, **options)  # type: ignore[arg-type]
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        yield port
        server.should_exit = True
        await task
    protocol._settings.cache_clear()


async def answer_to(port: int, *parts: bytes) -> bytes:
    """Send what is given, and return all that comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


async def test_a_head_in_time_and_of_some_length_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, monkeypatch) as port:
        answer = await answer_to(port, HEAD, b"X: " + b"x" * 20_000 + b"\r\n", b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"\r\n",),
        (b"GET /heal",),
        (HEAD,),
        (HEAD, b"X: y\r\n"),
    ],
    ids=["nothing", "an empty line", "half a request line", "no end", "one header more"],
)
async def test_a_head_that_does_not_end_is_waited_for_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...]
) -> None:
    async with served(tmp_path, monkeypatch, head_timeout_seconds="0.2") as port:
        answer = await answer_to(port, *parts)

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"did not arrive in time" in answer


@pytest.mark.parametrize(
    "parts",
    [
        (HEAD, b"X: ", b"x" * 2_000_000),
        (HEAD, *(b"X-%d: %s\r\n" % (n, b"x" * 100) for n in range(1_000))),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
    ],
    ids=["a header without end", "many headers", "a long path"],
)
async def test_a_head_that_is_too_long_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...]
) -> None:
    async with served(tmp_path, monkeypatch) as port:
        try:
            answer = await answer_to(port, *parts)
        except ConnectionError:
            # The other side had closed before all was sent.
            answer = b"HTTP/1.1 400"
        fine = await answer_to(port, HEAD, b"\r\n")

    assert answer.startswith(b"HTTP/1.1 400")
    assert fine.startswith(b"HTTP/1.1 200")


async def test_a_body_that_does_not_come_is_waited_for_so_long(
    service: Service, database_url: str
) -> None:
    async with running(database_url, body_timeout_seconds=0.1) as (app, client):
        shop = Service(app, client, app.state.database, service.tenant)

        async def slowly() -> AsyncIterator[bytes]:
            yield b'{"query": '
            await asyncio.get_running_loop().create_future()

        headers = {"Content-Type": "application/json"}
        for method, path in (("PUT", "/api/inventory/A"), ("POST", "/graphql")):
            response = await shop.rest(method, path, content=slowly(), headers=headers)
            assert response.status_code == 408
            assert response.headers["Connection"] == "close"
            assert "REQUEST_TIMEOUT" in response.text
