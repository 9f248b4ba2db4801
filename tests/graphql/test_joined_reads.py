"""Single SKUs of requests that wait for each other are read by one statement."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

import pytest

from app.database import connections
from app.database.compilation import AnyRow, fetch_rows
from app.database.faults import Fault, FaultKind, unavailable
from tests.ledger.writes import SET
from tests.rest.answers import refusal
from tests.service import Service, level, new_tenant, sku, warehouse

MAIN: Final = warehouse()
READ: Final = "query ($sku: String!) { sku(sku: $sku) { sku totalOnHand } }"
READERS: Final = 8


class Statements:
    """Statements outside transactions: the first one waits after it has read."""

    def __init__(self) -> None:
        self.number = 0
        self.has_read = asyncio.Event()
        self.may_end = asyncio.Event()
        self.failure: Exception | None = None

    async def fetch(self, *about: Any) -> Sequence[AnyRow]:
        self.number += 1
        is_first = self.number == 1
        if self.failure and not is_first:
            raise self.failure
        rows = await fetch_rows(*about)
        if is_first:
            self.has_read.set()
            await self.may_end.wait()
        return rows


@asynccontextmanager
async def first_read(service: Service) -> AsyncIterator[tuple[Statements, asyncio.Task[Any]]]:
    """Hold the first read of SKU A after its statement."""
    # The token is read before.
    assert await on_hand(service, "A") == 5
    statements = Statements()
    with patch.object(connections, "fetch_rows", statements.fetch):
        first = asyncio.create_task(on_hand(service, "A"))
        await statements.has_read.wait()
        yield statements, first


async def on_hand(service: Service, code: str) -> int | None:
    found = (await service.graphql(READ, {"sku": code}))["data"]["sku"]
    return found and int(found["totalOnHand"])


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service with the SKUs A and B in one warehouse."""
    await service.load([MAIN], [sku("A", level(MAIN, 5)), sku("B", level(MAIN, 6))])
    return service


async def test_a_joined_read_sees_every_acknowledged_write(stocked: Service) -> None:
    async with first_read(stocked) as (statements, first):
        change = {"sku": "A", "warehouseId": MAIN.id, "quantity": 7, "reason": "loss"}
        await stocked.data(SET, {"input": change})
        reads = [asyncio.create_task(on_hand(stocked, "A")) for _ in range(READERS)]
        await asyncio.sleep(0)
        statements.may_end.set()

        assert await first == 5
        assert await asyncio.gather(*reads) == [7] * READERS


async def test_reads_that_wait_are_one_statement_and_get_their_own_skus(stocked: Service) -> None:
    async with first_read(stocked) as (statements, first):
        codes = ["A", "B", "NOPE", "A", "A\x00", "B"]
        reads = [asyncio.create_task(on_hand(stocked, code)) for code in codes]
        waiting = stocked.database.reads._queues
        while sum(map(len, waiting.values())) < len(codes):
            await asyncio.sleep(0)
        statements.may_end.set()

        assert await first == 5
        assert await asyncio.gather(*reads) == [5, 6, None, 5, None, 6]
        # The first read, the joined reads, and the look-up of codes like the unknown NOPE.
        assert statements.number == 3
    assert not stocked.database.reads._queues


async def test_reads_of_another_tenant_do_not_wait(stocked: Service) -> None:
    other = replace(stocked, tenant_id=await new_tenant(stocked.database))
    await other.load([MAIN], [sku("A", level(MAIN, 9))])
    assert await on_hand(other, "A") == 9
    async with first_read(stocked) as (statements, first):
        assert await on_hand(other, "A") == 9
        assert not first.done()
        statements.may_end.set()
        assert await first == 5


async def test_a_cancelled_reader_leaves_the_others_their_answers(stocked: Service) -> None:
    async with first_read(stocked) as (statements, first):
        reads = [asyncio.create_task(on_hand(stocked, "A")) for _ in range(3)]
        while sum(map(len, stocked.database.reads._queues.values())) < len(reads):
            await asyncio.sleep(0)
        first.cancel()
        reads[0].cancel()
        statements.may_end.set()

        assert await asyncio.gather(*reads[1:]) == [5, 5]
        for cancelled in (first, reads[0]):
            with pytest.raises(asyncio.CancelledError):
                await cancelled


async def test_a_fault_of_a_joined_read_refuses_every_reader(stocked: Service) -> None:
    async with first_read(stocked) as (statements, first):
        statements.failure = unavailable(Fault(FaultKind.BROKEN, "XX000", "broken"))
        reads = [
            asyncio.create_task(stocked.rest("GET", "/api/inventory/A")) for _ in range(READERS)
        ]
        while sum(map(len, stocked.database.reads._queues.values())) < len(reads):
            await asyncio.sleep(0)
        statements.may_end.set()

        assert await first == 5
        refusals = [refusal(response) for response in await asyncio.gather(*reads)]
        assert refusals == [(503, "UNAVAILABLE")] * READERS
    assert await on_hand(stocked, "A") == 5
