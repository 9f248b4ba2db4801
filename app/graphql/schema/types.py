"""The types of the schema, and how each is made of a record."""

from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Final

import strawberry
from strawberry import Private

from app.domain.filters import AdjustmentFilter, ReservationFilter
from app.domain.periods import MAX_PERIODS, TimeRange, period_series
from app.domain.records import (
    AdjustmentRecord,
    LedgerTotals,
    LevelRecord,
    PeriodRecord,
    ReservationLineRecord,
    ReservationRecord,
    SkuRecord,
    WarehouseRecord,
)
from app.domain.stock import inventory_not_found
from app.domain.validation import reason_problem
from app.domain.warehouses import warehouse_not_found
from app.errors import ReservationNotFound, invalid_field
from app.graphql.columnar.executor import BATCH_RESOLVER
from app.graphql.schema import cursors
from app.graphql.schema.budget import ROW
from app.graphql.schema.context import Context, Info
from app.graphql.schema.dataloaders import AdjustmentPage, LevelPage, SkuKey
from app.graphql.schema.enums import Interval, ReservationStatus, Sign, Status, WarehouseType
from app.graphql.schema.relay import (
    DEFAULT_PAGE,
    ID,
    After,
    Connection,
    First,
    Node,
    connection,
    made_from,
    object_from,
    objects_from,
    of_plain_values,
    optional,
    page_info,
    page_size,
    quantity_from,
    read_from,
)
from app.graphql.schema.scalars import Quantity
from app.reads.adjustments import AdjustmentPosition
from app.reads.conditions import LedgerKey, named

ARCHIVED_FILTER: Final = "false: without archived SKUs; true: archived ones alone; null: both."


@strawberry.input(description="Which adjustments a list holds; conditions combine.")
class EntryFilterInput:
    """Conditions on adjustments, wherever they are."""

    reason: str | None = optional("Only those with this reason.")
    start_date: TimeRange | None = optional("Only those at or after this.")
    end_date: TimeRange | None = optional("Only those at or before this; a whole day if a date.")
    created_by: str | None = optional("Only those of who has this e-mail address.")
    bulk_id: strawberry.ID | None = optional("Only those that are part of this bulk.")
    transfer_id: strawberry.ID | None = optional("Only the halves of this transfer.")
    reservation_id: strawberry.ID | None = optional("Only those that committed this reservation.")
    reference: str | None = optional("Only those with this reference.")
    sign: Sign | None = optional("Only those that go this way.")


@of_plain_values
@strawberry.input(description="Which adjustments a list holds; conditions combine.")
class AdjustmentFilterInput(EntryFilterInput):
    """Conditions on adjustments of one SKU."""

    warehouse_id: strawberry.ID | None = optional("Only those of this warehouse.")


@of_plain_values
@strawberry.input(
    description="Which adjustments the list of a warehouse holds; conditions combine."
)
class WarehouseAdjustmentFilterInput(EntryFilterInput):
    """Conditions on adjustments of one warehouse."""

    sku: str | None = optional("Only those of this SKU.")


AdjustmentFilterArgument = Annotated[
    AdjustmentFilterInput | None,
    strawberry.argument(description="Which adjustments; all without it."),
]


@strawberry.type(description="A place that holds stock.")
class Warehouse(Node):
    """A warehouse."""

    record: Private[WarehouseRecord]
    id: strawberry.ID = read_from("record.id", ID)
    name: str = read_from("record.name", "What people call it.")
    type: WarehouseType = read_from("record.type", "Who runs it.")
    address: str | None = read_from("record.address", "Where it is, when known.")
    marketplace: str | None = read_from(
        "record.marketplace", "The marketplace that runs it, such as amazon_eu."
    )
    is_active: bool = read_from(
        "record.is_active",
        "Whether it takes stock. An inactive one counts in totals and can only be emptied.",
    )
    is_readonly: bool = read_from(
        "record.type.is_readonly",
        "Whether a marketplace runs it: stock writes are refused.",
    )

    @strawberry.field(description="What it holds, by SKU code.")
    async def stock(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        status: Annotated[
            Status | None, strawberry.argument(description="Only levels of this status.")
        ] = None,
        *,
        archived: Annotated[bool | None, strawberry.argument(description=ARCHIVED_FILTER)] = False,
    ) -> Connection["StockLevel"]:
        """Page through the levels of this warehouse."""
        context = info.context
        key = context.principal.cursor_key
        question = ["levels", self.record.id, status, archived]
        position = cursors.decode(after, question=question, key=key) if after is not None else None
        page = LevelPage(status, archived, position, page_size(first) + 1)
        levels = await context.loaders.levels_by_warehouse(page).load(self.record)
        return connection(
            [StockLevel(record=level) for level in levels],
            limit=first,
            after=after,
            cursor_of=lambda level: cursors.encode(level.record.sku, question=question, key=key),
            count=lambda: context.loaders.level_count_by_warehouse(status, archived=archived).load(
                self.record.id
            ),
        )

    @strawberry.field(description="Its ledger over all SKUs, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: Annotated[
            WarehouseAdjustmentFilterInput | None,
            strawberry.argument(description="Which adjustments; all without it."),
        ] = None,
    ) -> "AdjustmentConnection":
        """Page through the ledger of this warehouse."""
        where = conditions(filter, sku=filter.sku if filter else None)
        return await adjustments_of(info.context, (None, self.record.id), where, first, after)


@strawberry.type(description="A stock-keeping unit and its stock.")
class Sku(Node):
    """A SKU."""

    record: Private[SkuRecord]
    id: strawberry.ID = read_from("record.id", ID)
    sku: str = read_from("record.sku", "The code.")
    title: str = read_from("record.title", "What it is.")
    total_on_hand: int = quantity_from(
        "record.figures.on_hand", "What is there, over its stock levels."
    )
    total_reserved: int = quantity_from(
        "record.figures.reserved", "What is reserved, over its stock levels."
    )
    total_available: int = quantity_from(
        "record.figures.available", "What can be promised, over its stock levels."
    )
    safety_stock: int = quantity_from(
        "record.figures.safety_stock",
        "What shall stay in stock, over its stock levels.",
    )
    status: Status = read_from(
        "record.figures.status", "How the stock stands, derived from the totals."
    )
    version: int = quantity_from("record.version", "Counts the changes of this record.")
    is_archived: bool = made_from(
        lambda self: self.record.archived_at is not None,
        "Whether it is left out of lists unless they ask for it. It keeps its history, takes no "
        "increase of stock (SKU_ARCHIVED), and can be emptied.",
    )
    archived_at: datetime | None = read_from(
        "record.archived_at", "Since when it is archived, if it is."
    )

    stock: list["StockLevel"] = objects_from(
        "record.levels",
        lambda record: StockLevel(record=record),
        "Its stock levels by warehouse id. In a list that is filtered by warehouse, that one "
        "alone, and the totals are those of that one.",
    )

    @strawberry.field(
        description="What was there at an instant, exactly, from the ledger. Reserved stock and "
        "safety stock have no ledger: they are told of the present only, in `stock`."
    )
    async def stock_as_of(
        self,
        info: Info,
        at: Annotated[
            TimeRange,
            strawberry.argument(
                description="After all adjustments at or before this; at the end of the day if a "
                "date. One to come is the present."
            ),
        ],
    ) -> "StockAsOf":
        """Go back in time."""
        key = (self.record.sku, self.record.warehouse_id)
        info.context.budget.spend(len(self.record.levels) * ROW)
        return StockAsOf(records=await info.context.loaders.stock_as_of(at.end).load(key))

    @strawberry.field(
        description="What was on hand over time, hour by hour or day by day, exactly, from the "
        "ledger. Every period is there, also where nothing changed; each opens with what the one "
        "before closed with. A transfer within what is shown is an increase and a decrease. The "
        f"cost counts the periods; at most {MAX_PERIODS}."
    )
    async def stock_history(
        self,
        info: Info,
        from_: Annotated[
            TimeRange,
            strawberry.argument(
                name="from",
                description="Where the first period starts: at this, rounded down to a whole one.",
            ),
        ],
        to: Annotated[
            TimeRange,
            strawberry.argument(
                description="Where the last period ends: at this, rounded up to a whole one; at "
                "the end of the day if a date. Periods to come are as the present."
            ),
        ],
        interval: Annotated[Interval, strawberry.argument(description="How long each period is.")],
        warehouse_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(
                description="In this warehouse alone; without it over all stock levels, as "
                "`stock` shows them."
            ),
        ] = None,
    ) -> list["StockPeriod"]:
        """Follow the stock through time.

        Raises:
            ValidationFailed, WarehouseNotFound.

        """
        series = period_series(from_, to, interval)
        info.context.budget.spend(len(self.record.levels) * ROW)
        if warehouse_id is not None:
            await warehouse_of(info.context, warehouse_id)
        key = (self.record.sku, self.record.warehouse_id if warehouse_id is None else warehouse_id)
        records = await info.context.loaders.stock_history(series).load(key)
        return [StockPeriod(record=record) for record in records]

    @strawberry.field(description="Its ledger over all stock levels, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: AdjustmentFilterArgument = None,
    ) -> "AdjustmentConnection":
        """Page through the ledger of this SKU."""
        where = conditions(filter)
        if self.record.warehouse_id is not None and where.warehouse_id is None:
            where = replace(where, warehouse_id=self.record.warehouse_id)
        return await adjustments_of(info.context, (self.record.sku, None), where, first, after)


async def warehouses_of_adjustments(entries: Sequence[Any], context: Context) -> list[Warehouse]:
    """Return the warehouse of each adjustment."""
    ids = [entry.record.warehouse_id for entry in entries]
    different = list(dict.fromkeys(ids))
    found = await gather(*(warehouse_of(context, id_) for id_ in different))
    by_id = dict(zip(different, found, strict=True))
    return [by_id[id_] for id_ in ids]


async def skus_of_levels(levels: Sequence[Any], context: Context) -> list[Sku]:
    """Return the SKU of each stock level, as seen where the level was."""
    return await _skus(context, [(level.record.view, level.record.sku) for level in levels])


async def skus_of_adjustments(entries: Sequence[Any], context: Context) -> list[Sku]:
    """Return the SKU of each adjustment."""
    return await _skus(context, [(None, entry.record.sku) for entry in entries])


async def _skus(context: Context, keys: Sequence[SkuKey]) -> list[Sku]:
    different = list(dict.fromkeys(keys))
    found = await gather(*(sku_of(context, code, view=view) for view, code in different))
    by_key = dict(zip(different, found, strict=True))
    return [by_key[key] for key in keys]


@strawberry.type(description="What one warehouse holds of one SKU.")
class StockLevel(Node):
    """A stock level."""

    record: Private[LevelRecord]
    id: strawberry.ID = read_from("record.id", ID)
    on_hand: int = quantity_from("record.on_hand", "What is there.")
    reserved: int = quantity_from("record.reserved", "What of it is reserved.")
    safety_stock: int = quantity_from("record.safety_stock", "What shall stay.")
    available: int = quantity_from(
        "record.available",
        "On hand minus reserved minus safety stock; negative when oversold or eating into the "
        "safety stock.",
    )
    status: Status = read_from("record.status", "How the stock stands in this warehouse alone.")
    version: int = quantity_from("record.version", "Counts its adjustments.")
    adjusted_at: datetime | None = read_from(
        "record.adjusted_at", "When it was last adjusted, if ever."
    )
    synced_at: datetime | None = read_from(
        "record.synced_at",
        "When the marketplace saw what it reported last, if it ever reported.",
    )

    warehouse: Warehouse = object_from(
        "record.warehouse", lambda record: Warehouse(record=record), "The warehouse."
    )

    @strawberry.field(description="The SKU.", metadata={BATCH_RESOLVER: skus_of_levels})
    async def sku(self, info: Info) -> Sku:
        """Go to the SKU."""
        return await sku_of(info.context, self.record.sku, view=self.record.view)

    @strawberry.field(description="Its ledger, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: AdjustmentFilterArgument = None,
    ) -> "AdjustmentConnection":
        """Page through the ledger of this level."""
        where = conditions(filter)
        key = (self.record.sku, self.record.warehouse_id)
        return await adjustments_of(info.context, key, where, first, after)

    @strawberry.field(
        description="What open reservations hold of it, newest first: they explain `reserved`."
    )
    async def reservations(
        self, info: Info, first: First = DEFAULT_PAGE, after: After = None
    ) -> Connection["ReservationLine"]:
        """Page through the holds of this level."""
        context = info.context
        key = (self.record.sku, self.record.warehouse_id)
        cursor_key, question = context.principal.cursor_key, ["holds", key]
        position = (
            cursors.decode(after, question=question, key=cursor_key) if after is not None else None
        )
        holds = context.loaders.holds(position, page_size(first) + 1)
        return connection(
            [ReservationLine(record=line) for line in await holds.load(key)],
            limit=first,
            after=after,
            cursor_of=lambda line: cursors.encode(
                line.record.reservation_id, question=question, key=cursor_key
            ),
            count=lambda: context.loaders.hold_count.load(key),
        )


@strawberry.type(description="One change of what a warehouse holds of a SKU: a ledger entry.")
class Adjustment(Node):
    """A ledger entry."""

    record: Private[AdjustmentRecord]
    id: strawberry.ID = read_from("record.id", ID)
    sequence: int = quantity_from(
        "record.sequence",
        "Counts the adjustments of the stock level from 1, without gaps.",
    )
    before_quantity: int = quantity_from("record.before_quantity", "On hand before.")
    after_quantity: int = quantity_from("record.after_quantity", "On hand after.")
    delta: int = quantity_from("record.delta", "The change: after minus before.")
    reason: str = read_from(
        "record.reason",
        "Why, in a word, for example supplier_receipt or cycle_count.",
    )
    note: str | None = read_from("record.note", "Why, in a sentence.")
    created_by: str = read_from("record.created_by", "The e-mail address of who did it.")
    created_at: datetime = read_from("record.created_at", "When it was done.")
    bulk_id: strawberry.ID | None = read_from(
        "record.bulk_id", "The bulk that it is part of, if it is."
    )
    transfer_id: strawberry.ID | None = read_from(
        "record.transfer_id", "The transfer that it is one half of, if it is."
    )
    reservation_id: strawberry.ID | None = read_from(
        "record.reservation_id", "The reservation that it committed, if it did."
    )
    reversal_of: strawberry.ID | None = read_from(
        "record.reversal_of", "The adjustment that it undoes, if it does."
    )
    reference: str | None = read_from(
        "record.reference",
        "What the caller calls the order, delivery or count that it belongs to.",
    )

    @strawberry.field(description="The SKU.", metadata={BATCH_RESOLVER: skus_of_adjustments})
    async def sku(self, info: Info) -> Sku:
        """Go to the SKU."""
        return await sku_of(info.context, self.record.sku)

    @strawberry.field(
        description="The warehouse.", metadata={BATCH_RESOLVER: warehouses_of_adjustments}
    )
    async def warehouse(self, info: Info) -> Warehouse:
        """Go to the warehouse."""
        return await warehouse_of(info.context, self.record.warehouse_id)


async def skus_of_lines(lines: Sequence[Any], context: Context) -> list[Sku]:
    """Return the SKU of each line of reservations."""
    return await _skus(context, [(None, line.record.sku) for line in lines])


async def reservations_of_lines(lines: Sequence[Any], context: Context) -> list["Reservation"]:
    """Return the reservation of each line."""
    ids = [line.record.reservation_id for line in lines]
    different = list(dict.fromkeys(ids))
    found = await gather(*(reservation_of(context, id_) for id_ in different))
    by_id = dict(zip(different, found, strict=True))
    return [by_id[id_] for id_ in ids]


@strawberry.type(description="What a reservation is about at one stock level.")
class ReservationLine:
    """A line of a reservation."""

    record: Private[ReservationLineRecord]
    quantity: int = quantity_from("record.quantity", "What was reserved.")
    held: int = quantity_from(
        "record.held", "What is reserved now: all of it until it ends, then none."
    )
    committed: int = quantity_from(
        "record.committed", "What was taken from on hand when it was committed."
    )

    @strawberry.field(description="The SKU.", metadata={BATCH_RESOLVER: skus_of_lines})
    async def sku(self, info: Info) -> Sku:
        """Go to the SKU."""
        return await sku_of(info.context, self.record.sku)

    @strawberry.field(
        description="The warehouse.", metadata={BATCH_RESOLVER: warehouses_of_adjustments}
    )
    async def warehouse(self, info: Info) -> Warehouse:
        """Go to the warehouse."""
        return await warehouse_of(info.context, self.record.warehouse_id)

    @strawberry.field(
        description="The reservation.", metadata={BATCH_RESOLVER: reservations_of_lines}
    )
    async def reservation(self, info: Info) -> "Reservation":
        """Go to the reservation."""
        return await reservation_of(info.context, self.record.reservation_id)


@strawberry.type(
    description="Stock that is held for somebody. It ends once: it is committed, released, or "
    "expires by itself."
)
class Reservation(Node):
    """A reservation."""

    record: Private[ReservationRecord]
    id: strawberry.ID = read_from("record.id", ID)
    status: ReservationStatus = read_from("record.status", "How it stands.")
    reference: str | None = read_from(
        "record.reference", "What the caller calls the order that it is for."
    )
    note: str | None = read_from("record.note", "Why, in a sentence.")
    created_by: str = read_from("record.created_by", "The e-mail address of who reserved.")
    created_at: datetime = read_from("record.created_at", "When it was made.")
    expires_at: datetime | None = read_from(
        "record.expires_at",
        "When it ends by itself; null if it is held until somebody ends it.",
    )
    ended_at: datetime | None = read_from("record.ended_at", "When it ended, if it has.")
    version: int = quantity_from("record.version", "Counts its changes.")
    lines: list[ReservationLine] = objects_from(
        "record.lines",
        lambda record: ReservationLine(record=record),
        "What it is about, by SKU and warehouse.",
    )


@strawberry.input(description="Which reservations a list holds; conditions combine.")
class ReservationFilterInput:
    """Conditions on reservations."""

    status: ReservationStatus | None = optional("Only those that stand so.")
    reference: str | None = optional("Only those with this reference.")

    def conditions(self) -> ReservationFilter:
        """Return what the queries take."""
        return ReservationFilter(status=self.status, reference=self.reference)


@strawberry.type(description="What was on hand of a SKU at an instant.")
class StockAsOf:
    """The stock of a SKU in the past."""

    records: Private[Sequence[AdjustmentRecord]]
    total_on_hand: int = made_from(
        lambda self: sum(record.after_quantity for record in self.records),
        "What was there, over its stock levels.",
        Quantity,
    )
    levels: list["StockLevelAsOf"] = made_from(
        lambda self: [StockLevelAsOf(record=record) for record in self.records],
        "Its stock levels then, by warehouse id; without those that had no adjustment yet.",
    )


@strawberry.type(description="What one warehouse had on hand of one SKU at an instant.")
class StockLevelAsOf:
    """A stock level in the past, by the last adjustment before."""

    record: Private[AdjustmentRecord]
    on_hand: int = quantity_from("record.after_quantity", "What was there.")
    adjustment: Adjustment = made_from(
        lambda self: Adjustment(record=self.record), "The adjustment that had made it so."
    )

    @strawberry.field(
        description="The warehouse.", metadata={BATCH_RESOLVER: warehouses_of_adjustments}
    )
    async def warehouse(self, info: Info) -> Warehouse:
        """Go to the warehouse."""
        return await warehouse_of(info.context, self.record.warehouse_id)


@strawberry.type(
    description="An hour or a day of a SKU: what was on hand at its start and end, and what "
    "changed it in between."
)
class StockPeriod:
    """A period of a stock history."""

    record: Private[PeriodRecord]
    start: datetime = read_from(
        "record.start", "When it starts; it ends where the next one starts."
    )
    opening: int = quantity_from("record.opening", "What was there at its start.")
    increase: int = quantity_from("record.increase", "What its adjustments added, in sum.")
    decrease: int = quantity_from(
        "record.decrease", "What its adjustments took, in sum; not negative."
    )
    closing: int = quantity_from(
        "record.closing",
        "What was there at its end: opening plus increase minus decrease.",
    )


@strawberry.type(description="What adjustments come to.")
class AdjustmentTotals:
    """The sums of a list of adjustments."""

    record: Private[LedgerTotals]
    entries: int = quantity_from("record.entries", "How many adjustments.")
    increase: int = quantity_from("record.increase", "What they added, in sum.")
    decrease: int = quantity_from("record.decrease", "What they took, in sum; not negative.")
    net_change: int = quantity_from(
        "record.net_change", "Increase minus decrease: the sum of their deltas."
    )


@strawberry.type(description="A page of a list of adjustments (Relay).")
class AdjustmentConnection(Connection[Adjustment]):
    """A page of a list of adjustments."""

    sum_up: Private[Any]

    @strawberry.field(
        description="What all adjustments in the whole list come to, exactly, not only those of "
        "the page."
    )
    async def totals(self) -> AdjustmentTotals:
        """Sum up only when asked."""
        return AdjustmentTotals(record=await self.sum_up())


async def sku_of(context: Context, code: str, *, view: str | None = None) -> Sku:
    """Return a SKU as seen in one warehouse or (None) in all.

    Raises:
        InventoryNotFound: the tenant has no such SKU.

    """
    record = await context.loaders.sku.load((view, code))
    if record is None:
        raise inventory_not_found(code)
    return Sku(record=record)


async def warehouse_of(context: Context, id_: str) -> Warehouse:
    """Return a warehouse.

    Raises:
        WarehouseNotFound: the tenant has no such warehouse.

    """
    record = await context.loaders.warehouse.load(id_)
    if record is None:
        raise warehouse_not_found(id_)
    return Warehouse(record=record)


async def reservation_of(context: Context, id_: str) -> Reservation:
    """Return a reservation.

    Raises:
        ReservationNotFound: the tenant has no such reservation.

    """
    record = await context.loaders.reservation.load(id_)
    if record is None:
        message = f"Reservation {id_!r} does not exist."
        raise ReservationNotFound(message, details=[{"id": id_}])
    return Reservation(record=record)


def conditions(given: EntryFilterInput | None, *, sku: str | None = None) -> AdjustmentFilter:
    """Return the conditions on a list of adjustments.

    Raises:
        ValidationFailed: the reason cannot be one.

    """
    if given is None:
        return AdjustmentFilter(sku=sku)
    if given.reason is not None and (problem := reason_problem(given.reason)):
        raise invalid_field("reason", problem)
    return AdjustmentFilter(
        sku=sku,
        warehouse_id=given.warehouse_id if isinstance(given, AdjustmentFilterInput) else None,
        reason=given.reason,
        start=given.start_date.start if given.start_date else None,
        end=given.end_date.end if given.end_date else None,
        created_by=given.created_by,
        bulk_id=given.bulk_id,
        transfer_id=given.transfer_id,
        reservation_id=given.reservation_id,
        reference=given.reference,
        sign=given.sign,
    )


async def adjustments_of(
    context: Context, key: LedgerKey, where: AdjustmentFilter, first: int, after: str | None
) -> AdjustmentConnection:
    """Return a page of the ledger of a SKU, a level or a warehouse.

    Raises:
        ValidationFailed, InvalidCursor, InventoryNotFound, WarehouseNotFound.

    """
    by = named(key)
    ledger = AdjustmentCursors(context, key, where)
    page = AdjustmentPage(where, ledger.position(after), page_size(first) + 1)
    if where.sku is not None:
        await sku_of(context, where.sku)
    if where.warehouse_id is not None:
        await warehouse_of(context, where.warehouse_id)
    loaders = context.loaders
    return adjustment_connection(
        await loaders.adjustments(page, by).load(key),
        limit=first,
        after=after,
        ledger=ledger,
        count=lambda: loaders.adjustment_count(where, by).load(key),
        sum_up=lambda: loaders.adjustment_totals(where, by).load(key),
    )


def adjustment_connection(
    records: Sequence[AdjustmentRecord],
    *,
    limit: int,
    after: str | None,
    ledger: "AdjustmentCursors",
    count: Callable[[], Awaitable[int]],
    sum_up: Callable[[], Awaitable[LedgerTotals]],
) -> AdjustmentConnection:
    """Return the connection of a page that was read with one adjustment more than asked for."""
    nodes = [Adjustment(record=record) for record in records]
    return AdjustmentConnection(
        nodes=nodes[:limit],
        page_info=page_info(nodes, limit=limit, after=after, cursor_of=ledger.cursor),
        cursor_of=ledger.cursor,
        count=count,
        sum_up=sum_up,
    )


class AdjustmentCursors:
    """The cursors of one list of adjustments."""

    def __init__(self, context: Context, key: LedgerKey | None, where: AdjustmentFilter) -> None:
        self._key = context.principal.cursor_key
        self._question = ["adjustments", key, where]

    def cursor(self, node: Adjustment) -> str:
        """Return the cursor of an adjustment."""
        entry = node.record
        position = [entry.created_at, entry.sequence, entry.id]
        return cursors.encode(position, question=self._question, key=self._key)

    def position(self, cursor: str | None) -> AdjustmentPosition | None:
        """Return the position of a cursor.

        Raises:
            InvalidCursor: it is not one of this list.

        """
        if cursor is None:
            return None
        created_at, sequence, id_ = cursors.decode(cursor, question=self._question, key=self._key)
        return datetime.fromisoformat(created_at), sequence, id_
