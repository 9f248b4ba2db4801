"""Changes of stock levels: the rules and the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from msgspec.structs import replace

from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.quantities import refuse_quantity
from app.domain.records import (
    AdjustmentRecord,
    LevelRecord,
    SkuRecord,
    StockChange,
    WarehouseRecord,
)
from app.domain.warehouses import WarehouseType, readonly_refusal
from app.errors import (
    InventoryError,
    SkuArchived,
    StaleVersion,
    WarehouseInactive,
    inventory_not_found,
    warehouse_not_found,
)


def check_new_on_hand(
    quantity: int,
    *,
    on_hand: int,
    warehouse_id: str,
    warehouse_type: WarehouseType,
    is_active: bool,
    by_marketplace: bool = False,
) -> InventoryError | None:
    """Return the refusal of a change of a level from `on_hand` to `quantity`, if any.

    A quantity below the reserved quantity is allowed, because a physical count is authoritative.
    """
    if warehouse_type.is_readonly and not by_marketplace:
        return readonly_refusal(warehouse_id, warehouse_type)
    if refusal := refuse_quantity(quantity):
        return refusal
    if not is_active and quantity > on_hand:
        return WarehouseInactive(
            f"Warehouse {warehouse_id} is inactive and can only be emptied: it holds {on_hand}, "
            f"and {quantity} would be an increase.",
            details=[{"warehouse_id": warehouse_id, "on_hand": on_hand, "quantity": quantity}],
        )
    return None


def check_archived(code: str, quantity: int, *, on_hand: int) -> SkuArchived | None:
    """Return the refusal of a change of a level of an archived SKU, if any."""
    if quantity <= on_hand:
        return None
    return SkuArchived(
        f"SKU {code!r} is archived and can only be emptied: there are {on_hand}, and {quantity} "
        "would be an increase.",
        details=[{"sku": code, "on_hand": on_hand, "quantity": quantity}],
    )


LevelKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stock:
    """The current stock of the SKUs and warehouses of a write."""

    skus: Mapping[str, SkuRecord]
    warehouses: Mapping[str, WarehouseRecord]
    # The hash of the last adjustment of each level that has one.
    hashes: Mapping[LevelKey, str]
    # Whether the transaction has locked the SKUs.
    is_locked: bool
    # The time of the first read by the database's clock.
    now: datetime
    # The same time as the uptime of this machine, in seconds.
    read_at: float


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


UpdateOutcome = StockChange | InventoryError


def decide(
    caller: Caller,
    updates: Sequence[StockUpdate],
    before: Stock,
    links: AdjustmentLinks = NO_LINKS,
) -> list[UpdateOutcome]:
    """Apply the rules to updates in order; each update sees the results of earlier ones."""
    now = before.now
    after = dict(before.skus)
    outcomes: list[UpdateOutcome] = []
    for update in updates:
        outcome = _decide_one(caller, update, after.get(update.sku), before.warehouses, now, links)
        if isinstance(outcome, StockChange):
            after[update.sku] = outcome.sku
        outcomes.append(outcome)
    return [
        StockChange(outcome.adjustment, after[outcome.sku.sku])
        if isinstance(outcome, StockChange)
        else outcome
        for outcome in outcomes
    ]


def _decide_one(  # noqa: PLR0917 - a bulk calls it 500 times
    caller: Caller,
    update: StockUpdate,
    record: SkuRecord | None,
    warehouses: Mapping[str, WarehouseRecord],
    now: datetime,
    links: AdjustmentLinks,
) -> UpdateOutcome:
    if record is None:
        return inventory_not_found(update.sku)
    warehouse = warehouses.get(update.warehouse_id)
    if warehouse is None:
        return warehouse_not_found(update.warehouse_id)
    old = record.level_at(warehouse)
    quantity = update.applied_to(old.on_hand)
    refusal = check_new_on_hand(
        quantity,
        on_hand=old.on_hand,
        warehouse_id=warehouse.id,
        warehouse_type=warehouse.type,
        is_active=warehouse.is_active,
    )
    if refusal is None and record.archived_at:
        refusal = check_archived(record.sku, quantity, on_hand=old.on_hand)
    if refusal or (refusal := _stale(update, record, old)):
        return refusal
    # Entries of a level stay in order of time even if the clock is set back.
    created_at = max(now, old.adjusted_at) if old.adjusted_at else now
    new = replace(old, on_hand=quantity, version=old.version + 1, adjusted_at=created_at)
    entry = AdjustmentRecord(
        id=f"adj_{ulid(now)}",
        sku=update.sku,
        warehouse_id=update.warehouse_id,
        sequence=new.version,
        before_quantity=old.on_hand,
        after_quantity=quantity,
        reason=update.reason,
        note=update.note,
        created_by=caller.email,
        created_at=created_at,
        bulk_id=links.bulk_id,
        transfer_id=links.transfer_id,
        reservation_id=links.reservation_id,
        reversal_of=update.reversal_of,
        reference=update.reference,
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
                "error": {"code": each.error.code, "message": each.error.message},
            }
            for each in refusals
        ],
    )
