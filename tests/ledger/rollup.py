"""Ledgers of some days, their exact totals, and the state of the rollup."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

from sqlalchemy import func, select, text

from app.database.tables import adjustment, ledger_sum
from app.domain.caller import Caller
from app.domain.filters import AdjustmentFilter, Sign
from app.domain.quantities import MAX_QUANTITY
from app.domain.records import LedgerTotals
from app.domain.stock import OnError, StockUpdate
from app.files.seeding import LoadedLevel
from app.ledger.rollup import roll_up_ledger
from app.ledger.totals import Group
from app.reads.adjustment_totals import (
    count_adjustments,
    count_adjustments_of,
    sum_adjustments,
    sum_adjustments_of,
)
from app.reads.conditions import LedgerKey
from app.reads.persons import author_of
from app.writes.stock import bulk_change_stock
from tests.clocks import clocks_at
from tests.effort import EFFORT
from tests.service import Service, now, sku, warehouse

WAREHOUSES: Final = tuple(warehouse(name) for name in ("Main", "Other", "Empty"))
CODES: Final = ("A", "B", "C/d", "Never counted")
REASONS: Final = ("initial_stock", "loss", "cycle_count")
REFERENCES: Final = ("Count 2026", "Ä/1")
EMAILS: Final = ("anna@example.com", "Bilal@example.com", "änne@example.com")
FIRST: Final = datetime(2026, 3, 10, tzinfo=UTC)
DAY: Final = timedelta(days=1)
MILLISECOND: Final = timedelta(milliseconds=1)
DAYS: Final = 6
END: Final = datetime.max.replace(tzinfo=UTC, microsecond=999_000)


# At the edges of days, and between them.
STEPS: Final = (MILLISECOND * 0, MILLISECOND, timedelta(hours=7), DAY - MILLISECOND, DAY, DAY * 2)


@dataclass(frozen=True)
class Entry:
    """An adjustment as plain SQL reads it."""

    sku: str
    warehouse_id: str
    reason: str
    created_by: str
    created_at: datetime
    delta: int
    position: int
    bulk_id: str | None
    reference: str | None


async def everything(shop: Service) -> list[Entry]:
    """Return the whole ledger."""
    statement = select(
        *(
            author_of(adjustment) if field.name == "created_by" else adjustment.c[field.name]
            for field in fields(Entry)
        )
    )
    of_tenant = adjustment.c.tenant_id == shop.tenant_id
    in_turn = statement.where(of_tenant).order_by(adjustment.c.position)
    async with shop.database.snapshot() as snapshot:
        rows = await snapshot.rows(in_turn, {"tenant_id": shop.tenant_id})
        return [Entry(*row) for row in rows]


SIGNS: Final[dict[Sign | None, Callable[[int], bool]]] = {
    None: lambda _: True,
    Sign.INCREASE: lambda delta: delta > 0,
    Sign.DECREASE: lambda delta: delta < 0,
    Sign.UNCHANGED: lambda delta: delta == 0,
}


def totals(entries: Sequence[Entry], where: AdjustmentFilter, parent: LedgerKey) -> LedgerTotals:
    """Totals of the adjustments that match the filter and the parent."""
    code, warehouse_id = parent
    deltas = [
        entry.delta
        for entry in entries
        if code in (None, entry.sku)
        and warehouse_id in (None, entry.warehouse_id)
        and where.sku in (None, entry.sku)
        and where.warehouse_id in (None, entry.warehouse_id)
        and where.reason in (None, entry.reason)
        and where.created_by in (None, entry.created_by)
        and where.bulk_id in (None, entry.bulk_id)
        and where.reference in (None, entry.reference)
        and (where.start is None or entry.created_at >= where.start)
        and (where.end is None or entry.created_at < where.end)
        and SIGNS[where.sign](entry.delta)
    ]
    increase = sum(entry for entry in deltas if entry > 0)
    return LedgerTotals(len(deltas), increase, increase - sum(deltas))


def filters(
    dice: random.Random, entries: Sequence[Entry], number: int
) -> Iterator[AdjustmentFilter]:
    """Yield filters of all kinds, whose periods begin and end at adjustments."""
    edges = [FIRST + DAY * day + step for day in range(DAYS) for step in STEPS]
    edges += [it.created_at + step for it in entries[:9] for step in (MILLISECOND * 0, MILLISECOND)]
    edges += [now() - DAY, now() + DAY, datetime(1, 1, 1, tzinfo=UTC), END]
    # First whole groups, which show every error.
    for code, reference in product((None, CODES[0]), (None, REFERENCES[0])):
        yield AdjustmentFilter(sku=code, reference=reference)
    for _ in range(number):
        yield AdjustmentFilter(
            sku=dice.choice((None, None, *CODES)),
            warehouse_id=dice.choice((None, None, *(record.id for record in WAREHOUSES))),
            reason=dice.choice((None, None, *REASONS, "unknown")),
            created_by=dice.choice((*[None] * 4, *EMAILS)),
            start=dice.choice((None, dice.choice(edges))),
            end=dice.choice((None, dice.choice(edges))),
            sign=dice.choice((None, None, *Sign)),
            bulk_id=dice.choice((*[None] * 9, "blk_none", *(it.bulk_id for it in entries[-2:]))),
            # No group has such a reference, or the name is empty.
            reference=dice.choice((None, None, *REFERENCES, "")),
        )


async def assert_exact(shop: Service, dice: random.Random, number: int = 5 * EFFORT) -> None:
    """Compare counts and sums of many filters with plain counting."""
    entries = await everything(shop)
    skus: list[LedgerKey] = [(code, None) for code in CODES]
    warehouses: list[LedgerKey] = [(None, warehouse_id.id) for warehouse_id in WAREHOUSES]
    levels: list[LedgerKey] = [(code, id_) for code, _ in skus for _, id_ in warehouses]
    for where in filters(dice, entries, number):
        parents = dice.choice((skus, warehouses, levels))
        async with shop.database.snapshot() as snapshot:
            count, _ = await count_adjustments(snapshot, shop.tenant_id, where=where)
            sums, _ = await sum_adjustments(snapshot, shop.tenant_id, where=where)
            options: Any = {"parents": parents, "where": where}
            counts, _ = await count_adjustments_of(snapshot, shop.tenant_id, **options)
            sums_of, _ = await sum_adjustments_of(snapshot, shop.tenant_id, **options)
        expected = totals(entries, where, (None, None))
        each = {parent: totals(entries, where, parent) for parent in parents}
        assert (count, sums) == (expected.entries, expected), where
        assert sums_of == each, where
        assert counts == {parent: it.entries for parent, it in each.items()}, where


async def load(shop: Service, dice: random.Random) -> None:
    """Write a ledger of some days: entries in the same millisecond, and at the edges of days."""
    skus = [
        sku(code, *(LoadedLevel(warehouse_id=it.id) for it in WAREHOUSES[:2])) for code in CODES
    ]
    await shop.load(WAREHOUSES, [*skus[:-1], sku(CODES[-1])])
    keys = [(code, record.id) for code in CODES[:-1] for record in WAREHOUSES[:2]]
    instants = [FIRST + DAY * dice.choice((0, 1, 3, 5)) + dice.choice(STEPS[:4]) for _ in range(24)]
    for instant in sorted(instants):
        updates = [
            replace(
                change(code, dice.choice((0, 3, 3, 7, MAX_QUANTITY)), warehouse_id),
                reason=dice.choice(REASONS),
                reference=dice.choice((None, *REFERENCES)),
            )
            for code, warehouse_id in dice.sample(keys, dice.randrange(1, 6))
        ]
        async with clocks_at(shop.database, instant):
            who = replace(caller(shop), email=dice.choice(EMAILS))
            await bulk_change_stock(shop.database, who, updates, on_error=OnError.ABORT)


def change(
    code: str = CODES[-1], quantity: int = 5, warehouse_id: str = WAREHOUSES[0].id
) -> StockUpdate:
    """Count of a level."""
    return StockUpdate(sku=code, warehouse_id=warehouse_id, quantity=quantity, reason=REASONS[1])


def caller(shop: Service) -> Caller:
    return Caller(shop.tenant_id, "somebody", EMAILS[0])


async def until(shop: Service) -> int:
    """Return the last position that is rolled up; 0 without a rollup."""
    statement = select(func.max(ledger_sum.c.until)).where(
        ledger_sum.c.tenant_id == shop.tenant_id, ledger_sum.c.kind == Group.LEDGER
    )
    async with shop.database.snapshot() as snapshot:
        [row] = await snapshot.rows(statement, {})
    return row[0] or 0


async def sum_up_all(shop: Service) -> int:
    """Roll up as much as possible, and return the number of steps."""
    steps = 0
    while await roll_up_ledger(shop.database, shop.tenant_id):
        steps += 1
    return steps


async def kept(shop: Service) -> dict[str, list[tuple[Any, ...]]]:
    """Return stored sums by kind: group, end, and number of entries."""
    group = ledger_sum.c.reference, ledger_sum.c.sku, ledger_sum.c.until
    statement = (
        select(ledger_sum.c.kind, *group, func.sum(ledger_sum.c.entries))
        .where(ledger_sum.c.tenant_id == shop.tenant_id)
        .group_by(ledger_sum.c.kind, *group)
        .order_by(ledger_sum.c.until, *group)
    )
    result: dict[str, list[tuple[Any, ...]]] = {}
    async with shop.database.snapshot() as snapshot:
        for kind, *rest in await snapshot.rows(statement, {}):
            result.setdefault(kind, []).append(tuple(rest))
    return result


HAS_ME_BLOCKING: Final = text(
    "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
)
