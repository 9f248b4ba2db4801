"""The table of REST routes.

A row names the operation of a route, binds the request to variables and renders the result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rest_shim import rendering
from rest_shim.binding import (
    FieldReaders,
    HeaderReaders,
    Readers,
    boolean,
    integer,
    list_of,
    one_of,
    sku_versions,
    string,
    unchanged,
)
from rest_shim.rendering import ON_ERROR, RESERVATION_STATUSES, STATUSES, Body, Data

PAGE: Final[Readers] = {"limit": integer, "cursor": unchanged}
SET_BODY: Final[Readers] = {
    "warehouse_id": string,
    "quantity": unchanged,
    "reason": string,
    "note": string,
    "reference": string,
    "expected_quantity": unchanged,
}
ADJUST_BODY: Final[Readers] = {
    "warehouse_id": string,
    "delta": unchanged,
    "reason": string,
    "note": string,
    "reference": string,
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
}
RESERVATION_LINE: Final[FieldReaders] = {
    "sku": ("sku", string),
    "warehouse_id": ("warehouseId", string),
    "quantity": ("quantity", unchanged),
}
RESERVE_BODY: Final[Readers] = {
    "lines": list_of(RESERVATION_LINE),
    "expires_in": unchanged,
    "reference": string,
    "note": string,
    "allow_oversell": unchanged,
}
COMMIT_BODY: Final[Readers] = {
    "lines": list_of(RESERVATION_LINE),
    "reason": string,
    "note": string,
}
DRY_RUN: Final[Readers] = {"dry_run": boolean}
IDEMPOTENCY_KEY: Final[HeaderReaders] = {"idempotency-key": ("idempotency_key", unchanged)}
IDEMPOTENCY_KEY_AND_IF_MATCH: Final[HeaderReaders] = {
    **IDEMPOTENCY_KEY,
    "if-match": ("expected_sku_versions", sku_versions),
}
ADJUSTMENT_FILTERS: Final[Readers] = {
    "start_date": unchanged,
    "end_date": unchanged,
    "warehouse_id": unchanged,
    "reason": string,
}
BULK_ITEM: Final[FieldReaders] = {
    "sku": ("sku", string),
    "warehouse_id": ("warehouseId", string),
    "quantity": ("quantity", unchanged),
    "delta": ("delta", unchanged),
    "reason": ("reason", string),
    "note": ("note", string),
    "reference": ("reference", string),
    "expected_quantity": ("expectedQuantity", unchanged),
}


@dataclass(frozen=True, slots=True)
class RestRoute:
    """One method of a path."""

    method: str
    path: str
    operation: str
    render: Callable[[Data, Mapping[str, object]], Body]
    query: Readers = field(default_factory=dict)
    body: Readers | None = None
    request_headers: HeaderReaders = field(default_factory=dict)
    response_headers: Callable[[Data], Mapping[str, str]] = rendering.no_headers
    # This operation is streamed if the request has none of the page parameters.
    stream_operation: str | None = None
    page_parameters: frozenset[str] = frozenset()


ROUTES: Final = (
    RestRoute(
        "GET",
        "/api/inventory",
        "ListInventory",
        rendering.record_page,
        query={
            **PAGE,
            "status": one_of(STATUSES),
            "warehouse_id": unchanged,
            "sku": unchanged,
        },
    ),
    RestRoute(
        "POST",
        "/api/inventory/bulk",
        "BulkSetStock",
        rendering.bulk_results,
        query=DRY_RUN,
        body={"updates": list_of(BULK_ITEM), "on_error": one_of(ON_ERROR)},
        request_headers=IDEMPOTENCY_KEY,
        response_headers=rendering.replay_headers("bulkSetStock"),
    ),
    RestRoute(
        "POST",
        "/api/inventory/transfers",
        "TransferStock",
        rendering.transfer_adjustments,
        query=DRY_RUN,
        body=TRANSFER_BODY,
        request_headers=IDEMPOTENCY_KEY,
        response_headers=rendering.replay_headers("transferStock"),
    ),
    RestRoute(
        "GET",
        "/api/inventory/reservations",
        "ListReservations",
        rendering.reservation_page,
        query={**PAGE, "status": one_of(RESERVATION_STATUSES), "reference": unchanged},
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations",
        "ReserveStock",
        rendering.new_reservation,
        query=DRY_RUN,
        body=RESERVE_BODY,
        request_headers=IDEMPOTENCY_KEY,
        response_headers=rendering.replay_headers("reserveStock"),
    ),
    RestRoute(
        "GET",
        "/api/inventory/reservations/{reservation_id:segment}",
        "GetReservation",
        rendering.single_reservation,
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations/{reservation_id:segment}/commit",
        "CommitReservation",
        rendering.committed_reservation,
        query=DRY_RUN,
        body=COMMIT_BODY,
        request_headers=IDEMPOTENCY_KEY,
        response_headers=rendering.replay_headers("commitReservation"),
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations/{reservation_id:segment}/release",
        "ReleaseReservation",
        rendering.released_reservation,
        query=DRY_RUN,
        body={},
        request_headers=IDEMPOTENCY_KEY,
        response_headers=rendering.replay_headers("releaseReservation"),
    ),
    RestRoute("GET", "/api/inventory/warehouses", "ListWarehouses", rendering.warehouse_list),
    RestRoute(
        "GET",
        "/api/inventory/{sku:segment}",
        "GetInventory",
        rendering.single_record,
        response_headers=rendering.version_headers,
    ),
    RestRoute(
        "PUT",
        "/api/inventory/{sku:segment}",
        "SetStock",
        rendering.updated_record,
        query=DRY_RUN,
        body=SET_BODY,
        request_headers=IDEMPOTENCY_KEY_AND_IF_MATCH,
        response_headers=rendering.version_and_replay_headers("setStock"),
    ),
    RestRoute(
        "GET",
        "/api/inventory/{sku:segment}/adjustments",
        "ListAdjustments",
        rendering.adjustment_page,
        query={**ADJUSTMENT_FILTERS, **PAGE},
        stream_operation="StreamAdjustments",
        page_parameters=frozenset(PAGE),
    ),
    RestRoute(
        "POST",
        "/api/inventory/{sku:segment}/adjustments",
        "AdjustStock",
        rendering.new_adjustment,
        query=DRY_RUN,
        body=ADJUST_BODY,
        request_headers=IDEMPOTENCY_KEY_AND_IF_MATCH,
        response_headers=rendering.version_and_replay_headers("adjustStock"),
    ),
)
