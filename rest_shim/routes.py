"""The table of REST routes.

A row names the operation of a route, binds the request to variables and renders the result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from app.graphql.schema.relay import MAX_PAGE
from rest_shim import rendering
from rest_shim.binding import (
    FieldReaders,
    HeaderReaders,
    Readers,
    all_in_list,
    boolean,
    condition,
    instant,
    integer,
    list_of,
    namespaced_id,
    not_with,
    one_in_list,
    one_of,
    position,
    seconds_or_never,
    sku_versions,
    some_of,
    string,
    strings,
    timestamp,
    unchanged,
    updates_of,
    whole_number,
)
from rest_shim.rendering import (
    CHANGE_TYPES,
    CODE_SORTS,
    ON_ERROR,
    RESERVATION_STATUSES,
    SORTS,
    STATUSES,
    Body,
    Data,
    HeaderRenderer,
)

PAGE_QUERY: Final[Readers] = {"limit": integer, "cursor": unchanged}
LIST_QUERY: Final[Readers] = {
    **PAGE_QUERY,
    "status": one_of(STATUSES),
    "warehouse_id": condition,
    "sku": unchanged,
    "external_id": namespaced_id,
    "q": unchanged,
    "updated_since": instant,
    "sort": one_of(SORTS),
}
SET_BODY: Final[Readers] = {
    "warehouse_id": string,
    "quantity": unchanged,
    "reason": string,
    "note": string,
    "reference": string,
    "occurred_at": string,
    "expected_quantity": unchanged,
    "skip_unchanged": unchanged,
}
ADJUST_BODY: Final[Readers] = {
    "warehouse_id": string,
    "delta": unchanged,
    "reason": string,
    "note": string,
    "reference": string,
    "occurred_at": string,
    "expected_quantity": unchanged,
}
TRANSFER_LINE: Final[FieldReaders] = {"sku": ("sku", string), "quantity": ("quantity", unchanged)}
TRANSFER_BODY: Final[Readers] = {
    "from_warehouse_id": string,
    "to_warehouse_id": string,
    "lines": list_of(TRANSFER_LINE),
    "reason": string,
    "note": string,
    "reference": string,
    "occurred_at": string,
}
COMMIT_LINE: Final[FieldReaders] = {
    "sku": ("sku", string),
    "warehouse_id": ("warehouseId", string),
    "quantity": ("quantity", unchanged),
}
RESERVE_LINE: Final[FieldReaders] = {
    **COMMIT_LINE,
    "warehouse_ids": ("warehouseIds", strings),
    "split": ("split", unchanged),
}
RESERVE_BODY: Final[Readers] = {
    "lines": list_of(RESERVE_LINE),
    "expires_in": seconds_or_never,
    "reference": string,
    "note": string,
    "allow_oversell": unchanged,
}
COMMIT_BODY: Final[Readers] = {
    "lines": list_of(COMMIT_LINE),
    "reason": string,
    "note": string,
    "keep_rest": unchanged,
}
AMEND_BODY: Final[Readers] = {"lines": list_of(RESERVE_LINE), "allow_oversell": unchanged}
EXTEND_BODY: Final[Readers] = {"expires_in": seconds_or_never}
DRY_RUN_QUERY: Final[Readers] = {"dry_run": boolean}
KEY_HEADER: Final[HeaderReaders] = {"idempotency-key": ("idempotency_key", unchanged)}
KEY_AND_IF_MATCH_HEADERS: Final[HeaderReaders] = {
    **KEY_HEADER,
    "if-match": ("expected_sku_versions", sku_versions),
}
CHANGE_QUERY: Final[Readers] = {
    "after": position,
    "types": some_of(CHANGE_TYPES),
    "warehouse_id": one_in_list,
}
# The largest page of the feed.
MAX_CHANGES: Final = 1_000
ADJUSTMENT_QUERY: Final[Readers] = {
    "start_date": instant,
    "end_date": instant,
    "occurred_from": instant,
    "occurred_to": instant,
    "time_zone": unchanged,
    "warehouse_id": unchanged,
    "reason": string,
}
BULK_ITEM: Final[FieldReaders] = {
    "sku": ("sku", string),
    "warehouse_id": ("warehouseId", string),
    "quantity": ("quantity", whole_number),
    "delta": ("delta", whole_number),
    "reason": ("reason", string),
    "note": ("note", string),
    "reference": ("reference", string),
    "occurred_at": ("occurredAt", timestamp),
    "expected_quantity": ("expectedQuantity", whole_number),
}


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The operation of requests with a query parameter, and the query parameters of these."""

    parameter: str
    operation: str
    query: Readers


@dataclass(frozen=True, slots=True)
class EventRoute:
    """The subscription of requests that accept server-sent events."""

    operation: str
    render: Callable[[Data], Body]
    query: Readers


@dataclass(frozen=True, slots=True)
class RestRoute:
    """One method of a path."""

    method: str
    path: str
    operation: str
    render: Callable[[Data, Mapping[str, object]], Body]
    query: Readers = field(default_factory=dict)
    body: Readers | None = None
    # Whether a request without a body is as if it had no field.
    may_lack_body: bool = False
    request_headers: HeaderReaders = field(default_factory=dict)
    response_headers: HeaderRenderer = rendering.render_no_headers
    narrowing: Narrowing | None = None
    subscription: EventRoute | None = None
    # The response is 201 with the address of the new resource, whose id is in its data.
    creates: bool = False
    # This operation is streamed if the request has none of the page parameters.
    stream_operation: str | None = None
    page_parameters: frozenset[str] = frozenset()
    longest_page: int = MAX_PAGE

    def narrowed_by(self, parameters: Mapping[str, str]) -> tuple[str, Readers]:
        """Return the operation and the query parameters of a request with these parameters."""
        if self.narrowing and self.narrowing.parameter in parameters:
            return self.narrowing.operation, self.narrowing.query
        return self.operation, self.query

    @property
    def has_tag(self) -> bool:
        """Whether the route compares If-Match with the tag of a record."""
        is_record = self.response_headers is rendering.render_version_headers
        return is_record or "if-match" in self.request_headers


ROUTES: Final = (
    RestRoute(
        "GET",
        "/api/availability",
        "ListAvailabilities",
        rendering.render_availability_page,
        query={**PAGE_QUERY, "q": unchanged, "sku": all_in_list},
    ),
    RestRoute(
        "GET",
        "/api/inventory",
        "ListInventory",
        rendering.render_record_page,
        query=LIST_QUERY,
        narrowing=Narrowing(
            "warehouse_id",
            "ListWarehouseInventory",
            {
                **LIST_QUERY,
                "q": not_with("warehouse_id"),
                "external_id": not_with("warehouse_id"),
                "sort": one_of(CODE_SORTS),
            },
        ),
    ),
    RestRoute(
        "POST",
        "/api/inventory/bulk",
        "BulkSetStock",
        rendering.render_bulk_results,
        query=DRY_RUN_QUERY,
        body={
            "updates": updates_of(BULK_ITEM, required=("sku", "warehouse_id", "reason")),
            "on_error": one_of(ON_ERROR),
            "skip_unchanged": unchanged,
        },
        request_headers=KEY_HEADER,
        response_headers=rendering.replay_renderer("bulkSetStock"),
    ),
    RestRoute(
        "POST",
        "/api/inventory/transfers",
        "TransferStock",
        rendering.render_transfer_adjustments,
        query=DRY_RUN_QUERY,
        body=TRANSFER_BODY,
        request_headers=KEY_HEADER,
        response_headers=rendering.replay_renderer("transferStock"),
    ),
    RestRoute(
        "GET",
        "/api/inventory/reservations",
        "ListReservations",
        rendering.render_reservation_page,
        query={
            **PAGE_QUERY,
            "status": one_of(RESERVATION_STATUSES),
            "reference": unchanged,
            "sku": condition,
            "warehouse_id": condition,
        },
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations",
        "ReserveStock",
        rendering.render_new_reservation,
        query=DRY_RUN_QUERY,
        body=RESERVE_BODY,
        request_headers=KEY_HEADER,
        response_headers=rendering.replay_renderer("reserveStock"),
        creates=True,
    ),
    RestRoute(
        "GET",
        "/api/inventory/reservations/{reservation_id:segment}",
        "GetReservation",
        rendering.render_single_reservation,
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations/{reservation_id:segment}/commit",
        "CommitReservation",
        rendering.render_committed_reservation,
        query=DRY_RUN_QUERY,
        body=COMMIT_BODY,
        may_lack_body=True,
        request_headers=KEY_HEADER,
        response_headers=rendering.replay_renderer("commitReservation"),
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations/{reservation_id:segment}/amend",
        "AmendReservation",
        rendering.render_amended_reservation,
        query=DRY_RUN_QUERY,
        body=AMEND_BODY,
        request_headers=KEY_HEADER,
        response_headers=rendering.replay_renderer("amendReservation"),
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations/{reservation_id:segment}/extend",
        "ExtendReservation",
        rendering.render_extended_reservation,
        query=DRY_RUN_QUERY,
        body=EXTEND_BODY,
        request_headers=KEY_HEADER,
        response_headers=rendering.replay_renderer("extendReservation"),
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations/{reservation_id:segment}/release",
        "ReleaseReservation",
        rendering.render_released_reservation,
        query=DRY_RUN_QUERY,
        body={},
        may_lack_body=True,
        request_headers=KEY_HEADER,
        response_headers=rendering.replay_renderer("releaseReservation"),
    ),
    RestRoute(
        "GET",
        "/api/inventory/changes",
        "ListChanges",
        rendering.render_change_page,
        query={**CHANGE_QUERY, "limit": integer},
        subscription=EventRoute("FollowChanges", rendering.render_live_change, CHANGE_QUERY),
        longest_page=MAX_CHANGES,
    ),
    RestRoute(
        "GET",
        "/api/inventory/warehouses",
        "ListWarehouses",
        rendering.render_warehouse_list,
        query={"external_id": namespaced_id},
        narrowing=Narrowing("external_id", "FindWarehouse", {"external_id": namespaced_id}),
    ),
    RestRoute(
        "GET",
        "/api/inventory/warehouses/{warehouse_id:segment}/details",
        "GetWarehouseDetails",
        rendering.render_warehouse_details,
    ),
    RestRoute(
        "GET",
        "/api/inventory/{sku:segment}",
        "GetInventory",
        rendering.render_single_record,
        response_headers=rendering.render_version_headers,
    ),
    RestRoute(
        "PUT",
        "/api/inventory/{sku:segment}",
        "SetStock",
        rendering.render_updated_record,
        query=DRY_RUN_QUERY,
        body=SET_BODY,
        request_headers=KEY_AND_IF_MATCH_HEADERS,
        response_headers=rendering.render_update_headers,
    ),
    RestRoute(
        "GET",
        "/api/inventory/{sku:segment}/details",
        "GetSkuDetails",
        rendering.render_sku_details,
    ),
    RestRoute(
        "GET",
        "/api/inventory/{sku:segment}/adjustments",
        "ListAdjustments",
        rendering.render_adjustment_page,
        query={**ADJUSTMENT_QUERY, **PAGE_QUERY},
        stream_operation="StreamAdjustments",
        page_parameters=frozenset(PAGE_QUERY),
    ),
    RestRoute(
        "POST",
        "/api/inventory/{sku:segment}/adjustments",
        "AdjustStock",
        rendering.render_new_adjustment,
        query=DRY_RUN_QUERY,
        body=ADJUST_BODY,
        request_headers=KEY_AND_IF_MATCH_HEADERS,
        response_headers=rendering.render_adjustment_headers,
    ),
)
