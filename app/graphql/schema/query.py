"""The root of the reads."""

from typing import Annotated

import strawberry

from app.domain.filters import ReservationFilter, SkuFilter
from app.domain.records import LedgerTotals
from app.errors import ERRORS, meanings
from app.graphql.schema import cursors
from app.graphql.schema.budget import LEVEL, PARENT, ROW, STATEMENT
from app.graphql.schema.context import Info
from app.graphql.schema.enums import Order, Status
from app.graphql.schema.relay import (
    DEFAULT_PAGE,
    After,
    Connection,
    First,
    Node,
    connection,
    of_plain_values,
    optional,
    page_size,
)
from app.graphql.schema.types import (
    ARCHIVED_FILTER,
    Adjustment,
    AdjustmentConnection,
    AdjustmentCursors,
    AdjustmentFilterInput,
    Reservation,
    ReservationFilterInput,
    Sku,
    StockLevel,
    Warehouse,
    adjustment_connection,
    conditions,
    reservation_of,
    sku_of,
    warehouse_of,
)
from app.reads.adjustment_totals import count_adjustments, sum_adjustments
from app.reads.adjustments import get_adjustment, list_adjustments
from app.reads.reservations import count_reservations, list_reservations
from app.reads.skus import list_skus
from app.reads.warehouses import list_warehouses


@of_plain_values
@strawberry.input(description="Which SKUs a list holds; conditions combine.")
class SkuFilterInput:
    """Conditions on SKUs."""

    status: Status | None = optional("Only those of this status.")
    warehouse_id: strawberry.ID | None = optional(
        "Only those with stock levels in this warehouse, seen as if there were no other."
    )
    sku: str | None = optional("Only the one of this code.")
    archived: bool | None = strawberry.field(default=False, description=ARCHIVED_FILTER)

    def conditions(self) -> SkuFilter:
        """Return what the queries take."""
        return SkuFilter(
            status=self.status,
            warehouse_id=self.warehouse_id,
            sku=self.sku,
            archived=self.archived,
        )


@of_plain_values
@strawberry.input(description="Which adjustments a list holds; conditions combine.")
class LedgerFilterInput(AdjustmentFilterInput):
    """Conditions on adjustments of any SKU."""

    sku: str | None = optional("Only those of this SKU.")


@strawberry.type(
    description="The reads. Each needs the scope inventory:read or inventory:write.\n\nWhat goes "
    f"wrong, here or in a write, says so in `errors[].extensions.code`:\n\n{meanings(ERRORS)}"
)
class Query:
    """The reads."""

    @strawberry.field(description="SKUs with their stock, by code.")
    async def skus(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: Annotated[
            SkuFilterInput | None, strawberry.argument(description="Which SKUs; all without it.")
        ] = None,
        order_by: Annotated[
            Order, strawberry.argument(description="In which order.")
        ] = Order.ASCENDING,
    ) -> Connection[Sku]:
        """Page through the SKUs.

        Raises:
            ValidationFailed, InvalidCursor, WarehouseNotFound.

        """
        context = info.context
        where = filter.conditions() if filter else SkuFilter()
        key = context.principal.cursor_key
        question = ["skus", where, order_by]
        limit = page_size(first)
        position = cursors.decode(after, question=question, key=key) if after is not None else None
        if where.warehouse_id is not None:
            await warehouse_of(context, where.warehouse_id)
        context.budget.spend(STATEMENT)
        with context.budget.exhausted_by_refusal():
            page = await list_skus(
                context.snapshot,
                context.principal.tenant_id,
                where=where,
                after=position,
                order=order_by,
                limit=limit + 1,
                most_levels=context.budget.affordable(LEVEL),
            )
        context.budget.spend_stock(page.records)

        async def total() -> int:
            return page.total

        return connection(
            [Sku(record=record) for record in page.records],
            limit=limit,
            after=after,
            cursor_of=lambda sku: cursors.encode(sku.record.sku, question=question, key=key),
            count=total,
        )

    @strawberry.field(description="The SKU of a code, or the error INVENTORY_NOT_FOUND.")
    async def sku(
        self, info: Info, sku: Annotated[str, strawberry.argument(description="The code.")]
    ) -> Sku | None:
        """Find a SKU."""
        return await sku_of(info.context, sku)

    @strawberry.field(description="All warehouses by id, inactive ones too.")
    async def warehouses(self, info: Info) -> list[Warehouse]:
        """List the warehouses."""
        context = info.context
        context.budget.spend(STATEMENT)
        records = await list_warehouses(
            context.snapshot, context.principal.tenant_id, limit=context.budget.affordable(ROW) + 1
        )
        context.budget.spend(len(records) * ROW)
        return [Warehouse(record=record) for record in records]

    @strawberry.field(description="The warehouse of an id, or the error WAREHOUSE_NOT_FOUND.")
    async def warehouse(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id, wh_...")],
    ) -> Warehouse | None:
        """Find a warehouse."""
        return await warehouse_of(info.context, id)

    @strawberry.field(description="The ledger of all stock levels, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: Annotated[
            LedgerFilterInput | None,
            strawberry.argument(description="Which adjustments; all without it."),
        ] = None,
    ) -> AdjustmentConnection:
        """Page through the ledger.

        Raises:
            ValidationFailed, InvalidCursor, InventoryNotFound, WarehouseNotFound.

        """
        context = info.context
        limit = page_size(first, longest=context.longest_page)
        where = conditions(filter, sku=filter.sku if filter else None)
        ledger = AdjustmentCursors(context, None, where)
        position = ledger.position(after)
        if where.sku is not None:
            await sku_of(context, where.sku)
        if where.warehouse_id is not None:
            await warehouse_of(context, where.warehouse_id)
        tenant, spend = context.principal.tenant_id, context.budget.spend
        spend(STATEMENT + PARENT)
        records = await list_adjustments(
            context.snapshot, tenant, where=where, after=position, limit=limit + 1
        )
        spend(len(records) * ROW)
        context.budget.spend_text(record.note for record in records)

        async def count() -> int:
            spend(STATEMENT + PARENT)
            return await count_adjustments(context.snapshot, tenant, where=where)

        async def sum_up() -> LedgerTotals:
            spend(STATEMENT + PARENT)
            return await sum_adjustments(context.snapshot, tenant, where=where)

        return adjustment_connection(
            records,
            limit=limit,
            after=after,
            ledger=ledger,
            count=count,
            sum_up=sum_up,
        )

    @strawberry.field(description="Reservations, newest first, those that have ended too.")
    async def reservations(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: Annotated[
            ReservationFilterInput | None,
            strawberry.argument(description="Which reservations; all without it."),
        ] = None,
    ) -> Connection[Reservation]:
        """Page through the reservations.

        Raises:
            ValidationFailed, InvalidCursor.

        """
        context = info.context
        where = filter.conditions() if filter else ReservationFilter()
        key, question = context.principal.cursor_key, ["reservations", where]
        limit = page_size(first)
        position = cursors.decode(after, question=question, key=key) if after is not None else None
        tenant = context.principal.tenant_id
        context.budget.spend(STATEMENT + PARENT)
        with context.budget.exhausted_by_refusal():
            records = await list_reservations(
                context.snapshot, tenant, where=where, after=position, limit=limit + 1
            )
        context.budget.spend(sum(len(record.lines) for record in records) * ROW)
        context.budget.spend_text(record.note for record in records)

        async def count() -> int:
            context.budget.spend(STATEMENT)
            return await count_reservations(context.snapshot, tenant, where=where)

        return connection(
            [Reservation(record=record) for record in records],
            limit=limit,
            after=after,
            cursor_of=lambda node: cursors.encode(node.record.id, question=question, key=key),
            count=count,
        )

    @strawberry.field(description="The reservation of an id, or the error RESERVATION_NOT_FOUND.")
    async def reservation(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id, rsv_...")],
    ) -> Reservation | None:
        """Find a reservation."""
        return await reservation_of(info.context, id)

    @strawberry.field(description="The object of an id, or null.")
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The `id` of any object.")],
    ) -> Node | None:
        """Fetch an object again."""
        context = info.context
        kind, _, rest = id.partition("_")
        if kind == "sku":
            found = await context.loaders.sku.load((None, rest))
            return Sku(record=found) if found else None
        if kind == "wh":
            place = await context.loaders.warehouse.load(id)
            return Warehouse(record=place) if place else None
        if kind == "rsv":
            held = await context.loaders.reservation.load(id)
            return Reservation(record=held) if held else None
        if kind == "adj":
            context.budget.spend(STATEMENT)
            entry = await get_adjustment(context.snapshot, context.principal.tenant_id, id_=id)
            return Adjustment(record=entry) if entry else None
        if kind == "level":
            # level_wh_<ULID>_<SKU>
            prefix, ulid, code = [*rest.split("_", 2), "", ""][:3]
            record = await context.loaders.sku.load((None, code))
            level = record.level_in(f"{prefix}_{ulid}") if record else None
            return StockLevel(record=level) if level else None
        return None
