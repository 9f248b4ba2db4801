"""The rate of a token, in one process and shared through Redis."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from app.settings import Settings
from tests.processes import free_port
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


@pytest.mark.parametrize("rate", ["", "often", "1", "-1/second", "0/second", "1/second; 2/minute"])
def test_an_invalid_rate_stops_the_start(rate: str) -> None:
    with pytest.raises(ValueError, match="rate_limit"):
        Settings(rate_limit=rate)
