"""Verifies a tenant's ledger: replays every adjustment and derives every figure again.

The replayed ledger has a head: the hash of its last entry. As long as the ledger has the hash of a
head that was stored elsewhere, the history until then is unchanged, even by someone with write
access to the database.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from msgspec import structs
from sqlalchemy import Row, Select, select

from app.database.engine import Database
from app.database.parameters import TENANT
from app.database.session import DriverSession
from app.database.tables import sku, sku_count, stock_level
from app.domain.hash_chain import Head
from app.domain.quantities import ARCHIVED_PREFIX, Figures, Totals, total_figures
from app.domain.records import UNKNOWN_WAREHOUSE, LevelRecord, WarehouseRecord, empty_level
from app.ledger.authors import require_authors
from app.ledger.changes import require_changes
from app.ledger.derived_figures import (
    skus_with_words,
    unbalanced_transfers,
    wrong_holds,
    wrong_reservation_counts,
    wrong_reserved_of_warehouses,
    wrong_reserved_quantities,
    wrong_sums,
    wrong_words,
)
from app.ledger.replay import (
    SAME_SKU,
    LedgerBroken,
    ReportReplayed,
    level_name,
    replay_chain,
    replay_levels,
    require_all_rows,
    require_equal,
    stream_rows,
)
from app.reads.warehouses import get_warehouses


@dataclass
class Proof:
    """The numbers of a tenant's rows that were verified, and the head of its ledger."""

    tenant_id: str
    skus: int = 0
    stock_levels: int = 0
    adjustments: int = 0
    counts: int = 0
    # Of the feed, as far as they are kept.
    changes: int = 0
    head: str = ""


async def verify_tenant(
    database: Database,
    tenant_id: str,
    *,
    head: Head | None = None,
    progress: ReportReplayed = lambda _: None,
) -> Proof:
    """Verify a tenant's ledger and all derived figures, in one snapshot and bounded memory.

    With the `head` of an earlier proof, the history until then must be unchanged.

    Raises:
        LedgerBroken: names the first break.

    """
    async with _untimed(database) as session:
        return await prove(session, tenant_id, head=head, progress=progress)


async def prove(
    session: DriverSession, tenant_id: str, *, head: Head | None, progress: ReportReplayed
) -> Proof:
    """Verify a tenant as `verify_tenant` does, in a transaction that is open.

    Raises:
        LedgerBroken: names the first break.

    """
    last = await replay_chain(session, tenant_id, head=head, progress=progress)
    await require_authors(session, tenant_id)
    warehouses = await get_warehouses(session, tenant_id)
    check = _FigureCheck(session, tenant_id, warehouses)
    await replay_levels(session, tenant_id, adjustments=last.position, level_ends=check.level_ends)
    await check.figures()
    check.proof.changes = await require_changes(session, tenant_id, adjustments=last.position)
    check.proof.adjustments = last.position
    check.proof.head = str(last)
    return check.proof


async def verify_ledger(
    database: Database,
    tenant_id: str,
    *,
    head: Head | None = None,
    progress: ReportReplayed = lambda _: None,
) -> None:
    """Verify a tenant's adjustments alone, without the figures that are derived from them.

    Raises:
        LedgerBroken: names the first break.

    """
    async with _untimed(database) as session:
        last = await replay_chain(session, tenant_id, head=head, progress=progress)
        await require_authors(session, tenant_id)
        await replay_levels(
            session, tenant_id, adjustments=last.position, level_ends=_require_last_adjustments
        )
        await _require_balanced_transfers(session, tenant_id)


@asynccontextmanager
async def _untimed(database: Database) -> AsyncIterator[DriverSession]:
    """Open a session for reading without time limits."""
    async with database.reading() as session:
        await session.lift_time_limits()
        yield session


def _require_last_adjustments(level: Row[Any], last: Row[Any] | None) -> None:
    """Check that no adjustment is missing at the end of a level's ledger."""
    sequence = last.sequence if last else 0
    if level.version > sequence:
        message = (
            f"stock level {level_name(level)} has had {level.version} adjustments, but its ledger "
            f"ends after {sequence}: the last ones are missing"
        )
        raise LedgerBroken(message)


async def _require_balanced_transfers(session: DriverSession, tenant_id: str) -> None:
    """Check that every transfer subtracts from a level of a SKU the quantity it adds to another."""
    async for row in stream_rows(session, tenant_id, unbalanced_transfers()):
        message = (
            f"transfer {row.transfer_id} of SKU {row.sku} has {row.entries} adjustments that "
            f"sum to {row.delta}, and should have 2 that sum to 0"
        )
        raise LedgerBroken(message)


class _FigureCheck:
    """Checks of the figures that are derived from a tenant's ledger."""

    def __init__(
        self,
        session: DriverSession,
        tenant_id: str,
        warehouses: Mapping[str, WarehouseRecord],
    ) -> None:
        self.proof = Proof(tenant_id)
        self._warehouses = warehouses
        self._session = session
        self._tenant_id = tenant_id
        self._derived_counts: Counter[tuple[str, str]] = Counter()

    async def figures(self) -> None:
        """Check all figures, after the replay has checked the ones of stock levels.

        Raises:
            LedgerBroken: names the first wrong figure.

        """
        # What a level holds first: figures of its SKU follow from that.
        await self._reservations()
        await self._skus()
        await self._words()
        await self._counts()
        await self._rollups()
        await _require_balanced_transfers(self._session, self._tenant_id)

    def level_ends(self, level: Row[Any], last: Row[Any] | None) -> None:
        """Check a stock level against the last adjustment of its ledger.

        Raises:
            LedgerBroken: names the first wrong figure.

        """
        name = f"stock level {level_name(level)}"
        require_equal(f"on_hand of {name}", level.on_hand, last.after_quantity if last else 0)
        require_equal(f"version of {name}", level.version, last.sequence if last else 0)
        require_equal(
            f"adjusted_at of {name}", level.adjusted_at, last.created_at if last else None
        )
        latest = last.latest_occurrence if last else None
        require_equal(f"occurred_until of {name}", level.occurred_until, latest)
        figures = self._level_of(level)
        require_equal(f"status of {name}", level.status, figures.status)
        require_equal(f"archived_at of {name}", level.archived_at, level.archived_at_of_sku)
        if min(level.on_hand, level.reserved, level.safety_stock) < 0:
            message = (
                f"{name} has a negative quantity: on_hand {level.on_hand}, reserved "
                f"{level.reserved}, safety_stock {level.safety_stock}"
            )
            raise LedgerBroken(message)
        self._derived_counts[level.warehouse_id, _counted_as(level, figures)] += 1
        self.proof.stock_levels += 1

    async def _skus(self) -> None:
        """Derive the status and the available quantity of every SKU from its levels."""
        current, levels = None, list[LevelRecord]()
        number = 0
        async for row in self._rows(_skus_with_levels()):
            if current is None or row.sku != current.sku:
                self._sku_ends(current, total_figures(levels))
                current, levels = row, []
            if row.warehouse_id is not None:
                levels.append(self._level_of(row))
                number += 1
        self._sku_ends(current, total_figures(levels))
        # The replay reads levels without a SKU, too; this statement does not.
        require_equal("the number of stock levels that have a SKU", number, self.proof.stock_levels)
        await require_all_rows(self._session, self._tenant_id, stock_level, number)

    def _sku_ends(self, row: Row[Any] | None, figures: Totals) -> None:
        """Check a SKU against the sums over its levels."""
        if row is not None:
            require_equal(f"status of SKU {row.sku}", row.status, figures.status)
            require_equal(f"available of SKU {row.sku}", row.available, figures.available)
            self._derived_counts["", _counted_as(row, figures)] += 1
            self.proof.skus += 1

    async def _words(self) -> None:
        """Check the words of every SKU against its code and title."""
        async for words in wrong_words(self._rows(skus_with_words())):
            require_equal(f"words of SKU {words.sku}", sorted(words.stored), sorted(words.derived))

    async def _counts(self) -> None:
        """Check the counts of SKUs against the counted SKUs and levels."""
        stored: Counter[tuple[str, str]] = Counter()
        async for row in self._rows(select(sku_count).where(sku_count.c.tenant_id == TENANT)):
            stored[row.warehouse_id, row.status] = row.skus
            self.proof.counts += 1
        for warehouse_id, status in sorted(stored.keys() | self._derived_counts.keys()):
            name = f"count of {status} SKUs in {warehouse_id or 'all warehouses'}"
            key = warehouse_id, status
            require_equal(name, stored[key], self._derived_counts[key])

    async def _rollups(self) -> None:
        """Check the rollups of the ledger against its adjustments."""
        async for row in self._rows(wrong_sums()):
            group = " ".join(filter(None, (row.kind, row.reference, row.sku)))
            message = (
                f"the rollup of the {group} up to position {row.until} is not the sum of its "
                "adjustments"
            )
            raise LedgerBroken(message)

    async def _reservations(self) -> None:
        """Check the reserved quantity of levels, held lines, and the counts of reservations."""
        async for row in self._rows(wrong_reserved_quantities()):
            require_equal(f"reserved of stock level {level_name(row)}", row.reserved, row.held)
            require_equal(f"holds of stock level {level_name(row)}", row.holds, row.held_by)
        async for row in self._rows(wrong_reserved_of_warehouses()):
            require_equal(f"reserved of warehouse {row.id}", row.reserved, row.derived)
        async for row in self._rows(wrong_holds()):
            message = (
                f"reservation {row.id} is {row.status} and holds {row.held} of its {row.quantity} "
                f"at stock level {level_name(row)}"
            )
            raise LedgerBroken(message)
        async for row in self._rows(wrong_reservation_counts()):
            of = f" of {row.reference}" if row.reference else ""
            require_equal(f"count of {row.status} reservations{of}", row.kept, row.derived)

    def _level_of(self, row: Row[Any]) -> LevelRecord:
        """Return the figures of a row with a stock level, which depend on its warehouse."""
        warehouse = self._warehouses.get(row.warehouse_id, UNKNOWN_WAREHOUSE)
        return structs.replace(
            empty_level(row.sku, warehouse),
            on_hand=row.on_hand,
            reserved=row.reserved,
            safety_stock=row.safety_stock,
            reorder_point=row.reorder_point,
        )

    def _rows(self, statement: Select[Any]) -> AsyncIterator[Row[Any]]:
        return stream_rows(self._session, self._tenant_id, statement)


def _skus_with_levels() -> Select[Any]:
    return (
        select(
            sku.c.sku,
            sku.c.status,
            sku.c.available,
            sku.c.archived_at,
            stock_level.c.warehouse_id,
            stock_level.c.on_hand,
            stock_level.c.reserved,
            stock_level.c.safety_stock,
            stock_level.c.reorder_point,
        )
        .select_from(sku.join(stock_level, SAME_SKU, isouter=True))
        .where(sku.c.tenant_id == TENANT)
        .order_by(sku.c.sku)
    )


def _counted_as(row: Row[Any], figures: Figures | Totals) -> str:
    """Status of a SKU or level in `sku_count`."""
    return f"{ARCHIVED_PREFIX if row.archived_at else ''}{figures.status}"
