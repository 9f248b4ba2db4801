"""THE TABLE: which route runs which operation.

A row also says how a request becomes variables, and how data becomes the body.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rest_shim import rendering
from rest_shim.binding import (
    Reader,
    Readers,
    as_given,
    boolean,
    integer,
    list_of,
    one_of,
    string,
    versions,
)
from rest_shim.rendering import ON_ERROR, RESERVATION_STATUSES, STATUSES, Body, Data

PAGE: Final[Readers] = {"limit": integer, "cursor": as_given}
UPDATE: Final[Readers] = {
    "warehouse_id": string,
    "quantity": as_given,
    "reason": string,
    "note": string,
    "reference": string,
    "expected_quantity": as_given,
}
ADJUSTMENT: Final[Readers] = {
    "warehouse_id": string,
    "delta": as_given,
    "reason": string,
    "note": string,
    "reference": string,
    "expected_quantity": as_given,
}
TRANSFER_LINE: Final = {"sku": ("sku", string), "quantity": ("quantity", as_given)}
TRANSFER: Final[Readers] = {
    "from_warehouse_id": string,
    "to_warehouse_id": string,
    "lines": list_of(TRANSFER_LINE),
    "reason": string,
    "note": string,
    "reference": string,
}
RESERVATION: Final[Readers] = {
    "lines": list_of(
        {
            "sku": ("sku", string),
            "warehouse_id": ("warehouseId", string),
            "quantity": ("quantity", as_given),
        }
    ),
    "expires_in": as_given,
    "reference": string,
    "note": string,
    "allow_oversell": as_given,
}
COMMIT: Final[Readers] = {
    "lines": RESERVATION["lines"],
    "reason": string,
    "note": string,
}
REHEARSAL: Final[Readers] = {"dry_run": boolean}
KEY: Final = {"idempotency-key": ("idempotency_key", as_given)}
CONDITIONS: Final = {**KEY, "if-match": ("expected_sku_versions", versions)}
HISTORY: Final[Readers] = {
    "start_date": as_given,
    "end_date": as_given,
    "warehouse_id": as_given,
    "reason": string,
}
BULK_ITEM: Final = {
    "sku": ("sku", string),
    "warehouse_id": ("warehouseId", string),
    "quantity": ("quantity", as_given),
    "delta": ("delta", as_given),
    "reason": ("reason", string),
    "note": ("note", string),
    "reference": ("reference", string),
    "expected_quantity": ("expectedQuantity", as_given),
}


@dataclass(frozen=True, slots=True)
class RestRoute:
    """A method of a path."""

    method: str
    path: str
    operation: str
    render: Callable[[Data, Mapping[str, object]], Body]
    query: Readers = field(default_factory=dict)
    body: Readers | None = None
    # Request headers, by lower-case name: the variable, and how it is read.
    request_headers: Mapping[str, tuple[str, Reader]] = field(default_factory=dict)
    headers: Callable[[Data], Mapping[str, str]] = rendering.no_headers
    # Without these query parameters, this operation is streamed page by page.
    streams: str | None = None
    unless: frozenset[str] = frozenset()


ROUTES: Final = (
    RestRoute(
        "GET",
        "/api/inventory",
        "ListInventory",
        rendering.inventory,
        query={
            **PAGE,
            "status": one_of(STATUSES),
            "warehouse_id": as_given,
            "sku": as_given,
        },
    ),
    RestRoute(
        "POST",
        "/api/inventory/bulk",
        "BulkSetStock",
        rendering.bulk,
        query=REHEARSAL,
        body={"updates": list_of(BULK_ITEM), "on_error": one_of(ON_ERROR)},
        request_headers=KEY,
        headers=rendering.bulk_headers,
    ),
    RestRoute(
        "POST",
        "/api/inventory/transfers",
        "TransferStock",
        rendering.transfer,
        query=REHEARSAL,
        body=TRANSFER,
        request_headers=KEY,
        headers=rendering.transfer_headers,
    ),
    RestRoute(
        "GET",
        "/api/inventory/reservations",
        "ListReservations",
        rendering.reservations,
        query={**PAGE, "status": one_of(RESERVATION_STATUSES), "reference": as_given},
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations",
        "ReserveStock",
        rendering.reserved,
        query=REHEARSAL,
        body=RESERVATION,
        request_headers=KEY,
        headers=rendering.reserved_headers,
    ),
    RestRoute(
        "GET",
        "/api/inventory/reservations/{reservation_id:segment}",
        "GetReservation",
        rendering.reservation_found,
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations/{reservation_id:segment}/commit",
        "CommitReservation",
        rendering.committed,
        query=REHEARSAL,
        body=COMMIT,
        request_headers=KEY,
        headers=rendering.committed_headers,
    ),
    RestRoute(
        "POST",
        "/api/inventory/reservations/{reservation_id:segment}/release",
        "ReleaseReservation",
        rendering.released,
        query=REHEARSAL,
        body={},
        request_headers=KEY,
        headers=rendering.released_headers,
    ),
    RestRoute("GET", "/api/inventory/warehouses", "ListWarehouses", rendering.warehouses),
    RestRoute(
        "GET",
        "/api/inventory/{sku:segment}",
        "GetInventory",
        rendering.sku,
        headers=rendering.sku_headers,
    ),
    RestRoute(
        "PUT",
        "/api/inventory/{sku:segment}",
        "SetStock",
        rendering.updated_sku,
        query=REHEARSAL,
        body=UPDATE,
        request_headers=CONDITIONS,
        headers=rendering.updated_headers,
    ),
    RestRoute(
        "GET",
        "/api/inventory/{sku:segment}/adjustments",
        "ListAdjustments",
        rendering.adjustments,
        query={**HISTORY, **PAGE},
        streams="StreamAdjustments",
        unless=frozenset(PAGE),
    ),
    RestRoute(
        "POST",
        "/api/inventory/{sku:segment}/adjustments",
        "AdjustStock",
        rendering.written_adjustment,
        query=REHEARSAL,
        body=ADJUSTMENT,
        request_headers=CONDITIONS,
        headers=rendering.adjusted_headers,
    ),
)
