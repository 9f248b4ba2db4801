"""The rollup beside writers, other rollups, readers and interruptions."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from app import maintenance as upkeep
from app.database.engine import Database
from app.database.tables import adjustment
from app.domain.filters import AdjustmentFilter
from app.ledger.rollup import roll_up_ledger
from app.reads.adjustment_totals import (
    sum_adjustments,
)
from app.settings import Settings
from app.writes.stock import change_stock
from tests.clocks import fake_clock
from tests.ledger.rollup import (
    CODES,
    HAS_ME_BLOCKING,
    assert_exact,
    caller,
    change,
    load,
    sum_up_all,
    until,
)
from tests.ledger.writes import assert_proven
from tests.service import Service, new_tenant, running
from tests.statements import BrokenOff, broken_off

pytestmark = pytest.mark.usefixtures("small_steps")


async def test_sums_that_another_rollup_has_stored_first_are_discarded(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await roll_up_ledger(shop.database, shop.tenant_id)
    original = shop.database.write

    async def write(work: Any, tenant_id: str) -> Any:
        monkeypatch.setattr(shop.database, "write", original)
        await change_stock(shop.database, caller(shop), change())
        # Another process is faster.
        assert await roll_up_ledger(shop.database, shop.tenant_id)
        return await original(work, tenant_id)

    monkeypatch.setattr(shop.database, "write", write)
    assert not await roll_up_ledger(shop.database, shop.tenant_id)
    await assert_exact(shop, random.Random(3))
    await sum_up_all(shop)
    await assert_exact(shop, random.Random(13))
    await assert_proven(shop)


@asynccontextmanager
async def several(shop: Service) -> AsyncIterator[list[Database]]:
    """Yield the database as several processes open it."""
    url = shop.database.url.render_as_string(hide_password=False)
    others = [Database(Settings(database_url=url, database_pool_timeout_seconds=60)) for _ in "abc"]
    yield [shop.database, *others]
    for other in others:
        await other.dispose()


async def test_concurrent_rollups_writers_and_readers_agree(
    shop: Service,
) -> None:
    dice = random.Random(4)

    async def write(database: Database) -> None:
        for quantity in range(10):
            await change_stock(database, caller(shop), change(dice.choice(CODES), quantity))

    async def read(database: Database) -> None:
        plainly = select(func.count(), func.sum(adjustment.c.delta))
        of_tenant = adjustment.c.tenant_id == shop.tenant_id
        for _ in range(20):
            async with database.snapshot() as snapshot:
                result, _ = await sum_adjustments(
                    snapshot, shop.tenant_id, where=AdjustmentFilter()
                )
                [expected] = await snapshot.rows(plainly.where(of_tenant), {})
            assert (result.entries, result.net_change) == tuple(expected)

    async with several(shop) as databases:
        await asyncio.gather(
            *(sum_up_all(replace(shop, database=database)) for database in databases),
            *(write(database) for database in databases),
            *(read(database) for database in databases),
        )
    await assert_exact(shop, dice)
    await sum_up_all(shop)
    await assert_exact(shop, dice)
    await assert_proven(shop)


async def test_a_running_service_rolls_up_the_ledger(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "ROLLUP_SECONDS", 0.01)
    preparing = Database(Settings(database_url=own_database_url))
    await fake_clock(preparing)
    await preparing.dispose()
    async with running(own_database_url) as (app, client):
        database = app.state.database
        shop = Service(app, client, database, await new_tenant(database))
        await load(shop, random.Random(1))
        async with (
            running(own_database_url) as (worker, _client),
            worker.router.lifespan_context(worker),
            asyncio.timeout(30),
        ):
            while not await until(shop):
                await asyncio.sleep(0.01)
        await assert_exact(shop, random.Random(10))


async def test_a_rollup_interrupted_at_any_statement_stores_all_or_nothing(
    shop: Service,
) -> None:
    await roll_up_ledger(shop.database, shop.tenant_id)
    broken = 0
    while True:
        known = await until(shop)
        try:
            with broken_off(after=broken):
                await roll_up_ledger(shop.database, shop.tenant_id)
            break
        except BrokenOff:
            broken += 1
        assert await until(shop) == known
        await assert_proven(shop)
        await assert_exact(shop, random.Random(broken), 3)
    # Each statement of the rollup, with its beginning and commit.
    assert broken > 8
    assert await until(shop) > known
    await sum_up_all(shop)
    await assert_proven(shop)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_rollup_waits_for_the_lane_of_the_tenant(shop: Service) -> None:
    beginning = shop.database._beginnings.lane(shop.tenant_id)
    other = await shop.database.write_session(beginning, "another")
    summing_up = asyncio.create_task(roll_up_ledger(shop.database, shop.tenant_id))
    while not await other.scalar(HAS_ME_BLOCKING):
        assert not summing_up.done()
    await other.commit()
    await other.close()

    assert await summing_up
    await assert_exact(shop, random.Random(5))
    await assert_proven(shop)
