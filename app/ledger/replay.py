"""Replays a tenant's ledger in the order of its positions, and every level's history."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from sqlalchemy import Row, Select, Table, func, select

from app.database.columns import occurrence_of
from app.database.parameters import TENANT
from app.database.session import DriverSession
from app.database.tables import adjustment, sku, stock_level
from app.domain.hash_chain import HASHED_COLUMNS, Head, chain_hash
from app.domain.instants import format_instant

VERIFY_BATCH_ROWS: Final = 2_000
SAME_SKU: Final = (stock_level.c.tenant_id == sku.c.tenant_id) & (stock_level.c.sku == sku.c.sku)
SAME_LEVEL: Final = (
    (adjustment.c.tenant_id == stock_level.c.tenant_id)
    & (adjustment.c.sku == stock_level.c.sku)
    & (adjustment.c.warehouse_id == stock_level.c.warehouse_id)
)
# Receives the number of adjustments replayed so far.
ReportReplayed = Callable[[int], None]
# Receives a stock level and its last adjustment, or None if it has none.
LevelEnds = Callable[[Row[Any], Row[Any] | None], None]


class LedgerBroken(Exception):
    """The first break of a ledger or of a derived figure, as a message."""


async def replay_chain(
    session: DriverSession, tenant_id: str, *, head: Head | None, progress: ReportReplayed
) -> Head:
    """Check the chain of a tenant's ledger, and return its head.

    With the head of an earlier replay, the history until then must be unchanged.

    Raises:
        LedgerBroken: names the first break.

    """
    last, previous = Head(tenant_id), None
    _require_head(head, last)
    async for row in stream_rows(session, tenant_id, _adjustments()):
        name = _name_of(row)
        require_equal(f"position of {name}", row.position, last.position + 1)
        if previous and row.created_at < previous.created_at:
            message = (
                f"created_at of {name} is {format_instant(row.created_at)}, earlier than "
                f"{format_instant(previous.created_at)} of the adjustment before it"
            )
            raise LedgerBroken(message)
        entry = {column: getattr(row, column) for column in HASHED_COLUMNS}
        entry["created_at"] = format_instant(row.created_at)
        entry["occurred_at"] = row.occurred_at and format_instant(row.occurred_at)
        hash_ = chain_hash(previous.hash if previous else None, tenant_id, entry)
        if row.hash != hash_:
            message = f"{name} is not as it was written: its hash is {row.hash}, not {hash_}"
            raise LedgerBroken(message)
        last, previous = Head(tenant_id, row.position, hash_), row
        _require_head(head, last)
        if row.position % VERIFY_BATCH_ROWS == 0:
            progress(row.position)
    if head and head.position > last.position:
        raise _changed(head, f"the ledger ends at position {last.position}")
    return last


async def replay_levels(
    session: DriverSession, tenant_id: str, *, adjustments: int, level_ends: LevelEnds
) -> None:
    """Check the quantities of the adjustments of every stock level.

    `adjustments` is the number of entries of the ledger: each must belong to a level. `level_ends`
    is called after the last adjustment of a level.

    Raises:
        LedgerBroken: names the first break.

    """
    level, previous, followed = None, None, 0
    async for row in stream_rows(session, tenant_id, _levels_with_adjustments()):
        if level is None or (row.sku, row.warehouse_id) != (level.sku, level.warehouse_id):
            if level is not None:
                level_ends(level, previous)
            level, previous = row, None
        if row.id is not None:
            _require_follows(row, previous)
            previous = row
            followed += 1
    if level is not None:
        level_ends(level, previous)
    require_equal("the number of adjustments that belong to a stock level", followed, adjustments)


def _require_follows(row: Row[Any], previous: Row[Any] | None) -> None:
    """Check an adjustment against the previous one of its level."""
    name = _name_of(row)
    before = previous.after_quantity if previous else 0
    sequence = previous.sequence + 1 if previous else 1
    require_equal(f"sequence of {name}", row.sequence, sequence)
    require_equal(f"before_quantity of {name}", row.before_quantity, before)
    require_equal(f"after_quantity of {name}", row.after_quantity, row.before_quantity + row.delta)


def _require_head(head: Head | None, replayed: Head) -> None:
    if head and head.position == replayed.position and head != replayed:
        raise _changed(head, f"its hash is {replayed.hash}, not {head.hash}")


def _changed(head: Head, difference: str) -> LedgerBroken:
    message = (
        f"the history of {head.tenant_id} up to position {head.position} has been changed since "
        f"its head was taken: {difference}"
    )
    return LedgerBroken(message)


def _adjustments() -> Select[Any]:
    columns = (adjustment.c[name] for name in (*HASHED_COLUMNS, "hash"))
    return select(*columns).where(adjustment.c.tenant_id == TENANT).order_by(adjustment.c.position)


def _levels_with_adjustments() -> Select[Any]:
    names = ("id", "sequence", "before_quantity", "after_quantity", "delta")
    level = stock_level.c.sku, stock_level.c.warehouse_id
    latest = func.max(occurrence_of(adjustment.c)).over(
        partition_by=level, order_by=adjustment.c.position
    )
    return (
        select(
            stock_level,
            *(adjustment.c[name] for name in (*names, "created_at")),
            latest.label("latest_occurrence"),
            sku.c.archived_at.label("archived_at_of_sku"),
        )
        .select_from(
            stock_level.join(sku, SAME_SKU, isouter=True).join(adjustment, SAME_LEVEL, isouter=True)
        )
        .where(stock_level.c.tenant_id == TENANT)
        .order_by(stock_level.c.sku, stock_level.c.warehouse_id, adjustment.c.position)
    )


async def stream_rows(
    session: DriverSession, tenant_id: str, statement: Select[Any]
) -> AsyncIterator[Row[Any]]:
    """Stream the tenant's rows of a statement, in batches."""
    parameters = {"tenant_id": tenant_id}
    async for rows in session.stream(statement, parameters, size=VERIFY_BATCH_ROWS):
        for row in rows:
            yield row


async def require_all_rows(
    session: DriverSession, tenant_id: str, table: Table, number: int
) -> None:
    """Check that a table has as many of the tenant's rows as were checked.

    Raises:
        LedgerBroken: there are other rows.

    """
    rows = select(func.count()).select_from(table).where(table.c.tenant_id == TENANT)
    stored = await session.scalar(rows, {"tenant_id": tenant_id})
    require_equal(f"the number of rows of {table.name} that belong to another row", number, stored)


def require_equal(name: str, stored: object, derived: object) -> None:
    """Check a stored figure against the derived one.

    Raises:
        LedgerBroken: they differ.

    """
    if stored != derived:
        message = f"{name} is {stored}, and should be {derived}"
        raise LedgerBroken(message)


def level_name(row: Row[Any]) -> str:
    """Key of a stock level for messages: (SKU, warehouse id)."""
    return f"({row.sku}, {row.warehouse_id})"


def _name_of(row: Row[Any]) -> str:
    return f"adjustment {row.id} of {level_name(row)}"
