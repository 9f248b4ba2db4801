"""Faults end in documented responses, no write is lost, and full service returns soon."""

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import uvicorn
from sqlalchemy import text

from app.database.engine import Database
from app.ledger.verification import verify_tenant
from app.settings import Settings
from tests.databases import PostgreSQL, migrated, own_postgresql
from tests.effort import EFFORT
from tests.processes import started
from tests.rest.answers import answered, refusal
from tests.service import Service, level, new_tenant, running, sku, warehouse

MAIN: Final = warehouse()
CLIENTS: Final = 8
HANG_UPS: Final = 300 * EFFORT
# Seconds after a fault within which a valid write must succeed.
SOON_SECONDS: Final = 10
UNAVAILABLE: Final = (503, "UNAVAILABLE")


@pytest.fixture(scope="module")
def fragile() -> Iterator[PostgreSQL]:
    """PostgreSQL server that tests may kill."""
    with own_postgresql() as server:
        migrated(server.url.render_as_string(hide_password=False))
        yield server
        server.start()


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service whose SKU A has 5 in the main warehouse."""
    await service.load([MAIN], [sku("A", level(MAIN, 5))])
    return service


async def put(service: Service, quantity: int, key: str | None = None) -> httpx.Response:
    """Set A in the main warehouse."""
    return await service.rest(
        "PUT",
        "/api/inventory/A",
        json={"warehouse_id": MAIN.id, "quantity": quantity, "reason": "cycle_count"},
        headers={"Idempotency-Key": key} if key else {},
    )


async def assert_serves_soon(service: Service) -> None:
    """Assert that a valid write succeeds within `SOON_SECONDS`."""
    async with asyncio.timeout(SOON_SECONDS):
        while (await put(service, 1)).status_code != 200:
            await asyncio.sleep(0.05)


def url_of(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


def checked_out(database: Database) -> int:
    """Return number of connections in use."""
    return sum(pool.in_use for pool in {database._pool, database._write_pool})


async def until_nothing_is_checked_out(database: Database) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        while checked_out(database):
            await asyncio.sleep(0.01)


@dataclass
class Load:
    """Clients that set A repeatedly, each write under a key until its final response."""

    service: Service
    acknowledged: dict[str, Any] = field(default_factory=dict)
    refused: Counter[tuple[int, str]] = field(default_factory=Counter)
    stopping: bool = False

    async def run(self, client: int) -> None:
        """Run one client."""
        number = 0
        while not self.stopping:
            number += 1
            key = f"{client}-{number}"
            while key not in self.acknowledged:
                response = await put(self.service, client * 1_000_000 + number, key)
                if response.status_code == 200:
                    self.acknowledged[key] = response.json()["data"]
                else:
                    self.refused[refusal(response)] += 1
                    assert response.headers["Retry-After"] == "1"
                    await asyncio.sleep(0.01)

    async def until(self, acknowledged: int) -> None:
        """Wait for `acknowledged` more acknowledgements."""
        goal = len(self.acknowledged) + acknowledged
        async with asyncio.timeout(60):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def load(service: Service) -> AsyncIterator[Load]:
    """Keep the service busy."""
    clients = Load(service)
    async with asyncio.TaskGroup() as group:
        for client in range(1, CLIENTS + 1):
            group.create_task(clients.run(client))
        try:
            yield clients
        finally:
            clients.stopping = True


async def test_a_database_restart_under_load_loses_no_write(fragile: PostgreSQL) -> None:
    url = fragile.url.render_as_string(hide_password=False)
    async with running(url) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        async with load(service) as clients:
            for _ in range(3):
                await clients.until(100)
                await asyncio.to_thread(fragile.kill)
                before = clients.refused.total()
                async with asyncio.timeout(30):
                    while clients.refused.total() < before + 20:
                        await asyncio.sleep(0.01)
                assert refusal(await service.rest("GET", "/api/inventory")) == UNAVAILABLE
                ready = await client.get("/readyz")
                assert (ready.status_code, (await client.get("/healthz")).status_code) == (503, 200)
                await asyncio.to_thread(fragile.start)
                await assert_serves_soon(service)
        await until_nothing_is_checked_out(database)
        assert (await client.get("/readyz")).status_code == 200
        assert set(clients.refused) <= {UNAVAILABLE, (409, "IDEMPOTENCY_IN_FLIGHT")}
        history = answered(await service.rest("GET", "/api/inventory/A/adjustments"))["data"]
        written = Counter(entry["after_quantity"] for entry in history)
        for key in clients.acknowledged:
            client_number, number = map(int, key.split("-"))
            assert written[client_number * 1_000_000 + number] == 1
        await verify_tenant(database, service.tenant_id)


async def test_a_service_started_before_its_database_serves_once_it_is_up(
    fragile: PostgreSQL,
) -> None:
    url = fragile.url.render_as_string(hide_password=False)
    async with running(url) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
    await asyncio.to_thread(fragile.kill)
    with started("serve", database_url=url) as (_, address):
        async with httpx.AsyncClient(base_url=address) as client:
            outside = replace(service, client=client)
            assert (await client.get("/readyz")).status_code == 503
            response = await put(outside, 1)
            assert refusal(response) == UNAVAILABLE
            assert response.headers["Retry-After"] == "1"
            await asyncio.to_thread(fragile.start)
            await assert_serves_soon(outside)
            assert (await client.get("/readyz")).status_code == 200


async def test_an_exhausted_pool_is_503_and_recovers(stocked: Service) -> None:
    settings = {
        "database_pool_size": 2,
        "database_pool_timeout_seconds": 1,
        "token_cache_seconds": 30,
    }
    async with running(url_of(stocked.database), **settings) as (app, client):
        tight = replace(stocked, client=client)
        database = app.state.database
        answered(await put(tight, 1))
        async with AsyncExitStack() as held:
            for tenant in ("a", "b"):
                session = await database.session(single=True, share=tenant)
                held.push_async_callback(session.close)
            if database._write_pool is not database._pool:
                session = await database.write_session("", None)
                held.push_async_callback(session.close)
            response = await put(tight, 2)

        assert refusal(response) == UNAVAILABLE
        assert "in use" in response.json()["error"]["message"]
        assert response.headers["Retry-After"] == "1"
        answered(await put(tight, 3))
        assert checked_out(database) == 0


async def test_clients_that_hang_up_leave_no_open_connections(stocked: Service) -> None:
    async with running(url_of(stocked.database)) as (app, _client):
        database = app.state.database
        async with served(app) as address:
            body = f'{{"warehouse_id": "{MAIN.id}", "quantity": 9, "reason": "loss"}}'.encode()
            head = (
                f"Host: x\r\nAuthorization: Bearer {stocked.token('write')}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode()
            list_all = b"GET /api/inventory HTTP/1.1\r\n" + head.replace(
                f"Content-Length: {len(body)}".encode(), b"Content-Length: 0"
            )
            whole = b"PUT /api/inventory/A HTTP/1.1\r\n" + head + body
            history = list_all.replace(b"/inventory ", b"/inventory/A/adjustments ")
            sent = [whole, whole[:-5], whole[:40], list_all, history]
            for first in range(0, HANG_UPS, 20):
                await asyncio.gather(
                    *(_hang_up(address, sent[n % len(sent)]) for n in range(first, first + 20))
                )
            async with httpx.AsyncClient(base_url=address) as client:
                await assert_serves_soon(replace(stocked, client=client))
        await until_nothing_is_checked_out(database)
        await verify_tenant(database, stocked.tenant_id)


async def _hang_up(address: str, data: bytes) -> None:
    """Send data and close the connection without reading the response."""
    _, _, authority = address.rpartition("/")
    host, _, port = authority.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    await writer.drain()
    for _ in range(len(data) % 7):
        await asyncio.sleep(0)
    writer.transport.abort()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an application on a socket, in this process."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listening]))
        async with asyncio.timeout(SOON_SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """SQLite file of one test."""
    return migrated(f"sqlite+aiosqlite:///{tmp_path}/inventory.db")


async def test_a_full_disk_is_503_and_recovers(sqlite_url: str) -> None:
    async with running(sqlite_url) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        await _limit_pages(database, more=3)
        done = 0
        while (response := await put(service, done, f"k{done}")).status_code == 200:
            done += 1
        assert refusal(response) == UNAVAILABLE
        assert response.headers["Retry-After"] == "1"
        assert (await service.rest("GET", "/api/inventory")).status_code == 200
        await _limit_pages(database, more=None)
        assert (await put(service, done, f"k{done}")).status_code == 200
        history = answered(await service.rest("GET", "/api/inventory/A/adjustments"))["data"]
        assert [entry["after_quantity"] for entry in history] == [*range(done, -1, -1), 5]
        await verify_tenant(database, service.tenant_id)


async def _limit_pages(database: Database, *, more: int | None) -> None:
    """Limit the growth of the file to `more` pages, for the only connection that writes."""
    session = await database.write_session("", None)
    pages = await session.scalar(text("PRAGMA page_count"))
    limit = pages + more if more is not None else 1_000_000
    await session.execute(text(f"PRAGMA max_page_count = {limit}"))
    await session.close()


async def test_a_stopping_service_finishes_running_requests(own_database_url: str) -> None:
    database = Database(Settings(database_url=own_database_url))
    tenant = await new_tenant(database)
    with started("serve", database_url=own_database_url) as (process, address):
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            service = Service(None, client, database, tenant)  # type: ignore[arg-type]
            await service.load([MAIN], [sku("A", level(MAIN, 5))])
            acknowledged: list[int] = []

            async def client_of(number: int) -> None:
                with suppress(httpx.TransportError):
                    while True:
                        quantity = number * 1_000_000 + len(acknowledged)
                        response = await put(service, quantity)
                        assert response.status_code == 200, response.text
                        acknowledged.append(quantity)

            clients = [asyncio.create_task(client_of(number)) for number in range(CLIENTS)]
            async with asyncio.timeout(60):
                while len(acknowledged) < 200:
                    await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(*clients)
            code = await asyncio.to_thread(process.wait, 20)
    assert code in (0, -signal.SIGTERM)

    async with running(own_database_url) as (app, client):
        again = Service(app, client, app.state.database, tenant)
        history = answered(await again.rest("GET", "/api/inventory/A/adjustments"))["data"]
        written = [entry["after_quantity"] for entry in history]
        assert set(acknowledged) <= set(written)
        # Each client may have had one unanswered write at the end.
        assert len(written) - 1 - len(acknowledged) <= CLIENTS
        await verify_tenant(app.state.database, tenant)
    await database.dispose()
