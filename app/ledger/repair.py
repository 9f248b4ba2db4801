"""Repairing figures that are derived: from the ledger, and never the ledger itself."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    Table,
    Text,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.clocks import Present
from app.database.engine import Database
from app.database.tables import (
    adjustment,
    ledger_sum,
    reservation_count,
    sku,
    sku_count,
    stock_level,
)
from app.domain.instants import format_instant
from app.domain.quantities import ARCHIVED_PREFIX, Figures, total_figures
from app.ledger.rollup import UNHURRIED, reopen, sum_up, summed_alone
from app.ledger.verification import held_of_level, wrong_reservation_counts, wrong_sums

SKUS_AT_ONCE: Final = 500


async def repair_tenant(database: Database, tenant: str) -> list[str]:
    """Derive levels, SKUs, counts and sums again, and return what was wrong, in words.

    The ledger must have been found whole. A transaction repairs a batch of SKUs, and keeps others
    away from these alone; for the counts all writers wait, and for the sums of the ledger nobody.
    """
    repaired: list[str] = []
    after: str | None = ""
    while after is not None:
        after, found = await database.transaction(partial(_repair_skus, tenant, after))
        repaired += found
    repaired += await database.transaction(partial(_repair_counts, tenant))
    repaired += await database.transaction(partial(_repair_reservation_counts, tenant))
    return repaired + await _repair_sums(database, tenant)


async def _repair_skus(
    tenant: str, after: str, connection: AsyncConnection
) -> tuple[str | None, list[str]]:
    """Repair the next SKUs, and return the last of them; None if there are no more."""
    page = (
        select(sku.c.sku, sku.c.status, sku.c.archived_at)
        .where(sku.c.tenant_id == tenant, sku.c.sku > after)
        .order_by(sku.c.sku)
        .limit(SKUS_AT_ONCE)
    )
    if connection.dialect.name == "postgresql":
        page = page.with_for_update(key_share=True)
    skus = (await connection.execute(page)).all()
    if not skus:
        return None, []
    # A statement of its own: it sees what the one before waited for.
    statement = _levels_with_last_entries(tenant, skus[0].sku, skus[-1].sku)
    levels = (await connection.execute(statement)).all()
    archived = {row.sku: row.archived_at for row in skus}
    repaired = [
        told
        for level in levels
        for told in await _repair_level(connection, level, archived_at=archived[level.sku])
    ]
    touched: dict[str, list[Figures]] = {}
    for level in levels:
        touched.setdefault(level.sku, []).append(_figures(level))
    for row in skus:
        status = total_figures(touched.get(row.sku, [])).status
        if row.status != status:
            repaired.append(f"status of SKU {row.sku} was {row.status}, and is {status}")
            await _update_sku(connection, tenant, row.sku, status=status)
    return skus[-1].sku, repaired


def _levels_with_last_entries(tenant: str, first: str, last: str) -> Select[Any]:
    entry = adjustment.alias("entry").c
    newest = (
        select(func.max(entry.sequence))
        .where(
            entry.tenant_id == stock_level.c.tenant_id,
            entry.sku == stock_level.c.sku,
            entry.warehouse_id == stock_level.c.warehouse_id,
        )
        .correlate(stock_level)
        .scalar_subquery()
    )
    is_newest = (
        (adjustment.c.tenant_id == stock_level.c.tenant_id)
        & (adjustment.c.sku == stock_level.c.sku)
        & (adjustment.c.warehouse_id == stock_level.c.warehouse_id)
        & (adjustment.c.sequence == newest)
    )
    return (
        select(
            stock_level,
            *(adjustment.c.after_quantity, adjustment.c.sequence, adjustment.c.created_at),
            adjustment.c.hash,
            *held_of_level(),
        )
        .select_from(stock_level.join(adjustment, is_newest, isouter=True))
        .where(
            stock_level.c.tenant_id == tenant,
            stock_level.c.sku >= first,
            stock_level.c.sku <= last,
        )
        .order_by(stock_level.c.sku, stock_level.c.warehouse_id)
    )


def _figures(level: Any) -> Figures:  # noqa: ANN401 - a row
    return Figures(level.after_quantity or 0, level.held, level.safety_stock)


async def _repair_level(
    connection: AsyncConnection,
    level: Any,  # noqa: ANN401 - a row
    *,
    archived_at: datetime | None,
) -> list[str]:
    figures = _figures(level)
    right: dict[str, Any] = {
        "on_hand": figures.on_hand,
        "reserved": figures.reserved,
        "version": level.sequence or 0,
        "adjusted_at": level.created_at,
        "status": figures.status,
        "archived_at": archived_at,
        "last_hash": level.hash,
        "holds": level.held_by,
    }
    wrong = {name: value for name, value in right.items() if getattr(level, name) != value}
    if wrong:
        mine = (
            (stock_level.c.tenant_id == level.tenant_id)
            & (stock_level.c.sku == level.sku)
            & (stock_level.c.warehouse_id == level.warehouse_id)
        )
        await connection.execute(update(stock_level).where(mine).values(wrong))
        await _update_sku(connection, level.tenant_id, level.sku)
    where = f"stock level ({level.sku}, {level.warehouse_id})"
    return [
        f"{name} of {where} was {getattr(level, name)}, and is {value}"
        for name, value in wrong.items()
    ]


async def _update_sku(
    connection: AsyncConnection, tenant: str, code: str, **values: object
) -> None:
    """Change a SKU; whoever has read it before has read another version."""
    await connection.execute(
        update(sku)
        .where(sku.c.tenant_id == tenant, sku.c.sku == code)
        .values(version=sku.c.version + 1, updated_at=Present(), **values)
    )


async def _repair_counts(tenant: str, connection: AsyncConnection) -> list[str]:
    if connection.dialect.name == "postgresql":
        # Every write that moves a count has this table in its statement, so that it waits whole.
        await connection.execute(text("LOCK TABLE sku_count IN SHARE ROW EXCLUSIVE MODE"))
    mine = sku_count.c.tenant_id == tenant
    found = await connection.execute(
        select(sku_count.c.warehouse_id, sku_count.c.status, sku_count.c.skus).where(mine)
    )
    kept = {(row.warehouse_id, row.status): row.skus for row in found}
    derived: dict[tuple[str, str], int] = {}
    for statement in _countings(tenant):
        derived |= {(row[0], row[1]): row[2] for row in await connection.execute(statement)}
    wrong = [
        pair for pair in sorted(kept.keys() | derived) if kept.get(pair, 0) != derived.get(pair, 0)
    ]
    await _replace_counts(connection, tenant, wrong, derived)
    return [
        f"count of {status} SKUs in {place or 'all warehouses'} was "
        f"{kept.get((place, status), 0)}, and is {derived.get((place, status), 0)}"
        for place, status in wrong
    ]


def _countings(tenant: str) -> Sequence[Executable]:
    everywhere = bindparam("everywhere", "", Text)
    of_skus = select(everywhere, _counted_as(sku), func.count())
    place, status = stock_level.c.warehouse_id, _counted_as(stock_level)
    of_levels = select(place, status, func.count())
    return (
        of_skus.where(sku.c.tenant_id == tenant).group_by(_counted_as(sku)),
        of_levels.where(stock_level.c.tenant_id == tenant).group_by(place, status),
    )


def _counted_as(table: Table) -> ColumnElement[str]:
    is_archived = table.c.archived_at.is_not(None)
    return case(
        (is_archived, literal_column(f"'{ARCHIVED_PREFIX}'")), else_=literal_column("''")
    ).concat(table.c.status)


async def _repair_reservation_counts(tenant: str, connection: AsyncConnection) -> list[str]:
    if connection.dialect.name == "postgresql":
        await connection.execute(text("LOCK TABLE reservation_count IN SHARE ROW EXCLUSIVE MODE"))
    wrong = (await connection.execute(wrong_reservation_counts(), {"tenant": tenant})).all()
    for row in wrong:
        counted = {"tenant_id": tenant, "reference": row.reference, "status": row.status}
        is_counted = [reservation_count.c[name] == value for name, value in counted.items()]
        await connection.execute(delete(reservation_count).where(*is_counted))
        right = {**counted, "part": 0, "reservations": row.derived}
        await connection.execute(reservation_count.insert(), right)
    return [
        f"count of {row.status} reservations{f' of {row.reference}' if row.reference else ''} was "
        f"{row.kept}, and is {row.derived}"
        for row in wrong
    ]


async def _repair_sums(database: Database, tenant: str) -> list[str]:
    async with database.snapshot() as snapshot:
        if database.dialect == "postgresql":
            await snapshot.rows(UNHURRIED, {})
        wrong = await snapshot.rows(wrong_sums(), {"tenant": tenant})
    if not wrong:
        return []
    first = wrong[0].until

    async def forget(connection: AsyncConnection) -> None:
        # What is kept meanwhile would follow from what is wrong.
        await summed_alone(tenant, connection)
        mine = ledger_sum.c.tenant_id == tenant
        await connection.execute(delete(ledger_sum).where(mine, ledger_sum.c.until >= first))
        last = select(func.max(ledger_sum.c.until)).where(mine)
        await reopen(tenant, await connection.scalar(last), connection)

    await database.transaction(forget)
    while await sum_up(database, tenant):
        pass
    start = format_instant(first)
    return [f"what the ledger was summed up to from {start} on was wrong, and is not now"]


async def _replace_counts(
    connection: AsyncConnection,
    tenant: str,
    wrong: Sequence[tuple[str, str]],
    derived: dict[tuple[str, str], int],
) -> None:
    for place, status in wrong:
        mine = (
            (sku_count.c.tenant_id == tenant)
            & (sku_count.c.warehouse_id == place)
            & (sku_count.c.status == status)
        )
        await connection.execute(delete(sku_count).where(mine))
        row = {"tenant_id": tenant, "warehouse_id": place, "status": status}
        if skus := derived.get((place, status), 0):
            await connection.execute(sku_count.insert(), {**row, "skus": skus})
