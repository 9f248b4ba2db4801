"""Filter inputs of lists, and the filters that reads take."""

from collections.abc import Sized
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import strawberry

from app.domain.filters import AdjustmentFilter, ReservationFilter, SkuFilter
from app.domain.periods import UTC_ZONE, TimeRange
from app.domain.persons import normalized_email
from app.domain.validation import normalized_code, reason_problem
from app.domain.words import MAX_SEARCH_WORDS, MAX_WORD_LENGTH, search_problem, words_of
from app.errors import invalid_field, invalid_fields
from app.graphql.schema.enums import LevelOrder, ReservationStatus, Sign, Status
from app.graphql.schema.fields import of_plain_values, optional
from app.graphql.schema.object_details import ExternalIdInput
from app.reads.paging import MAX_COUNT

# Characters of a search by text.
MAX_TEXT_LENGTH: Final = 1_000
EMPTY_TEXT: Final = "must not be empty; leave it out for no condition"
ARCHIVED_DESCRIPTION: Final = "false: without archived SKUs; true: only archived SKUs; null: both."
ALL_ADJUSTMENTS: Final = strawberry.argument(description="Filters; without them, all adjustments.")
LEVELS_DESCRIPTION: Final = "Filters; without them, all stock levels of SKUs that are not archived."
TEXT_DESCRIPTION: Final = (
    "SKUs for which every word of this text is the beginning of a word in the code or the "
    "title. Words are letters and digits, without regard to case; of a word, the first "
    f"{MAX_WORD_LENGTH} characters count. At most {MAX_SEARCH_WORDS} words, of which at least "
    f"one must be the beginning of fewer than {MAX_COUNT:,} words of SKUs, archived ones "
    "included."
)
ADJUSTMENTS_DESCRIPTION: Final = "Filters of a list of adjustments. All conditions must hold."


@strawberry.input(description=ADJUSTMENTS_DESCRIPTION)
class EntryFilterInput:
    """Conditions that every list of adjustments has."""

    reason: str | None = optional("Adjustments with this reason.")
    start_date: TimeRange | None = optional("Adjustments at or after this time.")
    end_date: TimeRange | None = optional(
        "Adjustments at or before this time; a date includes the whole day."
    )
    occurred_from: TimeRange | None = optional(
        "Adjustments that occurred at or after this time. An adjustment without `occurredAt` "
        "occurred at `createdAt`."
    )
    occurred_to: TimeRange | None = optional(
        "Adjustments that occurred at or before this time; a date includes the whole day."
    )
    time_zone: ZoneInfo | None = optional("Time zone of the dates; UTC without it.")
    created_by: str | None = optional("Adjustments by the user with this e-mail address.")
    bulk_id: strawberry.ID | None = optional("Adjustments of this bulk.")
    transfer_id: strawberry.ID | None = optional("Adjustments of this transfer.")
    reservation_id: strawberry.ID | None = optional(
        "Adjustments by the commit of this reservation."
    )
    reference: str | None = optional("Adjustments with this reference.")
    sign: Sign | None = optional("Adjustments with this sign of the delta.")

    def conditions(self) -> AdjustmentFilter:
        """Filter of the reads.

        Raises:
            ValidationFailed: a text is empty, the reason is not valid, or a start is later than
                its end.

        """
        refuse_empty(
            createdBy=self.created_by,
            bulkId=self.bulk_id,
            transferId=self.transfer_id,
            reservationId=self.reservation_id,
            reference=self.reference,
        )
        zone = self.time_zone or UTC_ZONE
        start, end = _period("startDate", self.start_date, self.end_date, zone)
        occurred_from, occurred_to = _period(
            "occurredFrom", self.occurred_from, self.occurred_to, zone
        )
        if self.reason is not None and (problem := reason_problem(self.reason)):
            raise invalid_field("reason", problem)
        return AdjustmentFilter(
            reason=self.reason,
            start=start,
            end=end,
            occurred_from=occurred_from,
            occurred_to=occurred_to,
            created_by=self.created_by and normalized_email(self.created_by),
            bulk_id=self.bulk_id,
            transfer_id=self.transfer_id,
            reservation_id=self.reservation_id,
            reference=self.reference,
            sign=self.sign,
        )


@of_plain_values
@strawberry.input(description=ADJUSTMENTS_DESCRIPTION)
class AdjustmentFilterInput(EntryFilterInput):
    """Conditions on the adjustments of one SKU."""

    warehouse_id: strawberry.ID | None = optional("Adjustments in this warehouse.")

    def conditions(self) -> AdjustmentFilter:
        """Filter of the reads."""
        refuse_empty(warehouseId=self.warehouse_id)
        return replace(super().conditions(), warehouse_id=self.warehouse_id)


@of_plain_values
@strawberry.input(
    description="Filters of a warehouse's list of adjustments. All conditions must hold."
)
class WarehouseAdjustmentFilterInput(EntryFilterInput):
    """Conditions on the adjustments of one warehouse."""

    sku: str | None = optional("Adjustments of this SKU.")

    def conditions(self) -> AdjustmentFilter:
        """Filter of the reads."""
        refuse_empty(sku=self.sku)
        return replace(super().conditions(), sku=self.sku)


@of_plain_values
@strawberry.input(description=ADJUSTMENTS_DESCRIPTION)
class LedgerFilterInput(AdjustmentFilterInput):
    """Conditions on the adjustments of all SKUs."""

    sku: str | None = optional("Adjustments of this SKU.")

    def conditions(self) -> AdjustmentFilter:
        """Filter of the reads."""
        refuse_empty(sku=self.sku)
        return replace(super().conditions(), sku=self.sku)


@of_plain_values
@strawberry.input(
    description="Filters of a warehouse's list of stock levels. All conditions must hold."
)
class StockLevelFilterInput:
    """Conditions on SKUs, or on the stock levels of one warehouse."""

    status: Status | None = optional("This status.")
    status_in: list[Status] | None = optional("One of these statuses.")
    sku: str | None = optional("This SKU code.")
    code_prefix: str | None = optional("SKU codes that begin with this text.")
    updated_since: TimeRange | None = optional(
        "SKUs that changed at or after this time: stock, reservations, safety stock, title or "
        "archiving. Start some seconds before the last request, because a change that was being "
        "written then has an earlier time."
    )
    archived: bool | None = strawberry.field(default=False, description=ARCHIVED_DESCRIPTION)

    def conditions(self) -> SkuFilter:
        """Filter of the reads."""
        refuse_empty(statusIn=self.status_in, sku=self.sku, codePrefix=self.code_prefix)
        return SkuFilter(
            statuses=self._statuses(),
            sku=self.sku,
            code_prefix=normalized_code(self.code_prefix or "") or None,
            updated_since=self.updated_since.start if self.updated_since else None,
            archived=self.archived,
        )

    def _statuses(self) -> tuple[Status, ...] | None:
        if self.status_in is None:
            return None if self.status is None else (self.status,)
        return tuple(sorted({*self.status_in} & ({self.status} if self.status else {*Status})))


@of_plain_values
@strawberry.input(description="Filters of a list of SKUs. All conditions must hold.")
class SkuFilterInput(StockLevelFilterInput):
    """Conditions on SKUs."""

    warehouse_id: strawberry.ID | None = optional(
        "SKUs with a stock level in this warehouse. Their fields are those of all warehouses: "
        "`Warehouse.stock` and `Sku.stockLevel` have the figures of one warehouse."
    )
    external_id: ExternalIdInput | None = optional("The SKU with this id in another system.")
    text: str | None = optional(TEXT_DESCRIPTION)

    def conditions(self) -> SkuFilter:
        """Filter of the reads."""
        refuse_empty(warehouseId=self.warehouse_id)
        where = replace(
            super().conditions(),
            warehouse_id=self.warehouse_id,
            external_id=self.external_id.required() if self.external_id else None,
        )
        return where if self.text is None else replace(where, words=search_words(self.text))


@of_plain_values
@strawberry.input(description="Filters of a list of reservations. All conditions must hold.")
class ReservationFilterInput:
    """Conditions on reservations."""

    status: ReservationStatus | None = optional("Reservations with this status.")
    reference: str | None = optional("Reservations with this reference.")
    sku: str | None = optional(
        "Reservations with a line of this SKU. Of `status` it can be combined with OPEN, and not "
        "with `reference`."
    )
    warehouse_id: strawberry.ID | None = optional(
        "Reservations with a line in this warehouse; with `sku`, a line of the SKU there. Of "
        "`status` it can be combined with OPEN, and not with `reference`."
    )

    def conditions(self) -> ReservationFilter:
        """Filter of the reads.

        Raises:
            ValidationFailed: a text is empty, or conditions cannot be combined.

        """
        refuse_empty(reference=self.reference, sku=self.sku, warehouseId=self.warehouse_id)
        where = ReservationFilter(
            status=self.status,
            reference=self.reference,
            sku=self.sku,
            warehouse_id=self.warehouse_id,
        )
        # No index finds the reservations of a SKU or a warehouse by another condition.
        if where.names_stock and self.reference is not None:
            raise invalid_field("reference", "cannot be combined with sku or warehouseId")
        if where.names_stock and self.status not in (None, ReservationStatus.OPEN):
            raise invalid_field("status", "must be OPEN, or left out, with sku or warehouseId")
        return where


def _period(
    field: str, first: TimeRange | None, last: TimeRange | None, zone: ZoneInfo
) -> tuple[datetime | None, datetime | None]:
    """Start and end, exclusive, of a period in a time zone; `field` is the name of the start.

    Raises:
        ValidationFailed: the start is later than the end.

    """
    start, end = first and first.in_zone(zone), last and last.in_zone(zone)
    if start and end and end.start < start.start and end.end <= start.start:
        raise invalid_field(field, "must not be later than the end")
    return start.start if start else None, end.end if end else None


def search_words(text: str) -> tuple[str, ...]:
    """Words of a search by text.

    Raises:
        ValidationFailed: the text is too long, or has too few or too many words.

    """
    words = words_of(text[: MAX_TEXT_LENGTH + 1])
    problem = search_problem(words)
    if len(text) > MAX_TEXT_LENGTH:
        problem = f"must have at most {MAX_TEXT_LENGTH} characters, and has {len(text)}"
    if problem:
        raise invalid_field("text", problem)
    return tuple(dict.fromkeys(word[:MAX_WORD_LENGTH] for word in words))


def refuse_empty(**conditions: Sized | None) -> None:
    """Refuse an empty text or list: a client may have meant to leave it out."""
    empty = [
        (field, EMPTY_TEXT)
        for field, condition in conditions.items()
        if condition is not None and not len(condition)
    ]
    if empty:
        raise invalid_fields(empty)


StockLevelFilterArgument = Annotated[
    StockLevelFilterInput | None, strawberry.argument(description=LEVELS_DESCRIPTION)
]
LevelOrderArgument = Annotated[LevelOrder, strawberry.argument(description="Order of the list.")]
AdjustmentFilterArgument = Annotated[AdjustmentFilterInput | None, ALL_ADJUSTMENTS]
WarehouseAdjustmentFilterArgument = Annotated[
    WarehouseAdjustmentFilterInput | None, ALL_ADJUSTMENTS
]
LedgerFilterArgument = Annotated[LedgerFilterInput | None, ALL_ADJUSTMENTS]
