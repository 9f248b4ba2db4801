"""Reads that may be late are answered by a replica, and never by one that is too late."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from sqlalchemy import URL

from app.database.engine import Database
from app.database.replication import UnrelatedReplica, require_replica_of
from app.runtime.positions import POSITION_HEADER
from app.settings import Settings
from tests.databases import create_database, migrated
from tests.faults.test_faults import MAIN
from tests.graphql.recorder import recorded
from tests.replication import Node, Pair, program, replicating
from tests.rest.answers import answered, refusal
from tests.service import Service, level, new_tenant, running, sku

QUERY = '{ sku(sku: "A") { totalOnHand } }'


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Primary and standby of this module."""
    with replicating() as pair:
        migrated(url_of(pair.primary))
        yield pair


def url_of(node: Node) -> str:
    """Address of the database on a server."""
    return f"postgresql://postgres@{node.address}/postgres"


@dataclass(frozen=True)
class Reader:
    """A client of a service with a replica."""

    service: Service

    async def on_hand(self, position: object = None) -> int:
        """Read the stock by REST and by GraphQL; both answers must be equal."""
        headers = {} if position is None else {POSITION_HEADER: str(position)}
        rest = answered(await self.service.rest("GET", "/api/inventory/A", headers=headers))
        answer = await self.service.client.post(
            "/graphql",
            json={"query": QUERY},
            headers={**headers, "Authorization": f"Bearer {self.service.token('read')}"},
        )
        total = answer.json()["data"]["sku"]["totalOnHand"]
        assert rest["data"]["total_on_hand"] == total
        return int(total)

    async def write(self, quantity: int) -> int:
        """Set the stock; return the position of the response."""
        return int((await put_stock(self.service, quantity)).headers[POSITION_HEADER])


async def put_stock(service: Service, quantity: int) -> httpx.Response:
    body = {"warehouse_id": MAIN.id, "quantity": quantity, "reason": "cycle_count"}
    response = await service.rest("PUT", "/api/inventory/A", json=body)
    answered(response)
    return response


@pytest.fixture
async def reader(pair: Pair) -> AsyncIterator[Reader]:
    """Run a service with the standby as its replica."""
    until_equal(pair)
    replica = url_of(pair.standby)
    async with running(url_of(pair.primary), read_database_url=replica) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        yield Reader(service)


def until_equal(pair: Pair) -> None:
    """Wait until the standby has all tables."""
    server = ("-h", "127.0.0.1", "-p", pair.standby.port, "-U", "postgres")
    program("psql", *server, "-c", "SELECT FROM change", "postgres", attempts=1_000)


def replay(pair: Pair, function: str) -> None:
    """Pause or resume the replay of the standby."""
    server = ("-h", "127.0.0.1", "-p", pair.standby.port, "-U", "postgres")
    program("psql", *server, "-c", f"SELECT pg_wal_replay_{function}()", "postgres")


@pytest.fixture
def late(pair: Pair) -> Iterator[None]:
    """Keep the replica from what is written from now on."""
    replay(pair, "pause")
    yield
    replay(pair, "resume")


async def until_read(reader: Reader, quantity: int, position: int) -> None:
    """Wait until a read has a quantity."""
    async with asyncio.timeout(60):
        while await reader.on_hand(position) != quantity:
            await asyncio.sleep(0.01)


async def test_only_a_read_that_permits_it_is_late(
    reader: Reader, request: pytest.FixtureRequest
) -> None:
    before = await reader.write(6)
    await until_read(reader, 6, 0)
    request.getfixturevalue("late")
    after = await reader.write(7)

    assert after == before + 1
    assert await reader.on_hand() == 7
    assert await reader.on_hand(after) == 7
    assert await reader.on_hand(before) == 6
    assert await reader.on_hand(0) == 6
    # Beyond the newest position of the primary.
    assert await reader.on_hand(10**18) == 7


async def test_a_write_is_decided_on_the_primary_whatever_position_it_names(
    reader: Reader, request: pytest.FixtureRequest
) -> None:
    await reader.write(6)
    await until_read(reader, 6, 0)
    request.getfixturevalue("late")
    await reader.write(7)
    body = {"warehouse_id": MAIN.id, "delta": 1, "reason": "cycle_count"}
    path = "/api/inventory/A/adjustments"
    response = await reader.service.rest("POST", path, json=body, headers={POSITION_HEADER: "0"})
    assert response.status_code == 200
    assert await reader.on_hand() == 8
    dry = await reader.service.rest("POST", f"{path}?dry_run=true", json=body)
    assert POSITION_HEADER not in dry.headers
    body["delta"] = -100
    refused = await reader.service.rest("POST", path, json=body)
    assert (refused.status_code, POSITION_HEADER in refused.headers) == (422, False)


async def test_a_position_of_another_tenant_says_nothing(
    reader: Reader, request: pytest.FixtureRequest
) -> None:
    tenant_id = await new_tenant(reader.service.database)
    other = Reader(replace(reader.service, tenant_id=tenant_id))
    await other.service.load([MAIN], [sku("A", level(MAIN, 5))])
    for quantity in range(6, 10):
        await reader.write(quantity)
    await until_read(reader, 9, 4)
    await until_read(other, 5, 0)
    request.getfixturevalue("late")
    written = await other.write(6)

    assert await other.on_hand(written) == 6
    assert await other.on_hand(4) == 6
    assert await other.on_hand(0) == 5


async def test_a_replica_that_fails_during_a_read_or_is_down_is_replaced_by_the_primary(
    pair: Pair, reader: Reader
) -> None:
    position = await reader.write(6)
    await until_read(reader, 6, position)
    replica: Any = reader.service.database.replica
    failing = {"after": 1}
    original = replica.rows

    async def fail_later(*arguments: Any, **options: Any) -> Any:
        failing["after"] -= 1
        if failing["after"] < 0:
            raise ConnectionResetError
        return await original(*arguments, **options)

    # The position is read, and the statement after it fails.
    replica.rows = fail_later
    assert answered(await read(reader, 0))["data"]["total_on_hand"] == 6
    assert not replica.is_usable
    replica.rows = original
    replica._avoided_until = 0
    await asyncio.to_thread(pair.standby.kill)
    try:
        assert await reader.on_hand(0) == 6
        with recorded() as recorder:
            assert await reader.on_hand(0) == 6
        assert recorder.statements
        assert not any("FROM change" in statement for statement in recorder.statements)
    finally:
        await asyncio.to_thread(pair.standby.start)
    replica._avoided_until = 0
    await until_read(reader, 6, 0)
    assert replica.is_usable


async def test_a_frozen_replica_is_replaced_by_the_primary(pair: Pair, reader: Reader) -> None:
    position = await reader.write(6)
    await until_read(reader, 6, position)
    replica: Any = reader.service.database.replica
    pair.standby.freeze()
    try:
        assert answered(await read(reader, position))["data"]["total_on_hand"] == 6
        assert not replica.is_usable
    finally:
        pair.standby.thaw()


async def test_the_replica_must_be_a_copy_of_the_database(pair: Pair, postgresql: URL) -> None:
    other = await asyncio.to_thread(create_database, postgresql, "unrelated")

    async def check(primary: str, replica: str) -> None:
        database = Database(Settings(database_url=primary, read_database_url=replica))
        try:
            await require_replica_of(database, database.replica)
        finally:
            await database.dispose()

    primary = url_of(pair.primary)
    await check(primary, url_of(pair.standby))
    await check(primary, primary)
    with pytest.raises(UnrelatedReplica, match="/unrelated, which is not a replica of "):
        await check(primary, other)
    with pytest.raises(UnrelatedReplica, match="not a replica"):
        await check(primary, f"{primary.removesuffix('postgres')}template1")


async def read(reader: Reader, position: int) -> httpx.Response:
    headers = {POSITION_HEADER: str(position)}
    return await reader.service.rest("GET", "/api/inventory/A", headers=headers)


async def test_a_malformed_position_is_refused_also_without_a_replica(service: Service) -> None:
    for value in ("0", "9" * 19):
        response = await service.rest("GET", "/api/inventory", headers={POSITION_HEADER: value})
        assert response.status_code == 200
    for value in ("", "-1", "1.5", "1e3", "\u0663", "9" * 20, "1, 2", "x"):
        headers: Any = {POSITION_HEADER: value.encode()}
        response = await service.rest("GET", "/api/inventory", headers=headers)
        assert refusal(response) == (400, "MALFORMED_REQUEST")


async def test_a_replica_without_the_tables_is_replaced_by_the_primary(pair: Pair) -> None:
    other = f"{url_of(pair.standby).removesuffix('postgres')}template1"
    async with running(url_of(pair.primary), read_database_url=other) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        assert await Reader(service).on_hand(0) == 5
        assert not database.replica.is_usable
