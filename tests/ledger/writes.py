"""The same writes through REST and GraphQL, and their ledger entries."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from app.ledger.verification import verify_tenant
from tests.graphql.operations import bulk_item
from tests.service import Service

Json = dict[str, Any]

SET: Final = """
mutation ($input: SetStockInput!) {
  setStock(input: $input) {
    sku { sku version totalOnHand }
    stockLevel { onHand version }
    adjustment { id sequence beforeQuantity afterQuantity reason note }
    replayed
  }
}
"""
ADJUST: Final = SET.replace("SetStockInput", "AdjustStockInput").replace("setStock", "adjustStock")
TRANSFER: Final = """
mutation ($input: TransferStockInput!) {
  transferStock(input: $input) {
    lines {
      outgoing { id sequence beforeQuantity afterQuantity transferId }
      incoming { id sequence beforeQuantity afterQuantity transferId }
      sku { sku version totalOnHand }
    }
    transferId
    replayed
  }
}
"""
BULK: Final = """
mutation ($input: BulkSetStockInput!) {
  bulkSetStock(input: $input) {
    results {
      index status
      adjustment { id sequence beforeQuantity afterQuantity }
      error { code message }
    }
    succeeded failed
    skus { sku version totalOnHand }
    replayed
  }
}
"""

SKU: Final = """
mutation ($input: CreateSkuInput!) {
  createSku(input: $input) { sku { sku title version isArchived } replayed }
}
"""
TITLE: Final = SKU.replace("CreateSkuInput", "UpdateSkuInput").replace("createSku", "updateSku")
ARCHIVE: Final = SKU.replace("CreateSkuInput", "SkuInput").replace("createSku", "archiveSku")
RESTORE: Final = ARCHIVE.replace("archiveSku", "restoreSku")
CREATE_WAREHOUSE: Final = """
mutation ($input: CreateWarehouseInput!) {
  createWarehouse(input: $input) {
    warehouse { id name type address marketplace isActive isReadonly isSellable }
    replayed
  }
}
"""
UPDATE_WAREHOUSE: Final = CREATE_WAREHOUSE.replace("CreateWare", "UpdateWare").replace(
    "createWare", "updateWare"
)
SAFETY: Final = """
mutation ($input: SetSafetyStockInput!) {
  setSafetyStock(input: $input) {
    stockLevels { safetyStock onHand version sku { sku version } }
    skus { sku version }
    replayed
  }
}
"""
REORDER: Final = """
mutation ($input: SetReorderPointsInput!) {
  setReorderPoints(input: $input) {
    stockLevels { reorderPoint onHand version status sku { sku version } }
    skus { sku version reorderPoint status }
    replayed
  }
}
"""
SYNC: Final = """
mutation ($input: SyncStockInput!) {
  syncStock(input: $input) {
    results {
      index code status
      sku { sku version totalOnHand }
      stockLevel { onHand version syncedAt }
      adjustment { sequence beforeQuantity afterQuantity reason }
      error { code }
    }
    replayed
  }
}
"""


@dataclass(frozen=True)
class Answer:
    """Response to a write, the same for REST and GraphQL; `code` is None on success."""

    code: str | None
    body: Json
    replayed: bool


@dataclass(frozen=True)
class Update:
    """A stock level to set, with the names of GraphQL."""

    sku: str
    warehouse_id: str
    quantity: int
    reason: str = "cycle_count"
    note: str | None = None
    expected: int | None = None

    @property
    def rest(self) -> Json:
        """Item of a REST bulk."""
        known = {"note": self.note, "expected_quantity": self.expected}
        return {
            "sku": self.sku,
            "warehouse_id": self.warehouse_id,
            "quantity": self.quantity,
            "reason": self.reason,
            **{name: value for name, value in known.items() if value is not None},
        }

    @property
    def graphql(self) -> Json:
        """GraphQL input."""
        return {
            "sku": self.sku,
            "warehouseId": self.warehouse_id,
            "quantity": self.quantity,
            "reason": self.reason,
            "note": self.note,
            "expectedQuantity": self.expected,
        }


Send = Callable[..., Awaitable[Answer]]


async def rest_set(
    service: Service, update: Update, key: str | None = None, *, token: str = "write"
) -> Answer:
    """Set through REST."""
    body = update.rest
    path = f"/api/inventory/{body.pop('sku')}"
    return _of_rest(await service.rest("PUT", path, token=token, json=body, headers=_header(key)))


async def rest_bulk(
    service: Service, update: Update, key: str | None = None, *, token: str = "write"
) -> Answer:
    """Set through a REST bulk of one item."""
    body = {"updates": [update.rest]}
    headers = _header(key)
    return _of_rest(
        await service.rest("POST", "/api/inventory/bulk", token=token, json=body, headers=headers)
    )


async def graphql_set(
    service: Service, update: Update, key: str | None = None, *, token: str = "write"
) -> Answer:
    """Set through GraphQL."""
    content = {**update.graphql, "idempotencyKey": key}
    return _of_graphql(await service.graphql(SET, {"input": content}, token=token), "setStock")


async def graphql_bulk(
    service: Service, update: Update, key: str | None = None, *, token: str = "write"
) -> Answer:
    """Set through a GraphQL bulk of one item."""
    content = {"updates": [bulk_item(update.graphql)], "idempotencyKey": key}
    answer = await service.graphql(BULK, {"input": content}, token=token)
    return _of_graphql(answer, "bulkSetStock")


WRITES: Final[Mapping[str, Send]] = {
    "REST set": rest_set,
    "REST bulk": rest_bulk,
    "GraphQL set": graphql_set,
    "GraphQL bulk": graphql_bulk,
}


def _header(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def _of_rest(response: httpx.Response) -> Answer:
    body = response.json()
    code = None
    if "error" in body:
        code = body["error"]["code"]
        del body["error"]["request_id"]
    elif etag := response.headers.get("ETag"):
        body["ETag"] = etag
    return Answer(code, body, response.headers.get("Idempotent-Replayed") == "true")


def _of_graphql(answer: Json, name: str) -> Answer:
    if "errors" in answer:
        [error] = answer["errors"]
        del error["extensions"]["request_id"]
        replayed = error["extensions"].pop("replayed", False)
        return Answer(error["extensions"]["code"], answer, replayed)
    replayed = answer["data"][name].pop("replayed")
    return Answer(None, answer, replayed)


async def ledger(service: Service, sku: str) -> list[tuple[int, int, int]]:
    """(sequence, before, after) of every entry of a SKU, oldest first, per warehouse."""
    response = await service.rest("GET", f"/api/inventory/{sku}/adjustments")
    assert response.status_code == 200, response.text
    data = await service.data(
        "query ($sku: String!) { sku(sku: $sku) { adjustments(first: 200) { nodes "
        "{ sequence beforeQuantity afterQuantity warehouse { id } } } } }",
        {"sku": sku},
    )
    nodes = data["sku"]["adjustments"]["nodes"]
    assert len(nodes) == len(response.json()["data"])
    result = [
        (it["warehouse"]["id"], it["sequence"], it["beforeQuantity"], it["afterQuantity"])
        for it in nodes
    ]
    return [entry[1:] for entry in sorted(result)]


async def assert_proven(service: Service) -> None:
    """Assert that every derived figure of the tenant matches its ledger."""
    await verify_tenant(service.database, service.tenant_id)


def entries(*quantities: int) -> Sequence[tuple[int, int, int]]:
    """Ledger of a level that was set to these quantities in order, starting at 0."""
    steps = zip([0, *quantities], quantities, strict=False)
    return [(number, before, after) for number, (before, after) in enumerate(steps, start=1)]
