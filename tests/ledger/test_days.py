"""What the ledger comes to is exact, whatever is summed up of it and whatever comes late."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app import upkeep
from app.commands.idempotency import Caller
from app.commands.loading import LoadedCount, LoadedLevel
from app.commands.repairing import repair_tenant
from app.commands.stock import OnError, StockUpdate, bulk_change_stock, change_stock
from app.commands.summing import sum_up_day
from app.database import Database, Snapshot
from app.days import DAY, END, closed, whole_days
from app.models import adjustment, ledger_day, tenant
from app.queries import (
    LedgerKey,
    count_adjustments,
    count_adjustments_of,
    sum_adjustments,
    sum_adjustments_of,
)
from app.records import AdjustmentFilter, LedgerTotals, Sign
from app.settings import Settings
from app.stock import MAX_QUANTITY
from app.verify import LedgerBroken, verify_tenant
from tests.ledger.writes import assert_proven, clocks_at
from tests.service import Service, new_tenant, now, running, sku, warehouse
from tests.statements import BrokenOff, broken_off

PLACES: Final = tuple(warehouse(name) for name in ("Main", "Other", "Empty"))
CODES: Final = ("A", "B", "C/d", "Never counted")
REASONS: Final = ("initial_stock", "loss", "cycle_count")
PEOPLE: Final = ("anna@example.com", "Bilal@example.com", "änne@example.com")
FIRST: Final = datetime(2026, 3, 10, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
DAYS: Final = 6
# At the edges of days, and anywhere.
STEPS: Final = (MILLISECOND * 0, MILLISECOND, timedelta(hours=7), DAY - MILLISECOND, DAY, DAY * 2)


@dataclass(frozen=True)
class Entry:
    """An adjustment, as plain SQL reads it."""

    sku: str
    warehouse_id: str
    reason: str
    created_by: str
    created_at: datetime
    delta: int
    bulk_id: str | None


async def everything(shop: Service) -> list[Entry]:
    """Return the whole ledger."""
    names = ("sku", "warehouse_id", "reason", "created_by", "created_at", "delta", "bulk_id")
    statement = select(*(adjustment.c[name] for name in names))
    async with shop.database.snapshot() as snapshot:
        rows = await snapshot.rows(statement.where(adjustment.c.tenant_id == shop.tenant), {})
    return [Entry(*row) for row in rows]


SIGNS: Final[dict[Sign | None, Callable[[int], bool]]] = {
    None: lambda _: True,
    Sign.INCREASE: lambda delta: delta > 0,
    Sign.DECREASE: lambda delta: delta < 0,
    Sign.UNCHANGED: lambda delta: delta == 0,
}


def totals(entries: Sequence[Entry], where: AdjustmentFilter, parent: LedgerKey) -> LedgerTotals:
    """Return what the entries come to that meet conditions."""
    code, place = parent
    deltas = [
        it.delta
        for it in entries
        if code in (None, it.sku)
        and place in (None, it.warehouse_id)
        and where.sku in (None, it.sku)
        and where.warehouse_id in (None, it.warehouse_id)
        and where.reason in (None, it.reason)
        and where.created_by in (None, it.created_by)
        and where.bulk_id in (None, it.bulk_id)
        and (where.start is None or it.created_at >= where.start)
        and (where.end is None or it.created_at < where.end)
        and SIGNS[where.sign](it.delta)
    ]
    increase = sum(it for it in deltas if it > 0)
    return LedgerTotals(len(deltas), increase, increase - sum(deltas))


def filters(
    dice: random.Random, entries: Sequence[Entry], number: int
) -> Iterator[AdjustmentFilter]:
    """Yield conditions of all kinds, whose periods begin and end where adjustments do."""
    edges = [FIRST + DAY * day + step for day in range(DAYS) for step in STEPS]
    edges += [it.created_at + step for it in entries[:9] for step in (MILLISECOND * 0, MILLISECOND)]
    edges += [now() - DAY, now() + DAY, datetime(1, 1, 1, tzinfo=UTC), END]
    for _ in range(number):
        yield AdjustmentFilter(
            sku=dice.choice((*[None] * 4, *CODES)),
            warehouse_id=dice.choice((None, None, *(place.id for place in PLACES))),
            reason=dice.choice((None, None, *REASONS, "unknown")),
            created_by=dice.choice((*[None] * 4, *PEOPLE)),
            start=dice.choice((None, dice.choice(edges))),
            end=dice.choice((None, dice.choice(edges))),
            sign=dice.choice((None, None, *Sign)),
            bulk_id=dice.choice((*[None] * 9, "blk_none", *(it.bulk_id for it in entries[-2:]))),
        )


async def assert_exact(shop: Service, dice: random.Random, number: int = 20) -> None:
    """Assert of many conditions that counts and sums are what plain counting finds."""
    entries = await everything(shop)
    skus: list[LedgerKey] = [(code, None) for code in CODES]
    places: list[LedgerKey] = [(None, place.id) for place in PLACES]
    levels: list[LedgerKey] = [(code, id_) for code, _ in skus for _, id_ in places]
    for where in filters(dice, entries, number):
        parents = dice.choice((skus, places, levels))
        async with shop.database.snapshot() as snapshot:
            count = await count_adjustments(snapshot, shop.tenant, where=where)
            sums = await sum_adjustments(snapshot, shop.tenant, where=where)
            asked: Any = {"parents": parents, "where": where}
            counts = await count_adjustments_of(snapshot, shop.tenant, **asked)
            sums_of = await sum_adjustments_of(snapshot, shop.tenant, **asked)
        expected = totals(entries, where, (None, None))
        each = {parent: totals(entries, where, parent) for parent in parents}
        assert (count, sums) == (expected.entries, expected), where
        assert sums_of == each, where
        assert counts == {parent: it.entries for parent, it in each.items()}, where


@pytest.fixture
async def shop(service: Service) -> Service:
    """Return a service whose ledger has some days, of which one has nothing."""
    await load(service, random.Random(1))
    return service


async def load(shop: Service, dice: random.Random) -> None:
    """Load a history of some days: several entries in a millisecond, and at the edges of days."""
    skus = [
        sku(code, *(LoadedLevel(warehouse_id=it.id, history=history(dice)) for it in PLACES[:2]))
        for code in CODES[:-1]
    ]
    await shop.load(PLACES, [*skus, sku(CODES[-1])])


def history(dice: random.Random) -> list[LoadedCount]:
    """Return what was counted at a level, in turn."""
    instants = sorted(
        FIRST + DAY * dice.choice((0, 1, 3, 5)) + dice.choice(STEPS[:4]) for _ in range(9)
    )
    return [
        LoadedCount(
            quantity=dice.choice((0, 3, 3, 7, MAX_QUANTITY)),
            reason=dice.choice(REASONS),
            created_by=dice.choice(PEOPLE),
            created_at=instant,
        )
        for instant in instants
    ]


def change(code: str = CODES[-1], quantity: int = 5, place: str = PLACES[0].id) -> StockUpdate:
    """Return a count of today."""
    return StockUpdate(sku=code, warehouse_id=place, quantity=quantity, reason=REASONS[1])


def caller(shop: Service) -> Caller:
    return Caller(shop.tenant, "somebody", PEOPLE[0])


async def until(shop: Service) -> datetime | None:
    """Return until when the ledger is summed up."""
    statement = select(tenant.c.summed_until).where(tenant.c.tenant_id == shop.tenant)
    async with shop.database.snapshot() as snapshot:
        [row] = await snapshot.rows(statement, {})
    known: datetime | None = row[0]
    return known


async def sum_up(shop: Service) -> int:
    """Sum up all days that are over, and return how many."""
    days = 0
    while await sum_up_day(shop.database, shop.tenant):
        days += 1
    return days


@pytest.mark.parametrize("seed", range(2))
async def test_counts_and_sums_are_those_of_the_ledger_however_much_is_summed_up(
    service: Service, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    await load(service, dice)
    await assert_exact(service, dice)
    await change_stock(service.database, caller(service), change())
    for _ in range(2):
        assert await sum_up_day(service.database, service.tenant)
        await assert_exact(service, dice)
    await sum_up(service)
    updates = [change(code, dice.choice((0, 3)), PLACES[1].id) for code in CODES]
    await bulk_change_stock(service.database, caller(service), updates, on_error=OnError.ABORT)
    await assert_exact(service, dice, 40)

    late = FIRST + DAY * dice.choice((0, 2, 3)) + timedelta(hours=1)
    with clocks_at(late, monkeypatch):
        await change_stock(service.database, caller(service), change(place=PLACES[2].id))
    assert await until(service) == late - timedelta(hours=1)
    await assert_exact(service, dice)
    assert await sum_up(service) > 1
    await assert_exact(service, dice, 40)
    await assert_proven(service)


async def test_what_is_summed_up_is_of_days_that_are_over(shop: Service) -> None:
    await change_stock(shop.database, caller(shop), change())
    assert await sum_up(shop) == len({it.created_at.date() for it in await everything(shop)}) - 1
    # What was written just now is of no day that is over, whatever the time of the day.
    assert await until(shop) == FIRST + DAY * DAYS
    assert not await sum_up_day(shop.database, shop.tenant)


def test_a_day_is_closed_two_hours_after_its_end() -> None:
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert closed(noon) == FIRST
    assert closed(FIRST + timedelta(hours=2)) == FIRST
    assert closed(FIRST + timedelta(hours=2) - MILLISECOND) == FIRST - DAY


def test_the_whole_days_of_a_period_are_within_it() -> None:
    assert whole_days(FIRST, FIRST + DAY) == (FIRST, FIRST + DAY)
    edges = FIRST + MILLISECOND, FIRST + DAY * 3 - MILLISECOND
    assert whole_days(*edges) == (FIRST + DAY, FIRST + DAY * 2)
    # There is no day after the last one.
    assert whole_days(END, END)[0] == END


async def test_a_late_adjustment_of_a_day_that_is_not_summed_up_changes_nothing(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await sum_up_day(shop.database, shop.tenant)
    known = await until(shop)
    with clocks_at(FIRST + DAY * 4, monkeypatch):
        await change_stock(shop.database, caller(shop), change())
    assert await until(shop) == known
    await assert_exact(shop, random.Random(2))


@pytest.mark.parametrize("day", [FIRST, FIRST + DAY], ids=["an earlier day", "the same day"])
async def test_what_comes_between_reading_and_keeping_a_day_is_not_left_out(
    shop: Service, monkeypatch: pytest.MonkeyPatch, day: datetime
) -> None:
    assert await sum_up_day(shop.database, shop.tenant)
    original = shop.database.transaction
    late = day + timedelta(hours=3)

    async def transaction(work: Any, **options: Any) -> Any:
        monkeypatch.setattr(shop.database, "transaction", original)
        with clocks_at(late, monkeypatch):
            await change_stock(shop.database, caller(shop), change())
        return await original(work, **options)

    monkeypatch.setattr(shop.database, "transaction", transaction)
    assert not await sum_up_day(shop.database, shop.tenant)
    await assert_exact(shop, random.Random(3))
    assert await sum_up(shop) > 1
    await assert_exact(shop, random.Random(3))
    await assert_proven(shop)


@asynccontextmanager
async def several(shop: Service) -> AsyncIterator[list[Database]]:
    """Yield the database as several processes have it."""
    url = shop.database.writer.url.render_as_string(hide_password=False)
    others = [Database(Settings(database_url=url, database_pool_timeout_seconds=60)) for _ in "abc"]
    yield [shop.database, *others]
    for other in others:
        await other.dispose()


async def test_many_workers_sum_up_at_once_beside_writers_and_readers(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(4)

    async def write(database: Database) -> None:
        for quantity in range(10):
            await change_stock(database, caller(shop), change(dice.choice(CODES), quantity))

    async def read(database: Database) -> None:
        plainly = select(func.count(), func.sum(adjustment.c.delta))
        mine = adjustment.c.tenant_id == shop.tenant
        for _ in range(20):
            async with database.snapshot() as snapshot:
                found = await sum_adjustments(snapshot, shop.tenant, where=AdjustmentFilter())
                [expected] = await snapshot.rows(plainly.where(mine), {})
            assert (found.entries, found.net_change) == tuple(expected)

    with clocks_at(FIRST + DAY * 2, monkeypatch):
        async with several(shop) as databases:
            await asyncio.gather(
                *(sum_up(replace(shop, database=database)) for database in databases),
                *(write(database) for database in databases),
                *(read(database) for database in databases),
            )
    await assert_exact(shop, dice)
    await sum_up(shop)
    await assert_exact(shop, dice)
    await assert_proven(shop)


async def test_a_running_service_sums_up(shop: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def mine(_snapshot: Snapshot) -> list[str]:
        return [shop.tenant]

    # Those of other tests have nothing to do with it.
    monkeypatch.setattr(upkeep, "list_tenants", mine)
    monkeypatch.setattr(upkeep, "SUM_SECONDS", 0.01)
    url = shop.database.writer.url.render_as_string(hide_password=False)
    async with (
        running(url) as (app, _client),
        app.router.lifespan_context(app),
        asyncio.timeout(30),
    ):
        while await until(shop) != FIRST + DAY * DAYS:
            await asyncio.sleep(0.01)
    await assert_exact(shop, random.Random(10))


async def test_who_is_ended_anywhere_while_summing_up_leaves_a_day_or_nothing(
    shop: Service,
) -> None:
    broken = 0
    while True:
        known = await until(shop)
        try:
            with broken_off(shop.database, after=broken):
                await sum_up_day(shop.database, shop.tenant)
            break
        except BrokenOff:
            broken += 1
        assert await until(shop) == known
        await assert_proven(shop)
        await assert_exact(shop, random.Random(broken), 5)
    assert broken > 4
    assert await until(shop) == FIRST + DAY
    await sum_up(shop)
    await assert_proven(shop)


HAS_ME_BLOCKING: Final = text(
    "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
)
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
        await connection.execute(text(statement), {"tenant": shop.tenant})


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_who_sums_up_waits_for_what_comes_late(shop: Service) -> None:
    async with shop.database.writer.connect() as other:
        await insert_late(shop, other)
        summing_up = asyncio.create_task(sum_up_day(shop.database, shop.tenant))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not summing_up.done()
        await other.commit()
    # It had read the day before that.
    assert not await summing_up
    assert await sum_up(shop) > 1
    await assert_exact(shop, random.Random(5))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_what_comes_late_waits_for_who_sums_up_and_opens_the_day_again(
    shop: Service,
) -> None:
    mine = tenant.c.tenant_id == shop.tenant

    late = partial(insert_late, shop)

    async with shop.database.writer.connect() as other:
        await other.execute(update(tenant).where(mine).values(summed_until=FIRST + DAY))
        inserting = asyncio.create_task(shop.database.transaction(late))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not inserting.done()
        await other.commit()
    await inserting
    assert await until(shop) == FIRST
    await assert_exact(shop, random.Random(6))


async def test_sums_of_days_that_are_to_come_again_do_not_count(shop: Service) -> None:
    # As if all clocks had been days ahead, and somebody had set them back.
    ahead = closed(now()) + DAY * 3
    await sum_up(shop)
    async with shop.database.writer.connect() as connection:
        mine = tenant.c.tenant_id == shop.tenant
        await connection.execute(update(tenant).where(mine).values(summed_until=ahead))
        await connection.commit()

    await change_stock(shop.database, caller(shop), change())
    await assert_exact(shop, random.Random(7))
    await sum_up(shop)
    known = await until(shop)
    assert known is not None
    assert known <= closed(now())
    await assert_exact(shop, random.Random(7))


async def test_a_tenant_sums_up_nothing_of_another(shop: Service) -> None:
    other = replace(shop, tenant=await new_tenant(shop.database))
    await load(other, random.Random(8))
    await sum_up(shop)

    assert await until(other) is None
    await assert_exact(other, random.Random(8))
    await sum_up(other)
    await assert_exact(other, random.Random(8))
    await assert_exact(shop, random.Random(8))


BREAKS: Final = {
    "a sum counts an entry more": "UPDATE ledger_day SET entries = entries + 1 WHERE {one}",
    "a sum is another one": "UPDATE ledger_day SET delta_lower = delta_lower + 1 WHERE {one}",
    "a large sum is another one": "UPDATE ledger_day SET delta_upper = delta_upper - 1 WHERE {one}",
    "what came is taken for what went": "UPDATE ledger_day SET sign = -1 WHERE {one} AND sign = 1",
    "a sum is somebody else's": "UPDATE ledger_day SET created_by = 'x' WHERE {one}",
    "a sum is gone": "DELETE FROM ledger_day WHERE {one}",
    "a day is gone": "DELETE FROM ledger_day WHERE {day}",
    "a day is there that nothing was done on": (
        "UPDATE ledger_day SET day = '2026-03-12T00:00:00.000Z' WHERE {day}"
    ),
    "days are taken for summed up": (
        "UPDATE tenant SET summed_until = '2026-03-17T00:00:00.000Z' WHERE {mine}"
    ),
}


@pytest.mark.parametrize("what", BREAKS)
async def test_a_sum_that_is_not_that_of_its_adjustments_is_found_and_repaired(
    shop: Service, what: str
) -> None:
    for _ in range(2):
        assert await sum_up_day(shop.database, shop.tenant)
    await assert_proven(shop)
    mine = f"tenant_id = '{shop.tenant}'"
    day = f"{mine} AND day = '2026-03-11T00:00:00.000Z'"
    loss = (
        f"{day} AND (warehouse_id, reason, created_by) IN (SELECT warehouse_id, reason, created_by"
    )
    one = f"{loss} FROM ledger_day WHERE {day} AND sign = 1 ORDER BY 1, 2, 3 LIMIT 1)"
    if "sign" not in BREAKS[what]:
        one += " AND sign = 1"
    broken = BREAKS[what].format(one=one, day=day, mine=mine)
    async with shop.database.writer.connect() as connection:
        await connection.execute(text(broken))
        await connection.commit()

    with pytest.raises(LedgerBroken, match=r"the adjustments of 2026-03-1\d in wh_.* for "):
        await verify_tenant(shop.database, shop.tenant)
    repaired = await repair_tenant(shop.database, shop.tenant)
    assert repaired
    assert all("were not what they were summed up to" in told for told in repaired)
    await assert_proven(shop)
    await assert_exact(shop, random.Random(9))
    assert await repair_tenant(shop.database, shop.tenant) == []


async def test_what_is_left_of_days_that_are_summed_up_anew_breaks_nothing(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sum_up(shop)
    with clocks_at(FIRST + timedelta(hours=1), monkeypatch):
        await change_stock(shop.database, caller(shop), change())
    await assert_proven(shop)
    assert await repair_tenant(shop.database, shop.tenant) == []
    await sum_up(shop)
    async with shop.database.snapshot() as snapshot:
        mine = ledger_day.c.tenant_id == shop.tenant
        [[kept]] = await snapshot.rows(select(func.sum(ledger_day.c.entries)).where(mine), {})
    assert kept == len(await everything(shop))
