"""The queries that GraphiQL opens with."""

from typing import Final

from app.demo import FBA_EU, WAREHOUSE_A
from app.pages import Tab

TABS: Final = (
    Tab(
        query="""
# SKUs with their stock in every warehouse, page by page. Press the play button.
query Stock($first: Int! = 10, $filter: SkuFilterInput) {
  skus(first: $first, filter: $filter) {
    totalCount
    pageInfo {
      hasNextPage
      endCursor
    }
    nodes {
      sku
      title
      status
      totalOnHand
      totalReserved
      totalAvailable
      stock {
        onHand
        available
        warehouse {
          name
          type
        }
      }
    }
  }
}
""",
        variables={"first": 10, "filter": {"status": "NORMAL"}},
    ),
    Tab(
        query="""
# One SKU and its ledger, newest first.
query History($sku: String!) {
  sku(sku: $sku) {
    title
    totalOnHand
    adjustments(first: 20) {
      totalCount
      nodes {
        createdAt
        warehouse {
          name
        }
        beforeQuantity
        delta
        afterQuantity
        reason
        note
        createdBy
      }
    }
  }
}
""",
        variables={"sku": "SKU-001"},
    ),
    Tab(
        query="""
# What was on hand day by day, ready for a chart, and what came and went in all.
query Chart($sku: String!, $from: DateOrDateTime!, $to: DateOrDateTime!) {
  sku(sku: $sku) {
    title
    stockHistory(from: $from, to: $to, interval: DAY) {
      start
      opening
      increase
      decrease
      closing
    }
    adjustments(first: 5, filter: {startDate: $from, endDate: $to, sign: DECREASE}) {
      totals {
        entries
        decrease
      }
      nodes {
        createdAt
        delta
        reason
      }
    }
  }
}
""",
        variables={"sku": "SKU-001", "from": "2026-03-01", "to": "2026-03-14"},
    ),
    Tab(
        query="""
# What each warehouse is about to run out of.
query Warehouses {
  warehouses {
    id
    name
    type
    isReadonly
    critical: stock(first: 5, status: CRITICAL) {
      totalCount
      nodes {
        onHand
        reserved
        safetyStock
        sku {
          sku
          title
        }
      }
    }
  }
}
""",
    ),
    Tab(
        query="""
# A count: it needs the scope inventory:write. The tab Warehouses has the ids.
mutation Count($input: SetStockInput!) {
  setStock(input: $input) {
    sku {
      totalOnHand
      status
    }
    adjustment {
      id
      beforeQuantity
      afterQuantity
      delta
    }
  }
}
""",
        variables={
            "input": {
                "sku": "SKU-002",
                "warehouseId": WAREHOUSE_A,
                "quantity": 120,
                "reason": "cycle_count",
                "note": "Counted twice",
            }
        },
    ),
    Tab(
        query="""
# Stock that is held for an order: it needs the scope inventory:write. Commit or release it, or let
# it expire by itself.
mutation Reserve($input: ReserveStockInput!) {
  reserveStock(input: $input) {
    reservation {
      id
      status
      reference
      expiresAt
      lines {
        held
      }
    }
    skus {
      sku
      totalReserved
      totalAvailable
    }
  }
}
""",
        variables={
            "input": {
                "lines": [{"sku": "SKU-001", "warehouseId": WAREHOUSE_A, "quantity": 2}],
                "reference": "order-1001",
                "expiresIn": 600,
            }
        },
    ),
    Tab(
        query="""
# Who holds what of each stock level, and what was there on a day.
query Holds($sku: String!, $day: DateOrDateTime!) {
  sku(sku: $sku) {
    stockAsOf(at: $day) {
      totalOnHand
    }
    stock {
      warehouse {
        name
      }
      onHand
      reserved
      available
      reservations(first: 5) {
        totalCount
        nodes {
          held
          reservation {
            reference
            createdBy
            expiresAt
          }
        }
      }
    }
  }
}
""",
        variables={"sku": "SKU-001", "day": "2026-03-12"},
    ),
    Tab(
        query="""
# What a marketplace reports of its warehouse: it needs the scope inventory:admin.
mutation Sync($input: SyncStockInput!) {
  syncStock(input: $input) {
    updated
    unchanged
    results {
      code
      status
      stockLevel {
        onHand
        syncedAt
      }
      adjustment {
        delta
        reason
      }
    }
  }
}
""",
        variables={
            "input": {
                "warehouseId": FBA_EU,
                "reportedAt": "2026-03-14T12:00:00Z",
                "levels": [{"sku": "SKU-002", "onHand": 40}],
                "dryRun": True,
            }
        },
    ),
)
