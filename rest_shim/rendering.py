"""GraphQL -> REST: renders the data of operations as response bodies and headers.

Bodies have the keys of the published API, in its order.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from app.domain.changes import ChangeType
from app.errors import invalid_fields
from app.graphql.schema.relay import DEFAULT_PAGE
from app.http.errors import REPLAYED_HEADER
from app.http.json import JSONResponse
from rest_shim.names import rest_name

STATUSES: Final = {
    "normal": "NORMAL",
    "low": "LOW",
    "critical": "CRITICAL",
    "out_of_stock": "OUT_OF_STOCK",
}
RESERVATION_STATUSES: Final = {
    "open": "OPEN",
    "committed": "COMMITTED",
    "released": "RELEASED",
    "expired": "EXPIRED",
}
CODE_SORTS: Final = {"sku": "SKU_ASC", "-sku": "SKU_DESC"}
SORTS: Final = {
    **CODE_SORTS,
    "available": "AVAILABLE_ASC",
    "-available": "AVAILABLE_DESC",
    "updated": "UPDATED_ASC",
    "-updated": "UPDATED_DESC",
}
ON_ERROR: Final = {"abort": "ABORT", "continue": "CONTINUE"}
WAREHOUSE_TYPES: Final = {"OWN": "own", "FBA": "FBA", "FBS": "FBS", "THIRD_PARTY": "3PL"}
CHANGE_TYPES: Final = {type_.value: type_.name for type_ in ChangeType}
_REST_STATUS: Final = {graphql: rest for rest, graphql in (STATUSES | RESERVATION_STATUSES).items()}
# The REST values of the enums of a change.
_CHANGED_ENUMS: Final = {
    "status": _REST_STATUS,
    "type": WAREHOUSE_TYPES,
    "reservation_status": _REST_STATUS,
}

TAG_DIGEST_BYTES: Final = 8

Data = Mapping[str, Any]
Body = dict[str, Any]
# Renders the headers of a response from its data and its body.
HeaderRenderer = Callable[[Data, bytes], Mapping[str, str]]


def render_record_page(data: Data, variables: Data) -> Body:
    """Render the body with a page of inventory records."""
    if "warehouse" in data:
        page = data["warehouse"]["stock"]
        records = [_render_level_record(level) for level in page["nodes"]]
    else:
        page = data["skus"]
        records = [_render_record(sku) for sku in page["nodes"]]
    return {"data": records, "meta": _render_page_meta(page, variables)}


def render_single_record(data: Data, _variables: Data) -> Body:
    """Render the body with one inventory record."""
    return {"data": _render_record(data["sku"])}


def render_updated_record(data: Data, _variables: Data) -> Body:
    """Render the body with the inventory record after an update."""
    return {"data": _render_record(data["setStock"]["sku"])}


def render_bulk_results(data: Data, _variables: Data) -> Body:
    """Render the body with the results of a bulk."""
    bulk = data["bulkSetStock"]
    meta = {name: bulk[name] for name in ("total", "succeeded", "failed")}
    return {"data": [_render_bulk_result(result) for result in bulk["results"]], "meta": meta}


def render_transfer_adjustments(data: Data, _variables: Data) -> Body:
    """Render the body with the adjustments of a transfer."""
    transfer = data["transferStock"]
    lines = [
        {direction: render_adjustment(line[direction]) for direction in ("outgoing", "incoming")}
        for line in transfer["lines"]
    ]
    return {"data": {"transfer_id": transfer["transfer_id"], "lines": lines}}


def render_reservation_page(data: Data, variables: Data) -> Body:
    """Render the body with a page of reservations."""
    page = data["reservations"]
    nodes = [_render_reservation(node) for node in page["nodes"]]
    held = {} if page["held"] is None else {"held": page["held"]}
    return {"data": nodes, "meta": {**_render_page_meta(page, variables), **held}}


def render_single_reservation(data: Data, _variables: Data) -> Body:
    """Render the body with one reservation."""
    return {"data": _render_reservation(data["reservation"])}


def render_new_reservation(data: Data, _variables: Data) -> Body:
    """Render the body with a new reservation."""
    return {"data": _render_reservation(data["reserveStock"]["reservation"])}


def render_committed_reservation(data: Data, _variables: Data) -> Body:
    """Render the body with a committed reservation and its adjustments."""
    commit = data["commitReservation"]
    adjustments = [render_adjustment(node) for node in commit["adjustments"]]
    body = {**_render_reservation(commit["reservation"]), "adjustments": adjustments}
    if commit["successor"]:
        body["successor"] = _render_reservation(commit["successor"])
    return {"data": body}


def render_amended_reservation(data: Data, _variables: Data) -> Body:
    """Render the body with a reservation that got other lines."""
    return {"data": _render_reservation(data["amendReservation"]["reservation"])}


def render_extended_reservation(data: Data, _variables: Data) -> Body:
    """Render the body with a reservation that expires later."""
    return {"data": _render_reservation(data["extendReservation"]["reservation"])}


def render_released_reservation(data: Data, _variables: Data) -> Body:
    """Render the body with a released reservation."""
    return {"data": _render_reservation(data["releaseReservation"]["reservation"])}


def render_availability_page(data: Data, variables: Data) -> Body:
    """Render the body with a page of availabilities."""
    page = data["availabilities"]
    # The operation selects the fields with these names and in this order.
    nodes = [{**node, "status": _REST_STATUS[node["status"]]} for node in page["nodes"]]
    return {"data": nodes, "meta": _render_page_meta(page, variables)}


def render_warehouse_list(data: Data, _variables: Data) -> Body:
    """Render the body with all warehouses, or with the one that has an external id."""
    warehouses = data["warehouses"] if "warehouses" in data else [data["warehouse"]]
    return {"data": [_render_warehouse(warehouse) for warehouse in warehouses]}


def render_sku_details(data: Data, _variables: Data) -> Body:
    """Render the body with the external ids and the metadata of a SKU."""
    return {"data": _render_details(data["sku"])}


def render_warehouse_details(data: Data, _variables: Data) -> Body:
    """Render the body with the external ids and the metadata of a warehouse."""
    return {"data": _render_details(data["warehouse"])}


def render_change_page(data: Data, variables: Data) -> Body:
    """Render the body with a page of the feed of changes."""
    page = data["changes"]
    meta = {
        "limit": variables.get("limit", DEFAULT_PAGE),
        "read_to": page["read_to"],
        "newest_position": page["newest_position"],
    }
    return {"data": [_render_change(node) for node in page["nodes"]], "meta": meta}


def render_live_change(data: Data) -> Body:
    """Render the data of an event of the stream of changes."""
    return _render_change(data["changes"])


def render_adjustment_page(data: Data, variables: Data) -> Body:
    """Render the body with a page of adjustments."""
    page = data["adjustments"]
    nodes = [render_adjustment(node) for node in page["nodes"]]
    return {"data": nodes, "meta": _render_page_meta(page, variables)}


def render_new_adjustment(data: Data, _variables: Data) -> Body:
    """Render the body with a new adjustment."""
    return {"data": render_adjustment(data["adjustStock"]["adjustment"])}


def render_no_headers(_data: Data, _body: bytes) -> dict[str, str]:
    """Render no response headers."""
    return {}


def render_version_headers(data: Data, body: bytes) -> dict[str, str]:
    """Render the headers of a record, which a client may cache if it revalidates its copy."""
    return {
        "ETag": _etag(data["sku"], body),
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
    }


def render_update_headers(data: Data, body: bytes) -> dict[str, str]:
    """Render the headers of a record after an update."""
    result = data["setStock"]
    return {"ETag": _etag(result["sku"], body), **_replay_mark(result)}


def render_adjustment_headers(data: Data, _body: bytes) -> dict[str, str]:
    """Render the headers of a new adjustment; the ETag is that of the changed record."""
    result = data["adjustStock"]
    record = JSONResponse({"data": _render_record(result["sku"])})
    return {"ETag": _etag(result["sku"], bytes(record.body)), **_replay_mark(result)}


def replay_renderer(mutation: str) -> HeaderRenderer:
    """Make a renderer of the mark of a replayed response."""

    def render(data: Data, _body: bytes) -> Mapping[str, str]:
        return _replay_mark(data[mutation])

    return render


def render_adjustment(node: Data) -> Body:
    """Render an adjustment."""
    # The fragment `AdjustmentFields` selects the fields with these names and in this order.
    body = {**node, "sku": node["sku"]["sku"], "warehouse_id": node["warehouse_id"]["id"]}
    for name in ("note", "reference", "occurred_at"):
        if body[name] is None:
            del body[name]
    return body


def _render_record(sku: Data) -> Body:
    # The fragment `RecordFields` selects the fields with these names and in this order.
    body = {**sku, "status": _REST_STATUS[sku["status"]]}
    body["warehouses"] = [_render_stock_level(level) for level in sku["warehouses"]]
    # The version is a header.
    body.pop("version", None)
    if body["reorder_point"] is None:
        del body["reorder_point"]
    if not body.get("is_archived"):
        body.pop("is_archived", None)
    return body


def _render_level_record(level: Data) -> Body:
    """Render the record of a SKU as if its tenant had only the warehouse of the level."""
    return {
        "sku": level["sku"],
        "title": level["title"],
        **{f"total_{name}": level[name] for name in ("on_hand", "reserved", "available")},
        "safety_stock": level["safety_stock"],
        **_given(level, "reorder_point"),
        "status": _REST_STATUS[level["status"]],
        "warehouses": [_render_stock_level(level)],
    }


def _render_stock_level(level: Data) -> Body:
    warehouse = level["warehouse"]
    body = {
        "warehouse_id": warehouse["warehouse_id"],
        "name": warehouse["name"],
        "on_hand": level["on_hand"],
        "reserved": level["reserved"],
        "available": level["available"],
    }
    if warehouse["type"] != "OWN":
        body["type"] = WAREHOUSE_TYPES[warehouse["type"]]
    return body


def _render_warehouse(warehouse: Data) -> Body:
    body = {"id": warehouse["id"], "name": warehouse["name"]}
    if warehouse["address"] is not None:
        body["address"] = warehouse["address"]
    body["type"] = WAREHOUSE_TYPES[warehouse["type"]]
    if warehouse["marketplace"] is not None:
        body["marketplace"] = warehouse["marketplace"]
    body["is_active"] = warehouse["is_active"]
    if warehouse["is_readonly"]:
        body["is_readonly"] = True
    if not warehouse["is_sellable"]:
        body["is_sellable"] = False
    return body


def _render_reservation(node: Data) -> Body:
    body: Body = {"id": node["id"], "status": _REST_STATUS[node["status"]]}
    body |= _given(node, "reference", "note")
    body |= {name: node[name] for name in ("created_by", "created_at")}
    body |= _given(node, "expires_at", "ended_at")
    body["lines"] = [
        {
            "sku": line["sku"]["sku"],
            "warehouse_id": line["warehouse"]["id"],
            **{name: line[name] for name in ("quantity", "held", "committed")},
        }
        for line in node["lines"]
    ]
    return body


def _render_change(node: Data) -> Body:
    # The operation selects the fields with these names and in this order.
    body = {name: value for name, value in node.items() if value is not None}
    body["type"] = node["type"].lower()
    for name in ("before", "after"):
        if name in body:
            body[name] = _render_changed_values(body[name])
    return body


def _render_changed_values(values: Data) -> Body:
    body = {name: value for name, value in values.items() if value is not None}
    if "metadata" in body:
        body["metadata"] = _render_metadata(body["metadata"])
    for name, rest_values in _CHANGED_ENUMS.items():
        if name in body:
            body[name] = rest_values[body[name]]
    return body


def _given(node: Data, *names: str) -> Body:
    """Render the values that are not null."""
    return {name: node[name] for name in names if node[name] is not None}


def _render_details(node: Data) -> Body:
    return {**node, "metadata": _render_metadata(node["metadata"])}


def _render_metadata(entries: Sequence[Data]) -> Body:
    return {entry["key"]: entry["value"] for entry in entries}


def _render_bulk_result(result: Data) -> Body:
    body = {name: result[name] for name in ("index", "sku", "warehouse_id")}
    if result["error"] is not None:
        return {**body, "status": "failed", "error": _render_row_error(result["error"])}
    if result["adjustment"] is None:
        on_hand = result["stock_level"]["on_hand"]
        quantities = {"before_quantity": on_hand, "after_quantity": on_hand, "delta": 0}
        return {**body, "status": "unchanged", **quantities}
    return {**body, "status": "updated", **result["adjustment"]}


def _render_row_error(error: Data) -> Body:
    if not error["details"]:
        return {"code": error["code"], "message": error["message"]}
    # The message names the fields, so it is written again.
    refusal = invalid_fields(
        [(rest_name(detail["field"]), detail["message"]) for detail in error["details"]]
    )
    return {"code": error["code"], "message": refusal.message, "details": refusal.details}


def _render_page_meta(page: Data, variables: Data) -> Body:
    info = page["pageInfo"]
    total = {"total": page["totalCount"]} if "totalCount" in page else {}
    return {
        **total,
        "limit": variables.get("limit", DEFAULT_PAGE),
        "nextCursor": info["endCursor"] if info["hasNextPage"] else None,
    }


def _etag(sku: Data, body: bytes) -> str:
    """Render the tag of a record: its version, for If-Match, and a digest of its whole body."""
    digest = blake2b(body, digest_size=TAG_DIGEST_BYTES).hexdigest()
    return f'"{sku["version"]}-{digest}"'


def _replay_mark(result: Data) -> Mapping[str, str]:
    return REPLAYED_HEADER if result["replayed"] else {}
