"""Ledger totals are exact at every state of the rollup, with late adjustments too."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.database.tables import ledger_sum, tenant
from app.ledger import rollup as summing
from app.ledger.repair import repair_tenant
from app.ledger.rollup import roll_up_ledger
from app.ledger.totals import Group, closed_until
from app.writes.stock import OnError, bulk_change_stock, change_stock
from tests.clocks import clocks_at
from tests.effort import EFFORT
from tests.engines import writer_of
from tests.ledger.rollup import (
    CODES,
    DAY,
    FIRST,
    REFERENCES,
    WAREHOUSES,
    assert_exact,
    caller,
    change,
    everything,
    kept,
    load,
    sum_up_all,
    until,
)
from tests.ledger.writes import assert_proven
from tests.service import Service, new_tenant, now

pytestmark = pytest.mark.usefixtures("small_steps")


@pytest.mark.parametrize("seed", range(2))
async def test_totals_are_exact_at_every_state_of_the_rollup(service: Service, seed: int) -> None:
    dice = random.Random(seed)
    await load(service, dice)
    await assert_exact(service, dice)
    await change_stock(service.database, caller(service), change())
    for _ in range(2):
        assert await roll_up_ledger(service.database, service.tenant_id)
        await assert_exact(service, dice)
    await sum_up_all(service)
    assert {*await kept(service)} == {*Group}
    await assert_proven(service)
    updates = [change(code, dice.choice((0, 3)), WAREHOUSES[1].id) for code in CODES]
    await bulk_change_stock(service.database, caller(service), updates, on_error=OnError.ABORT)
    await assert_exact(service, dice, 15 * EFFORT)

    late = FIRST + DAY * dice.choice((0, 1, 3)) + timedelta(hours=1)
    async with clocks_at(service.database, late):
        entry = replace(change(CODES[0], warehouse_id=WAREHOUSES[2].id), reference=REFERENCES[0])
        await change_stock(service.database, caller(service), entry)
    assert await until(service) == late - timedelta(hours=1)
    await assert_exact(service, dice)
    await assert_proven(service)
    assert await sum_up_all(service) >= 1
    await assert_exact(service, dice, 15 * EFFORT)
    await assert_proven(service)


async def test_a_sum_covers_all_earlier_adjustments(shop: Service) -> None:
    await sum_up_all(shop)
    entries = await everything(shop)
    for kind, sums in (await kept(shop)).items():
        for reference, code, instant, number in sums:
            matching = [
                it
                for it in entries
                if it.created_at < instant
                and reference in ("", it.reference)
                and code in ("", it.sku)
            ]
            assert (number, kind) == (len(matching), kind)


async def test_a_sum_is_stored_only_after_enough_adjustments(
    shop: Service,
) -> None:
    await sum_up_all(shop)
    rows: dict[tuple[Any, ...], int] = {}
    group = ledger_sum.c.kind, ledger_sum.c.reference, ledger_sum.c.sku
    statement = (
        select(*group, func.count(), func.sum(ledger_sum.c.entries))
        .where(ledger_sum.c.tenant_id == shop.tenant_id)
        .group_by(*group, ledger_sum.c.until)
        .order_by(ledger_sum.c.until)
    )
    before: dict[tuple[Any, ...], tuple[int, int]] = {}
    async with shop.database.snapshot() as snapshot:
        for kind, reference, code, number, entries in await snapshot.rows(statement, {}):
            rows_before, entries_before = before.get((kind, reference, code), (0, 0))
            assert entries - entries_before >= max(
                summing.MIN_ENTRIES, summing.ENTRIES_PER_ROW * rows_before
            )
            before[kind, reference, code] = number, entries
            rows[kind, reference, code] = number
    assert len(rows) > len(CODES)


async def test_the_rollup_ends_before_adjustments_that_may_still_be_committed(
    shop: Service,
) -> None:
    for minutes in range(400, 20, -2):
        await change_at(shop, minutes)
    await sum_up_all(shop)
    last = await until(shop)
    assert last is not None
    assert now() - timedelta(hours=4) < last <= closed_until(now())
    await assert_exact(shop, random.Random(12))


async def change_at(shop: Service, minutes: int) -> None:
    """Count a level `minutes` ago."""
    async with clocks_at(shop.database, now() - timedelta(minutes=minutes)):
        await change_stock(shop.database, caller(shop), change())


def test_a_period_closes_after_two_hours() -> None:
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert closed_until(noon) == noon - timedelta(hours=2)


async def test_a_late_adjustment_after_the_rollup_does_not_reset_it(
    shop: Service,
) -> None:
    assert await roll_up_ledger(shop.database, shop.tenant_id)
    known = await until(shop)
    async with clocks_at(shop.database, FIRST + DAY * 4):
        await change_stock(shop.database, caller(shop), change())
    assert await until(shop) == known
    await assert_exact(shop, random.Random(2))


async def test_sums_of_the_future_are_ignored(shop: Service) -> None:
    # As if all clocks had been days ahead, and were then corrected.
    ahead = closed_until(now()) + DAY * 3
    await sum_up_all(shop)
    async with writer_of(shop.database).connect() as connection:
        of_tenant, sums = (
            tenant.c.tenant_id == shop.tenant_id,
            ledger_sum.c.tenant_id == shop.tenant_id,
        )
        await connection.execute(update(tenant).where(of_tenant).values(summed_until=ahead))
        last = select(func.max(ledger_sum.c.until)).where(sums).scalar_subquery()
        moved = update(ledger_sum).where(sums, ledger_sum.c.until == last)
        await connection.execute(moved.values(until=ahead))
        await connection.commit()

    await change_stock(shop.database, caller(shop), change())
    await assert_exact(shop, random.Random(7))
    await sum_up_all(shop)
    known = await until(shop)
    assert known is not None
    assert known <= closed_until(now())
    await assert_exact(shop, random.Random(7))
    await assert_proven(shop)


async def test_a_rollup_covers_one_tenant(shop: Service) -> None:
    other = replace(shop, tenant_id=await new_tenant(shop.database))
    await load(other, random.Random(8))
    await sum_up_all(shop)

    assert await until(other) is None
    assert await kept(other) == {}
    await assert_exact(other, random.Random(8))
    await sum_up_all(other)
    await assert_exact(other, random.Random(8))
    await assert_exact(shop, random.Random(8))


async def test_leftover_sums_after_a_reset_are_valid(
    shop: Service,
) -> None:
    await sum_up_all(shop)
    async with clocks_at(shop.database, FIRST + timedelta(hours=1)):
        await change_stock(shop.database, caller(shop), change())
    await assert_proven(shop)
    assert await repair_tenant(shop.database, shop.tenant_id) == []
    await sum_up_all(shop)
    await assert_proven(shop)
    [*_, (_, _, instant, number)] = (await kept(shop))[Group.LEDGER]
    assert number == sum(it.created_at < instant for it in await everything(shop))


async def test_a_group_is_considered_only_when_drawn(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "SAMPLED_IDS", "nothing")
    await sum_up_all(shop)

    assert {*await kept(shop)} == {Group.LEDGER}
    await assert_exact(shop, random.Random(11))
    await assert_proven(shop)
