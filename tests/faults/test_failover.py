"""Several servers in one address: the primary is found, and its failure heals without a restart."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from app.database import address
from app.database.engine import Database
from app.database.faults import DatabaseFault
from app.database.servers import Servers
from app.settings import Settings
from tests.databases import migrated
from tests.faults.failover import switch_over
from tests.faults.test_faults import MAIN, SOON_SECONDS, UNAVAILABLE, assert_serves_soon, put
from tests.replication import Pair, replicating
from tests.rest.answers import answered, refusal
from tests.service import Service, level, new_tenant, running, sku

# A server that does not answer is left after this time and a second.
STATEMENT_MS: Final = 500


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Primary and standby of this module, which tests may switch over."""
    with replicating() as pair:
        migrated(pair.address)
        yield pair


@pytest.fixture
def silent_host() -> Iterator[str]:
    """Host that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_service_returns_after_switch_overs_and_no_acknowledged_write_is_lost(
    pair: Pair,
) -> None:
    result = await switch_over(pair, 2, database_statement_timeout_ms=STATEMENT_MS)

    assert max(result.seconds) < SOON_SECONDS
    assert result.acknowledged > 100


async def test_a_write_reaches_the_primary_that_is_listed_last(
    pair: Pair, silent_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the test may take: the silent host must not use up the time of the others.
    monkeypatch.setattr(address, "HOST_SECONDS", 600)
    hosts = f"{silent_host},127.0.0.1:1,{pair.standby.address},{pair.primary.address}"
    addresses = [
        f"postgresql://postgres@{hosts}/postgres",
        f"postgresql://postgres@/postgres?host={hosts}",
    ]
    for url in addresses:
        async with asyncio.timeout(60), running(url, request_timeout_seconds=600) as (app, client):
            database = app.state.database
            service = Service(app, client, database, await new_tenant(database))
            await service.load([MAIN], [sku("A", level(MAIN, 5))])
            answered(await put(service, 6))


async def test_no_primary_among_the_hosts_is_unavailable_until_there_is_one(pair: Pair) -> None:
    async with running(pair.address) as (app, client):
        database: Database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        await asyncio.to_thread(pair.primary.stop)
        response = await put(service, 6)
        assert refusal(response) == UNAVAILABLE
        assert response.headers["Retry-After"] == "1"
        assert (await client.get("/readyz")).status_code == 503
        with pytest.raises(DatabaseFault) as raised:
            await database.require_writable()
        assert "no server for read-write among the hosts" in raised.value.cause
        assert f"{pair.standby.address}: is not read-write" in raised.value.cause
        await asyncio.to_thread(pair.standby.promote)
        await assert_serves_soon(service)
        await asyncio.to_thread(pair.replace_primary)


async def test_a_frozen_server_is_left_after_the_statement_timeout(pair: Pair) -> None:
    limits = {"database_statement_timeout_ms": STATEMENT_MS, "request_timeout_seconds": 600}
    async with running(pair.address, token_cache_seconds=30, **limits) as (app, client):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        answered(await service.rest("GET", "/api/inventory/A"))
        await asyncio.to_thread(pair.primary.freeze)
        async with asyncio.timeout(60):
            response = await service.rest("GET", "/api/inventory/A")
        assert refusal(response) == UNAVAILABLE
        assert "did not answer in time" in response.json()["error"]["message"]
        await asyncio.to_thread(pair.standby.promote)
        await assert_serves_soon(service)
        await asyncio.to_thread(pair.replace_primary)


async def test_the_roles_of_libpq_choose_a_server(pair: Pair) -> None:
    ports = {}
    for role in ("any", "primary", "read-write", "standby", "read-only", "prefer-standby"):
        database = Database(Settings(database_url=f"{pair.address}?target_session_attrs={role}"))
        connection = await Servers(database.url, database.settings).connect()
        ports[role] = connection._addr[1]
        kept = connection._transport.get_extra_info("socket")
        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        await connection.close()
        await database.dispose()
    assert {ports[role] for role in ("primary", "read-write")} == {pair.primary.port}
    assert {ports[role] for role in ("standby", "read-only", "prefer-standby")} == {
        pair.standby.port
    }
