"""Proof of a tenant's ledger: replays every adjustment and derives every figure again.

This is the slow, obvious definition of everything that writes keep up to date. What was replayed
has a head: as long as the ledger replays to a head that was kept elsewhere, nobody has changed the
history of that time, not even with the right to write to the database.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.clocks import Present
from app.database.engine import Database
from app.database.tables import (
    adjustment,
    ledger_sum,
    reservation,
    reservation_count,
    reservation_line,
    sku,
    sku_count,
    stock_level,
    tenant,
)
from app.domain.hash_chain import HASHED_COLUMNS, Head, HeadBuilder, chain_hash, settled_until
from app.domain.instants import format_instant
from app.domain.quantities import ARCHIVED_PREFIX, Figures, total_figures
from app.domain.records import ReservationStatus
from app.ledger.totals import COMBINATION, EMPTY, FIGURES, IN_COMMON, ZERO, Group, beginning, entry

VERIFY_BATCH_ROWS: Final = 2_000
NO_STOCK: Final = Figures(0, 0, 0)
VERIFIED_TENANT: Final = bindparam("tenant", type_=Text)
SAME_SKU: Final = (stock_level.c.tenant_id == sku.c.tenant_id) & (stock_level.c.sku == sku.c.sku)
ReportReplayed = Callable[[int], None]


class LedgerBroken(Exception):
    """The first thing that does not add up, in words."""


@dataclass
class Proof:
    """How much of a tenant was checked, and the head of it."""

    tenant: str
    skus: int = 0
    stock_levels: int = 0
    adjustments: int = 0
    counts: int = 0
    head: str = ""


async def verify_tenant(
    database: Database,
    tenant_id: str,
    *,
    head: Head | None = None,
    progress: ReportReplayed = lambda _: None,
) -> Proof:
    """Check a tenant's whole ledger and all derived figures, in one snapshot and bounded memory.

    With a `head` of before, also that the history until then is what it was then. `progress` is
    told the number of adjustments replayed so far.

    Raises:
        LedgerBroken: names the first break.

    """
    with database.fault_translation:
        return await _verify(database, tenant_id, head, progress)


async def verify_ledger(
    database: Database,
    tenant_id: str,
    *,
    head: Head | None = None,
    progress: ReportReplayed = lambda _: None,
) -> None:
    """Check the entries of a tenant alone, and none of the figures that are derived from them.

    Raises:
        LedgerBroken: names the first break.

    """
    async with database.connection(database.reader) as connection:
        if database.dialect == "postgresql":
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
        check = _LedgerCheck(connection, Proof(tenant_id), head, progress)
        await check.ledger()
        await check.transfers()


async def _verify(
    database: Database, tenant_id: str, head: Head | None, progress: ReportReplayed
) -> Proof:
    async with database.connection(database.reader) as connection:
        if database.dialect == "postgresql":
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
        # Read before the snapshot is taken, which so has all that was written until then.
        now = (await connection.execute(select(Present()))).scalar_one()
        check = _Check(connection, Proof(tenant_id), head, progress)
        covered = check.covers(settled_until(now))
        await check.ledger()
        check.proof.head = str(covered.head())
        await check.skus()
        await check.counts()
        await check.sums()
        await check.transfers()
        await check.reservations()
        return check.proof


class _Check:
    def __init__(
        self,
        connection: AsyncConnection,
        proof: Proof,
        kept: Head | None,
        progress: ReportReplayed,
    ) -> None:
        self.connection = connection
        self.proof = proof
        self.kept = kept
        self.progress = progress
        self.covered: list[HeadBuilder] = []
        self.derived_counts: Counter[tuple[str, str]] = Counter()

    def covers(self, until: datetime) -> HeadBuilder:
        """Return what takes in the adjustments until an instant as they are replayed."""
        self.covered.append(HeadBuilder(self.proof.tenant, until))
        return self.covered[-1]

    async def ledger(self) -> None:
        """Replay the adjustments of every stock level."""
        level, previous = None, None
        again = self.covers(self.kept.until) if self.kept else None
        async for row in self.rows(_levels_with_adjustments()):
            if level is None or (row.sku, row.warehouse_id) != (level.sku, level.warehouse_id):
                self.level_ends(level, previous)
                level, previous = row, None
            if row.id is not None:
                self.adjustment_follows(row, previous)
                previous = row
        self.level_ends(level, previous)
        await self.none_left_out(adjustment, self.proof.adjustments)
        if self.kept and again:
            _unchanged(self.kept, again.head())

    def adjustment_follows(self, row: Row[Any], previous: Row[Any] | None) -> None:
        """Check one link of the chain."""
        where = f"adjustment {row.id} of {_name(row)}"
        before = previous.after_quantity if previous else 0
        sequence = previous.sequence + 1 if previous else 1
        _equal(f"sequence of {where}", row.sequence, sequence)
        _equal(f"before_quantity of {where}", row.before_quantity, before)
        _equal(f"after_quantity of {where}", row.after_quantity, row.before_quantity + row.delta)
        if previous and row.created_at < previous.created_at:
            message = f"created_at of {where} is before that of the adjustment that it follows"
            raise LedgerBroken(message)
        entry = {name: getattr(row, name) for name in HASHED_COLUMNS}
        entry["created_at"] = format_instant(row.created_at)
        hash_ = chain_hash(previous.hash if previous else None, self.proof.tenant, entry)
        if row.hash != hash_:
            message = (
                f"{where} is not as it was written: its hash is {row.hash}, and what it says and "
                f"follows comes to {hash_}"
            )
            raise LedgerBroken(message)
        for each in self.covered:
            each.add((row.sku, row.warehouse_id), row.sequence, row.hash, row.created_at)
        self.proof.adjustments += 1
        if self.proof.adjustments % VERIFY_BATCH_ROWS == 0:
            self.progress(self.proof.adjustments)

    def level_ends(self, level: Row[Any] | None, last: Row[Any] | None) -> None:
        """Check a stock level against the end of its chain."""
        if level is None:
            return
        where = f"stock level {_name(level)}"
        _equal(f"on_hand of {where}", level.on_hand, last.after_quantity if last else 0)
        _equal(f"version of {where}", level.version, last.sequence if last else 0)
        _equal(f"adjusted_at of {where}", level.adjusted_at, last.created_at if last else None)
        _equal(f"last_hash of {where}", level.last_hash, last.hash if last else None)
        figures = Figures(level.on_hand, level.reserved, level.safety_stock)
        _equal(f"status of {where}", level.status, figures.status)
        _equal(f"archived_at of {where}", level.archived_at, level.archived_at_of_sku)
        if min(level.on_hand, level.reserved, level.safety_stock) < 0:
            message = f"{where} has a negative quantity"
            raise LedgerBroken(message)
        self.derived_counts[level.warehouse_id, _counted_as(level, figures)] += 1
        self.proof.stock_levels += 1

    async def skus(self) -> None:
        """Derive the status of every SKU from its levels."""
        current, figures = None, NO_STOCK
        levels = 0
        async for row in self.rows(_skus_with_levels()):
            if current is None or row.sku != current.sku:
                self.sku_ends(current, figures)
                current, figures = row, NO_STOCK
            if row.warehouse_id is not None:
                level = Figures(row.on_hand, row.reserved, row.safety_stock)
                figures = total_figures([figures, level])
                levels += 1
        self.sku_ends(current, figures)
        # A level whose SKU is gone is in the first list, and not in the second.
        _equal("the number of stock levels that have a SKU", levels, self.proof.stock_levels)
        await self.none_left_out(stock_level, levels)

    def sku_ends(self, row: Row[Any] | None, figures: Figures) -> None:
        """Check a SKU against the sums over its levels."""
        if row is not None:
            _equal(f"status of SKU {row.sku}", row.status, figures.status)
            self.derived_counts["", _counted_as(row, figures)] += 1
            self.proof.skus += 1

    async def counts(self) -> None:
        """Compare the kept counts with counted ones."""
        kept: Counter[tuple[str, str]] = Counter()
        async for row in self.rows(
            select(sku_count).where(sku_count.c.tenant_id == VERIFIED_TENANT)
        ):
            kept[row.warehouse_id, row.status] = row.skus
            self.proof.counts += 1
        for place, status in sorted(kept.keys() | self.derived_counts.keys()):
            name = f"count of {status} SKUs in {place or 'all warehouses'}"
            _equal(name, kept[place, status], self.derived_counts[place, status])

    async def sums(self) -> None:
        """Compare what the ledger is summed up to with its adjustments."""
        async for row in self.rows(wrong_sums()):
            of = " ".join(filter(None, (row.kind, row.reference, row.sku)))
            message = (
                f"the adjustments of the {of} before {format_instant(row.until)} are not what they "
                "are summed up to"
            )
            raise LedgerBroken(message)

    async def transfers(self) -> None:
        """Check that every transfer takes from one level of a SKU what it adds to another."""
        async for row in self.rows(_broken_transfers()):
            message = (
                f"transfer {row.transfer_id} of SKU {row.sku} has {row.entries} adjustments that "
                f"sum to {row.delta}, and should have 2 that sum to 0"
            )
            raise LedgerBroken(message)

    async def reservations(self) -> None:
        """Check that each level has reserved what open reservations hold, and their counts."""
        async for row in self.rows(_wrongly_reserved()):
            _equal(f"reserved of stock level {_name(row)}", row.reserved, row.held)
            _equal(f"holds of stock level {_name(row)}", row.holds, row.held_by)
        async for row in self.rows(_wrongly_held()):
            message = (
                f"reservation {row.id} is {row.status} and holds {row.held} of {_name(row)}, of "
                f"{row.quantity}"
            )
            raise LedgerBroken(message)
        async for row in self.rows(wrong_reservation_counts()):
            of = f" of {row.reference}" if row.reference else ""
            _equal(f"count of {row.status} reservations{of}", row.kept, row.derived)

    async def rows(self, statement: Select[Any]) -> AsyncIterator[Row[Any]]:
        """Stream the tenant's rows of a statement."""
        parameters = {"tenant": self.proof.tenant}
        options = {"yield_per": VERIFY_BATCH_ROWS}
        async for row in await self.connection.stream(
            statement, parameters, execution_options=options
        ):
            yield row

    async def none_left_out(self, table: Table, seen: int) -> None:
        """Check that the tenant has no row beyond those that were replayed."""
        mine = select(func.count()).select_from(table).where(table.c.tenant_id == VERIFIED_TENANT)
        kept = await self.connection.scalar(mine, {"tenant": self.proof.tenant})
        _equal(f"the number of rows of {table.name} that belong to another row", seen, kept)


class _LedgerCheck(_Check):
    def level_ends(self, level: Row[Any] | None, last: Row[Any] | None) -> None:
        """Leave the figures of the level alone, unless they know of entries that are gone."""
        if level is None or level.version <= (last.sequence if last else 0):
            return
        message = (
            f"stock level {_name(level)} has had {level.version} adjustments, and "
            f"{last.sequence if last else 0} are there; entries are gone from the end of its ledger"
        )
        raise LedgerBroken(message)


def _levels_with_adjustments() -> Select[Any]:
    same_level = (
        (adjustment.c.tenant_id == stock_level.c.tenant_id)
        & (adjustment.c.sku == stock_level.c.sku)
        & (adjustment.c.warehouse_id == stock_level.c.warehouse_id)
    )
    return (
        select(
            stock_level,
            *(adjustment.c[name] for name in HASHED_COLUMNS if name not in stock_level.c),
            adjustment.c.hash,
            sku.c.archived_at.label("archived_at_of_sku"),
        )
        .select_from(
            stock_level.join(sku, SAME_SKU, isouter=True).join(adjustment, same_level, isouter=True)
        )
        .where(stock_level.c.tenant_id == VERIFIED_TENANT)
        .order_by(stock_level.c.sku, stock_level.c.warehouse_id, adjustment.c.sequence)
    )


def _skus_with_levels() -> Select[Any]:
    return (
        select(
            sku.c.sku,
            sku.c.status,
            sku.c.archived_at,
            stock_level.c.warehouse_id,
            stock_level.c.on_hand,
            stock_level.c.reserved,
            stock_level.c.safety_stock,
        )
        .select_from(sku.join(stock_level, SAME_SKU, isouter=True))
        .where(sku.c.tenant_id == VERIFIED_TENANT)
        .order_by(sku.c.sku)
    )


def _broken_transfers() -> Select[Any]:
    delta, entries = func.sum(adjustment.c.delta), func.count()
    return (
        select(
            adjustment.c.transfer_id,
            adjustment.c.sku,
            delta.label("delta"),
            entries.label("entries"),
        )
        .where(adjustment.c.tenant_id == VERIFIED_TENANT, adjustment.c.transfer_id.is_not(None))
        .group_by(adjustment.c.transfer_id, adjustment.c.sku)
        .having((delta != 0) | (entries != 2))  # noqa: PLR2004 - one out, one in
        .order_by(adjustment.c.transfer_id, adjustment.c.sku)
        .limit(1)
    )


def wrong_sums() -> Select[Any]:
    """Return the first sum that is not that of the ledger.

    A sum has as much more than the one before it in its group as there is in the ledger between the
    two. So each is taken once for itself, and once away from the next one.
    """
    group = [ledger_sum.c[name] for name in ("kind", "reference", "sku")]
    until = (
        select(tenant.c.summed_until).where(tenant.c.tenant_id == VERIFIED_TENANT).scalar_subquery()
    )
    holds = [ledger_sum.c.tenant_id == VERIFIED_TENANT, ledger_sum.c.until <= until]
    there = select(*group, ledger_sum.c.until).where(*holds).distinct().subquery("there")
    in_group = [there.c[it.name] for it in group]
    since, following = (
        find(there.c.until).over(partition_by=in_group, order_by=there.c.until)
        for find in (func.lag, func.lead)
    )
    steps = select(*there.c, since.label("since"), following.label("following")).cte("steps")
    kept = [ledger_sum.c[name] for name in FIGURES]
    told = [ledger_sum.c[name] for name in COMBINATION]
    itself = select(*group, ledger_sum.c.until, *told, *kept).where(*holds)
    is_same = and_(*(steps.c[it.name] == it for it in (*group, ledger_sum.c.until)))
    away = (
        select(*group, steps.c.following, *told, *(-it for it in kept))
        .select_from(ledger_sum.join(steps, is_same))
        .where(*holds, steps.c.following.is_not(None))
    )
    both = union_all(itself, away, *(_between(kind, steps) for kind in Group)).subquery("both")
    same = [both.c[name] for name in (*(it.name for it in group), "until", *COMBINATION)]
    return (
        select(*same)
        .group_by(*same)
        .having(or_(*(func.sum(both.c[name]) != 0 for name in FIGURES)))
        .order_by(both.c.until, *same)
        .limit(1)
    )


def _between(kind: Group, steps: FromClause) -> Select[Any]:
    """Return what there is in the ledger between one sum of a group and the next, as negatives."""
    at = adjustment.c.created_at
    is_between = and_(
        adjustment.c.tenant_id == VERIFIED_TENANT,
        *(adjustment.c[name] == steps.c[name] for name in IN_COMMON[kind]),
        at >= func.coalesce(steps.c.since, beginning()),
        at < steps.c.until,
    )
    entries = (
        select(*(steps.c[name] for name in ("kind", "reference", "sku", "until")), *entry())
        # Steps first: inside out, SQLite would look through all of them for each adjustment.
        .select_from(steps.join(adjustment, is_between, isouter=True))
        .where(steps.c.kind == literal_column(f"'{kind}'", Text))
        .subquery(f"entries_{kind.name.lower()}")
    )
    keys = [it for it in entries.c if it.name not in FIGURES]
    sums = select(*keys, *(-func.sum(entries.c[name]) for name in FIGURES)).group_by(*keys)
    return sums.having(func.count(entries.c.delta_upper) > ZERO)


def _wrongly_reserved() -> Select[Any]:
    of, (held, held_by) = stock_level.c, held_of_level()
    return (
        select(of.sku, of.warehouse_id, of.reserved, of.holds, held, held_by)
        .where(of.tenant_id == VERIFIED_TENANT, (of.reserved != held) | (of.holds != held_by))
        .order_by(of.sku, of.warehouse_id)
        .limit(1)
    )


def held_of_level() -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Return how much the lines of reservations hold of a stock level, and how many do."""
    held, held_by = (
        select(cast(figure, BigInteger))
        .where(
            reservation_line.c.tenant_id == stock_level.c.tenant_id,
            reservation_line.c.sku == stock_level.c.sku,
            reservation_line.c.warehouse_id == stock_level.c.warehouse_id,
            reservation_line.c.held > ZERO,
        )
        .correlate(stock_level)
        .scalar_subquery()
        for figure in (func.coalesce(func.sum(reservation_line.c.held), 0), func.count())
    )
    return held.label("held"), held_by.label("held_by")


def wrong_reservation_counts() -> Select[Any]:
    """Return the statuses, over all and by reference, that are counted to have other numbers."""
    counts, found = reservation_count.c, reservation.c
    kept = select(counts.reference, counts.status, counts.reservations, ZERO.label("derived"))
    mine, status = found.tenant_id == VERIFIED_TENANT, found.status
    of_all = select(EMPTY, status, ZERO, func.count()).where(mine).group_by(status)
    of_references = (
        select(found.reference, status, ZERO, func.count())
        .where(mine, found.reference.is_not(None))
        .group_by(found.reference, status)
    )
    both = union_all(
        kept.where(counts.tenant_id == VERIFIED_TENANT), of_all, of_references
    ).subquery("both")
    sums = [func.sum(both.c[name]) for name in ("reservations", "derived")]
    keys = both.c.reference, both.c.status
    return (
        select(*keys, sums[0].label("kept"), sums[1].label("derived"))
        .group_by(*keys)
        .having(sums[0] != sums[1])
        .order_by(*keys)
    )


def _wrongly_held() -> Select[Any]:
    same = (reservation_line.c.tenant_id == reservation.c.tenant_id) & (
        reservation_line.c.reservation_id == reservation.c.id
    )
    is_open = reservation.c.status == ReservationStatus.OPEN.value
    rightly_held = case((is_open, reservation_line.c.quantity), else_=0)
    return (
        select(reservation.c.id, reservation.c.status, reservation_line)
        .select_from(reservation_line.join(reservation, same))
        .where(
            reservation_line.c.tenant_id == VERIFIED_TENANT,
            reservation_line.c.held != rightly_held,
        )
        .limit(1)
    )


def _unchanged(kept: Head, found: Head) -> None:
    if found == kept:
        return
    number = (
        f"there are {found.adjustments} adjustments now, and there were {kept.adjustments}"
        if found.adjustments != kept.adjustments
        else f"the {found.adjustments} adjustments are not those that there were"
    )
    message = (
        f"the history of {kept.tenant_id} until {format_instant(kept.until)} has been changed "
        f"since its head was taken: {number}"
    )
    raise LedgerBroken(message)


def _counted_as(row: Row[Any], figures: Figures) -> str:
    return f"{ARCHIVED_PREFIX if row.archived_at else ''}{figures.status}"


def _name(row: Row[Any]) -> str:
    return f"({row.sku}, {row.warehouse_id})"


def _equal(name: str, found: object, derived: object) -> None:
    if found != derived:
        message = f"{name} is {found}, and should be {derived}"
        raise LedgerBroken(message)
