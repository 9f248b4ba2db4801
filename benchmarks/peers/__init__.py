"""The peers: other stacks that do the same work on the same tables."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from benchmarks.data import TENANT
from benchmarks.peers.contender import Ask, Contender, Level, Record, Update
from benchmarks.peers.node import HERE, command, data, graphql, install, version

REASON: Final = "cycle_count"

# PostGraphile returns the columns of the tables: the safety stock instead of `available`, the
# stored status, and no totals, so it has less work. 64-bit numbers are strings.
_POSTGRAPHILE_FIELDS: Final = """
sku title status
stockLevelsByTenantIdAndSkuList(orderBy: WAREHOUSE_ID_ASC) {
  onHand reserved safetyStock
  warehouseByTenantIdAndWarehouseId { rowId name type }
}
"""
_POSTGRAPHILE_LIST50: Final = f"""
query ($tenant: String!, $after: String!) {{
  skusAfterList(tenant: $tenant, code: $after, first: 50) {{ {_POSTGRAPHILE_FIELDS} }}
}}
"""
_POSTGRAPHILE_ONE: Final = f"""
query ($tenant: String!, $sku: String!) {{
  skuByTenantIdAndSku(tenantId: $tenant, sku: $sku) {{ {_POSTGRAPHILE_FIELDS} }}
}}
"""
_POSTGRAPHILE_SET: Final = """
mutation ($input: SetStockInput!) { setStock(input: $input) { result { sku status onHand } } }
"""
_POSTGRAPHILE_BULK: Final = """
mutation ($input: BulkSetStockInput!) {
  bulkSetStock(input: $input) { result { sku warehouseId before after adjustmentId } }
}
"""


def _postgraphile_set(update: Update) -> Ask:
    return graphql(
        _POSTGRAPHILE_SET,
        input={
            "tenant": TENANT,
            "code": update.sku,
            "place": update.warehouse_id,
            "quantity": update.quantity,
            "reason": REASON,
        },
    )


def _postgraphile_bulk(updates: Sequence[Update]) -> Ask:
    return graphql(
        _POSTGRAPHILE_BULK,
        input={
            "tenant": TENANT,
            "codes": [update.sku for update in updates],
            "places": [update.warehouse_id for update in updates],
            "quantities": [update.quantity for update in updates],
            "reason": REASON,
        },
    )


def _postgraphile_record(answer: Mapping[str, Any]) -> Record:
    return {
        "sku": answer["sku"],
        "title": answer["title"],
        "status": answer["status"],
        "levels": [_postgraphile_level(row) for row in answer["stockLevelsByTenantIdAndSkuList"]],
    }


def _postgraphile_level(answer: Mapping[str, Any]) -> Level:
    warehouse = answer["warehouseByTenantIdAndWarehouseId"]
    on_hand, reserved = int(answer["onHand"]), int(answer["reserved"])
    return {
        "warehouse_id": warehouse["rowId"],
        "name": warehouse["name"],
        "type": warehouse["type"],
        "on_hand": on_hand,
        "reserved": reserved,
        "available": on_hand - reserved - int(answer["safetyStock"]),
    }


POSTGRAPHILE: Final = Contender(
    name=f"PostGraphile {version('postgraphile', 'postgraphile')}",
    command=partial(command, "postgraphile"),
    list50=lambda after: graphql(_POSTGRAPHILE_LIST50, tenant=TENANT, after=after or ""),
    one=lambda sku: graphql(_POSTGRAPHILE_ONE, tenant=TENANT, sku=sku),
    set_stock=_postgraphile_set,
    bulk=_postgraphile_bulk,
    read_list=lambda answer: [_postgraphile_record(row) for row in data(answer)["skusAfterList"]],
    read_cursor=lambda answer: str(data(answer)["skusAfterList"][-1]["sku"]),
    read_one=lambda answer: _postgraphile_record(data(answer)["skuByTenantIdAndSku"]),
    read_set=lambda answer, _warehouse_id: int(data(answer)["setStock"]["result"]["onHand"]),
    read_bulk=lambda answer: [
        (row["sku"], row["warehouseId"], int(row["after"]))
        for row in data(answer)["bulkSetStock"]["result"]
    ],
    prepare=partial(install, "postgraphile"),
    setup_sql=(HERE / "postgraphile" / "setup.sql").read_text(encoding="utf-8"),
)

_MERCURIUS_FIELDS: Final = """
sku title status totalOnHand totalReserved totalAvailable safetyStock
stock { onHand reserved available warehouse { id name type } }
"""
_MERCURIUS_LIST50: Final = f"""
query ($after: String!) {{ skus(first: 50, after: $after) {{ {_MERCURIUS_FIELDS} }} }}
"""
_MERCURIUS_ONE: Final = f"query ($sku: String!) {{ sku(sku: $sku) {{ {_MERCURIUS_FIELDS} }} }}"
_MERCURIUS_SET: Final = """
mutation ($update: StockUpdate!) { setStock(update: $update) { sku status onHand } }
"""
_MERCURIUS_BULK: Final = """
mutation ($updates: [StockUpdate!]!) {
  bulkSetStock(updates: $updates) { sku warehouseId before after adjustmentId }
}
"""


def _mercurius_update(update: Update) -> dict[str, object]:
    return {
        "sku": update.sku,
        "warehouseId": update.warehouse_id,
        "quantity": update.quantity,
        "reason": REASON,
    }


def _mercurius_record(answer: Mapping[str, Any]) -> Record:
    return {
        "sku": answer["sku"],
        "title": answer["title"],
        "status": answer["status"],
        "levels": [
            {
                "warehouse_id": row["warehouse"]["id"],
                "name": row["warehouse"]["name"],
                "type": row["warehouse"]["type"],
                "on_hand": row["onHand"],
                "reserved": row["reserved"],
                "available": row["available"],
            }
            for row in answer["stock"]
        ],
    }


MERCURIUS: Final = Contender(
    name=f"Mercurius {version('mercurius', 'mercurius')}, jit, postgres.js",
    command=partial(command, "mercurius"),
    list50=lambda after: graphql(_MERCURIUS_LIST50, after=after or ""),
    one=lambda sku: graphql(_MERCURIUS_ONE, sku=sku),
    set_stock=lambda update: graphql(_MERCURIUS_SET, update=_mercurius_update(update)),
    bulk=lambda updates: graphql(
        _MERCURIUS_BULK, updates=[_mercurius_update(update) for update in updates]
    ),
    read_list=lambda answer: [_mercurius_record(row) for row in data(answer)["skus"]],
    read_cursor=lambda answer: str(data(answer)["skus"][-1]["sku"]),
    read_one=lambda answer: _mercurius_record(data(answer)["sku"]),
    read_set=lambda answer, _warehouse_id: int(data(answer)["setStock"]["onHand"]),
    read_bulk=lambda answer: [
        (row["sku"], row["warehouseId"], int(row["after"])) for row in data(answer)["bulkSetStock"]
    ],
    prepare=partial(install, "mercurius"),
)


def _fastapi() -> list[str]:
    words = "fastapi_sqlmodel:app --port {port} --workers {workers} --loop uvloop --http httptools"
    quiet = "--no-access-log --log-level warning"
    # Not imported as part of this package: its tables have the same names as those of the service.
    directory = ["--app-dir", str(HERE)]
    return [sys.executable, "-m", "uvicorn", *directory, *words.split(), *quiet.split()]


def _fastapi_update(update: Update) -> dict[str, object]:
    return {
        "warehouse_id": update.warehouse_id,
        "quantity": update.quantity,
        "reason": REASON,
    }


def _fastapi_record(answer: Mapping[str, Any]) -> Record:
    return {
        "sku": answer["sku"],
        "title": answer["title"],
        "status": answer["status"],
        "levels": [
            {
                "warehouse_id": row["warehouse"]["id"],
                "name": row["warehouse"]["name"],
                "type": row["warehouse"]["type"],
                "on_hand": row["on_hand"],
                "reserved": row["reserved"],
                "available": row["available"],
            }
            for row in answer["stock"]
        ],
    }


FASTAPI_SQLMODEL: Final = Contender(
    name="FastAPI + SQLModel, idiomatic",
    command=_fastapi,
    list50=lambda after: Ask("GET", f"/inventory?limit=50&after={after or ''}", None),
    one=lambda sku: Ask("GET", f"/inventory/{sku}", None),
    set_stock=lambda update: Ask("PUT", f"/inventory/{update.sku}", _fastapi_update(update)),
    bulk=lambda updates: Ask(
        "POST",
        "/inventory/bulk",
        [{**_fastapi_update(update), "sku": update.sku} for update in updates],
    ),
    read_list=lambda answer: [_fastapi_record(row) for row in answer],
    read_cursor=lambda answer: str(answer[-1]["sku"]),
    read_one=_fastapi_record,
    read_set=lambda answer, warehouse_id: next(
        int(row["on_hand"]) for row in answer["stock"] if row["warehouse"]["id"] == warehouse_id
    ),
    read_bulk=lambda answer: [(row["sku"], row["warehouse_id"], row["after"]) for row in answer],
)
