"""SQL of figures that are derived from the ledger, the stock and the reservations."""

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Row,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    union_all,
    update,
)

from app.database.parameters import TENANT
from app.database.session import DriverSession
from app.database.tables import (
    adjustment,
    ledger_sum,
    reservation,
    reservation_count,
    reservation_line,
    sku,
    sku_count,
    sku_word,
    stock_level,
    warehouse,
)
from app.domain.quantities import ARCHIVED_PREFIX
from app.domain.records import ReservationStatus
from app.domain.words import stored_words
from app.ledger.totals import (
    EMPTY,
    GROUP_COLUMNS,
    SUM_FIGURES,
    SUM_KEY,
    ZERO,
    Group,
    entry_columns,
)

GROUP_KEY: Final = tuple(ledger_sum.c[name] for name in ("kind", "reference", "sku"))


def unbalanced_transfers() -> Select[Any]:
    """Select the first transfer of a SKU without two adjustments that sum to 0."""
    delta, entries = func.sum(adjustment.c.delta), func.count()
    return (
        select(
            adjustment.c.transfer_id,
            adjustment.c.sku,
            delta.label("delta"),
            entries.label("entries"),
        )
        .where(adjustment.c.tenant_id == TENANT, adjustment.c.transfer_id.is_not(None))
        .group_by(adjustment.c.transfer_id, adjustment.c.sku)
        .having((delta != 0) | (entries != 2))  # noqa: PLR2004 - one out, one in
        .order_by(adjustment.c.transfer_id, adjustment.c.sku)
        .limit(1)
    )


def wrong_sums() -> Select[Any]:
    """Select the first row of a rollup that differs from the ledger.

    A rollup exceeds the one before it in its group by the entries between the two. So each rollup
    is added once, and subtracted once from the next one together with the entries between them.
    Each row must then sum to 0. No rollup may end after the last entry.
    """
    is_tenant = ledger_sum.c.tenant_id == TENANT
    steps = _steps(is_tenant)
    figures = [ledger_sum.c[name] for name in SUM_FIGURES]
    key = [ledger_sum.c[name] for name in SUM_KEY]
    added = select(*GROUP_KEY, ledger_sum.c.until, *key, *figures).where(is_tenant)
    is_same = and_(*(steps.c[column.name] == column for column in (*GROUP_KEY, ledger_sum.c.until)))
    subtracted = (
        select(*GROUP_KEY, steps.c.following, *key, *(-figure for figure in figures))
        .select_from(ledger_sum.join(steps, is_same))
        .where(is_tenant, steps.c.following.is_not(None))
    )
    between = [_between(kind, steps) for kind in Group]
    both = union_all(added, subtracted, *between).subquery("both")
    row = [both.c[name] for name in (*(column.name for column in GROUP_KEY), "until", *SUM_KEY)]
    last = select(func.coalesce(func.max(adjustment.c.position), ZERO)).where(
        adjustment.c.tenant_id == TENANT
    )
    is_late = both.c.until > last.scalar_subquery()
    return (
        select(*row)
        .group_by(*row)
        .having(or_(is_late, *(func.sum(both.c[name]) != 0 for name in SUM_FIGURES)))
        .order_by(both.c.until, *row)
        .limit(1)
    )


def _steps(is_tenant: ColumnElement[bool]) -> FromClause:
    """Rollups with the `until` of the ones before and after them in their group."""
    rollups = select(*GROUP_KEY, ledger_sum.c.until).where(is_tenant).distinct().subquery("there")
    in_group = [rollups.c[column.name] for column in GROUP_KEY]
    since, following = (
        neighbor(rollups.c.until).over(partition_by=in_group, order_by=rollups.c.until)
        for neighbor in (func.lag, func.lead)
    )
    return select(*rollups.c, since.label("since"), following.label("following")).cte("steps")


def _between(kind: Group, steps: FromClause) -> Select[Any]:
    """Select the negative sums of the entries between each rollup and the one before it."""
    at = adjustment.c.position
    is_between = and_(
        adjustment.c.tenant_id == TENANT,
        *(adjustment.c[name] == steps.c[name] for name in GROUP_COLUMNS[kind]),
        at > func.coalesce(steps.c.since, ZERO),
        at <= steps.c.until,
    )
    entries = (
        select(*(steps.c[name] for name in ("kind", "reference", "sku", "until")), *entry_columns())
        # An outer join, because SQLite would otherwise read all steps for each adjustment.
        .select_from(steps.join(adjustment, is_between, isouter=True))
        .where(steps.c.kind == literal_column(f"'{kind}'", Text))
        .subquery(f"entries_{kind.name.lower()}")
    )
    keys = [column for column in entries.c if column.name not in SUM_FIGURES]
    sums = select(*keys, *(-func.sum(entries.c[name]) for name in SUM_FIGURES)).group_by(*keys)
    return sums.having(func.count(entries.c.delta_upper) > ZERO)


def wrong_reserved_quantities() -> Select[Any]:
    """Select the first stock level whose `reserved` or `holds` differs from the held lines."""
    level, (held, held_by) = stock_level.c, held_of_level()
    return (
        select(level.sku, level.warehouse_id, level.reserved, level.holds, held, held_by)
        .where(level.tenant_id == TENANT, (level.reserved != held) | (level.holds != held_by))
        .order_by(level.sku, level.warehouse_id)
        .limit(1)
    )


def wrong_reserved_of_warehouses() -> Select[Any]:
    """Select the warehouses whose `reserved` is not the sum over their levels."""
    derived = reserved_of_warehouse()
    return (
        select(warehouse.c.id, warehouse.c.reserved, derived.label("derived"))
        .where(warehouse.c.tenant_id == TENANT, warehouse.c.reserved != derived)
        .order_by(warehouse.c.id)
    )


def reserved_of_warehouse() -> ColumnElement[int]:
    """Column of a warehouse: the sum of the reserved quantities of its levels."""
    return (
        select(cast(func.coalesce(func.sum(stock_level.c.reserved), 0), BigInteger))
        .where(stock_level.c.tenant_id == TENANT, stock_level.c.warehouse_id == warehouse.c.id)
        .correlate(warehouse)
        .scalar_subquery()
    )


def held_of_level() -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Columns of a stock level: the held quantity and the number of lines that hold it."""
    held, held_by = (
        select(cast(figure, BigInteger))
        .where(
            reservation_line.c.tenant_id == TENANT,
            reservation_line.c.sku == stock_level.c.sku,
            reservation_line.c.warehouse_id == stock_level.c.warehouse_id,
            reservation_line.c.held > ZERO,
        )
        .correlate(stock_level)
        .scalar_subquery()
        for figure in (func.coalesce(func.sum(reservation_line.c.held), 0), func.count())
    )
    return held.label("held"), held_by.label("held_by")


def wrong_holds() -> Select[Any]:
    """Select the first line that holds stock although it must not, or the reverse."""
    is_line = (reservation_line.c.tenant_id == reservation.c.tenant_id) & (
        reservation_line.c.reservation_id == reservation.c.id
    )
    is_open = reservation.c.status == ReservationStatus.OPEN.value
    derived = case((is_open, reservation_line.c.quantity), else_=0)
    return (
        select(reservation.c.id, reservation.c.status, reservation_line)
        .select_from(reservation_line.join(reservation, is_line))
        .where(reservation_line.c.tenant_id == TENANT, reservation_line.c.held != derived)
        .limit(1)
    )


def wrong_reservation_counts() -> Select[Any]:
    """Select the wrong counts of reservations, by reference (empty for all) and status.

    `kept` is the stored number and `derived` the counted one.
    """
    counts = reservation_count.c
    kept = select(counts.reference, counts.status, counts.reservations, ZERO.label("derived"))
    counted = _counted_reservations().subquery("counted").c
    derived = select(counted.reference, counted.status, ZERO, counted.reservations)
    both = union_all(kept.where(counts.tenant_id == TENANT), derived).subquery("both")
    sums = [cast(func.sum(both.c[name]), BigInteger) for name in ("reservations", "derived")]
    keys = both.c.reference, both.c.status
    return (
        select(*keys, sums[0].label("kept"), sums[1].label("derived"))
        .group_by(*keys)
        .having(sums[0] != sums[1])
        .order_by(*keys)
    )


class WordsOfSku(NamedTuple):
    """The stored words of a SKU, and those of its code and title."""

    sku: str
    stored: set[str]
    derived: set[str]


def skus_with_words() -> Select[Any]:
    """Select the title of each SKU and each of its words, by code; a row has one of the two.

    A join would take the product of both tables, because words have no index by SKU.
    """
    titles = select(sku.c.sku, sku.c.title, null().label("word")).where(sku.c.tenant_id == TENANT)
    words = select(sku_word.c.sku, null(), sku_word.c.word).where(sku_word.c.tenant_id == TENANT)
    both = union_all(titles, words).subquery("both").c
    return select(both.sku, both.title, both.word).order_by(both.sku)


async def wrong_words(rows: AsyncIterator[Row[Any]]) -> AsyncIterator[WordsOfSku]:
    """Yield the words of SKUs that differ from their code and title."""
    code, title, stored = "", None, set[str]()
    async for row in rows:
        if row.sku != code:
            if words := _wrong(code, title, stored):
                yield words
            code, title, stored = row.sku, None, set()
        if row.word is None:
            title = row.title
        else:
            stored.add(row.word)
    if words := _wrong(code, title, stored):
        yield words


def _wrong(code: str, title: str | None, stored: set[str]) -> WordsOfSku | None:
    if title is None:
        return None
    derived = stored_words(code, title)
    return WordsOfSku(code, stored, derived) if stored != derived else None


def _counted_reservations() -> CompoundSelect[Any]:
    """Count the reservations, all and those of each reference, as in `reservation_count`."""
    rows, number = reservation.c, func.count().label("reservations")
    is_tenant, status = rows.tenant_id == TENANT, rows.status
    of_all = select(EMPTY.label("reference"), status, number).where(is_tenant).group_by(status)
    of_references = (
        select(rows.reference, status, number)
        .where(is_tenant, rows.reference.is_not(None))
        .group_by(rows.reference, status)
    )
    return union_all(of_all, of_references)


def counted_skus() -> CompoundSelect[Any]:
    """Count the SKUs, all and those of each warehouse, as in `sku_count`."""
    number = func.count().label("skus")
    in_all, in_one = (_counted_as(table).label("status") for table in (sku, stock_level))
    of_all = select(EMPTY.label("warehouse_id"), in_all, number).group_by(in_all)
    of_levels = select(stock_level.c.warehouse_id, in_one, number)
    return union_all(
        of_all.where(sku.c.tenant_id == TENANT),
        of_levels.where(stock_level.c.tenant_id == TENANT).group_by(
            stock_level.c.warehouse_id, in_one
        ),
    )


def _counted_as(table: Table) -> ColumnElement[str]:
    """Status of a SKU or level in `sku_count`."""
    is_archived = table.c.archived_at.is_not(None)
    prefix = literal_column(f"'{ARCHIVED_PREFIX}'", Text)
    return case((is_archived, prefix), else_=EMPTY).concat(table.c.status)


async def replace_counts(session: DriverSession, tenant_id: str) -> None:
    """Derive all counts of a tenant, and the reserved quantities of its warehouses, again."""
    for table, counted in (
        (sku_count, counted_skus()),
        (reservation_count, _counted_reservations()),
    ):
        rows = counted.subquery("counted")
        names = ["tenant_id", *rows.c.keys()]
        insertion = table.insert().from_select(names, select(TENANT, *rows.c))
        await session.execute(table.delete().where(table.c.tenant_id == tenant_id))
        await session.execute(insertion, {"tenant_id": tenant_id})
    await session.execute(
        update(warehouse)
        .where(warehouse.c.tenant_id == TENANT)
        .values(reserved=reserved_of_warehouse()),
        {"tenant_id": tenant_id},
    )
