"""A plain model of the REST responses for loaded data."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files.seeding import LoadedLevel, LoadedSku
from tests.rest.answers import Json
from tests.service import level, sku, warehouse


def status(on_hand: int, reserved: int, safety_stock: int) -> str:
    sellable = on_hand - reserved
    if sellable <= 0:
        return "out_of_stock"
    if sellable <= safety_stock:
        return "critical"
    return "low" if sellable <= 2 * safety_stock else "normal"


def record(
    item: LoadedSku, warehouses: Iterable[WarehouseRecord], *, warehouse_id: str | None = None
) -> Json:
    """Inventory record of a SKU, optionally limited to one warehouse."""
    by_id = {each.id: each for each in warehouses}
    levels = sorted(
        (level for level in item.levels if warehouse_id in (None, level.warehouse_id)),
        key=lambda level: level.warehouse_id,
    )
    for_sale = [level for level in levels if _sells(by_id[level.warehouse_id])]
    on_hand = sum(_on_hand(level) for level in for_sale)
    reserved = sum(level.reserved for level in for_sale)
    safety_stock = sum(level.safety_stock for level in for_sale)
    return {
        "sku": item.sku,
        "title": item.title,
        "total_on_hand": sum(_on_hand(level) for level in levels),
        "total_reserved": sum(level.reserved for level in levels),
        "total_available": on_hand - reserved - safety_stock,
        "safety_stock": sum(level.safety_stock for level in levels),
        "status": status(on_hand, reserved, safety_stock),
        "warehouses": [_level(level, by_id[level.warehouse_id]) for level in levels],
    }


def records(
    items: Iterable[LoadedSku],
    warehouses: Sequence[WarehouseRecord],
    *,
    status: str | None = None,
    warehouse_id: str | None = None,
    sku: str | None = None,
) -> list[Json]:
    """Return the records of a list with these filters, in order of the SKU code."""
    result = [
        record(item, warehouses, warehouse_id=warehouse_id)
        for item in sorted(items, key=lambda item: item.sku)
        if sku in (None, item.sku)
        and (warehouse_id is None or any(it.warehouse_id == warehouse_id for it in item.levels))
    ]
    return [item for item in result if status in (None, item["status"])]


def history(
    item: LoadedSku,
    *,
    warehouse_id: str | None = None,
    reason: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[Json]:
    """Return the adjustments of a SKU between two instants, newest first, without ids."""
    entries: list[tuple[datetime, int, Json]] = []
    for each in item.levels:
        before = 0
        for sequence, entry in enumerate(each.history, start=1):
            at = entry.created_at
            body = {
                "sku": item.sku,
                "warehouse_id": each.warehouse_id,
                "before_quantity": before,
                "after_quantity": entry.quantity,
                "delta": entry.quantity - before,
                "reason": entry.reason,
                **({} if entry.note is None else {"note": entry.note}),
                "created_by": entry.created_by,
                "created_at": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z",
            }
            before = entry.quantity
            if (
                warehouse_id in (None, each.warehouse_id)
                and reason in (None, entry.reason)
                and (start is None or at >= start)
                and (end is None or at <= end)
            ):
                entries.append((at, sequence, body))
    entries.sort(key=lambda entry: entry[:2], reverse=True)
    return [body for _, _, body in entries]


def warehouses() -> list[WarehouseRecord]:
    """One warehouse of every kind, in order of id."""
    kinds = [
        warehouse("Main"),
        warehouse("FBA EU", WarehouseType.FBA, marketplace="amazon_eu"),
        warehouse("FBS DE", WarehouseType.FBS, marketplace="amazon_de"),
        warehouse("North", WarehouseType.THIRD_PARTY, address="Havenstraat 12"),
        warehouse("Old Hall", is_active=False),
    ]
    return sorted(kinds, key=lambda each: each.id)


def catalogue(warehouses: Sequence[WarehouseRecord]) -> list[LoadedSku]:
    """SKUs of every status in all combinations of the first three warehouses."""
    quantities = [0, 5, 10, 11, 20, 21, 40]
    items = []
    for number in range(56):
        levels = [
            level(
                each,
                quantities[(9 * number + 3 * position) % 7],
                reserved=(0, 1, 5, 12)[(number // 8 + position) % 4],
                safety_stock=(10, 0, 5)[(number // 3 + position) % 3],
            )
            for position, each in enumerate(warehouses[:3])
            if number >> position & 1
        ]
        items.append(sku(f"{'Zaéz'[number % 4]}-{number}", *levels, title=f"Thing {number}"))
    never_counted = LoadedLevel(warehouse_id=warehouses[0].id, reserved=2, safety_stock=3)
    return [*items, sku("never counted", never_counted)]


def _on_hand(level: LoadedLevel) -> int:
    return level.history[-1].quantity if level.history else 0


def _sells(warehouse: WarehouseRecord) -> bool:
    return warehouse.is_active and warehouse.is_sellable


def _level(level: LoadedLevel, warehouse: WarehouseRecord) -> Json:
    on_hand = _on_hand(level)
    body = {
        "warehouse_id": warehouse.id,
        "name": warehouse.name,
        "on_hand": on_hand,
        "reserved": level.reserved,
        "available": on_hand - level.reserved - level.safety_stock if _sells(warehouse) else 0,
    }
    return body if warehouse.type == "own" else {**body, "type": warehouse.type.value}
