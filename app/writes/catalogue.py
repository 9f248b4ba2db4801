"""Writes of the catalogue: SKUs, warehouses and the safety stock of levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from app.database.session import Session
from app.domain.caller import Caller
from app.domain.ids import ulid
from app.domain.quantities import MAX_QUANTITY, Status
from app.domain.records import SkuRecord, WarehouseRecord
from app.domain.stock import LevelKey, RefusedItem, Stock, refusal_of_all
from app.domain.validation import MAX_BULK_UPDATES, check_code, name_problem
from app.domain.warehouses import WarehouseType
from app.errors import (
    InventoryError,
    SkuExists,
    StaleVersion,
    invalid_field,
    invalid_fields,
    inventory_not_found,
    warehouse_not_found,
)
from app.writes.idempotency_keys import WriteRequest, WriteResult
from app.writes.locked_reads import read_stock, read_warehouse, wait_for_warehouse_writes
from app.writes.pipeline import Decision, WriteContext, run_write
from app.writes.posting import insert_sku, post, write_warehouse
from app.writes.rows import Posting

Result = TypeVar("Result")
MAX_TITLE_LENGTH: Final = 500
# Of the texts of a warehouse.
MAX_NAME_LENGTHS: Final[Mapping[str, int]] = {"name": 200, "address": 500, "marketplace": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuChange:
    """New title or archived state of a SKU; None leaves a field unchanged."""

    sku: str
    title: str | None = None
    is_archived: bool | None = None
    expected_version: int | None = None


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


async def create_sku(context: WriteContext, code: str, title: str) -> WriteResult[SkuRecord]:
    """Create a SKU without stock.

    Raises:
        ValidationFailed: the code or the title is malformed, or a route shadows the code.
        SkuExists: the code is taken.
        InventoryError: an error of `run_write`.

    """
    check_code(code)
    _check_names({"title": title}, {"title": MAX_TITLE_LENGTH})
    tenant_id = context.caller.tenant_id

    async def decide_sku(session: Session, *, locked: bool) -> Decision[SkuRecord]:
        before = await read_stock(session, tenant_id, [(code, "")], locked=locked)
        if code in before.skus:
            message = f"SKU {code!r} exists; a code belongs to one SKU, archived or not."
            return Decision(SkuExists(message, details=[{"sku": code}]))
        row = {
            "tenant_id": tenant_id,
            "sku": code,
            "title": title,
            "status": Status.OUT_OF_STOCK.value,
            "version": 1,
            "created_at": before.now,
            "updated_at": before.now,
        }
        return Decision(
            SkuRecord(code, title, 1, None, []), partial(insert_sku, tenant_id=tenant_id, row=row)
        )

    request = WriteRequest("createSku", [code, title], SkuRecord)
    return await run_write(context, request, decide_sku, needs_locks=True)


async def change_sku(
    context: WriteContext, operation: str, change: SkuChange
) -> WriteResult[SkuRecord]:
    """Change the title of a SKU, archive it or restore it; without a change nothing is written.

    Raises:
        ValidationFailed, InventoryNotFound, StaleVersion.
        InventoryError: an error of `run_write`.

    """
    if change.title is not None:
        _check_names({"title": change.title}, {"title": MAX_TITLE_LENGTH})
    caller = context.caller

    async def decide_sku(session: Session, *, locked: bool) -> Decision[SkuRecord]:
        before = await read_stock(session, caller.tenant_id, [(change.sku, "")], locked=locked)
        record = before.skus.get(change.sku)
        if record is None:
            return Decision(inventory_not_found(change.sku))
        if change.expected_version not in (None, record.version):
            return Decision(_stale(record))
        after = _changed(record, change, before.now)
        return _decision(after, {change.sku: after}, caller, before)

    request = WriteRequest(operation, change, SkuRecord)
    return await run_write(context, request, decide_sku, skus=[change.sku])


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
    _check_levels(levels)
    caller = context.caller

    async def decide_levels(session: Session, *, locked: bool) -> Decision[list[SkuRecord]]:
        keys = [level.level for level in levels]
        before = await read_stock(session, caller.tenant_id, keys, locked=locked)
        after = dict(before.skus)
        refusals = []
        for index, level in enumerate(levels):
            outcome = _with_safety_stock(level, after.get(level.sku), before)
            if isinstance(outcome, InventoryError):
                refusals.append(RefusedItem(index, level, outcome))
            else:
                after[level.sku] = outcome
        if refusals:
            return Decision(refusal_of_all(refusals, len(levels), "levels"))
        records = [after[code] for code in sorted(after)]
        return _decision(records, after, caller, before)

    request = WriteRequest("setSafetyStock", list(levels), list[SkuRecord])
    return await run_write(context, request, decide_levels, skus={level.sku for level in levels})


async def create_warehouse(
    context: WriteContext, new: WarehouseRecord
) -> WriteResult[WarehouseRecord]:
    """Create a warehouse with a generated id.

    Raises:
        ValidationFailed: a field is malformed.
        InventoryError: an error of `run_write`.

    """
    _check_warehouse(new)

    async def decide_warehouse(session: Session, *, locked: bool) -> Decision[WarehouseRecord]:  # noqa: ARG001
        created = replace(new, id=f"wh_{ulid()}")
        write = partial(write_warehouse, tenant_id=context.caller.tenant_id, warehouse=created)
        return Decision(created, write)

    request = WriteRequest("createWarehouse", new, WarehouseRecord)
    return await run_write(context, request, decide_warehouse, needs_locks=True)


async def update_warehouse(
    context: WriteContext, id_: str, changes: Mapping[str, str | bool | None]
) -> WriteResult[WarehouseRecord]:
    """Change fields of a warehouse, named as in its record; `is_active` activates or deactivates.

    Raises:
        ValidationFailed: a field is malformed.
        WarehouseNotFound.
        InventoryError: an error of `run_write`.

    """
    tenant_id = context.caller.tenant_id

    async def decide_warehouse(session: Session, *, locked: bool) -> Decision[WarehouseRecord]:
        before = await read_warehouse(session, tenant_id, id_, locked=locked)
        if before is None:
            return Decision(warehouse_not_found(id_))
        after = replace(before, **changes)
        try:
            _check_warehouse(after)
        except InventoryError as refusal:
            return Decision(refusal)
        if after == before:
            return Decision(after)
        return Decision(after, partial(write_warehouse, tenant_id=tenant_id, warehouse=after))

    content = [id_, dict(changes)]
    request = WriteRequest("updateWarehouse", content, WarehouseRecord)
    result = await run_write(context, request, decide_warehouse, needs_locks=True)
    if changes.get("is_active") is False and not context.dry_run:
        await wait_for_warehouse_writes(context.database, tenant_id, [id_])
    return result


def _decision(
    result: Result, after: Mapping[str, SkuRecord], caller: Caller, before: Stock
) -> Decision[Result]:
    changed = {code: record for code, record in after.items() if record is not before.skus[code]}
    if not changed:
        return Decision(result)
    posting = Posting(after=changed, entries=[], at=before.now)
    return Decision(
        result, partial(post, tenant_id=caller.tenant_id, before=before, posting=posting)
    )


def _changed(record: SkuRecord, change: SkuChange, now: datetime) -> SkuRecord:
    title = record.title if change.title is None else change.title
    archived_at = record.archived_at
    if change.is_archived is not None and change.is_archived is not (archived_at is not None):
        archived_at = now if change.is_archived else None
    if (title, archived_at) == (record.title, record.archived_at):
        return record
    return SkuRecord(record.sku, title, record.version + 1, archived_at, record.levels)


def _with_safety_stock(
    level: SafetyStock, record: SkuRecord | None, before: Stock
) -> SkuRecord | InventoryError:
    if record is None:
        return inventory_not_found(level.sku)
    warehouse = before.warehouses.get(level.warehouse_id)
    if warehouse is None:
        return warehouse_not_found(level.warehouse_id)
    old = record.level_in(warehouse.id)
    if old is not None and old.safety_stock == level.quantity:
        return record
    return record.with_level(replace(record.level_at(warehouse), safety_stock=level.quantity))


def _stale(record: SkuRecord) -> StaleVersion:
    return StaleVersion(
        f"SKU {record.sku!r} is at version {record.version}. Read it again, then repeat the change "
        "if it still applies.",
        details=[
            {
                "field": "expectedVersion",
                "message": "is not what there is",
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
    if warehouse.marketplace is not None and not warehouse.type.is_readonly:
        types = f"{WarehouseType.FBA} and {WarehouseType.FBS}"
        raise invalid_field("marketplace", f"must be given for {types} only")


def _check_names(names: Mapping[str, str | None], max_lengths: Mapping[str, int]) -> None:
    problems = [
        (field, problem)
        for field, name in names.items()
        if name is not None and (problem := name_problem(name, max_lengths[field]))
    ]
    if problems:
        raise invalid_fields(problems)


def _check_levels(levels: Sequence[SafetyStock]) -> None:
    if not 1 <= len(levels) <= MAX_BULK_UPDATES:
        message = f"must hold 1 to {MAX_BULK_UPDATES} levels, and holds {len(levels)}"
        raise invalid_field("levels", message)
    problems = []
    first_index: dict[LevelKey, int] = {}
    for index, level in enumerate(levels):
        if not 0 <= level.quantity <= MAX_QUANTITY:
            problems.append((f"levels.{index}.safetyStock", f"must be 0 to {MAX_QUANTITY}"))
        first = first_index.setdefault(level.level, index)
        if first != index:
            problems.append((f"levels.{index}", f"is the same as levels.{first}"))
    if problems:
        raise invalid_fields(problems)
