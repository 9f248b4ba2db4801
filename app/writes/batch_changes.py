"""The changes of a batch of writes, summed up."""

from collections import Counter
from collections.abc import Mapping

from app.domain.changes import ChangeEvent, events_of
from app.domain.object_details import ObjectDetails, ObjectKey
from app.domain.records import (
    AdjustmentRecord,
    ReservationRecord,
    SkuRecord,
    WarehouseRecord,
)
from app.domain.stock import Changes, LevelKey, Stock
from app.writes.idempotency_keys import KeyId, StoredRow


class BatchChanges:
    """The changes of a batch: each record before and after it, and all entries in order."""

    def __init__(self, stock: Stock) -> None:
        self.before: Mapping[str, SkuRecord] = dict(stock.skus)
        self.reservations_before: Mapping[str, ReservationRecord] = dict(stock.reservations)
        self.skus: dict[str, SkuRecord] = {}
        self.warehouses: dict[str, WarehouseRecord] = {}
        self.reservations: dict[str, ReservationRecord] = {}
        self.details_before: Mapping[ObjectKey, ObjectDetails] = dict(stock.details)
        self.details: dict[ObjectKey, ObjectDetails] = {}
        self.entries: list[AdjustmentRecord] = []
        # The changes of the feed, in order.
        self.events: list[ChangeEvent] = []
        # The warehouses that have begun or ended to sell their stock, before and after, in order.
        self.turns: list[tuple[WarehouseRecord, WarehouseRecord]] = []
        # Changes of the number of reservations that hold a level.
        self.holds: Counter[LevelKey] = Counter()
        # Changes of the number of reservations by reference (empty for all) and status.
        self.reservation_counts: Counter[tuple[str, str]] = Counter()
        self.keys: dict[KeyId, StoredRow] = {}
        # The e-mail addresses of the authors of entries and of new reservations.
        self.authors: set[str] = set()
        self._stock = stock

    def add(self, changes: Changes, *, author: str) -> None:
        """Add the changes of a write, and apply them to the stock that the next write sees."""
        for id_, warehouse in changes.warehouses.items():
            old = self._stock.warehouses.get(id_)
            if old is not None and old.is_selling is not warehouse.is_selling:
                self.turns.append((old, warehouse))
        if changes.entries or any(each.version == 1 for each in changes.reservations.values()):
            self.authors.add(author)
        self.events += events_of(self._stock, changes)
        for id_, reservation in changes.reservations.items():
            if before := self._stock.reservations.get(id_):
                self._count(before, -1)
            self._count(reservation, 1)
        self._stock.apply(changes)
        self.skus |= changes.skus
        self.warehouses |= changes.warehouses
        self.entries += changes.entries
        self.details |= changes.details
        self.reservations |= changes.reservations

    def _count(self, reservation: ReservationRecord, number: int) -> None:
        """Add a number of reservations like this one to the changes of the counts."""
        for reference in {"", reservation.reference or ""}:
            self.reservation_counts[reference, reservation.status] += number
        for line in reservation.lines:
            if line.held:
                self.holds[line.sku, line.warehouse_id] += number
