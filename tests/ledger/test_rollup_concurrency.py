"""The rollup beside late adjustments, other rollups, readers and interruptions."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app import maintenance as upkeep
from app.database.engine import Database
from app.database.snapshot import Snapshot
from app.database.tables import adjustment, tenant
from app.domain.filters import AdjustmentFilter
from app.ledger import rollup as summing
from app.ledger.rollup import roll_up_ledger
from app.reads.adjustment_totals import (
    sum_adjustments,
)
from app.settings import Settings
from app.writes.stock import change_stock
from tests.clocks import clocks_at
from tests.engines import transact, writer_of
from tests.ledger.rollup import (
    CODES,
    DAY,
    FIRST,
    HAS_ME_BLOCKING,
    MILLISECOND,
    assert_exact,
    caller,
    change,
    sum_up_all,
    until,
)
from tests.ledger.writes import assert_proven
from tests.service import Service, running
from tests.statements import BrokenOff, broken_off

pytestmark = pytest.mark.usefixtures("small_steps")


@pytest.mark.parametrize("where", ["before the read period", "within the read period"])
async def test_an_adjustment_between_reading_and_storing_discards_the_sums(
    shop: Service, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    assert await roll_up_ledger(shop.database, shop.tenant_id)
    known = await until(shop)
    assert known is not None
    original = shop.database.write
    late = known - timedelta(hours=1) if where == "before the read period" else known

    async def write(work: Any, tenant_id: str) -> Any:
        monkeypatch.setattr(shop.database, "write", original)
        async with clocks_at(shop.database, late):
            await change_stock(shop.database, caller(shop), change())
        return await original(work, tenant_id)

    monkeypatch.setattr(shop.database, "write", write)
    assert not await roll_up_ledger(shop.database, shop.tenant_id)
    await assert_exact(shop, random.Random(3))
    assert await sum_up_all(shop) > 1
    await assert_exact(shop, random.Random(3))
    await assert_proven(shop)


async def test_sums_read_before_a_concurrent_rollup_are_discarded(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "MIN_ENTRIES", 1)
    assert await roll_up_ledger(shop.database, shop.tenant_id)
    known = await until(shop)
    assert known is not None
    original = shop.database.write

    async def write(work: Any, tenant_id: str) -> Any:
        monkeypatch.setattr(shop.database, "write", original)
        async with clocks_at(shop.database, known - MILLISECOND):
            await change_stock(shop.database, caller(shop), change())
        # Another process is faster and reaches the same end again.
        assert await roll_up_ledger(shop.database, shop.tenant_id)
        assert await until(shop) == known
        return await original(work, tenant_id)

    monkeypatch.setattr(shop.database, "write", write)
    assert not await roll_up_ledger(shop.database, shop.tenant_id)
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
                result = await sum_adjustments(snapshot, shop.tenant_id, where=AdjustmentFilter())
                [expected] = await snapshot.rows(plainly.where(of_tenant), {})
            assert (result.entries, result.net_change) == tuple(expected)

    async with clocks_at(shop.database, FIRST + DAY * 2), several(shop) as databases:
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
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def this_tenant(_snapshot: Snapshot) -> list[str]:
        return [shop.tenant_id]

    # The tenants of other tests are not needed.
    monkeypatch.setattr(upkeep, "list_tenants", this_tenant)
    monkeypatch.setattr(upkeep, "ROLLUP_SECONDS", 0.01)
    url = shop.database.url.render_as_string(hide_password=False)
    async with (
        running(url) as (app, _client),
        app.router.lifespan_context(app),
        asyncio.timeout(30),
    ):
        while await until(shop) is None:
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
    assert broken > 10
    assert known is not None
    assert await until(shop) > known  # type: ignore[operator]
    await sum_up_all(shop)
    await assert_proven(shop)


LATE: Final = (
    "INSERT INTO stock_level (tenant_id, sku, warehouse_id, on_hand, reserved, safety_stock,"
    " status, version, adjusted_at)"
    f" SELECT tenant_id, '{CODES[-1]}', warehouse_id, 5, 0, 0, 'normal', 1, adjusted_at"
    " FROM stock_level WHERE tenant_id = :tenant ORDER BY sku LIMIT 1",
    "INSERT INTO adjustment (tenant_id, id, sku, warehouse_id, sequence, before_quantity,"
    " after_quantity, delta, reason, created_by, created_at, hash)"
    f" SELECT tenant_id, 'adj_late', '{CODES[-1]}', warehouse_id, 1, 0, 5, 5, reason, created_by,"
    " created_at, hash FROM adjustment"
    " WHERE tenant_id = :tenant AND created_at < '2026-03-11T00:00:00.000Z'"
    " ORDER BY sku, warehouse_id LIMIT 1",
)


async def insert_late(shop: Service, connection: AsyncConnection) -> None:
    """Insert an adjustment of the first day."""
    for statement in LATE:
        await connection.execute(text(statement), {"tenant": shop.tenant_id})


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_rollup_waits_for_a_late_adjustment(shop: Service) -> None:
    async with writer_of(shop.database).connect() as other:
        await insert_late(shop, other)
        summing_up = asyncio.create_task(roll_up_ledger(shop.database, shop.tenant_id))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not summing_up.done()
        await other.commit()
    # It read before the late adjustment.
    assert not await summing_up
    assert await sum_up_all(shop) > 1
    await assert_exact(shop, random.Random(5))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_late_adjustment_waits_for_the_rollup_and_resets_it(
    shop: Service,
) -> None:
    of_tenant = tenant.c.tenant_id == shop.tenant_id

    late = partial(insert_late, shop)

    async with writer_of(shop.database).connect() as other:
        await other.execute(update(tenant).where(of_tenant).values(summed_until=FIRST + DAY))
        inserting = asyncio.create_task(transact(shop.database, late))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not inserting.done()
        await other.commit()
    await inserting
    assert await until(shop) == FIRST
    await assert_exact(shop, random.Random(6))
