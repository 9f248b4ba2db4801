"""The types of the feed of changes, made from records."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import Private

from app.domain.changes import ChangeRecord, ChangeState
from app.errors import invalid_field
from app.graphql.schema.budget import ENTRIES_PER_UNIT, PARENT_COST, ROW_COST, STATEMENT_COST
from app.graphql.schema.context import Context
from app.graphql.schema.enums import ChangeType, ReservationStatus, Status, WarehouseType
from app.graphql.schema.fields import (
    described_field,
    object_from,
    objects_from,
    quantity_from,
    read_from,
)
from app.graphql.schema.filters import refuse_empty
from app.graphql.schema.lookups import require_warehouses
from app.graphql.schema.object_details import ExternalId, MetadataEntry
from app.graphql.schema.relay import check_number, page_size
from app.graphql.schema.scalars import Quantity
from app.reads.changes import MOST_EXAMINED, FeedPage, list_changes

AfterPosition = Annotated[
    Quantity | None,
    strawberry.argument(
        description="Position of the feed. The page starts after it. Without it, the page starts "
        "with the oldest change that is kept."
    ),
]
ChangeTypes = Annotated[
    list[ChangeType] | None, strawberry.argument(description="Changes of these types.")
]
OfWarehouses = Annotated[
    list[strawberry.ID] | None,
    strawberry.argument(
        description="Changes of these warehouses and of their stock levels. Changes of whole SKUs "
        "and of reservations belong to no warehouse."
    ),
]


@strawberry.type(
    description="Values of the changed object before or after a change. Values that the object "
    "does not have are null."
)
class ChangedValues:
    """The values of an object before or after a change."""

    record: Private[ChangeState]
    on_hand: int | None = read_from(
        "record.on_hand", "Quantity on hand of a stock level.", Quantity | None
    )
    reserved: int | None = read_from(
        "record.reserved", "Reserved quantity of a stock level.", Quantity | None
    )
    safety_stock: int | None = read_from(
        "record.safety_stock", "Safety stock of a stock level.", Quantity | None
    )
    reorder_point: int | None = read_from(
        "record.reorder_point", "Reorder point of a stock level.", Quantity | None
    )
    available: int | None = read_from(
        "record.available", "Available quantity of a stock level.", Quantity | None
    )
    status: Status | None = read_from("record.status", "Stock status of a stock level or a SKU.")
    title: str | None = read_from("record.title", "Display title of a SKU.")
    is_archived: bool | None = read_from("record.is_archived", "Whether a SKU is archived.")
    name: str | None = read_from("record.name", "Name of a warehouse.")
    type: WarehouseType | None = read_from("record.type", "Operator of a warehouse.")
    address: str | None = read_from("record.address", "Postal address of a warehouse.")
    marketplace: str | None = read_from("record.marketplace", "Marketplace of a warehouse.")
    is_active: bool | None = read_from(
        "record.is_active", "Whether a warehouse or a webhook is active."
    )
    is_sellable: bool | None = read_from(
        "record.is_sellable", "Whether the stock of a warehouse is for sale."
    )
    external_ids: list[ExternalId] | None = objects_from(
        "record.external_ids",
        lambda record: ExternalId(record=record),
        "External ids that a SKU or a warehouse lost (in `before`) or got (in `after`); null if "
        "they have not changed.",
    )
    metadata: list[MetadataEntry] | None = objects_from(
        "record.metadata",
        lambda record: MetadataEntry(record=record),
        "Metadata that a SKU or a warehouse lost (in `before`) or got (in `after`); null if it has "
        "not changed.",
    )
    reservation_status: ReservationStatus | None = read_from(
        "record.reservation_status", "State of a reservation."
    )
    expires_at: datetime | None = read_from("record.expires_at", "Time of expiry of a reservation.")
    version: int | None = read_from(
        "record.version", "Version of a stock level, a SKU or a reservation.", Quantity | None
    )


@strawberry.type(description="A change of the data of the tenant.")
class Change:
    """A change of the data of the tenant."""

    record: Private[ChangeRecord]
    position: int = quantity_from(
        "record.position",
        "Number of the change, from 1 without gaps: the order in which changes were written.",
    )
    type: ChangeType = read_from("record.type", "What has changed, and how.")
    created_at: datetime = read_from("record.created_at", "Time of the change.")
    code: str | None = read_from("record.sku", "SKU code; null for a warehouse or a reservation.")
    warehouse_id: strawberry.ID | None = read_from(
        "record.warehouse_id", "Id of the warehouse; null for a whole SKU or a reservation."
    )
    reservation_id: strawberry.ID | None = read_from(
        "record.body.reservation_id",
        "Id of the reservation that has changed, or whose commit changed the stock level.",
    )
    webhook_id: strawberry.ID | None = read_from(
        "record.body.webhook_id", "Id of the webhook; null for other changes."
    )
    adjustment_id: strawberry.ID | None = read_from(
        "record.body.adjustment_id",
        "Id of the adjustment that changed the quantity on hand; null for other changes.",
    )
    reason: str | None = read_from(
        "record.body.reason", "Reason of the adjustment, or why the webhook was disabled."
    )
    reference: str | None = read_from(
        "record.body.reference", "Reference of the adjustment or of the reservation."
    )
    occurred_at: datetime | None = read_from(
        "record.body.occurred_at",
        "Time at which the change of the adjustment occurred, if the caller said so.",
    )
    before: ChangedValues | None = object_from(
        "record.body.before",
        lambda record: ChangedValues(record=record),
        "Values before the change; null if the object is new.",
    )
    after: ChangedValues = object_from(
        "record.body.after",
        lambda record: ChangedValues(record=record),
        "Values after the change.",
    )


@strawberry.type(description="A page of the feed of changes.")
class ChangePage:
    """A page of the feed of changes."""

    nodes: list[Change] = described_field("The changes, oldest first.")
    read_to: Quantity = described_field(
        "Position up to which the page has all changes that match. Send it as `after` of the next "
        f"page. A page with filters examines {MOST_EXAMINED:,} changes at most, so it may have no "
        "items although further ones follow."
    )
    newest_position: Quantity = described_field("Position of the newest change; 0 without changes.")


async def page_of_changes(
    context: Context,
    first: int,
    after: int | None,
    types: Sequence[ChangeType] | None,
    warehouse_ids: Sequence[str] | None,
) -> ChangePage:
    """Page of the feed of changes.

    Raises:
        ValidationFailed, WarehouseNotFound, ChangesGone.

    """
    limit = page_size(first, longest=context.longest_page)
    if after is not None and after < 0:
        raise invalid_field("after", f"must be 0 or more, and is {after}")
    refuse_empty(types=types, warehouseIds=warehouse_ids)
    check_number("types", types or ())
    check_number("warehouseIds", warehouse_ids or ())
    warehouse_ids = await require_warehouses(context, warehouse_ids)
    spend = context.budget.spend
    spend(STATEMENT_COST + PARENT_COST)
    if types is not None or warehouse_ids is not None:
        spend(MOST_EXAMINED // ENTRIES_PER_UNIT)
    page = await list_changes(
        context.snapshot,
        context.principal.tenant_id,
        after=after,
        limit=limit,
        types=types,
        warehouse_ids=warehouse_ids,
    )
    spend(len(page.records) * ROW_COST)
    context.budget.spend_text(_long_texts(page))
    nodes = [Change(record=record) for record in page.records]
    return ChangePage(
        nodes=nodes, read_to=Quantity(page.read_to), newest_position=Quantity(page.newest)
    )


def _long_texts(page: FeedPage) -> list[str | None]:
    states = (
        state
        for record in page.records
        for state in (record.body.before, record.body.after)
        if state is not None
    )
    return [
        text
        for state in states
        for text in (
            *(state.title, state.name, state.address),
            *(each.value for each in (*(state.external_ids or ()), *(state.metadata or ()))),
        )
    ]
