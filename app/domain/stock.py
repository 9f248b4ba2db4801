"""How a stock level changes: the rules and the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from msgspec.structs import replace

from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.quantities import MAX_QUANTITY
from app.domain.records import (
    AdjustmentRecord,
    LevelRecord,
    SkuRecord,
    StockChange,
    WarehouseRecord,
)
from app.domain.warehouses import WarehouseType, readonly_refusal, warehouse_not_found
from app.errors import (
    InventoryError,
    InventoryNotFound,
    NegativeQuantity,
    SkuArchived,
    StaleVersion,
    WarehouseInactive,
    invalid_field,
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
    """Return why a warehouse may not change a level from `on_hand` to `quantity`.

    Setting below what is reserved is allowed: a physical count is the truth.
    """
    if warehouse_type.is_readonly and not by_marketplace:
        return readonly_refusal(warehouse_id, warehouse_type)
    if quantity < 0:
        return NegativeQuantity(
            f"The resulting quantity would be {quantity}; it must be 0 or more.",
            details=[{"field": "quantity", "message": "must be 0 or more"}],
        )
    if quantity > MAX_QUANTITY:
        return invalid_field("delta", f"must leave at most {MAX_QUANTITY}, and leaves {quantity}")
    if not is_active and quantity > on_hand:
        return WarehouseInactive(
            f"Warehouse {warehouse_id} is inactive and can only be emptied: it holds {on_hand}, "
            f"and {quantity} would be an increase.",
            details=[{"warehouse_id": warehouse_id, "on_hand": on_hand, "quantity": quantity}],
        )
    return None


def check_archived(code: str, quantity: int, *, on_hand: int) -> SkuArchived | None:
    """Return why a level of an archived SKU may not change from `on_hand` to `quantity`."""
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
    """What the database holds of the SKUs and warehouses that a write is about."""

    skus: Mapping[str, SkuRecord]
    warehouses: Mapping[str, WarehouseRecord]
    # Of the last entry of every level that has one.
    hashes: Mapping[LevelKey, str]
    # Whether nobody else may change the SKUs until the transaction ends.
    is_locked: bool
    # By the database's clock, when the first of them was read; and then by the machine's uptime.
    now: datetime
    read_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StockUpdate:
    """What a level's `on_hand` shall be (`quantity`) or by how much it changes (`delta`), and why.

    Exactly one of the two is given.
    """

    sku: str
    warehouse_id: str
    quantity: int | None = None
    delta: int | None = None
    reason: str
    note: str | None = None
    expected_quantity: int | None = None
    expected_version: int | None = None
    # None: any. Any of several: a conditional request may name more than one.
    expected_sku_versions: tuple[int, ...] | None = None
    reference: str | None = None
    reversal_of: str | None = None

    @property
    def level(self) -> LevelKey:
        """The stock level that it is for."""
        return self.sku, self.warehouse_id

    def applied_to(self, on_hand: int) -> int:
        """Return what `on_hand` becomes, which the rules may refuse."""
        return on_hand + self.delta if self.delta is not None else self.quantity or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOf:
    """What the ledger entries of one write are a part of."""

    bulk_id: str | None = None
    transfer_id: str | None = None
    reservation_id: str | None = None


NOTHING_ELSE: Final = PartOf()


class HasLevel(Protocol):
    """What is about one stock level."""

    @property
    def sku(self) -> str:
        """The SKU."""

    @property
    def warehouse_id(self) -> str:
        """The warehouse."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A part of a request that was refused."""

    index: int
    update: HasLevel
    error: InventoryError


UpdateOutcome = StockChange | InventoryError


def decide(
    caller: Caller,
    updates: Sequence[StockUpdate],
    before: Stock,
    part_of: PartOf = NOTHING_ELSE,
) -> list[UpdateOutcome]:
    """Return what becomes of updates by the rules, in their order, each seeing those before it."""
    now = before.now
    after = dict(before.skus)
    outcomes: list[UpdateOutcome] = []
    for change in updates:
        outcome = _decide_one(
            caller, change, after.get(change.sku), before.warehouses, now, part_of
        )
        if isinstance(outcome, StockChange):
            after[change.sku] = outcome.sku
        outcomes.append(outcome)
    return [
        StockChange(outcome.adjustment, after[outcome.sku.sku])
        if isinstance(outcome, StockChange)
        else outcome
        for outcome in outcomes
    ]


def _decide_one(  # noqa: PLR0917 - called five hundred times by a bulk
    caller: Caller,
    change: StockUpdate,
    record: SkuRecord | None,
    warehouses: Mapping[str, WarehouseRecord],
    now: datetime,
    part_of: PartOf,
) -> UpdateOutcome:
    if record is None:
        return inventory_not_found(change.sku)
    place = warehouses.get(change.warehouse_id)
    if place is None:
        return warehouse_not_found(change.warehouse_id)
    old = record.level_at(place)
    quantity = change.applied_to(old.on_hand)
    refusal = check_new_on_hand(
        quantity,
        on_hand=old.on_hand,
        warehouse_id=place.id,
        warehouse_type=place.type,
        is_active=place.is_active,
    )
    if refusal is None and record.archived_at:
        refusal = check_archived(record.sku, quantity, on_hand=old.on_hand)
    if refusal or (refusal := _stale(change, record, old)):
        return refusal
    # A clock that is set back must not let the ledger of a level run backwards.
    created_at = max(now, old.adjusted_at) if old.adjusted_at else now
    new = replace(old, on_hand=quantity, version=old.version + 1, adjusted_at=created_at)
    entry = AdjustmentRecord(
        id=f"adj_{ulid(now)}",
        sku=change.sku,
        warehouse_id=change.warehouse_id,
        sequence=new.version,
        before_quantity=old.on_hand,
        after_quantity=quantity,
        reason=change.reason,
        note=change.note,
        created_by=caller.email,
        created_at=created_at,
        bulk_id=part_of.bulk_id,
        transfer_id=part_of.transfer_id,
        reservation_id=part_of.reservation_id,
        reversal_of=change.reversal_of,
        reference=change.reference,
    )
    return StockChange(entry, record.with_level(new))


def _stale(change: StockUpdate, record: SkuRecord, level: LevelRecord) -> StaleVersion | None:
    """Return the refusal of an update that expected other stock than there is."""
    present = {
        "on_hand": level.on_hand,
        "version": level.version,
        "sku_version": record.version,
    }
    skus = change.expected_sku_versions
    stale = {
        "expectedQuantity": change.expected_quantity not in (None, present["on_hand"]),
        "expectedVersion": change.expected_version not in (None, present["version"]),
        "expectedSkuVersions": skus is not None and present["sku_version"] not in skus,
    }
    details = [
        {"field": field, "message": "is not what there is", **present}
        for field, is_stale in stale.items()
        if is_stale
    ]
    if not details:
        return None
    return StaleVersion(
        f"SKU {change.sku!r} is not as expected: warehouse {change.warehouse_id} holds "
        f"{present['on_hand']} at version {present['version']}, and the record's version is "
        f"{present['sku_version']}. Read it again, and decide anew.",
        details=details,
    )


def refusal_of_all(refusals: Sequence[Refused], number: int, items: str) -> InventoryError:
    """Return the first refusal of a request of so many items, with every one in its details."""
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


def inventory_not_found(code: str) -> InventoryNotFound:
    """Return the refusal of a SKU code that the tenant does not have."""
    return InventoryNotFound(f"SKU {code!r} has no inventory record.", details=[{"sku": code}])
