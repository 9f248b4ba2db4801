"""GraphQL documents of the cases that REST requests must equal."""

from typing import Final

SKUS: Final = (
    "query ($first: Int! = 50, $after: String, $filter: SkuFilterInput) "
    "{ skus(first: $first, after: $after, filter: $filter) { nodes { sku } } }"
)
# The list of one warehouse, which REST has at the same path.
LEVELS: Final = (
    "query ($id: ID!, $first: Int! = 50, $after: String, $filter: StockLevelFilterInput) "
    "{ warehouse(id: $id) { stock(first: $first, after: $after, filter: $filter) "
    "{ nodes { code } } } }"
)
SKU: Final = "query ($sku: String!) { sku(sku: $sku) { sku } }"
WAREHOUSES: Final = "{ warehouses { id } }"
LEDGER: Final = (
    "query ($first: Int! = 50, $after: String, $filter: LedgerFilterInput) "
    "{ adjustments(first: $first, after: $after, filter: $filter) { nodes { id } } }"
)
CHANGES: Final = (
    "query ($limit: Int! = 50, $after: Quantity, $types: [ChangeType!], $warehouseIds: [ID!]) "
    "{ changes(first: $limit, after: $after, types: $types, warehouseIds: $warehouseIds) "
    "{ nodes { position } readTo } }"
)
SET: Final = "mutation ($input: SetStockInput!) { setStock(input: $input) { sku { sku } } }"
BULK: Final = (
    "mutation ($input: BulkSetStockInput!) { bulkSetStock(input: $input) { total failed } }"
)
ADJUST: Final = SET.replace("SetStockInput", "AdjustStockInput").replace("setStock", "adjustStock")
RESERVE: Final = (
    "mutation ($input: ReserveStockInput!) { reserveStock(input: $input) { replayed } }"
)
RESERVATION: Final = "query ($id: ID!) { reservation(id: $id) { id } }"
RELEASE: Final = (
    "mutation ($input: ReleaseReservationInput!) { releaseReservation(input: $input) { replayed } }"
)
AMEND: Final = (
    "mutation ($input: AmendReservationInput!) { amendReservation(input: $input) { replayed } }"
)
EXTEND: Final = (
    "mutation ($input: ExtendReservationInput!) { extendReservation(input: $input) { replayed } }"
)
