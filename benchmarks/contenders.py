"""The contenders: the floor, this service by GraphQL and REST on both engines, and its peers."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from benchmarks.peers import FASTAPI_SQLMODEL, MERCURIUS, POSTGRAPHILE
from benchmarks.peers.contender import Ask, Contender, Level, Record, Update
from benchmarks.servers import KEY

SKU_FIELDS: Final = """
sku title totalOnHand totalReserved totalAvailable safetyStock status
stock { onHand reserved available warehouse { id name type } }
"""
LIST50: Final = f"""
query ($after: String) {{
  skus(first: 50, after: $after) {{ nodes {{ {SKU_FIELDS} }} pageInfo {{ endCursor }} }}
}}
"""
ONE: Final = f"query ($sku: String!) {{ sku(sku: $sku) {{ {SKU_FIELDS} }} }}"
SET: Final = """
mutation ($input: SetStockInput!) {
  setStock(input: $input) { sku { sku status } stockLevel { onHand } }
}
"""
BULK: Final = """
mutation ($input: BulkSetStockInput!) {
  bulkSetStock(input: $input) {
    results { sku warehouseId adjustment { id beforeQuantity afterQuantity } }
  }
}
"""
RESERVE: Final = """
mutation ($input: ReserveStockInput!) {
  reserveStock(input: $input) { reservation { id lines { sku { sku } } } }
}
"""
TYPES: Final = {"OWN": "own", "FBA": "FBA", "FBS": "FBS", "THIRD_PARTY": "3PL"}


def _floor() -> list[str]:
    words = "benchmarks.floor:app --port {port} --workers {workers} --log-level warning"
    fast = "--loop uvloop --http httptools --no-access-log"
    return [sys.executable, "-m", "uvicorn", *words.split(), *fast.split()]


def _service() -> list[str]:
    words = "-m app serve --port {port} --workers {workers}"
    return [sys.executable, *words.split()]


def _floor_record(answer: Any) -> Record:
    levels: list[Level] = [
        {
            "warehouse_id": row["warehouse"]["id"],
            "name": row["warehouse"]["name"],
            "type": row["warehouse"]["type"],
            "on_hand": row["on_hand"],
            "reserved": row["reserved"],
            "available": row["available"],
        }
        for row in answer["stock"]
    ]
    return {
        "sku": answer["sku"],
        "title": answer["title"],
        "status": answer["status"],
        "levels": levels,
    }


def _floor_update(update: Update) -> dict[str, object]:
    return {
        "sku": update.sku,
        "warehouse_id": update.warehouse_id,
        "quantity": update.quantity,
    }


def _floor_bulk(updates: Sequence[Update]) -> Ask:
    return Ask("POST", "/bulk", [_floor_update(update) for update in updates])


FLOOR: Final = Contender(
    name="the floor: Starlette + asyncpg",
    command=_floor,
    list50=lambda after: Ask("GET", f"/skus?limit=50&after={after or ''}", None),
    one=lambda sku: Ask("GET", f"/skus/{sku}", None),
    set_stock=lambda update: Ask("POST", "/set", _floor_update(update)),
    bulk=_floor_bulk,
    read_list=lambda answer: [_floor_record(row) for row in answer],
    read_cursor=lambda answer: str(answer[-1]["sku"]),
    reserve=lambda line: Ask("POST", "/reserve", _floor_update(line)),
    read_one=_floor_record,
    read_set=lambda answer, _warehouse_id: int(answer["after"]),
    read_bulk=lambda answer: [(row["sku"], row["warehouse_id"], row["after"]) for row in answer],
)


def _graphql(query: str, variables: dict[str, object] | None = None) -> Ask:
    return Ask("POST", "/graphql", {"query": query, "variables": variables or {}})


def _graphql_update(update: Update) -> dict[str, object]:
    return {
        "sku": update.sku,
        "warehouseId": update.warehouse_id,
        "quantity": update.quantity,
        "reason": "cycle_count",
    }


def _graphql_bulk(updates: Sequence[Update]) -> Ask:
    rows = []
    for update in updates:
        row = _graphql_update(update)
        rows.append({"change": {"quantity": row.pop("quantity")}, **row})
    return _graphql(BULK, {"input": {"updates": rows, "idempotencyKey": KEY}})


def _graphql_record(answer: Any) -> Record:
    levels: list[Level] = [
        {
            "warehouse_id": row["warehouse"]["id"],
            "name": row["warehouse"]["name"],
            "type": TYPES[row["warehouse"]["type"]],
            "on_hand": row["onHand"],
            "reserved": row["reserved"],
            "available": row["available"],
        }
        for row in answer["stock"]
    ]
    return {
        "sku": answer["sku"],
        "title": answer["title"],
        "status": answer["status"].lower(),
        "levels": levels,
    }


def _graphql_reserve(line: Update) -> Ask:
    lines = [
        {"sku": line.sku, "warehouseId": line.warehouse_id, "quantity": line.quantity},
    ]
    return _graphql(RESERVE, {"input": {"lines": lines, "idempotencyKey": KEY}})


def _rest_list(after: str | None) -> Ask:
    cursor = f"&cursor={after}" if after else ""
    return Ask("GET", f"/api/inventory?limit=50{cursor}", None)


def _rest_bulk(updates: Sequence[Update]) -> Ask:
    rows = [{**_floor_update(update), "reason": "cycle_count"} for update in updates]
    return Ask("POST", "/api/inventory/bulk", {"updates": rows})


def _rest_set(update: Update) -> Ask:
    body = {**_floor_update(update), "reason": "cycle_count"}
    del body["sku"]
    return Ask("PUT", f"/api/inventory/{update.sku}", body)


def _rest_record(answer: Any) -> Record:
    levels: list[Level] = [
        {
            "warehouse_id": row["warehouse_id"],
            "name": row["name"],
            "type": row.get("type", "own"),
            "on_hand": row["on_hand"],
            "reserved": row["reserved"],
            "available": row["available"],
        }
        for row in answer["warehouses"]
    ]
    return {
        "sku": answer["sku"],
        "title": answer["title"],
        "status": answer["status"],
        "levels": levels,
    }


GRAPHQL: Final = Contender(
    name="this service, GraphQL",
    command=_service,
    list50=lambda after: _graphql(LIST50, {"after": after}),
    one=lambda sku: _graphql(ONE, {"sku": sku}),
    set_stock=lambda update: _graphql(
        SET, {"input": {**_graphql_update(update), "idempotencyKey": KEY}}
    ),
    bulk=_graphql_bulk,
    read_list=lambda answer: [_graphql_record(row) for row in answer["data"]["skus"]["nodes"]],
    read_cursor=lambda answer: str(answer["data"]["skus"]["pageInfo"]["endCursor"]),
    reserve=_graphql_reserve,
    read_one=lambda answer: _graphql_record(answer["data"]["sku"]),
    read_set=lambda answer, _warehouse_id: int(answer["data"]["setStock"]["stockLevel"]["onHand"]),
    read_bulk=lambda answer: [
        (row["sku"], row["warehouseId"], row["adjustment"]["afterQuantity"])
        for row in answer["data"]["bulkSetStock"]["results"]
    ],
)
REST: Final = Contender(
    name="this service, REST with total",
    command=GRAPHQL.command,
    list50=_rest_list,
    one=lambda sku: Ask("GET", f"/api/inventory/{sku}", None),
    set_stock=_rest_set,
    bulk=_rest_bulk,
    read_list=lambda answer: [_rest_record(row) for row in answer["data"]],
    read_cursor=lambda answer: str(answer["meta"]["nextCursor"]),
    reserve=lambda line: Ask(
        "POST", "/api/inventory/reservations", {"lines": [_floor_update(line)]}
    ),
    read_one=lambda answer: _rest_record(answer["data"]),
    read_set=lambda answer, warehouse_id: next(
        int(row["on_hand"])
        for row in answer["data"]["warehouses"]
        if row["warehouse_id"] == warehouse_id
    ),
    read_bulk=lambda answer: [
        (row["sku"], row["warehouse_id"], row["after_quantity"]) for row in answer["data"]
    ],
    write_headers={"Idempotency-Key": KEY},
)
GRAPHQL_ON_SQLITE: Final = replace(GRAPHQL, name="this service, GraphQL on SQLite")
REST_ON_SQLITE: Final = replace(REST, name="this service, REST on SQLite")
OURS: Final = (GRAPHQL, REST)
PEERS: Final = (MERCURIUS, POSTGRAPHILE, FASTAPI_SQLMODEL)
