"""The object types of the schema, made from records."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from zoneinfo import ZoneInfo

import strawberry
from strawberry import Private

from app.domain.filters import AdjustmentFilter
from app.domain.object_details import ObjectKind
from app.domain.periods import MAX_PERIODS, UTC_ZONE, TimeRange, period_series
from app.domain.records import (
    AdjustmentRecord,
    LedgerTotals,
    LevelRecord,
    SkuRecord,
    WarehouseRecord,
)
from app.graphql.schema.budget import ROW_COST
from app.graphql.schema.context import Context, Info
from app.graphql.schema.cursors import AdjustmentCursors
from app.graphql.schema.dataloaders import AdjustmentPage
from app.graphql.schema.edges import edge_to
from app.graphql.schema.enums import (
    Interval,
    LevelOrder,
    Status,
    WarehouseType,
)
from app.graphql.schema.fields import made_from, object_from, objects_from, quantity_from, read_from
from app.graphql.schema.filters import (
    AdjustmentFilterArgument,
    LevelOrderArgument,
    StockLevelFilterArgument,
    WarehouseAdjustmentFilterArgument,
)
from app.graphql.schema.ledger_totals import AdjustmentTotals, StockPeriod
from app.graphql.schema.level_pages import LevelsArgument, level_connection
from app.graphql.schema.lookups import (
    get_title,
    get_updated_at,
    require_filtered,
    require_sku,
    require_warehouse,
)
from app.graphql.schema.object_details import (
    ExternalId,
    MetadataEntry,
    external_ids_edge,
    metadata_edge,
)
from app.graphql.schema.relay import (
    DEFAULT_PAGE,
    ID_DESCRIPTION,
    After,
    Connection,
    First,
    Node,
    page_info,
    page_size,
)
from app.graphql.schema.scalars import Quantity
from app.reads.conditions import LedgerKey, key_columns

if TYPE_CHECKING:
    from app.graphql.schema.reservations import ReservationLine

# Reservations refer to SKUs and warehouses, and stock levels to reservations.
RESERVATIONS: Final = strawberry.lazy("app.graphql.schema.reservations")
WarehouseId = Annotated[strawberry.ID, strawberry.argument(description="Warehouse id, wh_...")]


@strawberry.type(description="A place that holds stock.")
class Warehouse(Node):
    """A place that holds stock."""

    record: Private[WarehouseRecord]
    id: strawberry.ID = read_from("record.id", ID_DESCRIPTION)
    name: str = read_from("record.name", "Display name.")
    type: WarehouseType = read_from("record.type", "Operator of the warehouse.")
    address: str | None = read_from("record.address", "Postal address; null if unknown.")
    marketplace: str | None = read_from(
        "record.marketplace",
        "Marketplace that operates the warehouse, for example amazon_eu; null for other types.",
    )
    is_active: bool = read_from(
        "record.is_active",
        "Whether stock may increase. The stock of an inactive warehouse counts as on hand, is not "
        "for sale, and may only decrease.",
    )
    is_sellable: bool = read_from(
        "record.is_sellable",
        "Whether the stock is for sale while the warehouse is active. Other stock counts as on "
        "hand, but not as available and in no status.",
    )
    is_readonly: bool = read_from(
        "record.type.is_readonly",
        "Whether a marketplace operates the warehouse. Stock writes to it are refused.",
    )
    external_ids: list[ExternalId] | None = external_ids_edge(
        ObjectKind.WAREHOUSE, lambda record: record.id
    )
    metadata: list[MetadataEntry] | None = metadata_edge(
        ObjectKind.WAREHOUSE, lambda record: record.id
    )

    @strawberry.field(description="Stock levels of the warehouse.")
    async def stock(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: StockLevelFilterArgument = None,
        order_by: LevelOrderArgument = LevelOrder.SKU_ASC,
    ) -> Connection["StockLevel"] | None:
        """Page of stock levels."""
        page = LevelsArgument(filter, order_by, first, after)
        return await level_connection(
            info.context, self.record, page, lambda record: StockLevel(record=record)
        )

    @strawberry.field(description="Adjustments in the warehouse, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: WarehouseAdjustmentFilterArgument = None,
    ) -> "AdjustmentConnection | None":
        """Page of adjustments in the warehouse."""
        where = filter.conditions() if filter else AdjustmentFilter()
        return await adjustments_of(info.context, (None, self.record.id), where, first, after)


@strawberry.type(description="A stock-keeping unit (SKU) with its stock.")
class Sku(Node):
    """A stock-keeping unit with its stock."""

    record: Private[SkuRecord]
    id: strawberry.ID = read_from("record.id", ID_DESCRIPTION)
    sku: str = read_from("record.sku", "SKU code.")
    title: str = read_from("record.title", "Display title of the product.")
    total_on_hand: int = quantity_from(
        "record.figures.on_hand", "Quantity on hand, summed over the stock levels."
    )
    total_reserved: int = quantity_from(
        "record.figures.reserved", "Reserved quantity, summed over the stock levels."
    )
    total_available: int = quantity_from(
        "record.figures.available", "Available quantity, summed over the stock levels."
    )
    safety_stock: int = quantity_from(
        "record.figures.safety_stock", "Safety stock, summed over the stock levels."
    )
    reorder_point: int | None = read_from(
        "record.figures.reorder_point",
        "Reorder point, summed over the stock levels for sale; null if none of them has one.",
        Quantity | None,
    )
    status: Status = read_from(
        "record.figures.status", "Stock status, derived from the stock levels for sale."
    )
    version: int = quantity_from(
        "record.version", "Version of the SKU. It increases with each change."
    )
    updated_at: datetime | None = edge_to(
        get_updated_at,
        lambda record: record.sku,
        lambda instant: instant,
        "Time of the last change of the SKU: its stock, reservations, safety stock, title or "
        "archiving. Null for the dry run of its creation.",
    )
    is_archived: bool = made_from(
        lambda self: self.record.archived_at is not None,
        "Whether the SKU is archived. Lists omit archived SKUs by default. An archived SKU keeps "
        "its history. Its stock may decrease, and increases are refused (SKU_ARCHIVED).",
    )
    archived_at: datetime | None = read_from(
        "record.archived_at", "Time of archiving; null if the SKU is not archived."
    )
    external_ids: list[ExternalId] | None = external_ids_edge(
        ObjectKind.SKU, lambda record: record.sku
    )
    metadata: list[MetadataEntry] | None = metadata_edge(ObjectKind.SKU, lambda record: record.sku)
    stock: list["StockLevel"] = objects_from(
        "record.levels",
        lambda record: StockLevel(record=record),
        "Stock levels, ordered by warehouse id.",
    )

    @strawberry.field(description="Stock level in one warehouse; null if there is none.")
    def stock_level(self, warehouse_id: WarehouseId) -> "StockLevel | None":
        """Stock level in one warehouse."""
        record = self.record.level_in(warehouse_id)
        return StockLevel(record=record) if record else None

    @strawberry.field(
        description="Exact quantity on hand at a past instant, computed from the ledger. Reserved "
        "quantity and safety stock have no history; `stock` has their current values."
    )
    async def stock_as_of(
        self,
        info: Info,
        at: Annotated[
            TimeRange,
            strawberry.argument(
                description="Adjustments at or before this instant are included. A date means the "
                "end of the day. A future instant gives the current stock."
            ),
        ],
        time_zone: Annotated[
            ZoneInfo, strawberry.argument(description="Time zone of a date.")
        ] = UTC_ZONE,
    ) -> "StockAsOf | None":
        """Stock at a past instant."""
        at = at.in_zone(time_zone)
        info.context.budget.spend(len(self.record.levels) * ROW_COST)
        loader = info.context.loaders.stock_as_of(at.end)
        return StockAsOf(records=await loader.load((self.record.sku, None)))

    @strawberry.field(
        description="Exact quantity on hand per hour or day, computed from the ledger. Every "
        "period is included, also without changes; each opens with the closing quantity of the "
        "previous one. A transfer between the included warehouses counts as an increase and a "
        f"decrease. Each period counts in the query cost. At most {MAX_PERIODS} periods."
    )
    async def stock_history(
        self,
        info: Info,
        *,
        from_: Annotated[
            TimeRange,
            strawberry.argument(
                name="from",
                description="Start of the first period, rounded down to a whole period.",
            ),
        ],
        to: Annotated[
            TimeRange,
            strawberry.argument(
                description="End of the last period, rounded up to a whole period. A date means "
                "the end of the day. Future periods have the current stock."
            ),
        ],
        interval: Annotated[Interval, strawberry.argument(description="Length of each period.")],
        warehouse_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(
                description="Id of one warehouse. Without it, all stock levels in `stock` are "
                "summed."
            ),
        ] = None,
        time_zone: Annotated[
            ZoneInfo,
            strawberry.argument(
                description="Time zone of the days and of dates. A day on which its clocks change "
                "has 23 or 25 hours. Hours have 60 minutes from a full hour of its clocks."
            ),
        ] = UTC_ZONE,
    ) -> list[StockPeriod] | None:
        """Stock per period.

        Raises:
            ValidationFailed, WarehouseNotFound.

        """
        series = period_series(from_, to, interval, time_zone)
        info.context.budget.spend(len(self.record.levels) * ROW_COST)
        if warehouse_id is not None:
            await require_warehouse(info.context, warehouse_id)
        loader = info.context.loaders.stock_history(series)
        records = await loader.load((self.record.sku, warehouse_id))
        return [StockPeriod(record=record) for record in records]

    @strawberry.field(description="Adjustments of the SKU in all warehouses, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: AdjustmentFilterArgument = None,
    ) -> "AdjustmentConnection | None":
        """Page of adjustments of the SKU."""
        where = filter.conditions() if filter else AdjustmentFilter()
        return await adjustments_of(info.context, (self.record.sku, None), where, first, after)


def sku_edge() -> Any:  # noqa: ANN401
    """Define the field that leads from a record with a SKU code to its SKU."""
    return edge_to(
        require_sku, lambda record: record.sku, lambda record: Sku(record=record), "The SKU."
    )


def warehouse_edge() -> Any:  # noqa: ANN401
    """Define the field that leads from a record with a warehouse id to its warehouse."""
    return edge_to(
        require_warehouse,
        lambda record: record.warehouse_id,
        lambda record: Warehouse(record=record),
        "The warehouse.",
    )


@strawberry.type(description="Stock of one SKU in one warehouse.")
class StockLevel(Node):
    """Stock of one SKU in one warehouse."""

    record: Private[LevelRecord]
    id: strawberry.ID = read_from("record.id", ID_DESCRIPTION)
    on_hand: int = quantity_from("record.on_hand", "Quantity on hand, in pieces.")
    reserved: int = quantity_from(
        "record.reserved", "Quantity held by open reservations, in pieces."
    )
    safety_stock: int = quantity_from(
        "record.safety_stock", "Quantity that is not available for sale, in pieces."
    )
    reorder_point: int | None = read_from(
        "record.reorder_point",
        "Sellable quantity from which the status is LOW; null if none is set.",
        Quantity | None,
    )
    available: int = quantity_from(
        "record.available",
        "On hand minus reserved minus safety stock. Negative if the stock is oversold or below "
        "the safety stock. 0 if the warehouse is inactive or not sellable.",
    )
    status: Status = read_from("record.status", "Stock status of this stock level.")
    version: int = quantity_from("record.version", "Number of adjustments of the stock level.")
    adjusted_at: datetime | None = read_from(
        "record.adjusted_at", "Time of the last adjustment; null without adjustments."
    )
    synced_at: datetime | None = read_from(
        "record.synced_at", "Time of the last report; null without reports."
    )

    code: str = read_from("record.sku", "SKU code.")
    title: str | None = edge_to(
        get_title,
        lambda record: record.sku,
        lambda title: title,
        "Display title of the product. `sku { title }` also reads the stock in all warehouses.",
    )
    warehouse: Warehouse = object_from(
        "record.warehouse", lambda record: Warehouse(record=record), "The warehouse."
    )
    sku: Sku | None = sku_edge()

    @strawberry.field(description="Adjustments of the stock level, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: AdjustmentFilterArgument = None,
    ) -> "AdjustmentConnection | None":
        """Page of adjustments of the stock level."""
        where = filter.conditions() if filter else AdjustmentFilter()
        key = (self.record.sku, self.record.warehouse_id)
        return await adjustments_of(info.context, key, where, first, after)

    @strawberry.field(
        description="Lines of open reservations of the stock level, newest first. Their held "
        "quantities add up to `reserved`."
    )
    async def reservations(
        self, info: Info, first: First = DEFAULT_PAGE, after: After = None
    ) -> Connection[Annotated["ReservationLine", RESERVATIONS]] | None:
        """Page of open reservation lines."""
        # Imported on demand: the module imports this one.
        from app.graphql.schema.reservations import holds_of  # noqa: PLC0415

        return await holds_of(info.context, self.record, first, after)


@strawberry.type(description="A ledger entry: one change of the quantity on hand of a stock level.")
class Adjustment(Node):
    """A ledger entry."""

    record: Private[AdjustmentRecord]
    id: strawberry.ID = read_from("record.id", ID_DESCRIPTION)
    position: int = quantity_from(
        "record.position",
        "Number of the adjustment within the whole ledger, from 1 without gaps: the order in which "
        "adjustments were written.",
    )
    sequence: int = quantity_from(
        "record.sequence",
        "Number of the adjustment within its stock level, from 1 without gaps.",
    )
    before_quantity: int = quantity_from(
        "record.before_quantity", "Quantity on hand before the adjustment."
    )
    after_quantity: int = quantity_from(
        "record.after_quantity", "Quantity on hand after the adjustment."
    )
    delta: int = quantity_from("record.delta", "Quantity after minus quantity before.")
    reason: str = read_from(
        "record.reason", "Reason code, for example supplier_receipt or cycle_count."
    )
    note: str | None = read_from("record.note", "Free text that explains the adjustment.")
    created_by: str = read_from(
        "record.created_by", "E-mail address of the author, or `erased` after its erasure."
    )
    created_at: datetime = read_from("record.created_at", "Time of the adjustment.")
    bulk_id: strawberry.ID | None = read_from(
        "record.bulk_id", "Id of the bulk that contains the adjustment; null outside of a bulk."
    )
    transfer_id: strawberry.ID | None = read_from(
        "record.transfer_id",
        "Id of the transfer that contains the adjustment; null outside of a transfer.",
    )
    reservation_id: strawberry.ID | None = read_from(
        "record.reservation_id",
        "Id of the reservation whose commit made the adjustment; null for others.",
    )
    reversal_of: strawberry.ID | None = read_from(
        "record.reversal_of", "Id of the adjustment that is reversed; null for others."
    )
    reference: str | None = read_from(
        "record.reference", "The caller's id of the order, delivery or count."
    )
    occurred_at: datetime | None = read_from(
        "record.occurred_at",
        "Time at which the change occurred, if the caller said so; null if it occurred at "
        "`createdAt`.",
    )
    sku: Sku | None = sku_edge()
    warehouse: Warehouse | None = warehouse_edge()


@strawberry.type(description="Quantity on hand of a SKU at a past instant.")
class StockAsOf:
    """Quantity on hand of a SKU at a past instant."""

    records: Private[Sequence[AdjustmentRecord]]
    total_on_hand: int = made_from(
        lambda self: sum(record.after_quantity for record in self.records),
        "Quantity on hand, summed over the stock levels.",
        Quantity,
    )
    levels: list["StockLevelAsOf"] = made_from(
        lambda self: [StockLevelAsOf(record=record) for record in self.records],
        "Stock levels at the instant, ordered by warehouse id. Levels without an earlier "
        "adjustment are omitted.",
    )


@strawberry.type(description="Quantity on hand of one SKU in one warehouse at a past instant.")
class StockLevelAsOf:
    """A stock level at a past instant. `record` is its last adjustment up to then."""

    record: Private[AdjustmentRecord]
    on_hand: int = quantity_from("record.after_quantity", "Quantity on hand, in pieces.")
    adjustment: Adjustment = made_from(
        lambda self: Adjustment(record=self.record),
        "Last adjustment at or before the instant.",
    )
    warehouse: Warehouse | None = warehouse_edge()


@strawberry.type(description="A page of a list of adjustments (Relay).")
class AdjustmentConnection(Connection[Adjustment]):
    """A page of a list of adjustments."""

    sum_up: Private[Any]

    @strawberry.field(description="Exact totals of the whole list, not only of the page.")
    async def totals(self) -> AdjustmentTotals | None:
        """Totals of the whole list, summed when they are selected."""
        return AdjustmentTotals(record=await self.sum_up())


async def adjustments_of(
    context: Context, key: LedgerKey, where: AdjustmentFilter, first: int, after: str | None
) -> AdjustmentConnection:
    """Page of the ledger of a SKU, a stock level or a warehouse.

    Raises:
        ValidationFailed, InvalidCursor, InventoryNotFound, WarehouseNotFound.

    """
    by = key_columns(key)
    cursors = AdjustmentCursors(context.cursors("adjustments", key, where))
    page = AdjustmentPage(where, cursors.decode(after), page_size(first) + 1)
    await require_filtered(context, where)
    return adjustment_connection(
        await context.loaders.adjustments(page, by).load(key),
        limit=first,
        after=after,
        cursors=cursors,
        count=lambda: context.loaders.adjustment_count(where, by).load(key),
        sum_up=lambda: context.loaders.adjustment_totals(where, by).load(key),
    )


def adjustment_connection(
    records: Sequence[AdjustmentRecord],
    *,
    limit: int,
    after: str | None,
    cursors: AdjustmentCursors,
    count: Callable[[], Awaitable[int]],
    sum_up: Callable[[], Awaitable[LedgerTotals]],
) -> AdjustmentConnection:
    """Build the connection of `limit` adjustments; one further record means a next page."""
    nodes = [Adjustment(record=record) for record in records]

    def cursor_of(node: Adjustment) -> str:
        return cursors.encode(node.record)

    return AdjustmentConnection(
        nodes=nodes[:limit],
        page_info=page_info(nodes, limit=limit, after=after, cursor_of=cursor_of),
        cursor_of=cursor_of,
        count=count,
        sum_up=sum_up,
    )
