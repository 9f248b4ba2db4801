"""Replays the adjustments of all stock levels of a tenant and checks every link of their chains."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, Table, func, select

from app.database.parameters import TENANT
from app.database.session import DriverSession
from app.database.tables import adjustment, sku, stock_level
from app.domain.hash_chain import HASHED_COLUMNS, Head, HeadBuilder, chain_hash
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


class LedgerReplay:
    """A replay of a tenant's ledger in one snapshot and bounded memory.

    `level_ends` is called after the last adjustment of each stock level. With the `head` of an
    earlier proof, the history until then must be unchanged.
    """

    def __init__(
        self,
        session: DriverSession,
        tenant_id: str,
        *,
        head: Head | None,
        level_ends: LevelEnds,
        progress: ReportReplayed,
    ) -> None:
        self.adjustments = 0
        self._session = session
        self._tenant_id = tenant_id
        self._head = head
        self._level_ends = level_ends
        self._progress = progress
        self._covered: list[HeadBuilder] = []

    def cover(self, until: datetime) -> HeadBuilder:
        """Collect the adjustments until an instant, inclusive, for a head."""
        self._covered.append(HeadBuilder(self._tenant_id, until))
        return self._covered[-1]

    async def run(self) -> None:
        """Replay the adjustments of every stock level.

        Raises:
            LedgerBroken: names the first break.

        """
        covered = self.cover(self._head.until) if self._head else None
        level, previous = None, None
        async for row in stream_rows(self._session, self._tenant_id, _levels_with_adjustments()):
            if level is None or (row.sku, row.warehouse_id) != (level.sku, level.warehouse_id):
                if level is not None:
                    self._level_ends(level, previous)
                level, previous = row, None
            if row.id is not None:
                self._follow(row, previous)
                previous = row
        if level is not None:
            self._level_ends(level, previous)
        await require_all_rows(self._session, self._tenant_id, adjustment, self.adjustments)
        if self._head and covered:
            _require_same_history(self._head, covered.head())

    def _follow(self, row: Row[Any], previous: Row[Any] | None) -> None:
        """Check an adjustment against the previous one of its level."""
        name = f"adjustment {row.id} of {level_name(row)}"
        before = previous.after_quantity if previous else 0
        sequence = previous.sequence + 1 if previous else 1
        require_equal(f"sequence of {name}", row.sequence, sequence)
        require_equal(f"before_quantity of {name}", row.before_quantity, before)
        require_equal(
            f"after_quantity of {name}", row.after_quantity, row.before_quantity + row.delta
        )
        if previous and row.created_at < previous.created_at:
            message = (
                f"created_at of {name} is {format_instant(row.created_at)}, earlier than "
                f"{format_instant(previous.created_at)} of the previous adjustment"
            )
            raise LedgerBroken(message)
        self._require_hash(name, row, previous)
        for covered in self._covered:
            covered.add((row.sku, row.warehouse_id), row.sequence, row.hash, row.created_at)
        self.adjustments += 1
        if self.adjustments % VERIFY_BATCH_ROWS == 0:
            self._progress(self.adjustments)

    def _require_hash(self, name: str, row: Row[Any], previous: Row[Any] | None) -> None:
        entry = {column: getattr(row, column) for column in HASHED_COLUMNS}
        entry["created_at"] = format_instant(row.created_at)
        hash_ = chain_hash(previous.hash if previous else None, self._tenant_id, entry)
        if row.hash != hash_:
            message = f"{name} is not as it was written: its hash is {row.hash}, not {hash_}"
            raise LedgerBroken(message)


def _levels_with_adjustments() -> Select[Any]:
    return (
        select(
            stock_level,
            *(adjustment.c[name] for name in HASHED_COLUMNS if name not in stock_level.c),
            adjustment.c.hash,
            sku.c.archived_at.label("archived_at_of_sku"),
        )
        .select_from(
            stock_level.join(sku, SAME_SKU, isouter=True).join(adjustment, SAME_LEVEL, isouter=True)
        )
        .where(stock_level.c.tenant_id == TENANT)
        .order_by(stock_level.c.sku, stock_level.c.warehouse_id, adjustment.c.sequence)
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


def _require_same_history(head: Head, replayed: Head) -> None:
    if replayed == head:
        return
    difference = (
        f"it has {replayed.adjustments} adjustments, not {head.adjustments}"
        if replayed.adjustments != head.adjustments
        else f"the {head.adjustments} adjustments are not the same"
    )
    message = (
        f"the history of {head.tenant_id} until {format_instant(head.until)} "
        "has been changed since its head "
        f"was taken: {difference}"
    )
    raise LedgerBroken(message)
