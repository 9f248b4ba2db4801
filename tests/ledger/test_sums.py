"""What the ledger comes to is exact, whatever is summed up of it and whatever comes late."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle, product
from typing import Any, Final

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app import maintenance as upkeep
from app.database.engine import Database
from app.database.snapshot import Snapshot
from app.database.tables import adjustment, ledger_sum, tenant
from app.domain.caller import Caller
from app.domain.filters import AdjustmentFilter, Sign
from app.domain.quantities import MAX_QUANTITY
from app.domain.records import LedgerTotals
from app.domain.stock import StockUpdate
from app.files.seeding import LoadedLevel
from app.ledger import rollup as summing
from app.ledger.repair import repair_tenant
from app.ledger.rollup import sum_up
from app.ledger.totals import END, Group, closed
from app.ledger.verification import LedgerBroken, verify_tenant
from app.reads.adjustment_totals import (
    count_adjustments,
    count_adjustments_of,
    sum_adjustments,
    sum_adjustments_of,
)
from app.reads.conditions import LedgerKey
from app.settings import Settings
from app.writes.stock import OnError, bulk_change_stock, change_stock
from tests.clocks import clocks_at
from tests.ledger.writes import assert_proven
from tests.service import Service, new_tenant, now, running, sku, warehouse
from tests.statements import BrokenOff, broken_off

PLACES: Final = tuple(warehouse(name) for name in ("Main", "Other", "Empty"))
CODES: Final = ("A", "B", "C/d", "Never counted")
REASONS: Final = ("initial_stock", "loss", "cycle_count")
REFERENCES: Final = ("Count 2026", "Ä/1")
PEOPLE: Final = ("anna@example.com", "Bilal@example.com", "änne@example.com")
FIRST: Final = datetime(2026, 3, 10, tzinfo=UTC)
DAY: Final = timedelta(days=1)
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
    reference: str | None


async def everything(shop: Service) -> list[Entry]:
    """Return the whole ledger."""
    statement = select(*(adjustment.c[it.name] for it in fields(Entry)))
    mine = adjustment.c.tenant_id == shop.tenant
    in_turn = statement.where(mine).order_by(adjustment.c.created_at)
    async with shop.database.snapshot() as snapshot:
        return [Entry(*row) for row in await snapshot.rows(in_turn, {})]


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
        and where.reference in (None, it.reference)
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
    # Of each group all, which nothing that is wrong is hidden from.
    for code, reference in product((None, CODES[0]), (None, REFERENCES[0])):
        yield AdjustmentFilter(sku=code, reference=reference)
    for _ in range(number):
        yield AdjustmentFilter(
            sku=dice.choice((None, None, *CODES)),
            warehouse_id=dice.choice((None, None, *(place.id for place in PLACES))),
            reason=dice.choice((None, None, *REASONS, "unknown")),
            created_by=dice.choice((*[None] * 4, *PEOPLE)),
            start=dice.choice((None, dice.choice(edges))),
            end=dice.choice((None, dice.choice(edges))),
            sign=dice.choice((None, None, *Sign)),
            bulk_id=dice.choice((*[None] * 9, "blk_none", *(it.bulk_id for it in entries[-2:]))),
            # Those of no group have no names, and a name may be empty.
            reference=dice.choice((None, None, *REFERENCES, "")),
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


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sum up a few adjustments at once, and look at every group."""
    monkeypatch.setattr(summing, "ENOUGH", 3)
    monkeypatch.setattr(summing, "PER_ROW", 1)
    monkeypatch.setattr(summing, "DRAWN", "%")


@pytest.fixture
async def shop(service: Service) -> Service:
    """Return a service whose ledger has some days, of which one has nothing."""
    await load(service, random.Random(1))
    return service


async def load(shop: Service, dice: random.Random) -> None:
    """Write a ledger of some days: several entries in a millisecond, and at the edges of days."""
    skus = [sku(code, *(LoadedLevel(warehouse_id=it.id) for it in PLACES[:2])) for code in CODES]
    await shop.load(PLACES, [*skus[:-1], sku(CODES[-1])])
    places = [(code, place.id) for code in CODES[:-1] for place in PLACES[:2]]
    instants = [FIRST + DAY * dice.choice((0, 1, 3, 5)) + dice.choice(STEPS[:4]) for _ in range(24)]
    for instant in sorted(instants):
        updates = [
            replace(
                change(code, dice.choice((0, 3, 3, 7, MAX_QUANTITY)), place),
                reason=dice.choice(REASONS),
                reference=dice.choice((None, *REFERENCES)),
            )
            for code, place in dice.sample(places, dice.randrange(1, 6))
        ]
        async with clocks_at(shop.database, instant):
            who = replace(caller(shop), email=dice.choice(PEOPLE))
            await bulk_change_stock(shop.database, who, updates, on_error=OnError.ABORT)


def change(code: str = CODES[-1], quantity: int = 5, place: str = PLACES[0].id) -> StockUpdate:
    """Return a count."""
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


async def sum_up_all(shop: Service) -> int:
    """Sum up all that nothing comes to any more, and return in how many steps."""
    steps = 0
    while await sum_up(shop.database, shop.tenant):
        steps += 1
    return steps


async def kept(shop: Service) -> dict[str, list[tuple[Any, ...]]]:
    """Return which groups are summed up until when, and how many entries each sum has, by kind."""
    group = ledger_sum.c.reference, ledger_sum.c.sku, ledger_sum.c.until
    statement = (
        select(ledger_sum.c.kind, *group, func.sum(ledger_sum.c.entries))
        .where(ledger_sum.c.tenant_id == shop.tenant)
        .group_by(ledger_sum.c.kind, *group)
        .order_by(ledger_sum.c.until, *group)
    )
    found: dict[str, list[tuple[Any, ...]]] = {}
    async with shop.database.snapshot() as snapshot:
        for kind, *rest in await snapshot.rows(statement, {}):
            found.setdefault(kind, []).append(tuple(rest))
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_counts_and_sums_are_those_of_the_ledger_however_much_is_summed_up(
    service: Service, seed: int
) -> None:
    dice = random.Random(seed)
    await load(service, dice)
    await assert_exact(service, dice)
    await change_stock(service.database, caller(service), change())
    for _ in range(2):
        assert await sum_up(service.database, service.tenant)
        await assert_exact(service, dice)
    await sum_up_all(service)
    assert {*await kept(service)} == {*Group}
    await assert_proven(service)
    updates = [change(code, dice.choice((0, 3)), PLACES[1].id) for code in CODES]
    await bulk_change_stock(service.database, caller(service), updates, on_error=OnError.ABORT)
    await assert_exact(service, dice, 60)

    late = FIRST + DAY * dice.choice((0, 1, 3)) + timedelta(hours=1)
    async with clocks_at(service.database, late):
        entry = replace(change(CODES[0], place=PLACES[2].id), reference=REFERENCES[0])
        await change_stock(service.database, caller(service), entry)
    assert await until(service) == late - timedelta(hours=1)
    await assert_exact(service, dice)
    await assert_proven(service)
    assert await sum_up_all(service) >= 1
    await assert_exact(service, dice, 60)
    await assert_proven(service)


async def test_a_sum_has_all_that_came_before_it(shop: Service) -> None:
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


async def test_a_sum_follows_enough_adjustments_and_several_for_each_row_of_the_one_before(
    shop: Service,
) -> None:
    await sum_up_all(shop)
    rows: dict[tuple[Any, ...], int] = {}
    group = ledger_sum.c.kind, ledger_sum.c.reference, ledger_sum.c.sku
    statement = (
        select(*group, func.count(), func.sum(ledger_sum.c.entries))
        .where(ledger_sum.c.tenant_id == shop.tenant)
        .group_by(*group, ledger_sum.c.until)
        .order_by(ledger_sum.c.until)
    )
    before: dict[tuple[Any, ...], tuple[int, int]] = {}
    async with shop.database.snapshot() as snapshot:
        for kind, reference, code, number, entries in await snapshot.rows(statement, {}):
            rows_before, entries_before = before.get((kind, reference, code), (0, 0))
            assert entries - entries_before >= max(summing.ENOUGH, summing.PER_ROW * rows_before)
            before[kind, reference, code] = number, entries
            rows[kind, reference, code] = number
    assert len(rows) > len(CODES)


async def test_what_is_summed_up_is_older_than_what_may_still_be_committed(shop: Service) -> None:
    for minutes in range(400, 20, -2):
        await change_at(shop, minutes)
    await sum_up_all(shop)
    last = await until(shop)
    assert last is not None
    assert now() - timedelta(hours=4) < last <= closed(now())
    await assert_exact(shop, random.Random(12))


async def change_at(shop: Service, minutes: int) -> None:
    """Count something so many minutes ago."""
    async with clocks_at(shop.database, now() - timedelta(minutes=minutes)):
        await change_stock(shop.database, caller(shop), change())


def test_what_is_two_hours_old_is_closed() -> None:
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert closed(noon) == noon - timedelta(hours=2)


async def test_a_late_adjustment_of_what_is_not_summed_up_changes_nothing(
    shop: Service,
) -> None:
    assert await sum_up(shop.database, shop.tenant)
    known = await until(shop)
    async with clocks_at(shop.database, FIRST + DAY * 4):
        await change_stock(shop.database, caller(shop), change())
    assert await until(shop) == known
    await assert_exact(shop, random.Random(2))


@pytest.mark.parametrize("where", ["before what is read", "among what is read"])
async def test_what_comes_between_reading_and_keeping_is_not_left_out(
    shop: Service, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    assert await sum_up(shop.database, shop.tenant)
    known = await until(shop)
    assert known is not None
    original = shop.database.transaction
    late = known - timedelta(hours=1) if where == "before what is read" else known

    async def transaction(work: Any, **options: Any) -> Any:
        monkeypatch.setattr(shop.database, "transaction", original)
        async with clocks_at(shop.database, late):
            await change_stock(shop.database, caller(shop), change())
        return await original(work, **options)

    monkeypatch.setattr(shop.database, "transaction", transaction)
    assert not await sum_up(shop.database, shop.tenant)
    await assert_exact(shop, random.Random(3))
    assert await sum_up_all(shop) > 1
    await assert_exact(shop, random.Random(3))
    await assert_proven(shop)


async def test_what_was_read_before_something_late_was_summed_up_is_not_kept(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "ENOUGH", 1)
    assert await sum_up(shop.database, shop.tenant)
    known = await until(shop)
    assert known is not None
    original = shop.database.transaction

    async def transaction(work: Any, **options: Any) -> Any:
        monkeypatch.setattr(shop.database, "transaction", original)
        async with clocks_at(shop.database, known - MILLISECOND):
            await change_stock(shop.database, caller(shop), change())
        # Somebody else is faster, and comes to the same instant again.
        assert await sum_up(shop.database, shop.tenant)
        assert await until(shop) == known
        return await original(work, **options)

    monkeypatch.setattr(shop.database, "transaction", transaction)
    assert not await sum_up(shop.database, shop.tenant)
    await sum_up_all(shop)
    await assert_exact(shop, random.Random(13))
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
    shop: Service,
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
        while await until(shop) is None:
            await asyncio.sleep(0.01)
    await assert_exact(shop, random.Random(10))


async def test_who_is_ended_anywhere_while_summing_up_leaves_sums_or_nothing(
    shop: Service,
) -> None:
    await sum_up(shop.database, shop.tenant)
    broken = 0
    while True:
        known = await until(shop)
        try:
            with broken_off(shop.database, after=broken):
                await sum_up(shop.database, shop.tenant)
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
        summing_up = asyncio.create_task(sum_up(shop.database, shop.tenant))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not summing_up.done()
        await other.commit()
    # It had read before that.
    assert not await summing_up
    assert await sum_up_all(shop) > 1
    await assert_exact(shop, random.Random(5))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_what_comes_late_waits_for_who_sums_up_and_has_it_done_anew(
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


async def test_sums_of_a_time_that_is_to_come_again_do_not_count(shop: Service) -> None:
    # As if all clocks had been days ahead, and somebody had set them back.
    ahead = closed(now()) + DAY * 3
    await sum_up_all(shop)
    async with shop.database.writer.connect() as connection:
        mine, sums = tenant.c.tenant_id == shop.tenant, ledger_sum.c.tenant_id == shop.tenant
        await connection.execute(update(tenant).where(mine).values(summed_until=ahead))
        last = select(func.max(ledger_sum.c.until)).where(sums).scalar_subquery()
        moved = update(ledger_sum).where(sums, ledger_sum.c.until == last)
        await connection.execute(moved.values(until=ahead))
        await connection.commit()

    await change_stock(shop.database, caller(shop), change())
    await assert_exact(shop, random.Random(7))
    await sum_up_all(shop)
    known = await until(shop)
    assert known is not None
    assert known <= closed(now())
    await assert_exact(shop, random.Random(7))
    await assert_proven(shop)


async def test_a_tenant_sums_up_nothing_of_another(shop: Service) -> None:
    other = replace(shop, tenant=await new_tenant(shop.database))
    await load(other, random.Random(8))
    await sum_up_all(shop)

    assert await until(other) is None
    assert await kept(other) == {}
    await assert_exact(other, random.Random(8))
    await sum_up_all(other)
    await assert_exact(other, random.Random(8))
    await assert_exact(shop, random.Random(8))


BREAKS: Final = {
    "a sum counts an entry more": "UPDATE ledger_sum SET entries = entries + 1 WHERE {one}",
    "a sum is another one": "UPDATE ledger_sum SET delta_lower = delta_lower + 1 WHERE {one}",
    "a large sum is another one": "UPDATE ledger_sum SET delta_upper = delta_upper - 1 WHERE {one}",
    "what came is taken for what went": "UPDATE ledger_sum SET sign = -7 WHERE {one}",
    "a sum is somebody else's": "UPDATE ledger_sum SET created_by = 'x' WHERE {one}",
    "a row is gone": "DELETE FROM ledger_sum WHERE {one}",
    "sums are of another time": (
        "UPDATE ledger_sum SET until = '2026-03-10T00:00:00.444Z' WHERE {sum}"
    ),
    "sums are of another group": (
        "UPDATE ledger_sum SET kind = 'reference', sku = '', reference = 'x' WHERE {sum}"
    ),
    "sums are taken for good that were not": (
        "UPDATE tenant SET summed_until = '2026-03-17T00:00:00.000Z' WHERE {mine}"
    ),
}


# Each of one kind of group, and one of all.
BROKEN: Final = {
    *zip(BREAKS, cycle(Group), strict=False),
    *product([*BREAKS][:1], Group),
}


@pytest.mark.parametrize(("what", "kind"), sorted(BROKEN))
async def test_a_sum_that_is_not_that_of_its_adjustments_is_found_and_repaired(
    shop: Service, what: str, kind: Group
) -> None:
    await sum_up_all(shop)
    await assert_proven(shop)
    before = await kept(shop)
    reference, code, instant, _ = before[kind][len(before[kind]) // 2]
    mine = f"tenant_id = '{shop.tenant}'"
    moment = instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    of_sum = (
        f"{mine} AND kind = '{kind}' AND reference = '{reference}' AND sku = '{code}'"
        f" AND until = '{moment}'"
    )
    row = "(warehouse_id, reason, created_by, sign)"
    names = row.strip("()")
    one = (
        f"{of_sum} AND {row} IN (SELECT {names} FROM ledger_sum WHERE {of_sum}"
        f" ORDER BY {names} LIMIT 1)"
    )
    if "sums are taken for good" in what:
        async with clocks_at(shop.database, FIRST):
            await change_stock(shop.database, caller(shop), change())
    async with shop.database.writer.connect() as connection:
        if "sign" in BREAKS[what]:
            await unchecked(connection)
        await connection.execute(text(BREAKS[what].format(one=one, sum=of_sum, mine=mine)))
        await connection.commit()

    with pytest.raises(LedgerBroken, match=r"the adjustments of the .* before 2026-03-.*summed up"):
        await verify_tenant(shop.database, shop.tenant)
    [told] = await repair_tenant(shop.database, shop.tenant)
    assert "what the ledger was summed up to from 2026-03-" in told
    await assert_proven(shop)
    await assert_exact(shop, random.Random(9), 5)
    assert await repair_tenant(shop.database, shop.tenant) == []
    if "sums are taken for good" not in what:
        assert await kept(shop) == before


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_repair_beside_who_sums_up_leaves_nothing_that_follows_from_what_was_wrong(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await sum_up(shop.database, shop.tenant)
    known = await until(shop)
    assert known is not None
    wrong = ledger_sum.c.tenant_id == shop.tenant, ledger_sum.c.until == known
    async with shop.database.writer.connect() as connection:
        more = update(ledger_sum).where(*wrong).values(entries=ledger_sum.c.entries + 1)
        await connection.execute(more)
        await connection.commit()
    works = []

    async def transaction(work: Any, **_options: Any) -> bool:
        works.append(work)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(shop.database, "transaction", transaction)
        await sum_up(shop.database, shop.tenant)
    [keep] = works
    async with shop.database.writer.connect() as other:
        assert await keep(other)
        await other.execute(select(ledger_sum).where(*wrong).with_for_update())
        repairing = asyncio.create_task(repair_tenant(shop.database, shop.tenant))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not repairing.done()
        await other.commit()
    assert await repairing
    await assert_proven(shop)


async def unchecked(connection: AsyncConnection) -> None:
    """Let a sum have any sign."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
    else:
        await connection.exec_driver_sql(
            "ALTER TABLE ledger_sum DROP CONSTRAINT IF EXISTS ledger_sum_sign_check"
        )


async def test_what_is_left_of_what_is_summed_up_anew_breaks_nothing(
    shop: Service,
) -> None:
    await sum_up_all(shop)
    async with clocks_at(shop.database, FIRST + timedelta(hours=1)):
        await change_stock(shop.database, caller(shop), change())
    await assert_proven(shop)
    assert await repair_tenant(shop.database, shop.tenant) == []
    await sum_up_all(shop)
    await assert_proven(shop)
    [*_, (_, _, instant, number)] = (await kept(shop))[Group.LEDGER]
    assert number == sum(it.created_at < instant for it in await everything(shop))


async def test_a_group_is_looked_at_for_some_of_its_adjustments(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "DRAWN", "nothing")
    await sum_up_all(shop)

    assert {*await kept(shop)} == {Group.LEDGER}
    await assert_exact(shop, random.Random(11))
    await assert_proven(shop)
