"""The DataLoaders of one request: each edge of the graph is one statement for all its parents.

A loader of a paginated edge exists once per set of arguments, so the number of statements depends
on the document and never on the number of rows.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

from strawberry.dataloader import DataLoader

from app.database.snapshot import Snapshot
from app.domain.filters import AdjustmentFilter
from app.domain.periods import PeriodSeries
from app.domain.quantities import Status
from app.domain.records import (
    AdjustmentRecord,
    LedgerTotals,
    LevelRecord,
    PeriodRecord,
    ReservationLineRecord,
    ReservationRecord,
    SkuRecord,
    WarehouseRecord,
)
from app.graphql.schema.budget import ENTRIES, KEY, LEVEL, PARENT, PERIOD, ROW, STATEMENT, Budget
from app.reads.adjustment_totals import count_adjustments_of, sum_adjustments_of
from app.reads.adjustments import AdjustmentPosition, list_adjustments_of
from app.reads.conditions import LedgerKey, Named, StockKey
from app.reads.reservations import count_holds_of, get_reservations, list_holds_of
from app.reads.skus import get_skus
from app.reads.stock_history import get_stock_as_of, sum_adjustments_by_period
from app.reads.stock_levels import count_levels_of_warehouses, list_levels_of_warehouses
from app.reads.warehouses import get_warehouses

Key = TypeVar("Key")
Value = TypeVar("Value")
# A SKU as seen in one warehouse, or (None) in all.
SkuKey = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class AdjustmentPage:
    """The arguments of a list of adjustments."""

    where: AdjustmentFilter
    after: AdjustmentPosition | None
    limit: int


@dataclass(frozen=True, slots=True)
class LevelPage:
    """The arguments of a warehouse's list of stock levels."""

    status: Status | None
    archived: bool | None
    after: str | None
    limit: int


class Loader(Generic[Key, Value]):
    """A loader whose values several fields may wait for, even when one of them is cancelled."""

    def __init__(
        self, load: Callable[[list[Key]], Awaitable[list[Value]]], snapshot: Snapshot
    ) -> None:
        self._load = load
        self._snapshot = snapshot
        self._known: dict[Key, Value] = {}

    @cached_property
    def _batches(self) -> DataLoader[Key, Value]:
        return DataLoader(self._load)

    async def load(self, key: Key) -> Value:
        """Return the value of a key.

        A field that fails has its siblings cancelled, and with them what they wait for: others
        must not find it cancelled in the cache.
        """
        if self._snapshot.awaits_only_statement:
            # Nobody can ask for another key meanwhile, so there is no batch to wait for.
            [self._known[key]] = await self._load([key])
        if key in self._known:
            return self._known[key]
        future = asyncio.ensure_future(self._batches.load(key))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The batch may fail later, and nobody will ask why.
            future.add_done_callback(_retrieve)
            raise


class Loaders:
    """The edges, by name."""

    def __init__(self, snapshot: Snapshot, tenant: str, budget: Budget) -> None:
        self._snapshot = snapshot
        self._tenant = tenant
        self._budget = budget
        self._by_arguments: dict[Hashable, Loader[Any, Any]] = {}

    @property
    def sku(self) -> Loader[SkuKey, SkuRecord | None]:
        """The loader of a SKU as seen somewhere."""
        return self._for("sku", self._load_skus)

    @property
    def warehouse(self) -> Loader[str, WarehouseRecord | None]:
        """The loader of a warehouse, by id."""
        return self._for("warehouse", self._seeking(self._load_warehouses, KEY))

    @property
    def reservation(self) -> Loader[str, ReservationRecord | None]:
        """The loader of a reservation, by id."""
        return self._for("reservation", self._seeking(self._load_reservations, KEY))

    @property
    def hold_count(self) -> Loader[StockKey, int]:
        """The loader of how many open reservations hold some of a level."""
        return self._for("hold count", self._seeking(self._count_holds, KEY))

    def levels_by_warehouse(self, page: LevelPage) -> Loader[WarehouseRecord, list[LevelRecord]]:
        """Return the loader of a page of levels, by warehouse."""

        async def load(warehouses: Sequence[WarehouseRecord]) -> list[list[LevelRecord]]:
            found = await list_levels_of_warehouses(
                self._snapshot,
                self._tenant,
                warehouses=warehouses,
                status=page.status,
                archived=page.archived,
                after=page.after,
                limit=page.limit,
            )
            return [found[place.id] for place in warehouses]

        return self._for(("levels", page), self._paged(page.limit, load))

    def level_count_by_warehouse(
        self, status: Status | None, *, archived: bool | None
    ) -> Loader[str, int]:
        """Return the loader of how many levels there are, by warehouse id."""

        async def load(ids: Sequence[str]) -> list[int]:
            counts = await count_levels_of_warehouses(
                self._snapshot, self._tenant, ids=ids, status=status, archived=archived
            )
            return [counts[id_] for id_ in ids]

        return self._for(("level count", status, archived), self._seeking(load))

    def adjustments(
        self, page: AdjustmentPage, by: Named
    ) -> Loader[LedgerKey, list[AdjustmentRecord]]:
        """Return the loader of a page of adjustments, by SKU, by level or by warehouse."""

        async def load(keys: Sequence[LedgerKey]) -> list[list[AdjustmentRecord]]:
            found = await list_adjustments_of(
                self._snapshot,
                self._tenant,
                parents=keys,
                where=page.where,
                after=page.after,
                limit=page.limit,
            )
            for key in keys:
                self._budget.spend_text(record.note for record in found[key])
            return [found[key] for key in keys]

        return self._for(("adjustments", page, by), self._paged(page.limit, load))

    def adjustment_count(self, where: AdjustmentFilter, by: Named) -> Loader[LedgerKey, int]:
        """Return the loader of how many adjustments match, by SKU, by level or by warehouse."""

        async def load(keys: Sequence[LedgerKey]) -> list[int]:
            counts = await count_adjustments_of(
                self._snapshot, self._tenant, parents=keys, where=where
            )
            return [counts[key] for key in keys]

        return self._for(("adjustment count", where, by), self._seeking(load))

    def adjustment_totals(
        self, where: AdjustmentFilter, by: Named
    ) -> Loader[LedgerKey, LedgerTotals]:
        """Return the loader of what adjustments come to, by SKU, by level or by warehouse."""

        async def load(keys: Sequence[LedgerKey]) -> list[LedgerTotals]:
            totals = await sum_adjustments_of(
                self._snapshot, self._tenant, parents=keys, where=where
            )
            return [totals[key] for key in keys]

        return self._for(("adjustment totals", where, by), self._seeking(load))

    def stock_as_of(self, end: datetime) -> Loader[StockKey, list[AdjustmentRecord]]:
        """Return the loader of what made the stock before an end, by SKU as seen somewhere."""

        async def load(keys: Sequence[StockKey]) -> list[list[AdjustmentRecord]]:
            found = await get_stock_as_of(self._snapshot, self._tenant, skus=keys, end=end)
            for records in found.values():
                self._budget.spend_text(record.note for record in records)
            return [found[key] for key in keys]

        return self._for(("stock as of", end), self._seeking(load))

    def holds(self, after: str | None, limit: int) -> Loader[StockKey, list[ReservationLineRecord]]:
        """Return the loader of a page of what open reservations hold, by level."""

        async def load(keys: Sequence[StockKey]) -> list[list[ReservationLineRecord]]:
            found = await list_holds_of(
                self._snapshot, self._tenant, levels=keys, after=after, limit=limit
            )
            return [found[key] for key in keys]

        return self._for(("holds", after, limit), self._paged(limit, load))

    def stock_history(self, series: PeriodSeries) -> Loader[StockKey, list[PeriodRecord]]:
        """Return the loader of what was on hand in each period, by SKU as seen somewhere."""

        async def load(keys: Sequence[StockKey]) -> list[list[PeriodRecord]]:
            # There are two statements, and each period is filled in.
            self._budget.spend(STATEMENT + len(keys) * (PARENT + series.periods * PERIOD))
            before = await get_stock_as_of(
                self._snapshot, self._tenant, skus=keys, end=series.start
            )
            changes = await sum_adjustments_by_period(
                self._snapshot,
                self._tenant,
                skus=keys,
                start=series.start,
                end=series.end,
                interval=series.interval,
            )
            entries = sum(each.entries for of_key in changes.values() for each in of_key.values())
            self._budget.spend(entries // ENTRIES)
            return [
                series.records(sum(it.after_quantity for it in before[key]), changes[key])
                for key in keys
            ]

        return self._for(("stock history", series), self._seeking(load))

    def _seeking(
        self, load: Callable[[list[Key]], Awaitable[list[Value]]], each: int = PARENT
    ) -> Callable[[list[Key]], Awaitable[list[Value]]]:
        """Spend the budget for a statement and for each of its keys before it is executed."""

        async def affordable(keys: list[Key]) -> list[Value]:
            self._budget.spend(STATEMENT + len(keys) * each)
            return await load(keys)

        return affordable

    def _paged(
        self, limit: int, load: Callable[[list[Key]], Awaitable[list[list[Value]]]]
    ) -> Callable[[list[Key]], Awaitable[list[list[Value]]]]:
        """Load pages of so many parents at a time that the budget affords full ones."""
        seek = self._seeking(load)

        async def affordable(keys: list[Key]) -> list[list[Value]]:
            pages: list[list[Value]] = []
            while len(pages) < len(keys):
                number = self._budget.affordable(PARENT + limit * ROW)
                found = await seek(keys[len(pages) : len(pages) + number])
                self._budget.spend(sum(map(len, found)) * ROW)
                pages += found
            return pages

        return affordable

    def _for(
        self, arguments: Hashable, load: Callable[[list[Key]], Awaitable[list[Value]]]
    ) -> Loader[Key, Value]:
        loader = self._by_arguments.get(arguments)
        if loader is None:
            loader = self._by_arguments[arguments] = Loader(load, self._snapshot)
        return loader

    async def _load_skus(self, keys: Sequence[SkuKey]) -> list[SkuRecord | None]:
        found: dict[SkuKey, SkuRecord] = {}
        for warehouse_id in {view for view, _ in keys}:
            codes = [code for view, code in keys if view == warehouse_id]
            self._budget.spend(STATEMENT + len(codes) * KEY)
            with self._budget.exhausted_by_refusal():
                records = await get_skus(
                    self._snapshot,
                    self._tenant,
                    codes=codes,
                    warehouse_id=warehouse_id,
                    most_levels=self._budget.affordable(LEVEL),
                )
            self._budget.spend_stock(records.values())
            found |= {(warehouse_id, code): record for code, record in records.items()}
        return [found.get(key) for key in keys]

    async def _load_warehouses(self, ids: Sequence[str]) -> list[WarehouseRecord | None]:
        found = await get_warehouses(self._snapshot, self._tenant, ids=ids)
        return [found.get(id_) for id_ in ids]

    async def _load_reservations(self, ids: Sequence[str]) -> list[ReservationRecord | None]:
        with self._budget.exhausted_by_refusal():
            found = await get_reservations(self._snapshot, self._tenant, ids=ids)
        self._budget.spend(sum(len(record.lines) for record in found.values()) * ROW)
        return [found.get(id_) for id_ in ids]

    async def _count_holds(self, keys: Sequence[StockKey]) -> list[int]:
        counts = await count_holds_of(self._snapshot, self._tenant, levels=keys)
        return [counts[key] for key in keys]


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
