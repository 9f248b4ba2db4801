"""The types of availability, which a shop's frontend may read, made from records."""

import strawberry
from strawberry import Private

from app.domain.availability import AvailabilityChangeRecord, AvailabilityRecord
from app.domain.validation import normalized_code
from app.graphql.schema.budget import ENTRIES_PER_UNIT, PARENT_COST, ROW_COST, STATEMENT_COST
from app.graphql.schema.context import Context
from app.graphql.schema.enums import Status
from app.graphql.schema.fields import (
    described_field,
    object_from,
    of_plain_values,
    optional,
    quantity_from,
    read_from,
)
from app.graphql.schema.filters import TEXT_DESCRIPTION, refuse_empty, search_words
from app.graphql.schema.relay import MAX_PAGE, PageInfo, check_number, page_info, page_size
from app.graphql.schema.text_search import search
from app.reads.availability import list_availabilities


@strawberry.type(
    description="The availability of a SKU, as a shop's frontend may show it. It has no exact "
    "quantity above the limit that the tenant sets, and none below 0."
)
class Availability:
    """The availability of a SKU."""

    record: Private[AvailabilityRecord]
    sku: str = read_from("record.sku", "SKU code.")
    title: str = read_from("record.title", "Display title.")
    status: Status = read_from("record.status", "Stock status over all stock levels.")
    is_in_stock: bool = read_from("record.is_in_stock", "Whether the available quantity exceeds 0.")
    available: int = quantity_from(
        "record.available", "Available quantity, at least 0 and at most the limit of the tenant."
    )
    is_limited: bool = read_from(
        "record.is_limited",
        "Whether `available` is the limit, and the available quantity is that or more.",
    )


@strawberry.type(description="A page of availabilities, ordered by SKU code.")
class AvailabilityPage:
    """A page of availabilities."""

    nodes: list[Availability] = described_field("The availabilities.")
    page_info: PageInfo = described_field("Position of the page in its list.")


@strawberry.type(description="The availability of a SKU, in a stream.")
class AvailabilityChange:
    """The availability of a SKU, in a stream."""

    record: Private[AvailabilityChangeRecord]
    sku: str = read_from("record.sku", "SKU code.")
    availability: Availability | None = object_from(
        "record.availability",
        lambda record: Availability(record=record),
        "The availability; null if there is no such SKU, or if it is archived.",
    )


@of_plain_values
@strawberry.input(description="Filters of a list of availabilities.")
class AvailabilityFilterInput:
    """Conditions on SKUs whose availability is listed."""

    skus: list[str] | None = optional(f"SKUs with these codes. Up to {MAX_PAGE} codes.")
    text: str | None = optional(TEXT_DESCRIPTION)


async def page_of_availabilities(
    context: Context, first: int, after: str | None, where: AvailabilityFilterInput | None
) -> AvailabilityPage:
    """Page of availabilities.

    Raises:
        ValidationFailed, InvalidCursor.

    """
    limit = page_size(first)
    codes, words = _conditions_of(where or AvailabilityFilterInput())
    cursors = context.cursors("availabilities", codes, words)
    position = cursors.decode(after)
    found = codes
    if words is not None:
        named = await search(context, words)
        found = named if codes is None else sorted({*codes} & {*named})
    spend = context.budget.spend
    spend(STATEMENT_COST + PARENT_COST + len(found or ()) // ENTRIES_PER_UNIT)
    records = await list_availabilities(
        context.snapshot,
        context.principal.tenant_id,
        found=found,
        after=position,
        limit=limit + 1,
    )
    spend(len(records) * ROW_COST)
    context.budget.spend_text(record.title for record in records)
    nodes = [Availability(record=record) for record in records]
    return AvailabilityPage(
        nodes=nodes[:limit],
        page_info=page_info(
            nodes, limit=limit, after=after, cursor_of=lambda node: cursors.encode(node.record.sku)
        ),
    )


def _conditions_of(
    where: AvailabilityFilterInput,
) -> tuple[list[str] | None, tuple[str, ...] | None]:
    """Check a filter, and return its codes and its words."""
    refuse_empty(skus=where.skus)
    check_number("skus", where.skus or ())
    codes = None if where.skus is None else sorted({*map(normalized_code, where.skus)})
    return codes, None if where.text is None else search_words(where.text)
