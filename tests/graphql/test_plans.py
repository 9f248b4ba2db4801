"""What a statement reads depends on what it answers, and not on how much there is.

The same questions are put to a little and to a lot of data, with the SQL that the service really
sends, and what they read is counted by the database itself: blocks on PostgreSQL, for the plan made
for the parameters and for the one that is kept for all of them; instructions on SQLite.
"""

import inspect
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Any, Final, Protocol

import pytest
from sqlalchemy import Executable, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.migration import migrate
from app.database.snapshot import Snapshot
from app.database.tables import LINK_COLUMNS, idempotency_key
from app.database.tables import sku as sku_table
from app.domain.filters import AdjustmentFilter, Order, ReservationFilter, Sign, SkuFilter
from app.domain.periods import Interval
from app.domain.quantities import Status
from app.domain.records import ReservationStatus
from app.files.seeding import LoadedCount, LoadedLevel, LoadedSku
from app.ledger.rollup import grown_groups, next_sums, sum_up
from app.ledger.totals import Group
from app.ledger.verification import wrong_sums
from app.reads import skus as queries
from app.reads.adjustment_totals import (
    count_adjustments,
    count_adjustments_of,
    sum_adjustments,
    sum_adjustments_of,
)
from app.reads.adjustments import (
    AdjustmentPosition,
    get_adjustment,
    get_reversals,
    list_adjustments,
    list_adjustments_of,
    list_adjustments_of_group,
)
from app.reads.reservations import (
    count_holds_of,
    count_reservations,
    get_reservations,
    list_due_reservations,
    list_holds_of,
    list_reservations,
)
from app.reads.skus import get_skus, list_skus
from app.reads.stock_history import get_stock_as_of, sum_adjustments_by_period
from app.reads.stock_levels import count_levels_of_warehouses, list_levels_of_warehouses
from app.reads.tenants import list_tenants, list_tokens, permits_oversell
from app.reads.warehouses import get_warehouses, list_warehouses
from app.writes.idempotency_keys import reap_idempotency_keys
from benchmarks.data import OPENING, WAREHOUSES, Size, code, fill
from tests.graphql.recorder import recorded
from tests.service import EMAIL, Service, new_tenant, running, sku

PAGE: Final = 51
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
MAIN: Final = WAREHOUSES[1].id
# A warehouse and a reason without any adjustment: to find none, all might be read.
UNUSED: Final = WAREHOUSES[3].id
RARE: Final = "loss"
BIG: Final = {
    *("sku", "stock_level", "adjustment", "idempotency_key"),
    *("reservation", "reservation_line"),
}
# For operators; they read tables that are small.
OPERATORS: Final = {list_tenants, list_tokens}
# A B-tree is one block deeper, and a little may be had cheaper than by an index.
TIMES: Final = 2
SLACK: Final = {"postgresql": 100, "sqlite": 1_000}
# More than any page takes: what reads the rows of all tenants costs much for a little, too.
MOST: Final = {"postgresql": 1_500, "sqlite": 30_000}
SIZES: Final = {"postgresql": (3_000, 100_000), "sqlite": (3_000, 30_000)}
HISTORIES: Final = {"SHORT": 300, "LONG": 6_000}
# Whole days, which a lot has many adjustments of.
DAYS: Final = START, START + timedelta(days=3)
# Between one SKU, or entry of a history, and the next.
STEP: Final = timedelta(seconds=4)


@dataclass(frozen=True)
class Question:
    """A call of a query; `grows` if it is known to read more where there is more."""

    name: str
    ask: partial[Any]
    grows: bool = False


@dataclass(frozen=True)
class Data:
    """What is asked about: some SKUs of a tenant whose ledger takes so many steps of time."""

    tenant: str
    codes: Sequence[str]
    steps: int

    @property
    def code(self) -> str:
        return self.codes[len(self.codes) // 2]

    @property
    def period(self) -> tuple[datetime, datetime]:
        return START + STEP * (self.steps // 4), START + STEP * (3 * self.steps // 4)

    @property
    def position(self) -> AdjustmentPosition:
        return START + STEP * (self.steps // 2), max(1, self.steps // 2), "adj_"


def about_skus(data: Data) -> Iterator[Question]:
    """Ask everything about SKUs, levels and warehouses."""
    ask: partial[Any]
    tenant = data.tenant
    for status, place, wanted, after, order in product(
        (None, Status.CRITICAL), (None, MAIN), (None, data.code), (None, data.code), Order
    ):
        asked = named(order=order, status=status, warehouse=place, sku=wanted, after=after)
        where = SkuFilter(status=status, warehouse_id=place, sku=wanted)
        ask = partial(list_skus, tenant=tenant, where=where, after=after, order=order, limit=PAGE)
        yield Question(f"SKUs {asked}", ask)
    for place in (None, MAIN):
        ask = partial(get_skus, tenant=tenant, codes=data.codes, warehouse_id=place)
        yield Question(f"SKUs of codes {named(warehouse=place)}", ask)
    for status, after in product((None, Status.CRITICAL), (None, data.code)):
        ask = partial(list_levels_of_warehouses, tenant=tenant, warehouses=WAREHOUSES)
        ask = partial(ask, status=status, after=after, limit=PAGE)
        yield Question(f"levels {named(status=status, after=after)}", ask)
    ids = [place.id for place in WAREHOUSES]
    for status in (None, Status.CRITICAL):
        ask = partial(count_levels_of_warehouses, tenant=tenant, ids=ids, status=status)
        yield Question(f"total of levels {named(status=status)}", ask)
    yield Question("warehouses", partial(list_warehouses, tenant=tenant))
    yield Question("warehouses of ids", partial(get_warehouses, tenant=tenant, ids=ids))
    yield Question("adjustment", partial(get_adjustment, tenant=tenant, id_="adj_0"))


def about_past(data: Data) -> Iterator[Question]:
    """Ask what SKUs had on hand, early and late in their history."""
    for place, end in product((None, MAIN), data.period):
        keys = [(each, place) for each in data.codes]
        ask = partial(get_stock_as_of, tenant=data.tenant, skus=keys, end=end)
        yield Question(f"stock as of {end} {named(warehouse=place)}", ask)


def about_time(data: Data) -> Iterator[Question]:
    """Ask how the stock of SKUs changed, hour by hour and day by day, for a time of one length."""
    ask: partial[Any]
    start, _ = data.period
    for place, interval in product((None, MAIN), Interval):
        ask = partial(sum_adjustments_by_period, tenant=data.tenant, interval=interval)
        keys = [(each, place) for each in data.codes]
        ask = partial(ask, skus=keys, start=start, end=start + STEP * 75)
        yield Question(f"changes by {interval} {named(warehouse=place)}", ask)


def about_warehouses(data: Data) -> Iterator[Question]:
    """Ask everything about the adjustments of every warehouse."""
    ask: partial[Any]
    parents = [(None, place.id) for place in WAREHOUSES]
    for reason, period, after in product((None, RARE), (None, data.period), (None, data.position)):
        asked = named(reason=reason, period=period)
        where = within(period, reason=reason)
        ask = partial(list_adjustments_of, tenant=data.tenant, parents=parents)
        ask = partial(ask, where=where, after=after, limit=PAGE)
        yield Question(f"ledgers of warehouses {asked} {named(after=after)}", ask)
    for reason, period in product((None, "initial_stock", RARE), (None, DAYS, data.period)):
        asked = named(reason=reason, period=period)
        where = within(period, reason=reason)
        for query in (count_adjustments_of, sum_adjustments_of):
            ask = partial(query, tenant=data.tenant, parents=parents, where=where)
            yield Question(f"{query.__name__} warehouses {asked}", ask)


def about_reservations(data: Data) -> Iterator[Question]:
    """Ask everything about reservations, and what is looked up to end or undo something."""
    ask: partial[Any]
    tenant, middle = data.tenant, f"rsv_01J0000000000{1_000_000_000_000 + data.steps * 2}"
    for status, reference, after in product(
        (None, ReservationStatus.OPEN, ReservationStatus.EXPIRED), (None, "nobody"), (None, middle)
    ):
        asked = named(status=status, reference=reference)
        where = ReservationFilter(status=status, reference=reference)
        ask = partial(list_reservations, tenant=tenant, where=where, limit=PAGE)
        yield Question(f"reservations {asked} {named(after=after)}", partial(ask, after=after))
        ask = partial(count_reservations, tenant=tenant, where=where)
        yield Question(f"total of reservations {asked}", ask)
    levels = [(each, MAIN) for each in data.codes]
    for after in (None, middle):
        ask = partial(list_holds_of, tenant=tenant, levels=levels, after=after, limit=PAGE)
        yield Question(f"holds {named(after=after)}", ask)
    yield Question("total of holds", partial(count_holds_of, tenant=tenant, levels=levels))
    ids = [f"rsv_01J0000000000{1_000_000_000_000 + number}" for number in range(0, 80, 4)]
    yield Question("reservations of ids", partial(get_reservations, tenant=tenant, ids=ids))
    ask = partial(list_due_reservations, tenant=tenant, limit=PAGE)
    yield Question("due reservations", ask)
    yield Question("permission", partial(permits_oversell, tenant=tenant, locked=False))
    for name in ("id", "bulk_id", "transfer_id"):
        ask = partial(list_adjustments_of_group, tenant=tenant, name=name)
        yield Question(f"adjustments of one {name}", partial(ask, id_="nobody", limit=1_001))
    yield Question("reversals", partial(get_reversals, tenant=tenant, ids=["adj_1"]))


def about_signs(data: Data) -> Iterator[Question]:
    """Ask for adjustments that go one way, of which there are enough everywhere."""
    for place in (None, MAIN):
        where = AdjustmentFilter(warehouse_id=place, sign=Sign.INCREASE)
        ask = partial(list_adjustments, tenant=data.tenant, where=where, limit=PAGE)
        yield Question(f"increases {named(warehouse=place)}", ask)
        where = replace(where, sku=data.code)
        ask = partial(list_adjustments, tenant=data.tenant, where=where, limit=PAGE)
        yield Question(f"increases of a SKU {named(warehouse=place)}", ask)


def about_links(data: Data) -> Iterator[Question]:
    """Ask for the adjustments of somebody, or of something that they are part of."""
    ask: partial[Any]
    for name, period in product(("created_by", *LINK_COLUMNS), (None, data.period)):
        link: dict[str, Any] = {name: "nobody"}
        where = replace(within(period), **link)
        asked = named(link=name, period=period)
        ask = partial(list_adjustments, tenant=data.tenant, where=where, limit=PAGE)
        yield Question(f"ledger by {name} {asked}", ask)
        ask = partial(count_adjustments, tenant=data.tenant, where=where)
        yield Question(f"total of ledger by {name} {asked}", ask)
    # Of what there is none, among what there is much of.
    for name, more in product(
        ("sku", *LINK_COLUMNS),
        (
            {"created_by": EMAIL},
            {"warehouse_id": MAIN},
            {"warehouse_id": MAIN, "reason": "initial_stock"},
        ),
    ):
        none: dict[str, Any] = {name: "nobody", **more}
        for total in (count_adjustments, sum_adjustments):
            ask = partial(total, tenant=data.tenant, where=AdjustmentFilter(**none))
            yield Question(f"{total.__name__} of no {name} among {' '.join(more)}", ask)
    # Somebody has done everything, and all of it has a reference.
    for (name, value), wanted, period in product(
        (("created_by", EMAIL), ("reference", OPENING)),
        (None, data.code),
        (None, DAYS, data.period),
    ):
        who: dict[str, Any] = {name: value}
        where = replace(within(period, sku=wanted), **who)
        asked = named(link=value, sku=wanted, period=period)
        for query in (
            count_adjustments,
            sum_adjustments,
            partial(list_adjustments, limit=PAGE),
        ):
            ask = partial(query, tenant=data.tenant, where=where)
            yield Question(f"{ask.func.__name__} of most {asked}", ask)


def about_ledger(data: Data, *, of_sku: bool) -> Iterator[Question]:
    """Ask everything about adjustments: of the whole ledger, or of one SKU."""
    for place, reason, period, after in product(
        (None, MAIN, UNUSED),
        (None, "initial_stock", RARE),
        (None, data.period),
        (None, data.position),
    ):
        asked = named(sku=of_sku or None, warehouse=place, reason=reason, period=period)
        where = within(period, sku=data.code if of_sku else None, place=place, reason=reason)
        ask = partial(list_adjustments, tenant=data.tenant, where=where, limit=PAGE)
        # Among the adjustments of one SKU, those of a reason are looked for one by one, and so are
        # those of a warehouse among the ones of a period.
        yield Question(
            f"ledger {asked} {named(after=after)}",
            partial(ask, after=after),
            grows=of_sku and (reason is not None or (place == UNUSED and period is not None)),
        )
    for place, reason, period in product(
        (None, MAIN, UNUSED), (None, "initial_stock", RARE), (None, DAYS, data.period)
    ):
        asked = named(sku=of_sku or None, warehouse=place, reason=reason, period=period)
        where = within(period, sku=data.code if of_sku else None, place=place, reason=reason)
        for query in (count_adjustments, sum_adjustments):
            yield Question(
                f"{query.__name__} {asked}", partial(query, tenant=data.tenant, where=where)
            )


def about_ledgers(data: Data) -> Iterator[Question]:
    """Ask everything about the adjustments of many SKUs, or of many levels."""
    ask: partial[Any]
    for of_level, place, reason, period, after in product(
        (None, MAIN), (None, MAIN), (None, RARE), (None, data.period), (None, data.position)
    ):
        asked = named(level=of_level, warehouse=place, reason=reason, period=period)
        where = within(period, place=place, reason=reason)
        parents = [(each, of_level) for each in data.codes]
        ask = partial(list_adjustments_of, tenant=data.tenant, parents=parents)
        deep = len(parents) == 1
        yield Question(
            f"ledgers {asked} {named(after=after)}",
            partial(ask, where=where, after=after, limit=PAGE),
            grows=deep and reason is not None,
        )
        for query in (count_adjustments_of, sum_adjustments_of):
            ask = partial(query, tenant=data.tenant, parents=parents, where=where)
            yield Question(f"{query.__name__} {asked}", ask)


def about_summing(data: Data) -> Iterator[Question]:
    """Have a part of the ledger summed up."""
    middle = data.steps // 2
    part = {"since": START + STEP * (middle - 50), "until": START + STEP * (middle + 50)}
    for kind in Group:
        asked: dict[str, Any] = {"tenant_id": data.tenant, **part, "last": part["since"]}
        asked |= {"drawn": "%", "enough": 1, "per_row": 1, "sku": data.code, "reference": OPENING}
        for statement in (grown_groups(kind), next_sums(kind)):
            ask = partial(read, statement=statement, tenant=asked["tenant_id"], parameters=asked)
            yield Question(f"{statement.get_final_froms()[0].description} of {kind}", ask)


def about_verifying(data: Data) -> Question:
    """Have what the ledger is summed up to compared with it."""
    asked = {"tenant": data.tenant}
    ask = partial(read, statement=wrong_sums(), tenant=data.tenant, parameters=asked)
    return Question("wrong sums", partial(ask, is_found=False))


async def read(
    snapshot: Snapshot,
    *,
    statement: Executable,
    tenant: str,
    parameters: dict[str, Any],
    is_found: bool = True,
) -> None:
    """Read what upkeep keeps."""
    rows = await snapshot.rows(statement, {**parameters, "tenant_id": tenant})
    assert bool(rows) == is_found


def named(**asked: object) -> str:
    """Return the names of what is asked for, with some of the values."""
    shown = {"warehouse", "reason", "order", "link"}
    return " ".join(
        f"{name}={value}" if name in shown else name
        for name, value in asked.items()
        if value is not None
    )


def within(
    period: tuple[datetime, datetime] | None,
    *,
    sku: str | None = None,
    place: str | None = None,
    reason: str | None = None,
) -> AdjustmentFilter:
    """Return the conditions, with a period or without."""
    start, end = period or (None, None)
    return AdjustmentFilter(sku=sku, warehouse_id=place, reason=reason, start=start, end=end)


@dataclass(frozen=True)
class Cost:
    """What a statement read, and which big tables it read from end to end."""

    read: int
    scanned: frozenset[str]


class Engine(Protocol):
    """What a database says of a statement."""

    async def costs(self, statement: str, parameters: Any) -> Sequence[Cost]:
        """Run a SELECT, in every way in which it may be planned."""

    async def scanned(self, statement: str, parameters: Any) -> frozenset[str]:
        """Plan a statement and return the big tables that it would read from end to end."""


class OfPostgreSQL:
    """EXPLAIN, with the plan for the parameters and with the plan for all."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def costs(self, statement: str, parameters: Any) -> Sequence[Cost]:
        plans = await self._plans("ANALYZE, BUFFERS, TIMING OFF", statement, parameters)
        return [
            Cost(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], scans(plan))
            for plan in plans
        ]

    async def scanned(self, statement: str, parameters: Any) -> frozenset[str]:
        plans = await self._plans("COSTS", statement, parameters)
        return frozenset[str]().union(*map(scans, plans))

    async def _plans(self, options: str, statement: str, parameters: Any) -> list[Any]:
        values = f"({', '.join(map(sql, parameters))})" if parameters else ""
        await self.connection.execute(f"PREPARE it AS {statement}")
        plans = []
        for mode in ("force_custom_plan", "force_generic_plan"):
            await self.connection.execute(f"SET plan_cache_mode = {mode}")
            explain = f"EXPLAIN ({options}, FORMAT JSON) EXECUTE it{values}"
            [told] = await self.connection.fetchval(explain)
            plans.append(told["Plan"])
        await self.connection.execute("DEALLOCATE it")
        return plans


class OfSQLite:
    """A counter of the virtual machine's instructions, with statistics and without."""

    EVERY: Final = 10

    def __init__(self, *connections: Any) -> None:
        self.connections = connections

    async def costs(self, statement: str, parameters: Any) -> Sequence[Cost]:
        return [await self._cost(each, statement, parameters) for each in self.connections]

    async def scanned(self, statement: str, parameters: Any) -> frozenset[str]:
        found = [await self._scanned(each, statement, parameters) for each in self.connections]
        return frozenset[str]().union(*found)

    async def _cost(self, connection: Any, statement: str, parameters: Any) -> Cost:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += self.EVERY

        await connection.set_progress_handler(step, self.EVERY)
        await connection.execute_fetchall(statement, parameters)
        await connection.set_progress_handler(None, 0)
        return Cost(steps, await self._scanned(connection, statement, parameters))

    async def _scanned(self, connection: Any, statement: str, parameters: Any) -> frozenset[str]:
        plan = await connection.execute_fetchall(f"EXPLAIN QUERY PLAN {statement}", parameters)
        lines = [row[3].split() for row in plan]
        return frozenset(line[1] for line in lines if line[0] == "SCAN") & BIG


def scans(plan: Any) -> frozenset[str]:
    """Return the big tables that a plan reads from end to end."""
    mine = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return frozenset(mine & BIG).union(*map(scans, plan.get("Plans", ())))


def sql(value: object) -> str:
    """Return a value as PostgreSQL reads it."""
    match value:
        case None:
            return "NULL"
        case list():
            return f"ARRAY[{', '.join(map(sql, value))}]::text[]"
        case bytes():
            return f"'\\x{value.hex()}'::bytea"
        case int():
            return str(value)
        case datetime():
            return f"'{value.isoformat()}'"
    return "'" + str(value).replace("'", "''") + "'"


@asynccontextmanager
async def explaining(database: Database) -> AsyncIterator[Engine]:
    """Yield what explains the statements of a database, on connections of its own."""
    async with database.reader.connect() as first, database.reader.connect() as second:
        one: Any = (await first.get_raw_connection()).driver_connection
        if database.dialect == "postgresql":
            yield OfPostgreSQL(one)
        else:
            # A connection keeps the statistics that it found, and most databases have none.
            await one.execute_fetchall("SELECT * FROM sku LIMIT 1")
            await database.transaction(forget_statistics)
            other: Any = (await second.get_raw_connection()).driver_connection
            yield OfSQLite(one, other)
        await first.invalidate()


async def forget_statistics(connection: AsyncConnection) -> None:
    """Delete what ANALYZE found."""
    await connection.execute(text("DELETE FROM sqlite_stat1"))


@pytest.fixture
async def shop(engine: str, empty_database_url: str) -> AsyncIterator[Service]:
    """Run the service on a little and on a lot, each of a tenant, and of others' still more."""
    async with running(empty_database_url) as (app, client):
        database = app.state.database
        await migrate(database)
        small, large = SIZES[engine]
        shop = Service(app, client, database, await new_tenant(database))
        await shop.load(WAREHOUSES, [history(name) for name in HISTORIES])
        await fill_all(database, "small", Size(small))
        await fill_all(database, "other", Size(large // 5, adjustments_per_level=2))
        await database.transaction(keep_keys)
        # The last one has the database look at all that there is.
        await fill_all(database, "large", Size(large))
        for tenant in ("small", "other", "large", shop.tenant):
            while await sum_up(database, tenant):
                pass
        yield shop


def history(name: str) -> LoadedSku:
    """Build a SKU whose two levels were counted in turn."""
    entries = [
        LoadedCount(
            quantity=step % 7,
            reason="cycle_count" if step else "initial_stock",
            created_by=EMAIL,
            created_at=START + STEP * step,
            reference=OPENING,
        )
        for step in range(HISTORIES[name])
    ]
    levels = [LoadedLevel(warehouse_id=place.id, history=entries) for place in WAREHOUSES[:2]]
    return sku(name, *levels)


async def fill_all(database: Database, tenant: str, size: Size) -> None:
    """Fill a tenant."""
    async for _ in fill(database, size, tenant=tenant):
        pass


async def keep_keys(connection: AsyncConnection) -> None:
    """Keep an idempotency key for every SKU that there is."""
    columns = ["tenant_id", "subject", "key", "fingerprint", "outcome", "created_at"]
    kept = select(
        sku_table.c.tenant_id,
        literal("somebody"),
        sku_table.c.sku,
        literal(b""),
        literal(""),
        sku_table.c.created_at,
    )
    await connection.execute(idempotency_key.insert().from_select(columns, kept))


def numbered(tenant: str, skus: int) -> Data:
    """Return a tenant with every so manieth of its SKUs."""
    return Data(tenant, [code(number) for number in range(0, skus, skus // 20)], skus)


async def costs(engine: Engine, database: Database, question: Question) -> Sequence[Cost]:
    """Return what a question costs, which is one statement."""
    with recorded(database) as recorder:
        async with database.snapshot(single=True) as snapshot:
            await question.ask(snapshot)
    [statement], [parameters] = recorder.statements, recorder.parameters
    return await engine.costs(statement, parameters)


@pytest.mark.long
async def test_what_a_read_costs_does_not_grow_with_what_there_is(
    shop: Service, engine: str
) -> None:
    small, large = (numbered(*each) for each in zip(("small", "large"), SIZES[engine], strict=True))
    short, long = (Data(shop.tenant, [name], steps) for name, steps in HISTORIES.items())
    pairs = [
        *zip(about_skus(small), about_skus(large), strict=True),
        *zip(about_past(small), about_past(large), strict=True),
        *zip(about_links(small), about_links(large), strict=True),
        *zip(about_links(short), about_links(long), strict=True),
        *zip(about_reservations(small), about_reservations(large), strict=True),
        *zip(about_signs(small), about_signs(large), strict=True),
        *zip(about_signs(short), about_signs(long), strict=True),
        *zip(about_time(small), about_time(large), strict=True),
        *zip(about_time(short), about_time(long), strict=True),
        *zip(about_warehouses(small), about_warehouses(large), strict=True),
        *zip(about_past(short), about_past(long), strict=True),
        *zip(about_ledger(small, of_sku=False), about_ledger(large, of_sku=False), strict=True),
        *zip(about_ledger(short, of_sku=True), about_ledger(long, of_sku=True), strict=True),
        *zip(about_ledgers(small), about_ledgers(large), strict=True),
        *zip(about_ledgers(short), about_ledgers(long), strict=True),
        *zip(about_summing(small), about_summing(large), strict=True),
        *zip(about_summing(short), about_summing(long), strict=True),
    ]
    grown = {}
    async with explaining(shop.database) as explain:
        for little, lot in pairs:
            before = await costs(explain, shop.database, little)
            after = await costs(explain, shop.database, lot)
            if not lot.grows and any(
                more.scanned or more.read > min(TIMES * less.read + SLACK[engine], MOST[engine])
                for less, more in zip(before, after, strict=True)
            ):
                grown[f"{lot.ask.keywords.get('tenant')}: {lot.name}"] = before, after
        found = await scanned_by_requests(explain, shop)
        verified = [
            await costs(explain, shop.database, about_verifying(it)) for it in (small, large)
        ]

    assert grown == {}
    assert found == {}
    # It reads all, but all of it once.
    times = TIMES * SIZES[engine][1] // SIZES[engine][0]
    assert all(more.read <= times * less.read for less, more in zip(*verified, strict=True))
    assert {lot.ask.func for _, lot in pairs} - {read} | OPERATORS == set(all_queries())


async def test_postgresql_plans_a_read_once_and_not_for_its_parameters(service: Service) -> None:
    if service.database.dialect == "sqlite":
        pytest.skip("It keeps its plans.")
    kept = text("SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements")
    async with service.database.snapshot() as snapshot:
        for number in range(3):
            await get_skus(snapshot, service.tenant, codes=[code(number)])
        plans = {row[0]: tuple(row[1:]) for row in await snapshot.rows(kept, {})}

    [statement] = [words for words in plans if "FROM sku \nWHERE" in words and "LATERAL" in words]
    assert plans[statement] == (3, 0)


def all_queries() -> Iterator[object]:
    """Yield every query that there is."""
    for name, function in inspect.getmembers(queries, inspect.iscoroutinefunction):
        if function.__module__ == queries.__name__ and not name.startswith("_"):
            yield function


async def scanned_by_requests(explain: Engine, shop: Service) -> dict[str, object]:
    """Return the statements of whole requests, and of upkeep, that read a big table whole."""
    updates = [
        {"sku": code(7 * number), "warehouse_id": MAIN, "quantity": 9, "reason": "cycle_count"}
        for number in range(500)
    ]
    [one, *_] = updates
    change = {name: value for name, value in one.items() if name != "sku"}
    key = {"Idempotency-Key": "once"}
    with recorded(shop.database) as recorder:
        for method, path, body, headers in (
            ("GET", "/api/inventory?status=low", None, {}),
            ("GET", f"/api/inventory/{one['sku']}", None, {}),
            ("GET", "/api/inventory/warehouses", None, {}),
            ("GET", f"/api/inventory/{one['sku']}/adjustments", None, {}),
            ("PUT", f"/api/inventory/{one['sku']}", change, {}),
            ("PUT", f"/api/inventory/{one['sku']}", change, key),
            ("PUT", f"/api/inventory/{one['sku']}", change, key),
            ("POST", "/api/inventory/bulk", {"updates": updates}, {}),
        ):
            response = await shop.rest(
                method, path, json=body, headers=headers, token="large-write"
            )
            assert response.is_success, response.text
        assert await reap_idempotency_keys(shop.database, "small") > 0
    different = dict(zip(recorder.statements, recorder.parameters, strict=True))
    assert any("idempotency_key" in statement for statement in different)
    return {
        statement: tables
        for statement, parameters in different.items()
        if (tables := await explain.scanned(statement, one_of(parameters)))
    }


def one_of(parameters: Any) -> Any:
    """Return the first parameters of a statement that was executed with several."""
    return parameters[0] if isinstance(parameters, list) else parameters
