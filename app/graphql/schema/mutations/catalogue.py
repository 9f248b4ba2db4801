"""Writes of the catalogue: SKUs, warehouses, safety stock."""

from typing import Annotated, Final

import strawberry
from strawberry import UNSET, Private

from app.domain.records import SkuRecord, WarehouseRecord
from app.graphql.schema.context import Context, Info
from app.graphql.schema.enums import WarehouseType
from app.graphql.schema.mutations.shared import REPLAYED, WriteInput, writing
from app.graphql.schema.relay import described_field, of_plain_values, optional
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Sku, StockLevel, Warehouse
from app.writes.catalogue import (
    SafetyStock,
    SkuChange,
    change_sku,
    create_sku,
    create_warehouse,
    set_safety_stock,
    update_warehouse,
)
from app.writes.idempotency_keys import WriteResult

TITLE: Final = "What it is, in up to 500 characters."
VERSION: Final = "What the SKU's version must be now; else STALE_VERSION, and nothing is changed."
NAME: Final = "What people call it, in up to 200 characters."
ADDRESS: Final = "Where it is, in up to 500 characters."
MARKETPLACE: Final = (
    "The marketplace that runs it, such as amazon_eu, in up to 64 characters; FBA and FBS alone."
)


@strawberry.input(description="A SKU to create.")
class CreateSkuInput(WriteInput):
    """A SKU to create."""

    sku: str = described_field(
        "Its code, for good: 1 to 64 letters, digits, space and ._:/+-, a letter or digit first, "
        "in NFC, and none that REST has a route of."
    )
    title: str = described_field(TITLE)


@strawberry.input(description="A SKU to change.")
class UpdateSkuInput(WriteInput):
    """A SKU to change."""

    sku: str = described_field("The code of a SKU that exists.")
    title: str = described_field(TITLE)
    expected_version: Quantity | None = optional(VERSION)


@strawberry.input(description="A SKU to archive, or to restore.")
class SkuInput(WriteInput):
    """A SKU to archive or restore."""

    sku: str = described_field("The code of a SKU that exists.")
    expected_version: Quantity | None = optional(VERSION)


@strawberry.type(description="A SKU that was written.")
class SkuPayload:
    """A SKU that was written."""

    sku: Sku = described_field("The SKU after it.")
    replayed: bool = described_field(REPLAYED)


@strawberry.input(description="A warehouse to create.")
class CreateWarehouseInput(WriteInput):
    """A warehouse to create."""

    name: str = described_field(NAME)
    type: WarehouseType = described_field("Who runs it, for good.")
    address: str | None = optional(ADDRESS)
    marketplace: str | None = optional(MARKETPLACE)


@strawberry.input(description="What to change of a warehouse; what is left out stays as it is.")
class UpdateWarehouseInput(WriteInput):
    """What to change of a warehouse."""

    id: strawberry.ID = described_field("The warehouse, wh_...")
    name: str | None = optional(f"{NAME} It stays if null.")
    address: str | None = strawberry.field(
        default=UNSET, description=f"{ADDRESS} Null takes it away."
    )
    marketplace: str | None = strawberry.field(
        default=UNSET, description=f"{MARKETPLACE} Null takes it away."
    )
    is_active: bool | None = optional(
        "Whether it takes stock. One that does not keeps what it holds, counts in totals, and can "
        "only be emptied (WAREHOUSE_INACTIVE). It stays if null."
    )

    def changes(self) -> dict[str, str | bool | None]:
        """Return what was given, by the names of the record."""
        given: dict[str, str | bool | None] = {}
        if self.name is not None:
            given["name"] = self.name
        if self.is_active is not None:
            given["is_active"] = self.is_active
        if self.address is not UNSET:
            given["address"] = self.address
        if self.marketplace is not UNSET:
            given["marketplace"] = self.marketplace
        return given


@strawberry.type(description="A warehouse that was written.")
class WarehousePayload:
    """A warehouse that was written."""

    warehouse: Warehouse = described_field("The warehouse after it.")
    replayed: bool = described_field(REPLAYED)

    @classmethod
    def of(cls, done: WriteResult[WarehouseRecord]) -> "WarehousePayload":
        """Make one of a write."""
        return cls(warehouse=Warehouse(record=done.result), replayed=done.replayed)


@of_plain_values
@strawberry.input(description="What shall stay in stock at a stock level.")
class SafetyStockInput:
    """What shall stay at a level."""

    sku: str = described_field("The code of a SKU that exists.")
    warehouse_id: strawberry.ID = described_field(
        "The warehouse, of any type. A SKU that has no stock level in it yet gets one."
    )
    safety_stock: Quantity = described_field("What shall stay, 0 to 1,000,000,000,000.")


@strawberry.input(description="Safety stock to set, at all levels or none.")
class SetSafetyStockInput(WriteInput):
    """Safety stock to set."""

    levels: list[SafetyStockInput] = described_field("1 to 500, each for another stock level.")


@strawberry.type(description="Safety stock that was set.")
class SetSafetyStockPayload:
    """Safety stock that was set."""

    changed: Private[dict[str, SkuRecord]]
    levels: Private[list[SafetyStock]]
    replayed: bool = described_field(REPLAYED)

    @strawberry.field(description="The stock levels after it, in the order of the request.")
    def stock_levels(self) -> list[StockLevel]:
        """Find each among those of its SKU."""
        found = [self.changed[it.sku].level_in(it.warehouse_id) for it in self.levels]
        return [StockLevel(record=level) for level in found if level]

    @strawberry.field(description="Their SKUs after it, by code.")
    def skus(self) -> list[Sku]:
        """Make the SKUs only when asked."""
        return [Sku(record=record) for record in self.changed.values()]


@strawberry.type
class CatalogueMutation:
    """Writes of the catalogue."""

    @strawberry.mutation(
        description="Create a SKU, or get the error SKU_EXISTS. Needs the scope inventory:admin."
    )
    async def create_sku(
        self,
        info: Info,
        input: Annotated[CreateSkuInput, strawberry.argument(description="What to create.")],
    ) -> SkuPayload:
        """Create a SKU."""
        done = await create_sku(writing(info.context, input), input.sku, input.title)
        return await _sku(info.context, done)

    @strawberry.mutation(description="Give a SKU another title. Needs the scope inventory:admin.")
    async def update_sku(
        self,
        info: Info,
        input: Annotated[UpdateSkuInput, strawberry.argument(description="What to change.")],
    ) -> SkuPayload:
        """Change a SKU."""
        change = SkuChange(
            sku=input.sku, title=input.title, expected_version=input.expected_version
        )
        return await _sku(
            info.context, await change_sku(writing(info.context, input), "updateSku", change)
        )

    @strawberry.mutation(
        description="Leave a SKU out of lists and their totals, unless they ask for it. It keeps "
        "its stock and history, takes no increase (SKU_ARCHIVED) and can be emptied. Needs the "
        "scope inventory:admin."
    )
    async def archive_sku(
        self,
        info: Info,
        input: Annotated[SkuInput, strawberry.argument(description="Which SKU.")],
    ) -> SkuPayload:
        """Archive a SKU."""
        return await _archive(info.context, input, "archiveSku", is_archived=True)

    @strawberry.mutation(description="Undo archiveSku. Needs the scope inventory:admin.")
    async def restore_sku(
        self,
        info: Info,
        input: Annotated[SkuInput, strawberry.argument(description="Which SKU.")],
    ) -> SkuPayload:
        """Restore a SKU."""
        return await _archive(info.context, input, "restoreSku", is_archived=False)

    @strawberry.mutation(description="Create a warehouse. Needs the scope inventory:admin.")
    async def create_warehouse(
        self,
        info: Info,
        input: Annotated[CreateWarehouseInput, strawberry.argument(description="What to create.")],
    ) -> WarehousePayload:
        """Create a warehouse."""
        context = info.context
        new = WarehouseRecord(
            "", input.name, input.type, input.address, input.marketplace, is_active=True
        )
        done = await create_warehouse(writing(context, input), new)
        await context.forget()
        return WarehousePayload.of(done)

    @strawberry.mutation(
        description="Change what is said of a warehouse, or (in)activate it. Needs the scope "
        "inventory:admin."
    )
    async def update_warehouse(
        self,
        info: Info,
        input: Annotated[UpdateWarehouseInput, strawberry.argument(description="What to change.")],
    ) -> WarehousePayload:
        """Change a warehouse."""
        context = info.context
        done = await update_warehouse(writing(context, input), input.id, input.changes())
        await context.forget()
        return WarehousePayload.of(done)

    @strawberry.mutation(
        description="Set what shall stay in stock, at up to 500 stock levels, all or nothing. "
        "Needs the scope inventory:admin."
    )
    async def set_safety_stock(
        self,
        info: Info,
        input: Annotated[SetSafetyStockInput, strawberry.argument(description="What to set.")],
    ) -> SetSafetyStockPayload:
        """Set safety stock."""
        context = info.context
        levels = [SafetyStock(it.sku, it.warehouse_id, it.safety_stock) for it in input.levels]
        done = await set_safety_stock(writing(context, input), levels)
        await context.forget()
        return SetSafetyStockPayload(
            changed={record.sku: record for record in done.result},
            levels=levels,
            replayed=done.replayed,
        )


async def _archive(
    context: Context, input: SkuInput, operation: str, *, is_archived: bool
) -> SkuPayload:
    change = SkuChange(
        sku=input.sku, is_archived=is_archived, expected_version=input.expected_version
    )
    return await _sku(context, await change_sku(writing(context, input), operation, change))


async def _sku(context: Context, done: WriteResult[SkuRecord]) -> SkuPayload:
    await context.forget()
    return SkuPayload(sku=Sku(record=done.result), replayed=done.replayed)
