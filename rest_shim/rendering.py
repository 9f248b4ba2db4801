"""GraphQL -> REST: an operation's data as the published bodies, keys in the published order."""

from collections.abc import Mapping
from typing import Any, Final

from app.http import REPLAYED

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
ON_ERROR: Final = {"abort": "ABORT", "continue": "CONTINUE"}
WAREHOUSE_TYPES: Final = {"OWN": "own", "FBA": "FBA", "FBS": "FBS", "THIRD_PARTY": "3PL"}
_REST_STATUS: Final = {graphql: rest for rest, graphql in (STATUSES | RESERVATION_STATUSES).items()}

Data = Mapping[str, Any]
Body = dict[str, Any]


def record(sku: Data) -> Body:
    """Return an inventory record."""
    # The operation selects it by these names and in this order.
    body = {**sku, "status": _REST_STATUS[sku["status"]]}
    body["warehouses"] = [_level(level) for level in sku["warehouses"]]
    # That is for the ETag.
    body.pop("version", None)
    return body


def inventory(data: Data, variables: Data) -> Body:
    """Return a page of inventory records."""
    return {
        "data": [record(sku) for sku in data["skus"]["nodes"]],
        "meta": _meta(data["skus"], variables),
    }


def sku(data: Data, _variables: Data) -> Body:
    """Return one inventory record."""
    return {"data": record(data["sku"])}


def updated_sku(data: Data, _variables: Data) -> Body:
    """Return the inventory record that was updated."""
    return {"data": record(data["setStock"]["sku"])}


def sku_headers(data: Data) -> dict[str, str]:
    """Return the version of a record, which clients may keep and ask for again."""
    tag = etag(data["sku"]["version"])
    return {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}


def updated_headers(data: Data) -> dict[str, str]:
    """Return the version of an updated record, and whether the update was made earlier."""
    return _changed_headers(data["setStock"])


def adjusted_headers(data: Data) -> dict[str, str]:
    """Return the version of an adjusted record, and whether the adjustment was made earlier."""
    return _changed_headers(data["adjustStock"])


def bulk_headers(data: Data) -> dict[str, str]:
    """Return whether the bulk was made earlier."""
    return _replayed(data["bulkSetStock"])


def transfer_headers(data: Data) -> dict[str, str]:
    """Return whether the transfer was made earlier."""
    return _replayed(data["transferStock"])


def reserved_headers(data: Data) -> dict[str, str]:
    """Return whether the reservation was made earlier."""
    return _replayed(data["reserveStock"])


def committed_headers(data: Data) -> dict[str, str]:
    """Return whether the reservation was committed earlier."""
    return _replayed(data["commitReservation"])


def released_headers(data: Data) -> dict[str, str]:
    """Return whether the reservation was released earlier."""
    return _replayed(data["releaseReservation"])


def no_headers(_data: Data) -> dict[str, str]:
    """Return nothing."""
    return {}


def etag(version: int) -> str:
    """Return the entity tag of a record's version."""
    return f'"{version}"'


def bulk(data: Data, _variables: Data) -> Body:
    """Return what became of a bulk."""
    outcome = data["bulkSetStock"]
    meta = {name: outcome[name] for name in ("total", "succeeded", "failed")}
    return {"data": [_result(result) for result in outcome["results"]], "meta": meta}


def transfer(data: Data, _variables: Data) -> Body:
    """Return what was moved."""
    outcome = data["transferStock"]
    return {
        "data": {
            "transfer_id": outcome["transfer_id"],
            "lines": [
                {half: adjustment(line[half]) for half in ("outgoing", "incoming")}
                for line in outcome["lines"]
            ],
        }
    }


def reservations(data: Data, variables: Data) -> Body:
    """Return a page of reservations."""
    page = data["reservations"]
    return {"data": [reservation(node) for node in page["nodes"]], "meta": _meta(page, variables)}


def reservation_found(data: Data, _variables: Data) -> Body:
    """Return a reservation."""
    return {"data": reservation(data["reservation"])}


def reserved(data: Data, _variables: Data) -> Body:
    """Return the reservation that was made."""
    return {"data": reservation(data["reserveStock"]["reservation"])}


def committed(data: Data, _variables: Data) -> Body:
    """Return the reservation that was committed, and the adjustments written."""
    outcome = data["commitReservation"]
    return {
        "data": {
            **reservation(outcome["reservation"]),
            "adjustments": [adjustment(entry) for entry in outcome["adjustments"]],
        }
    }


def released(data: Data, _variables: Data) -> Body:
    """Return the reservation that was released."""
    return {"data": reservation(data["releaseReservation"]["reservation"])}


def reservation(node: Data) -> Body:
    """Return a reservation."""
    body: Body = {"id": node["id"], "status": _REST_STATUS[node["status"]]}
    body |= {name: node[name] for name in ("reference", "note") if node[name] is not None}
    body |= {name: node[name] for name in ("created_by", "created_at")}
    body |= {name: node[name] for name in ("expires_at", "ended_at") if node[name] is not None}
    body["lines"] = [
        {
            "sku": line["sku"]["sku"],
            "warehouse_id": line["warehouse"]["id"],
            **{name: line[name] for name in ("quantity", "held", "committed")},
        }
        for line in node["lines"]
    ]
    return body


def warehouses(data: Data, _variables: Data) -> Body:
    """Return all warehouses."""
    return {"data": [_warehouse(warehouse) for warehouse in data["warehouses"]]}


def adjustments(data: Data, variables: Data) -> Body:
    """Return a page of adjustments."""
    page = data["adjustments"]
    return {"data": [adjustment(node) for node in page["nodes"]], "meta": _meta(page, variables)}


def written_adjustment(data: Data, _variables: Data) -> Body:
    """Return the adjustment that was written."""
    return {"data": adjustment(data["adjustStock"]["adjustment"])}


def adjustment(node: Data) -> Body:
    """Return an adjustment."""
    # The operations select it by these names and in this order.
    body = {**node, "sku": node["sku"]["sku"], "warehouse_id": node["warehouse_id"]["id"]}
    for name in ("note", "reference"):
        if body[name] is None:
            del body[name]
    return body


def _level(level: Data) -> Body:
    place = level["warehouse"]
    body = {
        "warehouse_id": place["warehouse_id"],
        "name": place["name"],
        "on_hand": level["on_hand"],
        "reserved": level["reserved"],
        "available": level["available"],
    }
    if place["type"] != "OWN":
        body["type"] = WAREHOUSE_TYPES[place["type"]]
    return body


def _warehouse(place: Data) -> Body:
    body = {"id": place["id"], "name": place["name"]}
    if place["address"] is not None:
        body["address"] = place["address"]
    body["type"] = WAREHOUSE_TYPES[place["type"]]
    if place["marketplace"] is not None:
        body["marketplace"] = place["marketplace"]
    body["is_active"] = place["is_active"]
    if place["is_readonly"]:
        body["is_readonly"] = True
    return body


def _changed_headers(outcome: Data) -> dict[str, str]:
    return {"ETag": etag(outcome["sku"]["version"]), **_replayed(outcome)}


def _replayed(outcome: Data) -> dict[str, str]:
    return REPLAYED if outcome["replayed"] else {}


def _result(result: Data) -> Body:
    body = {name: result[name] for name in ("index", "sku", "warehouse_id")}
    if result["error"] is not None:
        return {**body, "status": "failed", "error": result["error"]}
    return {**body, "status": "updated", **result["adjustment"]}


def _meta(page: Data, variables: Data) -> Body:
    info = page["pageInfo"]
    return {
        "total": page["totalCount"],
        "limit": variables.get("limit", 50),
        "nextCursor": info["endCursor"] if info["hasNextPage"] else None,
    }
