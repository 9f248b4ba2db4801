"""The DataLoaders of one request: one statement per edge of the graph, for all its parents.

A loader of a paginated edge exists once per set of arguments. So the number of statements depends
on the document and not on the number of rows.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

from strawberry.dataloader import DataLoader

from app.database.snapshot import Snapshot
from app.domain.availability import AvailabilityRecord
from app.domain.caller import Caller
from app.domain.filters import AdjustmentFilter, Order, SkuFilter
from app.domain.object_details import (
    MAX_EXTERNAL_IDS,
    MAX_METADATA_ENTRIES,
    ExternalIdRecord,
    MetadataRecord,
    ObjectKind,
)
from app.domain.periods import PeriodSeries
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
from app.domain.webhooks import WebhookRecord
from app.graphql.schema.budget import (
    ENTRIES_PER_UNIT,
    KEY_COST,
    LEVEL_COST,
    LINE_COST,
    PARENT_COST,
    PERIOD_COST,
    ROW_COST,
    STATEMENT_COST,
    TOTALS_COST,
    Budget,
)
from app.reads.adjustment_totals import count_adjustments_of, sum_adjustments_of
from app.reads.adjustments import get_adjustments, list_adjustments_of
from app.reads.availability import get_availabilities
from app.reads.changes import get_feed_position
from app.reads.conditions import KeyColumns, LedgerKey, StockKey
from app.reads.object_details import find_by_external_ids, get_external_ids, get_metadata
from app.reads.paging import MAX_COUNT
from app.reads.reservations import MOST_LINES, count_holds_of, get_reservations, list_holds_of
from app.reads.skus import get_skus, get_titles, get_update_times
from app.reads.stock_history import get_stock_as_of, sum_adjustments_by_period
from app.reads.stock_levels import (
    count_levels_of_warehouses,
    list_changed_codes,
    list_levels_of_warehouses,
    reads_levels_to_count,
)
from app.reads.warehouses import get_warehouses
from app.reads.webhooks import get_webhooks

LoaderKey = TypeVar("LoaderKey")
LoaderValue = TypeVar("LoaderValue")


@dataclass(frozen=True, slots=True)
class AdjustmentPage:
    """The arguments of a list of adjustments."""

    where: AdjustmentFilter
    after: int | None
    limit: int


@dataclass(frozen=True, slots=True)
class LevelPage:
    """The arguments of a warehouse's list of stock levels."""

    where: SkuFilter
    after: str | None
    order: Order
    limit: int


class Loader(Generic[LoaderKey, LoaderValue]):
    """A loader whose values are not lost when one of the waiting fields is cancelled."""

    def __init__(
        self, load: Callable[[list[LoaderKey]], Awaitable[list[LoaderValue]]], snapshot: Snapshot
    ) -> None:
        self._load = load
        self._snapshot = snapshot
        self._known: dict[LoaderKey, LoaderValue] = {}

    @cached_property
    def _batches(self) -> DataLoader[LoaderKey, LoaderValue]:
        return DataLoader(self._load)

    async def load(self, key: LoaderKey) -> LoaderValue:
        """Value of a key.

        A failed field cancels its sibling fields. The shield keeps the cached value usable for
        other fields.
        """
        if self._snapshot.awaits_only_statement:
            # No other field can load a key now, so there is no batch to wait for.
            [self._known[key]] = await self._load([key])
        if key in self._known:
            return self._known[key]
        future = asyncio.ensure_future(self._batches.load(key))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # Mark a later failure of the batch as retrieved, which avoids a warning of asyncio.
            future.add_done_callback(_retrieve)
            raise


class Loaders:
    """The loaders of a request, one per edge and arguments."""

    def __init__(self, snapshot: Snapshot, caller: Caller, budget: Budget) -> None:
        self._snapshot = snapshot
        self._caller = caller
        self._tenant_id = caller.tenant_id
        self._budget = budget
        self._by_arguments: dict[Hashable, Loader[Any, Any]] = {}

    @property
    def sku(self) -> Loader[str, SkuRecord | None]:
        """Record of a SKU with its levels."""
        return self._for("sku", self._seeking(self._load_skus, KEY_COST))

    @property
    def availability(self) -> Loader[str, AvailabilityRecord | None]:
        """Availability of a SKU by code."""
        return self._for("availability", self._seeking(self._load_availabilities, KEY_COST))

    @property
    def title(self) -> Loader[str, str | None]:
        """Title of a SKU by code."""
        return self._for("title", self._seeking(self._load_titles, KEY_COST))

    @property
    def updated_at(self) -> Loader[str, datetime | None]:
        """Time of the last change of a SKU by code."""
        return self._for("updated at", self._seeking(self._load_update_times, KEY_COST))

    @property
    def feed_position(self) -> Loader[str, int]:
        """Newest position of the feed; its only key is the empty text."""
        return self._for("feed position", self._seeking(self._load_feed_position, KEY_COST))

    @property
    def warehouse(self) -> Loader[str, WarehouseRecord | None]:
        """Record of a warehouse by id."""
        return self._for("warehouse", self._seeking(self._load_warehouses, KEY_COST))

    def external_ids(self, kind: ObjectKind) -> Loader[str, list[ExternalIdRecord]]:
        """External ids by SKU code or warehouse id."""

        async def load(ids: Sequence[str]) -> list[list[ExternalIdRecord]]:
            found = await get_external_ids(self._snapshot, self._tenant_id, kind=kind, ids=ids)
            self._budget.spend_text(each.value for of_one in found.values() for each in of_one)
            return [list(found.get(id_, ())) for id_ in ids]

        return self._for(("external ids", kind), self._paged(MAX_EXTERNAL_IDS, load))

    def metadata(self, kind: ObjectKind) -> Loader[str, list[MetadataRecord]]:
        """Metadata by SKU code or warehouse id."""

        async def load(ids: Sequence[str]) -> list[list[MetadataRecord]]:
            found = await get_metadata(self._snapshot, self._tenant_id, kind=kind, ids=ids)
            self._budget.spend_text(each.value for of_one in found.values() for each in of_one)
            return [list(found.get(id_, ())) for id_ in ids]

        return self._for(("metadata", kind), self._paged(MAX_METADATA_ENTRIES, load))

    def object_by_external_id(self, kind: ObjectKind) -> Loader[ExternalIdRecord, str | None]:
        """SKU code or warehouse id by external id."""

        async def load(ids: Sequence[ExternalIdRecord]) -> list[str | None]:
            found = await find_by_external_ids(self._snapshot, self._tenant_id, kind=kind, ids=ids)
            return [found.get(id_) for id_ in ids]

        return self._for(("by external id", kind), self._seeking(load, KEY_COST))

    @property
    def adjustment(self) -> Loader[str, AdjustmentRecord | None]:
        """Record of an adjustment by id."""
        return self._for("adjustment", self._seeking(self._load_adjustments, KEY_COST))

    @property
    def reservation(self) -> Loader[str, ReservationRecord | None]:
        """Record of a reservation by id."""
        return self._for("reservation", self._seeking(self._load_reservations, KEY_COST))

    @property
    def webhook(self) -> Loader[str, WebhookRecord | None]:
        """Record of a webhook by id."""
        return self._for("webhook", self._seeking(self._load_webhooks, KEY_COST))

    @property
    def hold_count(self) -> Loader[StockKey, int]:
        """Number of open reservations by stock level."""
        return self._for("hold count", self._seeking(self._count_holds, KEY_COST))

    def levels_by_warehouse(self, page: LevelPage) -> Loader[WarehouseRecord, list[LevelRecord]]:
        """Page of stock levels by warehouse."""

        async def load(warehouses: list[WarehouseRecord]) -> list[list[LevelRecord]]:
            changed, rows = await self._changes(page.where)

            async def load_pages(batch: Sequence[WarehouseRecord]) -> list[list[LevelRecord]]:
                pages = await list_levels_of_warehouses(
                    self._snapshot,
                    self._tenant_id,
                    warehouses=batch,
                    where=page.where,
                    changed=changed,
                    after=page.after,
                    order=page.order,
                    limit=page.limit,
                )
                return [pages[warehouse.id] for warehouse in batch]

            each = PARENT_COST + rows // ENTRIES_PER_UNIT
            return await self._paged(page.limit, load_pages, each)(warehouses)

        return self._for(("levels", page), load)

    def level_count_by_warehouse(self, where: SkuFilter) -> Loader[str, int]:
        """Count of stock levels by warehouse id."""

        async def load(ids: list[str]) -> list[int]:
            changed, rows = await self._changes(where)
            if where.updated_since is None and reads_levels_to_count(where):
                rows = MAX_COUNT

            async def count(ids: Sequence[str]) -> list[int]:
                counts = await count_levels_of_warehouses(
                    self._snapshot, self._tenant_id, ids=ids, where=where, changed=changed
                )
                return [counts[id_] for id_ in ids]

            return await self._seeking(count, PARENT_COST + rows // ENTRIES_PER_UNIT)(ids)

        return self._for(("level count", where), load)

    async def _changes(self, where: SkuFilter) -> tuple[list[str] | None, int]:
        """Codes of the changed SKUs, if they are few, and the rows that each warehouse reads."""
        since = where.updated_since
        if since is None:
            return None, 0

        async def load(times: Sequence[datetime]) -> list[list[str] | None]:
            return [
                await list_changed_codes(self._snapshot, self._tenant_id, since=time)
                for time in times
            ]

        each = MAX_COUNT // ENTRIES_PER_UNIT
        codes = await self._for("changes", self._seeking(load, each)).load(since)
        return codes, MAX_COUNT if codes is None else len(codes)

    def adjustments(
        self, page: AdjustmentPage, by: KeyColumns
    ) -> Loader[LedgerKey, list[AdjustmentRecord]]:
        """Page of adjustments by SKU, stock level or warehouse."""

        async def load(keys: Sequence[LedgerKey]) -> list[list[AdjustmentRecord]]:
            pages = await list_adjustments_of(
                self._snapshot,
                self._tenant_id,
                parents=keys,
                where=page.where,
                after=page.after,
                limit=page.limit,
            )
            for key in keys:
                self._budget.spend_text(record.note for record in pages[key])
            return [pages[key] for key in keys]

        return self._for(("adjustments", page, by), self._paged(page.limit, load))

    def adjustment_count(self, where: AdjustmentFilter, by: KeyColumns) -> Loader[LedgerKey, int]:
        """Count of adjustments by SKU, stock level or warehouse."""

        async def load(keys: Sequence[LedgerKey]) -> list[int]:
            counts, uncovered = await count_adjustments_of(
                self._snapshot, self._tenant_id, parents=keys, where=where
            )
            self._budget.spend(uncovered // ENTRIES_PER_UNIT)
            return [counts[key] for key in keys]

        each = PARENT_COST if where == AdjustmentFilter() else TOTALS_COST
        return self._for(("adjustment count", where, by), self._seeking(load, each))

    def adjustment_totals(
        self, where: AdjustmentFilter, by: KeyColumns
    ) -> Loader[LedgerKey, LedgerTotals]:
        """Totals of adjustments by SKU, stock level or warehouse."""

        async def load(keys: Sequence[LedgerKey]) -> list[LedgerTotals]:
            totals, uncovered = await sum_adjustments_of(
                self._snapshot, self._tenant_id, parents=keys, where=where
            )
            self._budget.spend(uncovered // ENTRIES_PER_UNIT)
            return [totals[key] for key in keys]

        return self._for(("adjustment totals", where, by), self._seeking(load, TOTALS_COST))

    def stock_as_of(self, end: datetime) -> Loader[StockKey, list[AdjustmentRecord]]:
        """Last adjustment of each level before an end, by SKU in one warehouse or in all."""

        async def load(keys: Sequence[StockKey]) -> list[list[AdjustmentRecord]]:
            entries = await get_stock_as_of(self._snapshot, self._tenant_id, skus=keys, end=end)
            for records in entries.values():
                self._budget.spend_text(record.note for record in records)
            return [entries[key] for key in keys]

        return self._for(("stock as of", end), self._seeking(load))

    def holds(self, after: str | None, limit: int) -> Loader[StockKey, list[ReservationLineRecord]]:
        """Page of lines of open reservations by stock level."""

        async def load(keys: Sequence[StockKey]) -> list[list[ReservationLineRecord]]:
            pages = await list_holds_of(
                self._snapshot, self._tenant_id, levels=keys, after=after, limit=limit
            )
            return [pages[key] for key in keys]

        return self._for(("holds", after, limit), self._paged(limit, load))

    def stock_history(self, series: PeriodSeries) -> Loader[StockKey, list[PeriodRecord]]:
        """Periods of a stock history by SKU in one warehouse or in all."""

        async def load(keys: Sequence[StockKey]) -> list[list[PeriodRecord]]:
            # A statement for each run, and the periods of the result.
            self._budget.spend(
                len(series.runs) * (STATEMENT_COST + len(keys) * PARENT_COST)
                + len(keys) * series.periods * PERIOD_COST
            )
            before = await get_stock_as_of(
                self._snapshot, self._tenant_id, skus=keys, end=series.start
            )
            changes = await sum_adjustments_by_period(
                self._snapshot, self._tenant_id, skus=keys, series=series
            )
            entries = sum(
                change.entries for of_key in changes.values() for change in of_key.values()
            )
            self._budget.spend(entries // ENTRIES_PER_UNIT)
            return [
                series.records(sum(entry.after_quantity for entry in before[key]), changes[key])
                for key in keys
            ]

        return self._for(("stock history", series), self._seeking(load))

    def _seeking(
        self,
        load: Callable[[list[LoaderKey]], Awaitable[list[LoaderValue]]],
        each: int = PARENT_COST,
    ) -> Callable[[list[LoaderKey]], Awaitable[list[LoaderValue]]]:
        """Spend the units of a statement and its keys before it is executed."""

        async def affordable(keys: list[LoaderKey]) -> list[LoaderValue]:
            async with self._snapshot.planning:
                self._budget.spend(STATEMENT_COST + len(keys) * each)
                return await load(keys)

        return affordable

    def _paged(
        self,
        limit: int,
        load: Callable[[list[LoaderKey]], Awaitable[list[list[LoaderValue]]]],
        each: int = PARENT_COST,
    ) -> Callable[[list[LoaderKey]], Awaitable[list[list[LoaderValue]]]]:
        """Load pages in batches of parents whose full pages the budget affords."""

        async def affordable(keys: list[LoaderKey]) -> list[list[LoaderValue]]:
            pages: list[list[LoaderValue]] = []
            while len(pages) < len(keys):
                async with self._snapshot.planning:
                    number = self._budget.affordable(each + limit * ROW_COST)
                    some = keys[len(pages) : len(pages) + number]
                    self._budget.spend(STATEMENT_COST + len(some) * each)
                    batch = await load(some)
                    self._budget.spend(sum(map(len, batch)) * ROW_COST)
                pages += batch
            return pages

        return affordable

    def _for(
        self, arguments: Hashable, load: Callable[[list[LoaderKey]], Awaitable[list[LoaderValue]]]
    ) -> Loader[LoaderKey, LoaderValue]:
        loader = self._by_arguments.get(arguments)
        if loader is None:
            loader = self._by_arguments[arguments] = Loader(load, self._snapshot)
        return loader

    async def _load_skus(self, codes: Sequence[str]) -> list[SkuRecord | None]:
        with self._budget.exhausted_by_refusal():
            records = await get_skus(
                self._snapshot,
                self._tenant_id,
                codes=codes,
                most_levels=self._budget.affordable(LEVEL_COST),
            )
        self._budget.spend_stock(records.values())
        found = (records.get(code) for code in codes)
        return [record and record.within(self._caller.warehouse_ids) for record in found]

    async def _load_availabilities(self, codes: Sequence[str]) -> list[AvailabilityRecord | None]:
        records = await get_availabilities(self._snapshot, self._tenant_id, codes=codes)
        self._budget.spend_text(record.title for record in records.values())
        return [records.get(code) for code in codes]

    async def _load_titles(self, codes: Sequence[str]) -> list[str | None]:
        titles = await get_titles(self._snapshot, self._tenant_id, codes=codes)
        self._budget.spend_text(titles.values())
        return [titles.get(code) for code in codes]

    async def _load_update_times(self, codes: Sequence[str]) -> list[datetime | None]:
        times = await get_update_times(self._snapshot, self._tenant_id, codes=codes)
        return [times.get(code) for code in codes]

    async def _load_feed_position(self, keys: Sequence[str]) -> list[int]:
        return [await get_feed_position(self._snapshot, self._tenant_id)] * len(keys)

    async def _load_warehouses(self, ids: Sequence[str]) -> list[WarehouseRecord | None]:
        records = await get_warehouses(self._snapshot, self._tenant_id, ids=ids)
        return [records.get(id_) if self._caller.can_use(id_) else None for id_ in ids]

    async def _load_adjustments(self, ids: Sequence[str]) -> list[AdjustmentRecord | None]:
        records = await get_adjustments(self._snapshot, self._tenant_id, ids=ids)
        self._budget.spend(len(records) * ROW_COST)
        self._budget.spend_text(record.note for record in records.values())
        return [records.get(id_) for id_ in ids]

    async def _load_reservations(self, ids: Sequence[str]) -> list[ReservationRecord | None]:
        with self._budget.exhausted_by_refusal():
            most_lines = min(MOST_LINES, self._budget.affordable(LINE_COST))
            records = await get_reservations(
                self._snapshot, self._tenant_id, ids=ids, most_lines=most_lines
            )
        self._budget.spend(sum(len(record.lines) for record in records.values()) * LINE_COST)
        return [records.get(id_) for id_ in ids]

    async def _load_webhooks(self, ids: Sequence[str]) -> list[WebhookRecord | None]:
        records = await get_webhooks(self._snapshot, self._tenant_id, ids=ids)
        self._budget.spend(len(records) * ROW_COST)
        self._budget.spend_text(record.url for record in records.values())
        return [records.get(id_) for id_ in ids]

    async def _count_holds(self, keys: Sequence[StockKey]) -> list[int]:
        counts = await count_holds_of(self._snapshot, self._tenant_id, levels=keys)
        return [counts[key] for key in keys]


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
