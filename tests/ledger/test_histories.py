"""A long history is counted up to its milestones, and how many match is exact all the same."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import func, select, text

from app.commands.counting import count_histories
from app.commands.idempotency import Caller
from app.commands.loading import LoadedCount, LoadedLevel
from app.commands.repairing import repair_tenant
from app.commands.stock import StockUpdate, change_stock
from app.database import Database
from app.models import MILESTONE, adjustment, history_count
from app.queries import LedgerKey, count_adjustments, count_adjustments_of
from app.records import AdjustmentFilter, Sign
from app.settings import Settings
from app.verify import LedgerBroken, verify_tenant
from tests.ledger.writes import assert_proven
from tests.service import Service, new_tenant, sku, warehouse
from tests.statements import BrokenOff, broken_off

PLACES: Final = (warehouse("Main"), warehouse("Other"))
REASONS: Final = ("initial_stock", "loss", "cycle_count")
PEOPLE: Final = ("anna@example.com", "Bilal@example.com")
SIGNS: Final = {Sign.INCREASE: 1, Sign.DECREASE: -1, Sign.UNCHANGED: 0}
FIRST: Final = datetime(2026, 3, 10, tzinfo=UTC)
# To the milestone itself, past some of them, and not to one.
LENGTHS: Final = {"A": (MILESTONE, 2 * MILESTONE + 9), "B": (MILESTONE - 1, 3 * MILESTONE + 1)}
PARENTS: Final[tuple[list[LedgerKey], ...]] = (
    [(code, None) for code in LENGTHS],
    [(code, place.id) for code in LENGTHS for place in PLACES],
)


def history(dice: random.Random, length: int) -> list[LoadedCount]:
    """Return what was counted, several times in a millisecond."""
    return [
        LoadedCount(
            quantity=dice.randrange(3),
            reason=dice.choice(REASONS),
            created_by=dice.choice(PEOPLE),
            created_at=FIRST + timedelta(minutes=step // 3),
        )
        for step in range(length)
    ]


async def load(shop: Service) -> None:
    dice = random.Random(1)
    skus = [
        sku(
            code,
            *(
                LoadedLevel(warehouse_id=place.id, history=history(dice, length))
                for place, length in zip(PLACES, lengths, strict=True)
            ),
        )
        for code, lengths in LENGTHS.items()
    ]
    await shop.load(PLACES, skus)


@pytest.fixture
async def shop(service: Service) -> Service:
    """Return a service with two SKUs of long histories."""
    await load(service)
    return service


async def counts(shop: Service) -> dict[LedgerKey, list[int]]:
    """Return until where each level's history is counted."""
    mine = history_count.c.tenant_id == shop.tenant
    level = history_count.c.sku, history_count.c.warehouse_id
    statement = select(*level, history_count.c.sequence).where(mine).distinct()
    found: dict[LedgerKey, list[int]] = {}
    async with shop.database.snapshot() as snapshot:
        for code, place, sequence in sorted(map(tuple, await snapshot.rows(statement, {}))):
            found.setdefault((code, place), []).append(sequence)
    return found


async def assert_exact(shop: Service, dice: random.Random, number: int = 40) -> None:
    """Assert of many conditions that what is counted is what plain counting finds."""
    names = ("sku", "warehouse_id", "reason", "created_by", "created_at", "delta")
    everything = select(*(adjustment.c[name] for name in names))
    async with shop.database.snapshot() as snapshot:
        mine = everything.where(adjustment.c.tenant_id == shop.tenant)
        entries = await snapshot.rows(mine, {})
        for _ in range(number):
            edges = [FIRST + timedelta(minutes=dice.randrange(-9, MILESTONE + 99)) for _ in "ab"]
            where = AdjustmentFilter(
                sku=dice.choice((None, *LENGTHS)),
                warehouse_id=dice.choice((None, None, *(it.id for it in PLACES))),
                reason=dice.choice((None, *REASONS, "unknown")),
                created_by=dice.choice((None, *PEOPLE)),
                sign=dice.choice((None, *Sign)),
                start=dice.choice((None, edges[0])),
                end=dice.choice((None, edges[1])),
            )
            matching = [
                it
                for it in entries
                if where.sku in (None, it.sku)
                and where.warehouse_id in (None, it.warehouse_id)
                and where.reason in (None, it.reason)
                and where.created_by in (None, it.created_by)
                and (where.start is None or it.created_at >= where.start)
                and (where.end is None or it.created_at < where.end)
                and (where.sign is None or (it.delta > 0) - (it.delta < 0) == SIGNS[where.sign])
            ]
            parents = dice.choice(PARENTS)
            each = {
                (code, place): sum(
                    it.sku == code and place in (None, it.warehouse_id) for it in matching
                )
                for code, place in parents
            }
            total = await count_adjustments(snapshot, shop.tenant, where=where)
            found = await count_adjustments_of(snapshot, shop.tenant, parents=parents, where=where)
            assert (total, found) == (len(matching), each), where


async def test_what_is_counted_is_exact_however_much_is_counted_ahead(shop: Service) -> None:
    dice = random.Random(2)
    await assert_exact(shop, dice)
    assert await count_histories(shop.database, shop.tenant) == 1 + 2 + 3
    assert await counts(shop) == {
        (code, place.id): [MILESTONE * number for number in range(1, 1 + length // MILESTONE)]
        for code, lengths in LENGTHS.items()
        for place, length in zip(PLACES, lengths, strict=True)
        if length >= MILESTONE
    }
    await assert_exact(shop, dice, 150)
    assert await count_histories(shop.database, shop.tenant) == 0
    await assert_proven(shop)

    # One more in the one history that is at a milestone, and in the one that comes to one so.
    caller = Caller(shop.tenant, "somebody", PEOPLE[0])
    for code in LENGTHS:
        update = StockUpdate(sku=code, warehouse_id=PLACES[0].id, quantity=9, reason=REASONS[1])
        await change_stock(shop.database, caller, update)
    await assert_exact(shop, dice)
    assert await count_histories(shop.database, shop.tenant) == 1
    await assert_exact(shop, dice)
    await assert_proven(shop)


async def test_a_count_follows_at_least_as_many_adjustments_as_it_has_rows(
    service: Service,
) -> None:
    many = [
        replace(it, created_by=f"{step}@example.com")
        for step, it in enumerate(history(random.Random(3), 4 * MILESTONE))
    ]
    await service.load(PLACES, [sku("A", LoadedLevel(warehouse_id=PLACES[0].id, history=many))])
    await count_histories(service.database, service.tenant)

    # 500 rows after 500, as many at 1,000, and so two milestones more.
    assert await counts(service) == {("A", PLACES[0].id): [MILESTONE, 2 * MILESTONE, 4 * MILESTONE]}
    await assert_proven(service)


async def test_many_workers_count_at_once_beside_writers(shop: Service) -> None:
    url = shop.database.writer.url.render_as_string(hide_password=False)
    others = [Database(Settings(database_url=url, database_pool_timeout_seconds=60)) for _ in "abc"]
    caller = Caller(shop.tenant, "somebody", PEOPLE[1])

    async def write() -> None:
        for quantity in range(20):
            place = PLACES[quantity % 2].id
            update = StockUpdate(sku="A", warehouse_id=place, quantity=quantity, reason="loss")
            await change_stock(shop.database, caller, update)

    await asyncio.gather(*(count_histories(each, shop.tenant) for each in others), write())
    for each in others:
        await each.dispose()
    await assert_exact(shop, random.Random(4))
    await assert_proven(shop)


async def test_who_is_ended_anywhere_while_counting_leaves_a_count_or_nothing(
    shop: Service,
) -> None:
    broken = 0
    while True:
        try:
            with broken_off(shop.database, after=broken):
                await count_histories(shop.database, shop.tenant)
            break
        except BrokenOff:
            broken += 1
        await assert_proven(shop)
    assert broken > 6
    await assert_exact(shop, random.Random(5))


async def test_a_tenant_counts_nothing_of_another(shop: Service) -> None:
    other = replace(shop, tenant=await new_tenant(shop.database))
    await load(other)
    await count_histories(shop.database, shop.tenant)

    assert await counts(other) == {}
    await assert_exact(other, random.Random(6))


BREAKS: Final = {
    "an entry more": "UPDATE history_count SET entries = entries + 1 WHERE {one}",
    "another person": "UPDATE history_count SET created_by = 'x' WHERE {one}",
    "another sign": "UPDATE history_count SET sign = 1 WHERE {one} AND sign = 0",
    "rows that are gone": "DELETE FROM history_count WHERE {one}",
    "a count of what is not yet there": (
        "UPDATE history_count SET sequence = sequence + 500 WHERE {one} AND sequence = 1000"
    ),
    "an entry of one for one of another": (
        "UPDATE history_count SET entries = entries + CASE created_by WHEN '{person}' THEN 1"
        " ELSE -1 END WHERE {one} AND sign = 0"
    ),
}


@pytest.mark.parametrize("what", BREAKS)
async def test_a_count_that_is_not_that_of_its_history_is_found_and_repaired(
    shop: Service, what: str
) -> None:
    await count_histories(shop.database, shop.tenant)
    known = await counts(shop)
    one = (
        f"tenant_id = '{shop.tenant}' AND sku = 'A' AND warehouse_id = '{PLACES[1].id}'"
        " AND reason = 'loss'"
    )
    if what in {"another person", "another sign"}:
        # So that what it becomes is not there yet.
        one += f" AND created_by = '{PEOPLE[0]}'"
    async with shop.database.writer.connect() as connection:
        if what == "another sign":
            await connection.execute(text(f"DELETE FROM history_count WHERE {one} AND sign = 1"))
        await connection.execute(text(BREAKS[what].format(one=one, person=PEOPLE[0])))
        await connection.commit()

    with pytest.raises(LedgerBroken, match=r"the history of \(A, wh_.*\) is not what it is"):
        await verify_tenant(shop.database, shop.tenant)
    [told] = await repair_tenant(shop.database, shop.tenant)
    assert told == (
        f"the history of A in {PLACES[1].id} was not what it was counted to be, and is now"
    )
    assert await counts(shop) == known
    await assert_exact(shop, random.Random(7))
    await assert_proven(shop)
    assert await repair_tenant(shop.database, shop.tenant) == []


async def test_every_count_has_all_that_came_before_it(shop: Service) -> None:
    await count_histories(shop.database, shop.tenant)
    level = history_count.c.sku, history_count.c.warehouse_id, history_count.c.sequence
    statement = select(history_count.c.sequence, func.sum(history_count.c.entries))
    mine = statement.where(history_count.c.tenant_id == shop.tenant).group_by(*level)
    async with shop.database.snapshot() as snapshot:
        rows = await snapshot.rows(mine, {})
    assert [sequence for sequence, _ in rows] == [entries for _, entries in rows]
