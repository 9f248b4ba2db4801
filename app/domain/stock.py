"""Changes of stock levels: the rules and the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from msgspec import structs

from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.instants import occurrence_problem
from app.domain.object_details import (
    NO_DETAILS,
    ExternalIdRecord,
    ObjectDetails,
    ObjectKey,
    ObjectKind,
)
from app.domain.quantities import refuse_quantity
from app.domain.records import (
    AdjustmentRecord,
    LevelRecord,
    ReservationRecord,
    SkuRecord,
    StockChange,
    UnchangedStock,
    WarehouseRecord,
)
from app.domain.warehouses import readonly_refusal
from app.errors import (
    InventoryError,
    InventoryNotFound,
    SkuArchived,
    StaleVersion,
    WarehouseInactive,
    invalid_field,
    inventory_not_found,
    warehouse_not_found,
)

LevelKey = tuple[str, str]
# A field and the problem of its value; an empty field is the object itself.
FieldProblem = tuple[str, str]
# Problems of items of a list, by index.
RowProblems = Mapping[int, Sequence[FieldProblem]]
NO_PROBLEMS: Final[RowProblems] = MappingProxyType({})


class OnError(StrEnum):
    """Whether a bulk with refused updates is refused as a whole or carries out the others."""

    ABORT = "abort"
    CONTINUE = "continue"


def check_new_on_hand(
    quantity: int, *, record: SkuRecord, level: LevelRecord, by_marketplace: bool = False
) -> InventoryError | None:
    """Return the refusal of a change of a stock level of a SKU to `quantity`, if any.

    A quantity below the reserved quantity is allowed, because a physical count is authoritative.
    """
    warehouse = level.warehouse
    if warehouse.type.is_readonly and not by_marketplace:
        return readonly_refusal(warehouse.id, warehouse.type)
    if refusal := refuse_quantity(quantity):
        return refusal
    if quantity <= level.on_hand:
        return None
    if not warehouse.is_active:
        return WarehouseInactive(
            f"Warehouse {warehouse.id} is inactive and can only be emptied: it holds "
            f"{level.on_hand}, and {quantity} would be an increase.",
            details=[
                {"warehouse_id": warehouse.id, "on_hand": level.on_hand, "quantity": quantity}
            ],
        )
    if record.archived_at:
        return SkuArchived(
            f"SKU {record.sku!r} is archived and can only be emptied: there are {level.on_hand}, "
            f"and {quantity} would be an increase.",
            details=[{"sku": record.sku, "on_hand": level.on_hand, "quantity": quantity}],
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The effect of a write: records after it, by key, and its ledger entries in order."""

    skus: Mapping[str, SkuRecord] = field(default_factory=dict)
    warehouses: Mapping[str, WarehouseRecord] = field(default_factory=dict)
    reservations: Mapping[str, ReservationRecord] = field(default_factory=dict)
    entries: Sequence[AdjustmentRecord] = ()
    details: Mapping[ObjectKey, ObjectDetails] = field(default_factory=dict)


UNCHANGED: Final = Changes()


@dataclass(slots=True, kw_only=True)
class Stock:
    """The rows that the writes of a batch have read. Each write sees the changes before it."""

    # The time by the database's clock.
    now: datetime
    permits_oversell: bool = False
    permits_no_expiry: bool = False
    skus: dict[str, SkuRecord] = field(default_factory=dict)
    warehouses: dict[str, WarehouseRecord] = field(default_factory=dict)
    reservations: dict[str, ReservationRecord] = field(default_factory=dict)
    # Details of SKUs and warehouses that have any, and the objects of the external ids of a write.
    details: dict[ObjectKey, ObjectDetails] = field(default_factory=dict)
    owners: dict[tuple[ObjectKind, ExternalIdRecord], str] = field(default_factory=dict)
    # For unknown SKU codes, an existing code that differs only in case or leading zeros.
    similar_codes: Mapping[str, str] = field(default_factory=dict)
    # The id of the reversal of each reversed adjustment.
    reversals: dict[str, str] = field(default_factory=dict)
    # The ids of the authors of the writes, by e-mail address; new ones are absent.
    persons: Mapping[str, str] = field(default_factory=dict)
    # The position, the hash and the time of the last entry of the ledger.
    last_position: int = 0
    last_hash: str | None = None
    last_entry_at: datetime | None = None
    # The last position of the feed.
    last_change: int = 0

    @property
    def entry_time(self) -> datetime:
        """The time of new entries: never before the last one, even if the clock was set back."""
        return max(self.now, self.last_entry_at or self.now)

    def unknown_sku(self, code: str) -> InventoryNotFound:
        """Create the refusal of an unknown SKU code."""
        return inventory_not_found(code, self.similar_codes.get(code))

    def number(self, entries: Sequence[AdjustmentRecord]) -> None:
        """Give the entries of a write the next positions of the ledger."""
        for position, entry in enumerate(entries, start=self.last_position + 1):
            entry.position = position

    def apply(self, changes: Changes) -> None:
        """Apply the changes of a write."""
        self.last_position += len(changes.entries)
        self.skus |= changes.skus
        for warehouse in changes.warehouses.values():
            self._set_warehouse(warehouse)
        self.reservations |= changes.reservations
        for key, details in changes.details.items():
            self._set_details(key, details)
        self.reversals |= {
            entry.reversal_of: entry.id for entry in changes.entries if entry.reversal_of
        }

    def _set_details(self, key: ObjectKey, details: ObjectDetails) -> None:
        kind, id_ = key
        for old in self.details.get(key, NO_DETAILS).external_ids:
            self.owners.pop((kind, old), None)
        self.owners |= {(kind, new): id_ for new in details.external_ids}
        self.details[key] = details

    def _set_warehouse(self, warehouse: WarehouseRecord) -> None:
        self.warehouses[warehouse.id] = warehouse
        for code, record in self.skus.items():
            if level := record.level_in(warehouse.id):
                changed = record.with_level(structs.replace(level, warehouse=warehouse))
                changed.version = record.version
                self.skus[code] = changed


def turned_skus(skus: Mapping[str, SkuRecord], warehouse: WarehouseRecord) -> dict[str, SkuRecord]:
    """Return the SKUs that change because a warehouse begins or ends to sell its stock."""
    changed = {}
    for code, record in skus.items():
        old = record.level_in(warehouse.id)
        if old is None or old.is_for_sale is warehouse.is_selling:
            continue
        new = structs.replace(old, warehouse=warehouse)
        after = record.with_level(new)
        if _shown(old, record) != _shown(new, after):
            changed[code] = after
    return changed


def _shown(level: LevelRecord, record: SkuRecord) -> tuple[object, ...]:
    """Return the values that clients read and that depend on whether a warehouse sells."""
    totals = record.figures
    return level.available, level.status, totals.reorder_point, totals.status


@dataclass(frozen=True, slots=True, kw_only=True)
class StockUpdate:
    """A change of the `on_hand` of a stock level: to a `quantity` or by a `delta`.

    Exactly one of the two is set.
    """

    sku: str
    warehouse_id: str
    quantity: int | None = None
    delta: int | None = None
    reason: str
    note: str | None = None
    expected_quantity: int | None = None
    expected_version: int | None = None
    # A conditional request may accept several versions. None: any version.
    expected_sku_versions: tuple[int, ...] | None = None
    reference: str | None = None
    reversal_of: str | None = None
    # When the change occurred; None: at the time of its entry.
    occurred_at: datetime | None = None
    # Whether an update to the present quantity of an existing level writes no entry.
    skip_unchanged: bool = False

    @property
    def level(self) -> LevelKey:
        """The key of the stock level."""
        return self.sku, self.warehouse_id

    def applied_to(self, on_hand: int) -> int:
        """Compute the new `on_hand`, before any rule is checked."""
        return on_hand + self.delta if self.delta is not None else self.quantity or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentLinks:
    """The bulk, transfer or reservation of the ledger entries of one write."""

    bulk_id: str | None = None
    transfer_id: str | None = None
    reservation_id: str | None = None


NO_LINKS: Final = AdjustmentLinks()
NO_SKUS: Final[Mapping[str, SkuRecord]] = MappingProxyType({})


class HasLevel(Protocol):
    """An item of a request for one stock level."""

    @property
    def sku(self) -> str:
        """The code of the SKU."""

    @property
    def warehouse_id(self) -> str:
        """The id of the warehouse."""


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """The refusal of one item of a request."""

    index: int
    update: HasLevel
    error: InventoryError


UpdateOutcome = StockChange | UnchangedStock | InventoryError


def decide(
    caller: Caller,
    updates: Sequence[StockUpdate],
    stock: Stock,
    links: AdjustmentLinks = NO_LINKS,
    *,
    changed: Mapping[str, SkuRecord] = NO_SKUS,
) -> list[UpdateOutcome]:
    """Apply the rules to updates in order; each update sees the results of earlier ones.

    `changed` are SKUs that the same write has changed already.
    """
    after = dict(changed)
    outcomes: list[UpdateOutcome] = []
    for update in updates:
        record = after.get(update.sku) or stock.skus.get(update.sku)
        outcome = _decide_one(caller, update, record, stock, links)
        if isinstance(outcome, StockChange):
            after[update.sku] = outcome.sku
        outcomes.append(outcome)
    return [
        outcome
        if isinstance(outcome, InventoryError)
        else replace(outcome, sku=after.get(outcome.sku.sku, outcome.sku))
        for outcome in outcomes
    ]


def _decide_one(
    caller: Caller,
    update: StockUpdate,
    record: SkuRecord | None,
    stock: Stock,
    links: AdjustmentLinks,
) -> UpdateOutcome:
    if problem := occurrence_problem(update.occurred_at, stock.now):
        return invalid_field("occurredAt", problem)
    if record is None:
        return stock.unknown_sku(update.sku)
    warehouse = stock.warehouses.get(update.warehouse_id)
    if warehouse is None or not caller.can_use(warehouse.id):
        return warehouse_not_found(update.warehouse_id)
    old = record.level_at(warehouse)
    quantity = update.applied_to(old.on_hand)
    refusal = check_new_on_hand(quantity, record=record, level=old) or _stale(update, record, old)
    if refusal:
        return refusal
    if update.skip_unchanged and old.version and quantity == old.on_hand:
        return UnchangedStock(record)
    return change_on_hand(
        record,
        old,
        quantity,
        at=stock.entry_time,
        reason=update.reason,
        note=update.note,
        created_by=caller.email,
        links=links,
        reversal_of=update.reversal_of,
        reference=update.reference,
        occurred_at=update.occurred_at,
    )


def change_on_hand(
    record: SkuRecord,
    level: LevelRecord,
    quantity: int,
    *,
    at: datetime,
    reason: str,
    created_by: str,
    note: str | None = None,
    links: AdjustmentLinks = NO_LINKS,
    reversal_of: str | None = None,
    reference: str | None = None,
    occurred_at: datetime | None = None,
) -> StockChange:
    """Set the `on_hand` of a stock level of a SKU by the next ledger entry of the level."""
    occurrence = occurred_at or at
    new = structs.replace(
        level,
        on_hand=quantity,
        version=level.version + 1,
        adjusted_at=at,
        occurred_until=max(occurrence, level.occurred_until or occurrence),
    )
    entry = AdjustmentRecord(
        id=f"adj_{ulid(at)}",
        sku=level.sku,
        warehouse_id=level.warehouse_id,
        sequence=new.version,
        before_quantity=level.on_hand,
        after_quantity=quantity,
        reason=reason,
        note=note,
        created_by=created_by,
        created_at=at,
        bulk_id=links.bulk_id,
        transfer_id=links.transfer_id,
        reservation_id=links.reservation_id,
        reversal_of=reversal_of,
        reference=reference,
        occurred_at=occurred_at,
    )
    return StockChange(entry, record.with_level(new))


def _stale(update: StockUpdate, record: SkuRecord, level: LevelRecord) -> StaleVersion | None:
    """Return the refusal of an update whose expectations do not match the stock, if any."""
    current = {
        "on_hand": level.on_hand,
        "version": level.version,
        "sku_version": record.version,
    }
    sku_versions = update.expected_sku_versions
    stale = {
        "expectedQuantity": update.expected_quantity not in (None, current["on_hand"]),
        "expectedVersion": update.expected_version not in (None, current["version"]),
        "expectedSkuVersions": sku_versions is not None
        and current["sku_version"] not in sku_versions,
    }
    details = [
        {"field": field, "message": "differs from the current value", **current}
        for field, is_stale in stale.items()
        if is_stale
    ]
    if not details:
        return None
    return StaleVersion(
        f"SKU {update.sku!r} is not as expected: warehouse {update.warehouse_id} holds "
        f"{current['on_hand']} at version {current['version']}, and the record's version is "
        f"{current['sku_version']}. Read the SKU again, then retry.",
        details=details,
    )


def refusal_of_all(refusals: Sequence[RefusedItem], number: int, items: str) -> InventoryError:
    """Create the refusal of a whole request of `number` items.

    Code and status are those of the first refused item; the details list every refused item.
    """
    first = refusals[0]
    refused = len({each.index for each in refusals})
    return type(first.error)(
        f"Nothing was changed: {refused} of {number} {items} are refused, "
        f"the first of them {items}[{first.index}]: {first.error.message}",
        details=[
            {
                "index": each.index,
                "sku": each.update.sku,
                "warehouse_id": each.update.warehouse_id,
                "status": "failed",
                "error": _error_of_item(each.error),
            }
            for each in refusals
        ],
    )


def _error_of_item(error: InventoryError) -> Mapping[str, object]:
    """Code, message and details of the error of one item."""
    facts = {"details": error.details} if error.details else {}
    return {"code": error.code, "message": error.message, **facts}
