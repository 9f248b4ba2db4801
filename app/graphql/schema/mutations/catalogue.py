"""The mutations of the catalogue: SKUs, warehouses, safety stock, reorder points."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import strawberry
from strawberry import UNSET, Private

from app.domain.records import SkuRecord, WarehouseRecord
from app.domain.stock import LevelKey
from app.graphql.schema.budget import PARENT_COST, STATEMENT_COST
from app.graphql.schema.context import Context, Info
from app.graphql.schema.enums import WarehouseType
from app.graphql.schema.fields import described_field, of_plain_values, optional
from app.graphql.schema.mutations.write_input import (
    REPLAYED_DESCRIPTION,
    SKU_CODE_DESCRIPTION,
    WriteInput,
)
from app.graphql.schema.object_details import DetailsInput, DetailsUpdateInput
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.types import Sku, StockLevel, Warehouse
from app.reads.stock_levels import count_stocked_levels
from app.writes.catalogue import (
    ReorderPoint,
    SafetyStock,
    SkuChange,
    change_sku,
    create_sku,
    create_warehouse,
    set_reorder_points,
    set_safety_stock,
    update_warehouse,
)
from app.writes.idempotency_keys import WriteResult

TITLE_DESCRIPTION: Final = "Display title of the product, up to 500 characters."
VERSION_DESCRIPTION: Final = (
    "Expected version of the SKU. If the current one differs, the error is STALE_VERSION and "
    "nothing changes."
)
NAME_DESCRIPTION: Final = "Display name, up to 200 characters."
ADDRESS_DESCRIPTION: Final = "Postal address, up to 500 characters."
MARKETPLACE_DESCRIPTION: Final = (
    "Marketplace that operates the warehouse, for example amazon_eu, up to 64 characters. Only for "
    "the types FBA and FBS."
)
SELLABLE_DESCRIPTION: Final = (
    "Whether the stock is for sale. Stock that is not for sale counts as on hand. It counts as "
    "available nowhere and in no status, and it cannot be reserved (WAREHOUSE_NOT_SELLABLE)."
)


@of_plain_values
@strawberry.input(description="A SKU to create.")
class CreateSkuInput(DetailsInput, WriteInput):
    """A SKU to create."""

    sku: str = described_field(
        "SKU code, which never changes: 1 to 255 letters, marks, numbers, punctuation characters "
        "and symbols of Unicode, with single spaces inside. It is stored in NFC. Names of REST "
        "routes, `.` and `..` are refused."
    )
    title: str = described_field(TITLE_DESCRIPTION)


@of_plain_values
@strawberry.input(description="A SKU to change.")
class UpdateSkuInput(DetailsUpdateInput, WriteInput):
    """A SKU to change."""

    sku: str = described_field(SKU_CODE_DESCRIPTION)
    title: str | None = optional(f"{TITLE_DESCRIPTION} Null keeps the current title.")
    expected_version: Quantity | None = optional(VERSION_DESCRIPTION)


@of_plain_values
@strawberry.input(description="A SKU to archive or to restore.")
class SkuInput(WriteInput):
    """A SKU to archive or to restore."""

    sku: str = described_field(SKU_CODE_DESCRIPTION)
    expected_version: Quantity | None = optional(VERSION_DESCRIPTION)


@strawberry.type(description="Result of a write of a SKU.")
class SkuPayload:
    """Result of a write of a SKU."""

    sku: Sku = described_field("The SKU after the write.")
    replayed: bool = described_field(REPLAYED_DESCRIPTION)


@of_plain_values
@strawberry.input(description="A warehouse to create.")
class CreateWarehouseInput(DetailsInput, WriteInput):
    """A warehouse to create."""

    name: str = described_field(NAME_DESCRIPTION)
    type: WarehouseType = described_field("Operator of the warehouse. It never changes.")
    address: str | None = optional(ADDRESS_DESCRIPTION)
    marketplace: str | None = optional(MARKETPLACE_DESCRIPTION)
    is_sellable: bool = strawberry.field(default=True, description=SELLABLE_DESCRIPTION)


@of_plain_values
@strawberry.input(description="Changes of a warehouse. Omitted fields keep their values.")
class UpdateWarehouseInput(DetailsUpdateInput, WriteInput):
    """Changes of a warehouse."""

    id: strawberry.ID = described_field("Warehouse id, wh_...")
    name: str | None = optional(f"{NAME_DESCRIPTION} Null keeps the current name.")
    address: str | None = strawberry.field(
        default=UNSET, description=f"{ADDRESS_DESCRIPTION} Null removes the address."
    )
    marketplace: str | None = strawberry.field(
        default=UNSET, description=f"{MARKETPLACE_DESCRIPTION} Null removes the marketplace."
    )
    is_active: bool | None = optional(
        "Whether stock may increase. The stock of an inactive warehouse counts as on hand, and "
        "it is not for sale; increases are refused (WAREHOUSE_INACTIVE). Null keeps the current "
        "value."
    )
    is_sellable: bool | None = optional(f"{SELLABLE_DESCRIPTION} Null keeps the current value.")

    def changes(self) -> dict[str, str | bool | None]:
        """Values to change, by field name of the record."""
        values: dict[str, str | bool | None] = {}
        if self.name is not None:
            values["name"] = self.name
        if self.is_active is not None:
            values["is_active"] = self.is_active
        if self.is_sellable is not None:
            values["is_sellable"] = self.is_sellable
        if self.address is not UNSET:
            values["address"] = self.address
        if self.marketplace is not UNSET:
            values["marketplace"] = self.marketplace
        return values


@strawberry.type(description="Stock that an inactive warehouse still holds.")
class RemainingStock:
    """Stock that an inactive warehouse still holds."""

    stocked_levels: Quantity = described_field("Number of stock levels with a quantity on hand.")
    reserved_levels: Quantity = described_field("Number of stock levels with a reserved quantity.")


@strawberry.type(description="Result of a write of a warehouse.")
class WarehousePayload:
    """Result of a write of a warehouse."""

    warehouse: Warehouse = described_field("The warehouse after the write.")
    replayed: bool = described_field(REPLAYED_DESCRIPTION)

    @classmethod
    def of(cls, written: WriteResult[WarehouseRecord]) -> "WarehousePayload":
        """Payload of a write result."""
        return cls(warehouse=Warehouse(record=written.result), replayed=written.replayed)

    @strawberry.field(
        description="Stock that an inactive warehouse still holds; null if it is active or holds "
        "none. It counts as on hand and can only be taken out."
    )
    async def remaining_stock(self, info: Info) -> RemainingStock | None:
        """Stock of an inactive warehouse; None if there is none."""
        record = self.warehouse.record
        if record.is_active:
            return None
        context = info.context
        context.budget.spend(STATEMENT_COST + PARENT_COST)
        stocked, reserved = await count_stocked_levels(
            context.snapshot, context.principal.tenant_id, warehouse_id=record.id
        )
        if not stocked and not reserved:
            return None
        return RemainingStock(stocked_levels=Quantity(stocked), reserved_levels=Quantity(reserved))


@of_plain_values
@strawberry.input(description="Safety stock of one stock level.")
class SafetyStockInput:
    """Safety stock of one stock level."""

    sku: str = described_field(SKU_CODE_DESCRIPTION)
    warehouse_id: strawberry.ID = described_field(
        "Id of a warehouse of any type. A missing stock level of the SKU in this warehouse is "
        "created."
    )
    safety_stock: Quantity = described_field("Safety stock, 0 to 1,000,000,000,000.")


@strawberry.input(description="Safety stock of several stock levels, all or none.")
class SetSafetyStockInput(WriteInput):
    """Safety stock of several stock levels."""

    levels: list[SafetyStockInput] = described_field("1 to 500 distinct stock levels.")


@of_plain_values
@strawberry.input(description="Reorder point of one stock level.")
class ReorderPointInput:
    """Reorder point of one stock level."""

    sku: str = described_field(SKU_CODE_DESCRIPTION)
    warehouse_id: strawberry.ID = described_field(
        "Id of a warehouse of any type. A missing stock level of the SKU in this warehouse is "
        "created."
    )
    reorder_point: Quantity | None = optional(
        "Sellable quantity from which the status is LOW, 0 to 1,000,000,000,000. Null removes it."
    )


@strawberry.input(description="Reorder points of several stock levels, all or none.")
class SetReorderPointsInput(WriteInput):
    """Reorder points of several stock levels."""

    levels: list[ReorderPointInput] = described_field("1 to 500 distinct stock levels.")


@strawberry.type
class ConfiguredLevels:
    """The fields of the result of a write that configures stock levels."""

    changed: Private[dict[str, SkuRecord]]
    levels: Private[list[LevelKey]]
    replayed: bool = described_field(REPLAYED_DESCRIPTION)

    @strawberry.field(description="The stock levels after the write, in the order of the input.")
    def stock_levels(self) -> list[StockLevel]:
        """Stock levels in the order of the input."""
        records = [self.changed[code].level_in(warehouse_id) for code, warehouse_id in self.levels]
        return [StockLevel(record=record) for record in records if record]

    @strawberry.field(description="The changed SKUs, ordered by code.")
    def skus(self) -> list[Sku]:
        """List the changed SKUs by code."""
        return [Sku(record=record) for record in self.changed.values()]


@strawberry.type(description="Result of setSafetyStock.")
class SetSafetyStockPayload(ConfiguredLevels):
    """Result of setSafetyStock."""


@strawberry.type(description="Result of setReorderPoints.")
class SetReorderPointsPayload(ConfiguredLevels):
    """Result of setReorderPoints."""


@strawberry.type
class CatalogueMutation:
    """The mutations of the catalogue."""

    @strawberry.mutation(
        description="Create a SKU. The error for an existing code is SKU_EXISTS. Needs the scope "
        "inventory:admin."
    )
    async def create_sku(
        self,
        info: Info,
        input: Annotated[CreateSkuInput, strawberry.argument(description="SKU to create.")],
    ) -> SkuPayload | None:
        """Create a SKU."""
        return _sku_payload(
            await info.context.write(
                input, lambda writing: create_sku(writing, input.sku, input.title, input.details())
            )
        )

    @strawberry.mutation(
        description="Change the title, the external ids or the metadata of a SKU. Needs the scope "
        "inventory:admin."
    )
    async def update_sku(
        self,
        info: Info,
        input: Annotated[UpdateSkuInput, strawberry.argument(description="SKU to change.")],
    ) -> SkuPayload | None:
        """Change a SKU."""
        change = SkuChange(
            sku=input.sku,
            title=input.title,
            expected_version=input.expected_version,
            details=input.details_change(),
        )
        return await _change_sku(info.context, input, "updateSku", change)

    @strawberry.mutation(
        description="Archive a SKU. Lists and their totals omit it by default. It keeps its stock "
        "and history. Its stock may decrease, and increases are refused (SKU_ARCHIVED). Needs the "
        "scope inventory:admin."
    )
    async def archive_sku(
        self,
        info: Info,
        input: Annotated[SkuInput, strawberry.argument(description="SKU to archive.")],
    ) -> SkuPayload | None:
        """Archive a SKU."""
        change = SkuChange(sku=input.sku, is_archived=True, expected_version=input.expected_version)
        return await _change_sku(info.context, input, "archiveSku", change)

    @strawberry.mutation(description="Undo archiveSku. Needs the scope inventory:admin.")
    async def restore_sku(
        self,
        info: Info,
        input: Annotated[SkuInput, strawberry.argument(description="SKU to restore.")],
    ) -> SkuPayload | None:
        """Restore a SKU."""
        change = SkuChange(
            sku=input.sku, is_archived=False, expected_version=input.expected_version
        )
        return await _change_sku(info.context, input, "restoreSku", change)

    @strawberry.mutation(description="Create a warehouse. Needs the scope inventory:admin.")
    async def create_warehouse(
        self,
        info: Info,
        input: Annotated[
            CreateWarehouseInput, strawberry.argument(description="Warehouse to create.")
        ],
    ) -> WarehousePayload | None:
        """Create a warehouse."""
        warehouse = WarehouseRecord(
            "",
            input.name,
            input.type,
            input.address,
            input.marketplace,
            is_active=True,
            is_sellable=input.is_sellable,
        )
        return WarehousePayload.of(
            await info.context.write(
                input, lambda writing: create_warehouse(writing, warehouse, input.details())
            )
        )

    @strawberry.mutation(
        description="Change the name, address, marketplace, external ids or metadata of a "
        "warehouse, whether it is active, or whether its stock is for sale. Needs the scope "
        "inventory:admin."
    )
    async def update_warehouse(
        self,
        info: Info,
        input: Annotated[
            UpdateWarehouseInput, strawberry.argument(description="Changes of the warehouse.")
        ],
    ) -> WarehousePayload | None:
        """Change a warehouse."""
        return WarehousePayload.of(
            await info.context.write(
                input,
                lambda writing: update_warehouse(
                    writing, input.id, input.changes(), input.details_change()
                ),
            )
        )

    @strawberry.mutation(
        description="Set the safety stock of up to 500 stock levels, all or nothing. Needs the "
        "scope inventory:admin."
    )
    async def set_safety_stock(
        self,
        info: Info,
        input: Annotated[
            SetSafetyStockInput, strawberry.argument(description="Safety stock to set.")
        ],
    ) -> SetSafetyStockPayload | None:
        """Set the safety stock of stock levels."""
        levels = [
            SafetyStock(level.sku, level.warehouse_id, level.safety_stock) for level in input.levels
        ]
        written = await info.context.write(input, lambda writing: set_safety_stock(writing, levels))
        return SetSafetyStockPayload(**_configured(levels, written))

    @strawberry.mutation(
        description="Set or remove the reorder points of up to 500 stock levels, all or nothing. "
        "Needs the scope inventory:admin."
    )
    async def set_reorder_points(
        self,
        info: Info,
        input: Annotated[
            SetReorderPointsInput, strawberry.argument(description="Reorder points to set.")
        ],
    ) -> SetReorderPointsPayload | None:
        """Set the reorder points of stock levels."""
        levels = [
            ReorderPoint(level.sku, level.warehouse_id, level.reorder_point)
            for level in input.levels
        ]
        written = await info.context.write(
            input, lambda writing: set_reorder_points(writing, levels)
        )
        return SetReorderPointsPayload(**_configured(levels, written))


def _configured(
    levels: Sequence[SafetyStock | ReorderPoint], written: WriteResult[list[SkuRecord]]
) -> dict[str, Any]:
    """Return the fields of the payload of a write that configures stock levels."""
    return {
        "changed": {record.sku: record for record in written.result},
        "levels": [level.level for level in levels],
        "replayed": written.replayed,
    }


async def _change_sku(
    context: Context, input: UpdateSkuInput | SkuInput, operation: str, change: SkuChange
) -> SkuPayload:
    return _sku_payload(
        await context.write(input, lambda writing: change_sku(writing, operation, change))
    )


def _sku_payload(written: WriteResult[SkuRecord]) -> SkuPayload:
    return SkuPayload(sku=Sku(record=written.result), replayed=written.replayed)
