"""Writes of the catalogue: SKUs, warehouses, safety stock and reorder points of levels."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from msgspec.structs import replace

from app.domain.ids import ulid
from app.domain.object_details import NO_DETAILS, DetailsChange, ObjectKind
from app.domain.quantities import MAX_QUANTITY
from app.domain.records import SkuRecord, WarehouseRecord
from app.domain.stock import UNCHANGED, Changes, LevelKey, RefusedItem, Stock, refusal_of_all
from app.domain.validation import (
    MAX_BULK_UPDATES,
    MAX_NAME_LENGTHS,
    MAX_TITLE_LENGTH,
    check_code,
    name_problem,
)
from app.domain.warehouses import marketplace_problem
from app.errors import (
    InventoryError,
    SkuExists,
    StaleVersion,
    invalid_field,
    invalid_fields,
    warehouse_not_found,
)
from app.writes.decisions import Decision, Needs
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.object_details import UNCHANGED_DETAILS, decide_details, needs_of_details
from app.writes.pipeline import WriteContext, run_write
from app.writes.stock import needs_of

Result = TypeVar("Result")
# The fields that decide whether a warehouse sells its stock.
SALE_FIELDS: Final = frozenset({"is_active", "is_sellable"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuChange:
    """New title or archived state of a SKU; None leaves a field unchanged."""

    sku: str
    title: str | None = None
    is_archived: bool | None = None
    expected_version: int | None = None
    details: DetailsChange = UNCHANGED_DETAILS


@dataclass(frozen=True, slots=True)
class SafetyStock:
    """New safety stock of one level."""

    sku: str
    warehouse_id: str
    quantity: int

    @property
    def level(self) -> LevelKey:
        """The key of the stock level."""
        return self.sku, self.warehouse_id


@dataclass(frozen=True, slots=True)
class ReorderPoint:
    """New reorder point of one level; None removes it."""

    sku: str
    warehouse_id: str
    quantity: int | None

    @property
    def level(self) -> LevelKey:
        """The key of the stock level."""
        return self.sku, self.warehouse_id


async def create_sku(
    context: WriteContext, code: str, title: str, details: DetailsChange = UNCHANGED_DETAILS
) -> WriteResult[SkuRecord]:
    """Create a SKU without stock.

    Raises:
        ValidationFailed: the code or the title is malformed, or a route shadows the code.
        SkuExists: the code is taken.
        ExternalIdTaken: an external id belongs to another SKU.
        InventoryError: an error of `run_write`.

    """
    check_code(code)
    _check_names({"title": title}, {"title": MAX_TITLE_LENGTH})

    def decide_sku(stock: Stock) -> Decision[SkuRecord]:
        if code in stock.skus:
            message = f"SKU {code!r} exists; a code belongs to one SKU, archived or not."
            return Decision(SkuExists(message, details=[{"sku": code}]))
        record = SkuRecord(code, title, 1, None, [])
        return _sku_decision(stock, None, record, details)

    request = WriteRequest("createSku", [code, title, details], SkuRecord)
    needs = needs_of_details((ObjectKind.SKU, code), details)
    needs = dataclasses.replace(needs, skus=[code], finds_similar_codes=False)
    return await run_write(context, request, needs, decide_sku)


async def change_sku(
    context: WriteContext, operation: str, change: SkuChange
) -> WriteResult[SkuRecord]:
    """Change the title or the details of a SKU, archive it or restore it.

    Without a change nothing is written.

    Raises:
        ValidationFailed, InventoryNotFound, StaleVersion, ExternalIdTaken.
        InventoryError: an error of `run_write`.

    """
    if change.title is not None:
        _check_names({"title": change.title}, {"title": MAX_TITLE_LENGTH})

    def decide_sku(stock: Stock) -> Decision[SkuRecord]:
        record = stock.skus.get(change.sku)
        if record is None:
            return Decision(stock.unknown_sku(change.sku))
        if change.expected_version not in (None, record.version):
            return Decision(_stale(record))
        after = _changed(record, change, stock.now)
        return _sku_decision(stock, record, after, change.details)

    request = WriteRequest(operation, change, SkuRecord)
    needs = needs_of_details((ObjectKind.SKU, change.sku), change.details)
    needs = dataclasses.replace(needs, skus=[change.sku])
    return await run_write(context, request, needs, decide_sku)


async def set_safety_stock(
    context: WriteContext, levels: Sequence[SafetyStock]
) -> WriteResult[list[SkuRecord]]:
    """Set the safety stock of levels, all or none; their SKUs once each, sorted by code.

    Missing levels are created.

    Raises:
        ValidationFailed: not 1 to 500 levels, a quantity is out of range, or two are the same.
        InventoryError: the first refusal, with every refusal in its details; or an error of
            `run_write`.

    """
    _check_levels(levels, "safetyStock")
    return await _configure_levels(context, "setSafetyStock", "safety_stock", levels)


async def set_reorder_points(
    context: WriteContext, levels: Sequence[ReorderPoint]
) -> WriteResult[list[SkuRecord]]:
    """Set or remove the reorder points of levels, as `set_safety_stock` sets safety stock."""
    _check_levels(levels, "reorderPoint")
    return await _configure_levels(context, "setReorderPoints", "reorder_point", levels)


async def _configure_levels(
    context: WriteContext,
    operation: str,
    name: str,
    levels: Sequence[SafetyStock | ReorderPoint],
) -> WriteResult[list[SkuRecord]]:
    """Set the column `name` of levels."""
    codes = sorted({level.sku for level in levels})

    def decide_levels(stock: Stock) -> Decision[list[SkuRecord]]:
        after = {code: stock.skus[code] for code in codes if code in stock.skus}
        refusals = []
        for index, level in enumerate(levels):
            outcome = _configured(level, name, after.get(level.sku), stock)
            if isinstance(outcome, InventoryError):
                refusals.append(RefusedItem(index, level, outcome))
            else:
                after[level.sku] = outcome
        if refusals:
            return Decision(refusal_of_all(refusals, len(levels), "levels"))
        return _decision([*after.values()], after, stock)

    request = WriteRequest(operation, list(levels), list[SkuRecord])
    return await run_write(context, request, needs_of(levels), decide_levels)


async def create_warehouse(
    context: WriteContext, new: WarehouseRecord, details: DetailsChange = UNCHANGED_DETAILS
) -> WriteResult[WarehouseRecord]:
    """Create a warehouse with a generated id.

    Raises:
        ValidationFailed: a field is malformed.
        ExternalIdTaken: an external id belongs to another warehouse.
        InventoryError: an error of `run_write`.

    """
    _check_warehouse(new)

    def decide_warehouse(stock: Stock) -> Decision[WarehouseRecord]:
        return _warehouse_decision(stock, None, replace(new, id=f"wh_{ulid()}"), details)

    request = WriteRequest("createWarehouse", [new, details], WarehouseRecord)
    # The warehouse has no id yet, and nothing is stored for it.
    needs = Needs(external_ids=[(ObjectKind.WAREHOUSE, id_) for id_ in details.ids])
    return await run_write(context, request, needs, decide_warehouse)


async def update_warehouse(
    context: WriteContext,
    id_: str,
    changes: Mapping[str, str | bool | None],
    details: DetailsChange = UNCHANGED_DETAILS,
) -> WriteResult[WarehouseRecord]:
    """Change fields of a warehouse, named as in its record.

    If it begins or ends to sell its stock, all SKUs with a level there change in the same write.

    Raises:
        ValidationFailed: a field is malformed.
        WarehouseNotFound, ExternalIdTaken.
        InventoryError: an error of `run_write`.

    """

    def decide_warehouse(stock: Stock) -> Decision[WarehouseRecord]:
        before = stock.warehouses.get(id_)
        if before is None:
            return Decision(warehouse_not_found(id_))
        after = replace(before, **changes)
        try:
            _check_warehouse(after)
        except InventoryError as refusal:
            return Decision(refusal)
        return _warehouse_decision(stock, before, after, details)

    content = [id_, dict(changes), details]
    request = WriteRequest("updateWarehouse", content, WarehouseRecord)
    needs = needs_of_details((ObjectKind.WAREHOUSE, id_), details)
    is_alone = not changes.keys().isdisjoint(SALE_FIELDS)
    needs = dataclasses.replace(needs, warehouses=[id_], is_alone=is_alone)
    return await run_write(context, request, needs, decide_warehouse)


def _sku_decision(
    stock: Stock, before: SkuRecord | None, after: SkuRecord, change: DetailsChange
) -> Decision[SkuRecord]:
    """Decide on a SKU and its details, whose change counts in its version."""
    if change.is_empty:
        return Decision(after, UNCHANGED if after is before else Changes(skus={after.sku: after}))
    key = (ObjectKind.SKU, after.sku)
    details = decide_details(stock, key, change)
    if isinstance(details, InventoryError):
        return Decision(details)
    is_changed = details != stock.details.get(key, NO_DETAILS)
    if after is before and is_changed:
        after = replace(after, version=after.version + 1)
    result = replace(after, details=details)
    if after is before:
        return Decision(result)
    changed = {key: details} if is_changed else {}
    return Decision(result, Changes(skus={after.sku: after}, details=changed))


def _warehouse_decision(
    stock: Stock, before: WarehouseRecord | None, after: WarehouseRecord, change: DetailsChange
) -> Decision[WarehouseRecord]:
    """Decide on a warehouse and its details."""
    if change.is_empty:
        is_same = after == before
        return Decision(after, UNCHANGED if is_same else Changes(warehouses={after.id: after}))
    key = (ObjectKind.WAREHOUSE, after.id)
    details = decide_details(stock, key, change)
    if isinstance(details, InventoryError):
        return Decision(details)
    result = replace(after, details=details)
    is_changed = details != stock.details.get(key, NO_DETAILS)
    if after == before and not is_changed:
        return Decision(result)
    changed = {key: details} if is_changed else {}
    return Decision(result, Changes(warehouses={after.id: after}, details=changed))


def _decision(result: Result, after: Mapping[str, SkuRecord], stock: Stock) -> Decision[Result]:
    changed = {code: record for code, record in after.items() if record is not stock.skus[code]}
    return Decision(result, Changes(skus=changed))


def _changed(record: SkuRecord, change: SkuChange, now: datetime) -> SkuRecord:
    title = record.title if change.title is None else change.title
    archived_at = record.archived_at
    if change.is_archived is not None and change.is_archived is not (archived_at is not None):
        archived_at = now if change.is_archived else None
    if (title, archived_at) == (record.title, record.archived_at):
        return record
    return SkuRecord(record.sku, title, record.version + 1, archived_at, record.levels)


def _configured(
    level: SafetyStock | ReorderPoint, name: str, record: SkuRecord | None, stock: Stock
) -> SkuRecord | InventoryError:
    if record is None:
        return stock.unknown_sku(level.sku)
    warehouse = stock.warehouses.get(level.warehouse_id)
    if warehouse is None:
        return warehouse_not_found(level.warehouse_id)
    new = replace(record.level_at(warehouse), **{name: level.quantity})
    return record if new == record.level_in(warehouse.id) else record.with_level(new)


def _stale(record: SkuRecord) -> StaleVersion:
    return StaleVersion(
        f"SKU {record.sku!r} is at version {record.version}. Read it again, then repeat the change "
        "if it still applies.",
        details=[
            {
                "field": "expectedVersion",
                "message": "differs from the current value",
                "sku_version": record.version,
            }
        ],
    )


def _check_warehouse(warehouse: WarehouseRecord) -> None:
    names = {
        "name": warehouse.name,
        "address": warehouse.address,
        "marketplace": warehouse.marketplace,
    }
    _check_names(names, MAX_NAME_LENGTHS)
    if problem := marketplace_problem(warehouse.marketplace, warehouse.type):
        raise invalid_field("marketplace", problem)


def _check_names(names: Mapping[str, str | None], max_lengths: Mapping[str, int]) -> None:
    problems = [
        (field, problem)
        for field, name in names.items()
        if name is not None and (problem := name_problem(name, max_lengths[field]))
    ]
    if problems:
        raise invalid_fields(problems)


def _check_levels(levels: Sequence[SafetyStock | ReorderPoint], field: str) -> None:
    if not 1 <= len(levels) <= MAX_BULK_UPDATES:
        message = f"must hold 1 to {MAX_BULK_UPDATES} levels, and holds {len(levels)}"
        raise invalid_field("levels", message)
    problems = []
    first_index: dict[LevelKey, int] = {}
    for index, level in enumerate(levels):
        if level.quantity is not None and not 0 <= level.quantity <= MAX_QUANTITY:
            problems.append((f"levels.{index}.{field}", f"must be 0 to {MAX_QUANTITY}"))
        first = first_index.setdefault(level.level, index)
        if first != index:
            problems.append((f"levels.{index}", f"is the same as levels.{first}"))
    if problems:
        raise invalid_fields(problems)
