"""The rate of a token, in one process and shared through Redis, and the headers that state it."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
from redis.asyncio import Redis

from app.auth import rate_limits
from app.settings import Settings
from tests.processes import free_port
from tests.rest.test_openapi import assert_described, operations
from tests.service import Service, running

REDIS = shutil.which("redis-server")


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Redis that workers share."""
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


async def statuses(shop: Service, times: int, *, token: str = "read") -> list[int]:
    return [
        (await shop.rest("GET", "/api/inventory", token=token)).status_code for _ in range(times)
    ]


async def test_a_token_over_its_rate_gets_429_with_retry_after(
    service: Service, database_url: str
) -> None:
    async with running(database_url, rate_limit="3/hour") as (app, client):
        shop = Service(app, client, app.state.database, service.tenant_id)
        assert await statuses(shop, 4) == [200, 200, 200, 429]
        refused = await shop.rest("GET", "/api/inventory", token="read")
        in_graphql = await shop.graphql("{ __typename }", token="read")
        # Other tokens are not limited, and unknown tokens are not counted.
        assert await statuses(shop, 3, token="write") == [200, 200, 200]
        assert await statuses(shop, 5, token="inv_x-y") == [401] * 5

    assert refused.json()["error"]["code"] == "RATE_LIMITED"
    assert 1 <= int(refused.headers["Retry-After"]) <= 3_600
    assert in_graphql["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


FIELDS = ("RateLimit-Policy", "RateLimit")


def limits_of(response: httpx.Response) -> tuple[int, int]:
    """Remaining requests and seconds of the RateLimit field."""
    match = re.fullmatch(r'"default";r=(\d+);t=([1-9]\d*)', response.headers["RateLimit"])
    assert match is not None
    return int(match[1]), int(match[2])


async def test_every_response_to_a_known_token_states_its_rate_limit(
    service: Service, database_url: str
) -> None:
    async with running(database_url, rate_limit="9/hour") as (app, client):
        shop = Service(app, client, app.state.database, service.tenant_id)
        headers = {"Authorization": f"Bearer {shop.token('read')}"}
        responses = [
            await shop.rest("GET", "/api/inventory", token="read"),
            await client.get("/graphql", params={"query": "{ __typename }"}, headers=headers),
            await client.get("/graphql", params={"query": "{ nonsense }"}, headers=headers),
            await shop.rest("GET", "/api/inventory/NOPE", token="read"),
            await shop.rest("GET", "/api/inventory?limit=x", token="read"),
            await shop.rest("PUT", "/api/inventory/NOPE", token="read", json={}),
            await shop.rest("GET", "/api/inventory/NOPE/adjustments", token="read"),
            await shop.rest("GET", "/api/inventory/warehouses", token="read"),
            await shop.rest("HEAD", "/api/inventory", token="read"),
            await shop.rest("GET", "/api/inventory", token="read"),
            await client.get("/graphql", params={"query": "{ __typename }"}, headers=headers),
        ]

    statuses = [response.status_code for response in responses]
    assert statuses == [200, 200, 200, 404, 422, 403, 404, 200, 200, 429, 429]
    assert {response.headers["RateLimit-Policy"] for response in responses} == {
        '"default";q=9;w=3600'
    }
    remaining = [limits_of(response)[0] for response in responses]
    assert remaining == [8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert all(1 <= limits_of(response)[1] <= 3_600 for response in responses)
    for refused in responses[-2:]:
        assert limits_of(refused)[1] == int(refused.headers["Retry-After"])


async def test_the_rest_description_has_the_fields(service: Service, database_url: str) -> None:
    async with running(database_url, rate_limit="2/hour") as (app, client):
        shop = Service(app, client, app.state.database, service.tenant_id)
        listed = await shop.rest("GET", "/api/inventory")
        missing = await shop.rest("GET", "/api/inventory/NOPE")
        refused = [await shop.rest("GET", path) for path in ("/api/inventory", "/api/inventory/A")]
    described = operations()
    responses = [
        response
        for operation in described.values()
        for status, response in operation["responses"].items()
        if status != "401"
    ]

    assert_described(described["GET", "/api/inventory"], listed)
    assert_described(described["GET", "/api/inventory/{sku}"], missing)
    assert_described(described["GET", "/api/inventory"], refused[0])
    assert_described(described["GET", "/api/inventory/{sku}"], refused[1])
    assert [response.status_code for response in refused] == [429, 429]
    assert all(set(FIELDS) <= set(response["headers"]) for response in responses)


async def test_responses_without_a_counted_token_state_no_rate_limit(
    service: Service, database_url: str
) -> None:
    async with (
        running(database_url, rate_limit="9/hour", graphiql=True) as (app, _),
        # Runs all requests in one task, as pipelined requests of a connection may.
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):
        shop = Service(app, client, app.state.database, service.tenant_id)
        counted = await shop.rest("GET", "/api/inventory")
        others = [
            await shop.rest("GET", "/api/inventory", token=None),
            await shop.rest("GET", "/api/inventory", token="inv_x-y"),
            await client.get("/graphql", headers={"Accept": "text/html"}),
            await client.get("/healthz"),
        ]
    unlimited = await service.rest("GET", "/api/inventory")

    assert all(name in counted.headers for name in FIELDS)
    for response in (*others, unlimited):
        assert not any(name in response.headers for name in FIELDS)


async def test_a_page_of_another_origin_can_read_the_rate_limit(
    service: Service, database_url: str
) -> None:
    origin = "https://shop.example"
    async with running(database_url, rate_limit="9/hour", cors_origins=origin) as (app, client):
        shop = Service(app, client, app.state.database, service.tenant_id)
        response = await shop.rest("GET", "/api/inventory", headers={"Origin": origin})

    assert set(FIELDS) <= set(response.headers["Access-Control-Expose-Headers"].split(", "))
    assert all(name in response.headers for name in FIELDS)


# Counts of the previous and the current window with the seconds until they count no more, then the
# status, the remaining requests and their seconds. The rate is 60/hour.
WINDOWS = {
    "no request yet": ((None, None), (200, 59, 3_600)),
    "half of the previous window counts": (((30, 1_830), (20, 5_430)), (200, 24, 1_830)),
    "the last request": (((6, 2_700), (55, 6_300)), (200, 0, 300)),
    "used up, one of the previous window ends soon": (((6, 2_700), (56, 6_300)), (429, 0, 300)),
    "used up in the current window": ((None, (60, 4_200)), (429, 0, 600)),
    "an expired current window becomes the previous one": ((None, (60, 1_830)), (200, 29, 1_830)),
}


@pytest.mark.parametrize(("windows", "expected"), WINDOWS.values(), ids=WINDOWS)
async def test_the_seconds_lead_to_the_end_of_the_window_or_to_the_next_request(
    service: Service,
    database_url: str,
    redis_url: str,
    windows: tuple[tuple[int, int] | None, ...],
    expected: tuple[int, int, int],
) -> None:
    options = {"rate_limit": "60/hour", "rate_limit_redis_url": redis_url}
    async with (
        Redis.from_url(redis_url, decode_responses=True) as redis,
        running(database_url, **options) as (app, client),
        app.router.lifespan_context(app),
    ):
        shop = Service(app, client, app.state.database, service.tenant_id)
        await shop.rest("GET", "/api/inventory/warehouses")
        [key] = await redis.keys(f"*{service.tenant_id}*")
        await redis.delete(key)
        for name, window in zip((f"{key}/-1", key), windows, strict=True):
            if window is not None:
                await redis.set(name, window[0], ex=window[1])
        response = await shop.rest("GET", "/api/inventory/warehouses")

    status, remaining, seconds = expected
    assert response.status_code == status
    assert limits_of(response)[0] == remaining
    # The rest of the window is some seconds shorter on a slow machine.
    assert seconds - 20 <= limits_of(response)[1] <= seconds


async def test_redis_gets_one_command_per_request(
    service: Service, database_url: str, redis_url: str
) -> None:
    options = {"rate_limit": "2/hour", "rate_limit_redis_url": redis_url}
    async with (
        Redis.from_url(redis_url) as redis,
        running(database_url, **options) as (app, client),
        app.router.lifespan_context(app),
    ):
        shop = Service(app, client, app.state.database, service.tenant_id)
        # The first request also connects and may load the script.
        assert await statuses(shop, 1) == [200]
        async with redis.monitor() as monitor:
            assert await statuses(shop, 3) == [200, 429, 429]
            await redis.echo("end")
            commands = []
            async for seen in monitor.listen():
                if seen["client_type"] != "lua":
                    commands.append(seen["command"].split()[0])
                if commands[-1:] == ["ECHO"]:
                    break

    assert commands == ["EVALSHA"] * 3 + ["ECHO"]


async def test_workers_with_a_shared_redis_count_together(
    service: Service, database_url: str, redis_url: str
) -> None:
    options = {"rate_limit": "4/hour", "rate_limit_redis_url": redis_url}
    async with (
        running(database_url, **options) as (one, its_client),
        running(database_url, **options) as (other, other_client),
        AsyncExitStack() as redis,
    ):
        # The end of the lifespan closes the connections to Redis.
        for app in (one, other):
            await redis.enter_async_context(app.router.lifespan_context(app))
        first = Service(one, its_client, one.state.database, service.tenant_id)
        second = Service(other, other_client, other.state.database, service.tenant_id)
        result = await statuses(first, 2) + await statuses(second, 2) + await statuses(first, 1)

    assert result == [200, 200, 200, 200, 429]


async def test_requests_pass_while_redis_is_unavailable(
    service: Service, database_url: str
) -> None:
    options = {"rate_limit": "1/hour", "rate_limit_redis_url": f"redis://127.0.0.1:{free_port()}"}
    async with (
        running(database_url, **options) as (app, client),
        app.router.lifespan_context(app),
    ):
        shop = Service(app, client, app.state.database, service.tenant_id)
        assert await statuses(shop, 2) == [200, 200]
        response = await shop.rest("GET", "/api/inventory")
        assert not any(name in response.headers for name in FIELDS)


async def test_requests_pass_while_redis_does_not_answer(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "ADMIT_SECONDS", 3_600)
    connections = 0

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = {"rate_limit": "1/hour", "rate_limit_redis_url": f"redis://127.0.0.1:{port}"}
        async with (
            running(database_url, **options) as (app, client),
            app.router.lifespan_context(app),
        ):
            shop = Service(app, client, app.state.database, service.tenant_id)
            assert await statuses(shop, 1) == [200]
            asked = connections
            assert await statuses(shop, 3) == [200] * 3
            assert asked > 0
            assert connections == asked


@pytest.mark.parametrize("rate", ["", "often", "1", "-1/second", "0/second", "1/second; 2/minute"])
def test_an_invalid_rate_stops_the_start(rate: str) -> None:
    with pytest.raises(ValueError, match="rate_limit"):
        Settings(rate_limit=rate)
