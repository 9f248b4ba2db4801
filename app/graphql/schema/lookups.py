"""Look-ups of one record through the loaders; a missing record is an error."""

from collections.abc import Sequence
from datetime import datetime

from graphql.pyutils import gather_with_cancel

from app.domain.filters import AdjustmentFilter, ReservationFilter
from app.domain.records import ReservationRecord, SkuRecord, WarehouseRecord
from app.errors import inventory_not_found, reservation_not_found, warehouse_not_found
from app.graphql.schema.budget import ENTRIES_PER_UNIT
from app.graphql.schema.context import Context
from app.reads.paging import MAX_COUNT


async def require_sku(context: Context, code: str) -> SkuRecord:
    """Record of a SKU with its levels.

    Raises:
        InventoryNotFound: the tenant does not have the SKU.

    """
    record = await context.loaders.sku.load(code)
    if record is None:
        raise inventory_not_found(code)
    return record


async def get_title(context: Context, code: str) -> str | None:
    """Title of a SKU."""
    return await context.loaders.title.load(code)


async def get_updated_at(context: Context, code: str) -> datetime | None:
    """Time of the last change of a SKU."""
    return await context.loaders.updated_at.load(code)


async def require_warehouse(context: Context, warehouse_id: str) -> WarehouseRecord:
    """Record of a warehouse.

    Raises:
        WarehouseNotFound: the tenant does not have the warehouse.

    """
    record = await context.loaders.warehouse.load(warehouse_id)
    if record is None:
        raise warehouse_not_found(warehouse_id)
    return record


async def require_warehouses(
    context: Context, warehouse_ids: Sequence[str] | None
) -> Sequence[str] | None:
    """Ids of the warehouses of a filter: without one, those of a bound token, or None for all.

    Raises:
        WarehouseNotFound: the tenant does not have one of the warehouses.

    """
    if warehouse_ids is None:
        bound = context.principal.warehouse_ids
        return None if bound is None else sorted(bound)
    required = [require_warehouse(context, id_) for id_ in sorted(set(warehouse_ids))]
    await gather_with_cancel(*required)
    return warehouse_ids


async def require_reservation(context: Context, reservation_id: str) -> ReservationRecord:
    """Record of a reservation.

    Raises:
        ReservationNotFound: the tenant does not have the reservation.

    """
    record = await context.loaders.reservation.load(reservation_id)
    if record is None:
        raise reservation_not_found(reservation_id)
    return record


async def require_filtered(context: Context, where: AdjustmentFilter | ReservationFilter) -> None:
    """Check that the SKU and the warehouse of a filter exist.

    A page of adjustments that occurred in a period reads all of them: their times do not follow the
    order of the list.

    Raises:
        InventoryNotFound, WarehouseNotFound.

    """
    if isinstance(where, AdjustmentFilter) and (where.occurred_from or where.occurred_to):
        context.budget.spend(MAX_COUNT // ENTRIES_PER_UNIT)
    if where.sku is not None:
        await require_sku(context, where.sku)
    if where.warehouse_id is not None:
        await require_warehouse(context, where.warehouse_id)
