"""The root type of the reads."""

from dataclasses import replace
from typing import Annotated

import strawberry
from graphql.pyutils import gather_with_cancel

from app.domain.caller import Scope
from app.domain.filters import AdjustmentFilter, ReservationFilter, SkuFilter
from app.domain.object_details import ObjectKind
from app.domain.records import LedgerTotals
from app.domain.validation import normalized_code
from app.graphql.schema.availability import (
    Availability,
    AvailabilityFilterInput,
    AvailabilityPage,
    page_of_availabilities,
)
from app.graphql.schema.budget import (
    ENTRIES_PER_UNIT,
    LEVEL_COST,
    PARENT_COST,
    ROW_COST,
    STATEMENT_COST,
    TOTALS_COST,
)
from app.graphql.schema.changes import (
    AfterPosition,
    ChangePage,
    ChangeTypes,
    OfWarehouses,
    page_of_changes,
)
from app.graphql.schema.context import Context, Info
from app.graphql.schema.cursors import AdjustmentCursors, sku_position, sku_position_of
from app.graphql.schema.enums import Order
from app.graphql.schema.filters import LedgerFilterArgument, ReservationFilterInput, SkuFilterInput
from app.graphql.schema.lookups import (
    require_filtered,
    require_reservation,
    require_sku,
    require_warehouse,
)
from app.graphql.schema.object_details import ExternalIdInput, require_object
from app.graphql.schema.relay import (
    DEFAULT_PAGE,
    MAX_PAGE,
    After,
    Connection,
    First,
    Node,
    check_number,
    connection_of,
    page_size,
)
from app.graphql.schema.reservations import (
    Reservation,
    ReservationConnection,
    page_of_reservations,
)
from app.graphql.schema.text_search import search
from app.graphql.schema.types import (
    Adjustment,
    AdjustmentConnection,
    Sku,
    StockLevel,
    Warehouse,
    adjustment_connection,
)
from app.graphql.schema.webhooks import Webhook, WebhookQuery
from app.reads.adjustment_totals import count_adjustments, sum_adjustments
from app.reads.adjustments import list_adjustments
from app.reads.paging import MAX_COUNT
from app.reads.skus import count_skus, list_skus
from app.reads.warehouses import list_warehouses

ExternalIdArgument = Annotated[
    ExternalIdInput, strawberry.argument(description="The id in the other system.")
]


@strawberry.type(
    description="The reads. Each needs the scope inventory:read or inventory:write, unless its "
    "description names another. Errors of reads and writes have an `ErrorCode` in "
    "`errors[].extensions.code`."
)
class Query(WebhookQuery):
    """The root type of the reads."""

    @strawberry.field(description="SKUs with their stock.")
    async def skus(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: Annotated[
            SkuFilterInput | None,
            strawberry.argument(
                description="Filters; without them, all SKUs that are not archived."
            ),
        ] = None,
        order_by: Annotated[
            Order, strawberry.argument(description="Order of the list.")
        ] = Order.CODE_ASCENDING,
    ) -> Connection[Sku] | None:
        """Page of SKUs.

        Raises:
            ValidationFailed, InvalidCursor, WarehouseNotFound.

        """
        context = info.context
        where = filter.conditions() if filter else SkuFilter()
        limit = page_size(first)
        where = await with_code(context, where)
        cursors = context.cursors("skus", where, order_by)
        position = sku_position_of(cursors.decode(after), order_by)
        if where.warehouse_id is not None:
            await require_warehouse(context, where.warehouse_id)
        found = await search(context, where.words) if where.words else None
        context.budget.spend(STATEMENT_COST)
        if found is not None:
            context.budget.spend(len(found) // ENTRIES_PER_UNIT)
        elif order_by.subject != "code" and where != SkuFilter():
            # The index of the order has no other column, so the page may read many SKUs.
            context.budget.spend(MAX_COUNT // ENTRIES_PER_UNIT)
        async with context.snapshot.planning:
            with context.budget.exhausted_by_refusal():
                page = await list_skus(
                    context.snapshot,
                    context.principal.tenant_id,
                    where=where,
                    found=found,
                    after=position,
                    order=order_by,
                    limit=limit + 1,
                    most_levels=context.budget.affordable(LEVEL_COST),
                )
            context.budget.spend_stock(page.records)

        async def count() -> int:
            context.budget.spend(STATEMENT_COST + MAX_COUNT // ENTRIES_PER_UNIT)
            return await count_skus(
                context.snapshot, context.principal.tenant_id, where=where, found=found
            )

        return connection_of(
            [Sku(record=record) for record in page.records],
            limit=limit,
            after=after,
            cursor_of=lambda sku: cursors.encode(sku_position(sku.record, order_by)),
            count=count if page.total is None else page.total,
        )

    @strawberry.field(description="The SKU with a code, or the error INVENTORY_NOT_FOUND.")
    async def sku(
        self, info: Info, sku: Annotated[str, strawberry.argument(description="SKU code.")]
    ) -> Sku | None:
        """SKU with a code."""
        return Sku(record=await require_sku(info.context, normalized_code(sku)))

    @strawberry.field(
        description="The SKU with an id in another system, or the error INVENTORY_NOT_FOUND."
    )
    async def sku_by_external_id(self, info: Info, external_id: ExternalIdArgument) -> Sku | None:
        """SKU with an external id."""
        code = await require_object(info.context, ObjectKind.SKU, external_id)
        return Sku(record=await require_sku(info.context, code))

    @strawberry.field(description="All warehouses, ordered by id, including inactive ones.")
    async def warehouses(self, info: Info) -> list[Warehouse] | None:
        """All warehouses."""
        context = info.context
        tenant_id = context.principal.tenant_id
        async with context.snapshot.planning:
            context.budget.spend(STATEMENT_COST)
            limit = context.budget.affordable(ROW_COST) + 1
            records = await list_warehouses(context.snapshot, tenant_id, limit=limit)
            context.budget.spend(len(records) * ROW_COST)
        can_use = context.principal.caller.can_use
        return [Warehouse(record=record) for record in records if can_use(record.id)]

    @strawberry.field(description="The warehouse with an id, or the error WAREHOUSE_NOT_FOUND.")
    async def warehouse(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="Warehouse id, wh_...")],
    ) -> Warehouse | None:
        """Warehouse with an id."""
        return Warehouse(record=await require_warehouse(info.context, id))

    @strawberry.field(
        description="The warehouse with an id in another system, or the error WAREHOUSE_NOT_FOUND."
    )
    async def warehouse_by_external_id(
        self, info: Info, external_id: ExternalIdArgument
    ) -> Warehouse | None:
        """Warehouse with an external id."""
        id_ = await require_object(info.context, ObjectKind.WAREHOUSE, external_id)
        return Warehouse(record=await require_warehouse(info.context, id_))

    @strawberry.field(description="Adjustments of all stock levels, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: LedgerFilterArgument = None,
    ) -> AdjustmentConnection | None:
        """Page of the ledger.

        Raises:
            InsufficientScope, ValidationFailed, InvalidCursor, InventoryNotFound,
            WarehouseNotFound.

        """
        context = info.context
        limit = page_size(first, longest=context.longest_page)
        where = filter.conditions() if filter else AdjustmentFilter()
        if where.warehouse_id is None:
            context.principal.require_unbound("adjustments without the filter of one warehouse")
        cursors = AdjustmentCursors(context.cursors("adjustments", None, where))
        position = cursors.decode(after)
        await require_filtered(context, where)
        tenant_id, spend = context.principal.tenant_id, context.budget.spend
        snapshot = context.snapshot
        spend(STATEMENT_COST + PARENT_COST)
        records = await list_adjustments(
            snapshot, tenant_id, where=where, after=position, limit=limit + 1
        )
        spend(len(records) * ROW_COST)
        context.budget.spend_text(record.note for record in records)

        async def count() -> int:
            async with snapshot.planning:
                spend(STATEMENT_COST + TOTALS_COST)
                number, uncovered = await count_adjustments(snapshot, tenant_id, where=where)
                spend(uncovered // ENTRIES_PER_UNIT)
            return number

        async def sum_up() -> LedgerTotals:
            async with snapshot.planning:
                spend(STATEMENT_COST + TOTALS_COST)
                totals, uncovered = await sum_adjustments(snapshot, tenant_id, where=where)
                spend(uncovered // ENTRIES_PER_UNIT)
            return totals

        return adjustment_connection(
            records, limit=limit, after=after, cursors=cursors, count=count, sum_up=sum_up
        )

    @strawberry.field(description="Reservations, newest first, including ended ones.")
    async def reservations(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: Annotated[
            ReservationFilterInput | None,
            strawberry.argument(description="Filters; without them, all reservations."),
        ] = None,
    ) -> ReservationConnection | None:
        """Page of reservations."""
        where = filter.conditions() if filter else ReservationFilter()
        return await page_of_reservations(info.context, first, after, where)

    @strawberry.field(
        description="The feed: changes of the data of the tenant, oldest first. To follow it, send "
        "`readTo` of each page as `after` of the next one. The error CHANGES_GONE says that the "
        "changes after a position are not kept."
    )
    async def changes(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: AfterPosition = None,
        types: ChangeTypes = None,
        warehouse_ids: OfWarehouses = None,
    ) -> ChangePage | None:
        """Page of the feed."""
        return await page_of_changes(info.context, first, after, types, warehouse_ids)

    @strawberry.field(description="The reservation with an id, or the error RESERVATION_NOT_FOUND.")
    async def reservation(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="Reservation id, rsv_...")],
    ) -> Reservation | None:
        """Reservation with an id."""
        return Reservation(record=await require_reservation(info.context, id))

    @strawberry.field(
        description=f"SKUs with these codes, in their order; null where there is none. Up to "
        f"{MAX_PAGE} codes."
    )
    async def skus_by_code(
        self, info: Info, codes: Annotated[list[str], strawberry.argument(description="SKU codes.")]
    ) -> list[Sku | None] | None:
        """SKUs with codes, in their order.

        Raises:
            ValidationFailed: there are too many codes.

        """
        check_number("codes", codes)
        load = info.context.loaders.sku.load
        records = await gather_with_cancel(*(load(normalized_code(code)) for code in codes))
        return [Sku(record=record) if record else None for record in records]

    @strawberry.field(
        description="Availabilities of the SKUs that are not archived. Needs the scope "
        "inventory:availability or any other."
    )
    async def availabilities(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: Annotated[
            AvailabilityFilterInput | None,
            strawberry.argument(description="Filters; without them, all SKUs."),
        ] = None,
    ) -> AvailabilityPage | None:
        """Page of availabilities."""
        return await page_of_availabilities(info.context, first, after, filter)

    @strawberry.field(
        description="The availability of the SKU with a code; null if there is none, or if it is "
        "archived. Needs the scope inventory:availability or any other."
    )
    async def availability(
        self, info: Info, sku: Annotated[str, strawberry.argument(description="SKU code.")]
    ) -> Availability | None:
        """Availability of the SKU with a code."""
        record = await info.context.loaders.availability.load(normalized_code(sku))
        return Availability(record=record) if record else None

    @strawberry.field(description="The object with a global id; null if it does not exist.")
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="`id` of any object.")],
    ) -> Node | None:
        """Object with a global id; None if it does not exist."""
        return await node_of(info.context, id)

    @strawberry.field(
        description=f"Objects with these global ids, in their order; null where there is none. Up "
        f"to {MAX_PAGE} ids."
    )
    async def nodes(
        self,
        info: Info,
        ids: Annotated[
            list[strawberry.ID], strawberry.argument(description="`id` of any objects.")
        ],
    ) -> list[Node | None] | None:
        """Objects with global ids, in their order.

        Raises:
            ValidationFailed: there are too many ids.

        """
        check_number("ids", ids)
        return await gather_with_cancel(*(node_of(info.context, id_) for id_ in ids))


async def with_code(context: Context, where: SkuFilter) -> SkuFilter:
    """Filter with the code of the SKU that has the external id of a filter."""
    if where.external_id is None:
        return where
    code = await context.loaders.object_by_external_id(ObjectKind.SKU).load(where.external_id)
    if code is None or where.sku not in (None, code):
        return replace(where, external_id=None, statuses=())
    return replace(where, external_id=None, sku=code)


async def node_of(context: Context, id_: str) -> Node | None:
    """Object with a global id; None if it does not exist."""
    loaders = context.loaders
    kind, _, rest = id_.partition("_")
    if kind == "sku":
        sku = await loaders.sku.load(normalized_code(rest))
        return Sku(record=sku) if sku else None
    if kind == "wh":
        warehouse = await loaders.warehouse.load(id_)
        return Warehouse(record=warehouse) if warehouse else None
    if kind == "rsv":
        reservation = await loaders.reservation.load(id_)
        return Reservation(record=reservation) if reservation else None
    if kind == "adj":
        entry = await loaders.adjustment.load(id_)
        return Adjustment(record=entry) if entry else None
    if kind == "whk":
        return await _webhook(context, id_)
    return await _stock_level(context, rest) if kind == "level" else None


async def _webhook(context: Context, id_: str) -> Webhook | None:
    """Webhook with an id; None without the scope to read webhooks."""
    if not context.principal.has(Scope.ADMIN):
        return None
    record = await context.loaders.webhook.load(id_)
    return Webhook(record=record) if record else None


async def _stock_level(context: Context, rest: str) -> StockLevel | None:
    """Stock level with the global id `level_wh_<ULID>_<SKU>`, given without `level_`."""
    prefix, ulid, code = [*rest.split("_", 2), "", ""][:3]
    record = await context.loaders.sku.load(normalized_code(code))
    level = record.level_in(f"{prefix}_{ulid}") if record else None
    return StockLevel(record=level) if level else None
