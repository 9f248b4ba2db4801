"""Ledger totals are exact at every state of the rollup."""

import random
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from app.database.tables import ledger_sum
from app.domain.stock import OnError
from app.ledger import rollup as summing
from app.ledger.rollup import roll_up_ledger
from app.ledger.totals import Group
from app.writes.stock import bulk_change_stock, change_stock
from tests.clocks import clocks_at
from tests.effort import EFFORT
from tests.ledger.rollup import (
    CODES,
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
from tests.service import Service, new_tenant

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

    # The clock is set back.
    known = await until(service)
    async with clocks_at(service.database, FIRST):
        entry = replace(change(CODES[0], warehouse_id=WAREHOUSES[2].id), reference=REFERENCES[0])
        await change_stock(service.database, caller(service), entry)
    *_, before, last = await everything(service)
    assert last.created_at == before.created_at
    assert await until(service) == known
    await assert_exact(service, dice)
    await sum_up_all(service)
    await assert_exact(service, dice, 15 * EFFORT)
    await assert_proven(service)


async def test_a_sum_covers_all_earlier_adjustments(shop: Service) -> None:
    await sum_up_all(shop)
    entries = await everything(shop)
    for kind, sums in (await kept(shop)).items():
        for reference, code, position, number in sums:
            matching = [
                entry
                for entry in entries
                if entry.position <= position
                and reference in ("", entry.reference)
                and code in ("", entry.sku)
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


async def test_the_rollup_follows_the_ledger_to_its_end(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "MIN_ENTRIES", 1)
    monkeypatch.setattr(summing, "ENTRIES_PER_ROW", 0)
    await sum_up_all(shop)
    for _ in range(3):
        await change_stock(shop.database, caller(shop), change())
        assert await roll_up_ledger(shop.database, shop.tenant_id)
        assert await until(shop) == (await everything(shop))[-1].position
        assert not await roll_up_ledger(shop.database, shop.tenant_id)
    await assert_exact(shop, random.Random(12))
    await assert_proven(shop)


async def test_a_rollup_covers_one_tenant(shop: Service) -> None:
    other = replace(shop, tenant_id=await new_tenant(shop.database))
    await load(other, random.Random(8))
    await sum_up_all(shop)

    assert await until(other) == 0
    assert await kept(other) == {}
    await assert_exact(other, random.Random(8))
    await sum_up_all(other)
    await assert_exact(other, random.Random(8))
    await assert_exact(shop, random.Random(8))


async def test_a_group_is_considered_only_when_drawn(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "SAMPLED_IDS", "nothing")
    await sum_up_all(shop)

    assert {*await kept(shop)} == {Group.LEDGER}
    await assert_exact(shop, random.Random(11))
    await assert_proven(shop)
