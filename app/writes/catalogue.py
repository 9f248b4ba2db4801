"""Writes of the catalogue: SKUs, warehouses, and the safety stock of levels."""

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
from app.domain.stock import LevelKey, RefusedItem, Stock, inventory_not_found, refusal_of_all
from app.domain.validation import MAX_BULK_UPDATES, name_problem
from app.domain.warehouses import WarehouseType, warehouse_not_found
from app.errors import InventoryError, SkuExists, StaleVersion, invalid_field, invalid_fields
from app.files.seeding import check_code
from app.writes.idempotency_keys import KeyClaim, WriteRequest, WriteResult, post_claim
from app.writes.pipeline import PlannedWrite, Writing, carry_out
from app.writes.posting import Posting, insert_sku, post, write_warehouse
from app.writes.stock_reading import await_writes_into, lock_warehouse, read_stock

Result = TypeVar("Result")
LONGEST_TITLE: Final = 500
# What can be said of a warehouse, and how long it may be.
MAX_NAME_LENGTHS: Final[Mapping[str, int]] = {"name": 200, "address": 500, "marketplace": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuChange:
    """What a SKU shall be; what is None stays as it is."""

    sku: str
    title: str | None = None
    is_archived: bool | None = None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class SafetyStock:
    """What shall stay in stock at one level."""

    sku: str
    warehouse_id: str
    quantity: int

    @property
    def level(self) -> LevelKey:
        """The stock level that it is for."""
        return self.sku, self.warehouse_id


async def create_sku(writing: Writing, code: str, title: str) -> WriteResult[SkuRecord]:
    """Create a SKU, which has no stock anywhere.

    Raises:
        ValidationFailed: the code is malformed, or one that the routes shadow; or the title is.
        SkuExists: there is one of this code. And what `write_once` raises.

    """
    check_code(code)
    _check_names({"title": title}, {"title": LONGEST_TITLE})
    tenant = writing.caller.tenant_id

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[SkuRecord]:
        found = await read_stock(session, tenant, [(code, "")], locked=locked)
        if code in found.skus:
            message = f"SKU {code!r} exists; a code belongs to one SKU, archived or not."
            return PlannedWrite(SkuExists(message, details=[{"sku": code}]))
        now = found.now
        row = {
            "tenant_id": tenant,
            "sku": code,
            "title": title,
            "status": Status.OUT_OF_STOCK.value,
            "version": 1,
            "created_at": now,
            "updated_at": now,
        }
        return PlannedWrite(
            SkuRecord(code, title, 1, None, []), partial(insert_sku, tenant=tenant, row=row)
        )

    request = WriteRequest("createSku", [code, title], SkuRecord)
    return await carry_out(writing, request, plan, locking=True)


async def change_sku(writing: Writing, operation: str, change: SkuChange) -> WriteResult[SkuRecord]:
    """Give a SKU another title, archive it, or restore it; nothing is written if it is so.

    Raises:
        ValidationFailed, InventoryNotFound, StaleVersion. And what `write_once` raises.

    """
    if change.title is not None:
        _check_names({"title": change.title}, {"title": LONGEST_TITLE})
    caller = writing.caller

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[SkuRecord]:
        before = await read_stock(session, caller.tenant_id, [(change.sku, "")], locked=locked)
        record = before.skus.get(change.sku)
        if record is None:
            return PlannedWrite(inventory_not_found(change.sku))
        if change.expected_version not in (None, record.version):
            return PlannedWrite(_stale(record))
        now = before.now
        after = _changed(record, change, now)
        return _posted(after, {change.sku: after}, caller, before, now)

    request = WriteRequest(operation, change, SkuRecord)
    return await carry_out(writing, request, plan, skus=[change.sku])


async def set_safety_stock(
    writing: Writing, levels: Sequence[SafetyStock]
) -> WriteResult[list[SkuRecord]]:
    """Set the safety stock of levels, all or none; return their SKUs, once each, by code.

    A level that never was is made.

    Raises:
        ValidationFailed: not 1 to 500 levels, a quantity is out of range, or two are the same.
        InventoryError: the first refusal, with every refusal in its details. And what
            `write_once` raises.

    """
    _check_levels(levels)
    caller = writing.caller

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[list[SkuRecord]]:
        keys = [level.level for level in levels]
        before = await read_stock(session, caller.tenant_id, keys, locked=locked)
        after = dict(before.skus)
        refusals = []
        for index, level in enumerate(levels):
            outcome = _kept_safe(level, after.get(level.sku), before)
            if isinstance(outcome, InventoryError):
                refusals.append(RefusedItem(index, level, outcome))
            else:
                after[level.sku] = outcome
        if refusals:
            return PlannedWrite(refusal_of_all(refusals, len(levels), "levels"))
        records = [after[code] for code in sorted(after)]
        return _posted(records, after, caller, before, before.now)

    request = WriteRequest("setSafetyStock", list(levels), list[SkuRecord])
    return await carry_out(writing, request, plan, skus={level.sku for level in levels})


async def create_warehouse(writing: Writing, new: WarehouseRecord) -> WriteResult[WarehouseRecord]:
    """Create a warehouse, under an id of the service's making.

    Raises:
        ValidationFailed: something said of it is malformed. And what `write_once` raises.

    """
    _check_warehouse(new)

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[WarehouseRecord]:  # noqa: ARG001
        place = replace(new, id=f"wh_{ulid()}")
        return PlannedWrite(
            place, partial(_post_warehouse, tenant=writing.caller.tenant_id, place=place)
        )

    request = WriteRequest("createWarehouse", new, WarehouseRecord)
    return await carry_out(writing, request, plan, locking=True)


async def update_warehouse(
    writing: Writing, id_: str, changes: Mapping[str, str | bool | None]
) -> WriteResult[WarehouseRecord]:
    """Change what is said of a warehouse, by the names of its record, or (in)activate it.

    Raises:
        ValidationFailed: something said of it is malformed.
        WarehouseNotFound. And what `write_once` raises.

    """
    tenant = writing.caller.tenant_id

    async def plan(session: Session, *, locked: bool) -> PlannedWrite[WarehouseRecord]:
        before = await lock_warehouse(session, tenant, id_, locked=locked)
        if before is None:
            return PlannedWrite(warehouse_not_found(id_))
        after = replace(before, **changes)
        try:
            _check_warehouse(after)
        except InventoryError as refusal:
            return PlannedWrite(refusal)
        if after == before:
            return PlannedWrite(after)
        return PlannedWrite(after, partial(_post_warehouse, tenant=tenant, place=after))

    content = [id_, dict(changes)]
    request = WriteRequest("updateWarehouse", content, WarehouseRecord)
    done = await carry_out(writing, request, plan, locking=True)
    if changes.get("is_active") is False and not writing.dry_run:
        await await_writes_into(writing.database, tenant, [id_])
    return done


async def _post_warehouse(
    session: Session, claim: KeyClaim | None, *, tenant: str, place: WarehouseRecord
) -> bool:
    await write_warehouse(session, tenant, place)
    return claim is None or await post_claim(session, claim)


def _posted(
    result: Result,
    after: Mapping[str, SkuRecord],
    caller: Caller,
    before: Stock,
    at: datetime,
) -> PlannedWrite[Result]:
    changed = {code: record for code, record in after.items() if record is not before.skus[code]}
    if not changed:
        return PlannedWrite(result)
    posting = Posting(after=changed, entries=[], at=at)
    return PlannedWrite(
        result, partial(post, tenant=caller.tenant_id, before=before, posting=posting)
    )


def _changed(record: SkuRecord, change: SkuChange, now: datetime) -> SkuRecord:
    title = record.title if change.title is None else change.title
    archived_at = record.archived_at
    if change.is_archived is not None and change.is_archived is not (archived_at is not None):
        archived_at = now if change.is_archived else None
    if (title, archived_at) == (record.title, record.archived_at):
        return record
    return SkuRecord(record.sku, title, record.version + 1, archived_at, record.levels)


def _kept_safe(
    level: SafetyStock, record: SkuRecord | None, before: Stock
) -> SkuRecord | InventoryError:
    if record is None:
        return inventory_not_found(level.sku)
    place = before.warehouses.get(level.warehouse_id)
    if place is None:
        return warehouse_not_found(level.warehouse_id)
    old = record.level_in(place.id)
    if old is not None and old.safety_stock == level.quantity:
        return record
    return record.with_level(replace(record.level_at(place), safety_stock=level.quantity))


def _stale(record: SkuRecord) -> StaleVersion:
    return StaleVersion(
        f"SKU {record.sku!r} is at version {record.version}. Read it again, and decide anew.",
        details=[
            {
                "field": "expectedVersion",
                "message": "is not what there is",
                "sku_version": record.version,
            }
        ],
    )


def _check_warehouse(place: WarehouseRecord) -> None:
    names = {"name": place.name, "address": place.address, "marketplace": place.marketplace}
    _check_names(names, MAX_NAME_LENGTHS)
    if place.marketplace is not None and not place.type.is_readonly:
        types = f"{WarehouseType.FBA} and {WarehouseType.FBS}"
        raise invalid_field("marketplace", f"must be given for {types} alone")


def _check_names(names: Mapping[str, str | None], longest: Mapping[str, int]) -> None:
    problems = [
        (field, problem)
        for field, name in names.items()
        if name is not None and (problem := name_problem(name, longest[field]))
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
