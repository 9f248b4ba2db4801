"""The types of the schema, and how each is made of a record."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import Private

from app import cursors
from app.commands.stock import inventory_not_found
from app.errors import invalid_field
from app.graphql.context import Context, Info
from app.graphql.enums import Status, WarehouseType
from app.graphql.loaders import AdjustmentPage, LevelPage
from app.graphql.relay import (
    DEFAULT_PAGE,
    After,
    Connection,
    First,
    Node,
    connection,
    described_field,
    optional,
    page_size,
    quantity,
)
from app.graphql.scalars import Period
from app.queries import AdjustmentPosition, LevelKey
from app.records import AdjustmentFilter, AdjustmentRecord, LevelRecord, SkuRecord, WarehouseRecord
from app.stock import reason_problem, warehouse_not_found


@strawberry.type(description="A place that holds stock.")
class Warehouse(Node):
    """A warehouse."""

    name: str = described_field("What people call it.")
    type: WarehouseType = described_field("Who runs it.")
    address: str | None = described_field("Where it is, when known.")
    marketplace: str | None = described_field("The marketplace that runs it, such as amazon_eu.")
    is_active: bool = described_field(
        "Whether it takes stock. An inactive one counts in totals and can only be emptied."
    )
    is_readonly: bool = described_field("Whether a marketplace runs it: stock writes are refused.")

    @classmethod
    def of(cls, record: WarehouseRecord) -> "Warehouse":
        """Make one of a record."""
        return cls(
            id=strawberry.ID(record.id),
            name=record.name,
            type=record.type,
            address=record.address,
            marketplace=record.marketplace,
            is_active=record.is_active,
            is_readonly=record.type.is_readonly,
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
    ) -> Connection["StockLevel"]:
        """Page through the levels of this warehouse."""
        context = info.context
        key = context.principal.cursor_key
        question = ["levels", self.id, status]
        position = cursors.decode(after, question=question, key=key) if after is not None else None
        page = LevelPage(status, position, page_size(first) + 1)
        levels = await context.loaders.levels_by_warehouse(page).load(self.id)
        return connection(
            [StockLevel.of(level) for level in levels],
            limit=first,
            after=after,
            cursor_of=lambda level: cursors.encode(level.sku_code, question=question, key=key),
            count=lambda: context.loaders.level_count_by_warehouse(status).load(self.id),
        )


@strawberry.input(description="Which adjustments a list holds; conditions combine.")
class AdjustmentFilterInput:
    """Conditions on adjustments."""

    warehouse_id: strawberry.ID | None = optional("Only those of this warehouse.")
    reason: str | None = optional("Only those with this reason.")
    start_date: Period | None = optional("Only those at or after this.")
    end_date: Period | None = optional("Only those at or before this; a whole day if a date.")


AdjustmentFilterArgument = Annotated[
    AdjustmentFilterInput | None,
    strawberry.argument(description="Which adjustments; all without it."),
]


@strawberry.type(description="A stock-keeping unit and its stock.")
class Sku(Node):
    """A SKU."""

    sku: str = described_field("The code.")
    title: str = described_field("What it is.")
    total_on_hand: int = quantity("What is there, over its stock levels.")
    total_reserved: int = quantity("What is reserved, over its stock levels.")
    total_available: int = quantity("What can be promised, over its stock levels.")
    safety_stock: int = quantity("What shall stay in stock, over its stock levels.")
    status: Status = described_field("How the stock stands, derived from the totals.")
    version: int = quantity("Counts the changes of this record.")
    stock: list["StockLevel"] = described_field(
        "Its stock levels by warehouse id. In a list that is filtered by warehouse, that one "
        "alone, and the totals are those of that one."
    )
    view: Private[str | None]

    @classmethod
    def of(cls, record: SkuRecord) -> "Sku":
        """Make one of a record."""
        figures = record.figures
        return cls(
            id=strawberry.ID(f"sku_{record.sku}"),
            sku=record.sku,
            title=record.title,
            total_on_hand=figures.on_hand,
            total_reserved=figures.reserved,
            total_available=figures.available,
            safety_stock=figures.safety_stock,
            status=figures.status,
            version=record.version,
            stock=[StockLevel.of(level, record.warehouse_id) for level in record.levels],
            view=record.warehouse_id,
        )

    @strawberry.field(description="Its ledger over all stock levels, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: AdjustmentFilterArgument = None,
    ) -> Connection["Adjustment"]:
        """Page through the ledger of this SKU."""
        where = conditions(filter)
        if self.view is not None and where.warehouse_id is None:
            where = replace(where, warehouse_id=self.view)
        return await adjustments_of(info.context, (self.sku, None), where, first, after)


@strawberry.type(description="What one warehouse holds of one SKU.")
class StockLevel(Node):
    """A stock level."""

    on_hand: int = quantity("What is there.")
    reserved: int = quantity("What of it is reserved.")
    safety_stock: int = quantity("What shall stay.")
    available: int = quantity(
        "On hand minus reserved minus safety stock; negative when oversold or eating into the "
        "safety stock."
    )
    status: Status = described_field("How the stock stands in this warehouse alone.")
    version: int = quantity("Counts its adjustments.")
    adjusted_at: datetime | None = described_field("When it was last adjusted, if ever.")
    sku_code: Private[str]
    warehouse_id: Private[str]
    view: Private[str | None]

    @classmethod
    def of(cls, record: LevelRecord, view: str | None = None) -> "StockLevel":
        """Make one of a record, as seen in a warehouse or (None) in all."""
        figures = record.figures
        return cls(
            id=strawberry.ID(f"level_{record.warehouse_id}_{record.sku}"),
            on_hand=figures.on_hand,
            reserved=figures.reserved,
            safety_stock=figures.safety_stock,
            available=figures.available,
            status=figures.status,
            version=record.version,
            adjusted_at=record.adjusted_at,
            sku_code=record.sku,
            warehouse_id=record.warehouse_id,
            view=view,
        )

    @strawberry.field(description="The SKU.")
    async def sku(self, info: Info) -> Sku:
        """Go to the SKU."""
        return await sku_of(info.context, self.sku_code, view=self.view)

    @strawberry.field(description="The warehouse.")
    async def warehouse(self, info: Info) -> Warehouse:
        """Go to the warehouse."""
        return await warehouse_of(info.context, self.warehouse_id)

    @strawberry.field(description="Its ledger, newest first.")
    async def adjustments(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        filter: AdjustmentFilterArgument = None,
    ) -> Connection["Adjustment"]:
        """Page through the ledger of this level."""
        where = conditions(filter)
        key = (self.sku_code, self.warehouse_id)
        return await adjustments_of(info.context, key, where, first, after)


@strawberry.type(description="One change of what a warehouse holds of a SKU: a ledger entry.")
class Adjustment(Node):
    """A ledger entry."""

    sequence: int = quantity("Counts the adjustments of the stock level from 1, without gaps.")
    before_quantity: int = quantity("On hand before.")
    after_quantity: int = quantity("On hand after.")
    delta: int = quantity("The change: after minus before.")
    reason: str = described_field("Why, in a word, for example supplier_receipt or cycle_count.")
    note: str | None = described_field("Why, in a sentence.")
    created_by: str = described_field("The e-mail address of who did it.")
    created_at: datetime = described_field("When it was done.")
    sku_code: Private[str]
    warehouse_id: Private[str]

    @classmethod
    def of(cls, record: AdjustmentRecord) -> "Adjustment":
        """Make one of a record."""
        return cls(
            id=strawberry.ID(record.id),
            sequence=record.sequence,
            before_quantity=record.before_quantity,
            after_quantity=record.after_quantity,
            delta=record.delta,
            reason=record.reason,
            note=record.note,
            created_by=record.created_by,
            created_at=record.created_at,
            sku_code=record.sku,
            warehouse_id=record.warehouse_id,
        )

    @strawberry.field(description="The SKU.")
    async def sku(self, info: Info) -> Sku:
        """Go to the SKU."""
        return await sku_of(info.context, self.sku_code)

    @strawberry.field(description="The warehouse.")
    async def warehouse(self, info: Info) -> Warehouse:
        """Go to the warehouse."""
        return await warehouse_of(info.context, self.warehouse_id)


async def sku_of(context: Context, code: str, *, view: str | None = None) -> Sku:
    """Return a SKU as seen in one warehouse or (None) in all.

    Raises:
        InventoryNotFound: the tenant has no such SKU.

    """
    record = await context.loaders.sku.load((view, code))
    if record is None:
        raise inventory_not_found(code)
    return Sku.of(record)


async def warehouse_of(context: Context, id_: str) -> Warehouse:
    """Return a warehouse.

    Raises:
        WarehouseNotFound: the tenant has no such warehouse.

    """
    record = await context.loaders.warehouse.load(id_)
    if record is None:
        raise warehouse_not_found(id_)
    return Warehouse.of(record)


def conditions(given: AdjustmentFilterInput | None, *, sku: str | None = None) -> AdjustmentFilter:
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
        warehouse_id=given.warehouse_id,
        reason=given.reason,
        start=given.start_date.start if given.start_date else None,
        end=given.end_date.end if given.end_date else None,
    )


async def adjustments_of(
    context: Context, key: LevelKey, where: AdjustmentFilter, first: int, after: str | None
) -> Connection[Adjustment]:
    """Return a page of the ledger of a SKU or a level.

    Raises:
        ValidationFailed, InvalidCursor, WarehouseNotFound.

    """
    by_level = key[1] is not None
    ledger = AdjustmentCursors(context, key, where)
    page = AdjustmentPage(where, ledger.position(after), page_size(first) + 1)
    if where.warehouse_id is not None:
        await warehouse_of(context, where.warehouse_id)
    records = await context.loaders.adjustments(page, by_level=by_level).load(key)
    counts = context.loaders.adjustment_count(where, by_level=by_level)
    return connection(
        [Adjustment.of(record) for record in records],
        limit=first,
        after=after,
        cursor_of=ledger.cursor,
        count=lambda: counts.load(key),
    )


class AdjustmentCursors:
    """The cursors of one list of adjustments."""

    def __init__(self, context: Context, key: LevelKey | None, where: AdjustmentFilter) -> None:
        self._key = context.principal.cursor_key
        self._question = ["adjustments", key, where]

    def cursor(self, node: Adjustment) -> str:
        """Return the cursor of an adjustment."""
        position = [node.created_at, node.sequence, node.id]
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
