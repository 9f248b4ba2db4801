"""GraphQL documents of the lists, and a service with the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tests.graphql.answers import Json, page_of
from tests.graphql.model import Catalogue, Entry
from tests.service import EMAIL, Service

RECORD: Final = (
    "id sku title totalOnHand totalReserved totalAvailable safetyStock reorderPoint "
    "status stock { id onHand reserved safetyStock reorderPoint available status version "
    "warehouse { id } }"
)
LEVEL: Final = "code title onHand status sku { sku title } warehouse { id }"
ENTRY: Final = (
    "id position sequence beforeQuantity afterQuantity delta reason note createdBy createdAt "
    "sku { sku } warehouse { id }"
)
SKUS: Final = (
    "query ($first: Int!, $after: String, $filter: SkuFilterInput, $order: SkuOrder! = SKU_ASC) "
    "{ skus(first: $first, after: $after, filter: $filter, orderBy: $order) "
    f"{{ {page_of(RECORD)} }} }}"
)
LEVELS: Final = (
    "query ($id: ID!, $first: Int!, $after: String, $filter: StockLevelFilterInput, "
    "$order: StockLevelOrder! = SKU_ASC) { warehouse(id: $id) { "
    "stock(first: $first, after: $after, filter: $filter, orderBy: $order) "
    f"{{ {page_of(LEVEL)} }} }} }}"
)
LEDGER: Final = (
    "query ($first: Int!, $after: String, $filter: LedgerFilterInput) { "
    f"adjustments(first: $first, after: $after, filter: $filter) {{ {page_of(ENTRY)} }} }}"
)
SKU_LEDGER: Final = (
    "query ($sku: String!, $first: Int!, $after: String, $filter: AdjustmentFilterInput) { "
    "sku(sku: $sku) { "
    f"adjustments(first: $first, after: $after, filter: $filter) {{ {page_of(ENTRY)} }} }} }}"
)
LEVEL_LEDGER: Final = (
    "query ($id: ID!, $first: Int!, $after: String, $filter: AdjustmentFilterInput) { "
    "node(id: $id) { ... on StockLevel { "
    f"adjustments(first: $first, after: $after, filter: $filter) {{ {page_of(ENTRY)} }} }} }} }}"
)
PERIODS: Final[list[tuple[Mapping[str, str], tuple[datetime | None, datetime | None]]]] = [
    ({}, (None, None)),
    ({"startDate": "2026-03-11"}, (datetime(2026, 3, 11, tzinfo=UTC), None)),
    ({"endDate": "2026-03-10"}, (None, datetime(2026, 3, 11, tzinfo=UTC))),
    (
        {"startDate": "2026-03-10T06:28:00Z", "endDate": "2026-03-11T02:00:00+02:00"},
        (
            datetime(2026, 3, 10, 6, 28, tzinfo=UTC),
            datetime(2026, 3, 11, 0, 0, 0, 1000, tzinfo=UTC),
        ),
    ),
]


@dataclass(frozen=True)
class Stocked:
    """A service whose tenant has a catalogue."""

    service: Service
    model: Catalogue


def as_entry(node: Json) -> Entry:
    """Check the form of an adjustment of a response and build its entry."""
    assert node["delta"] == node["afterQuantity"] - node["beforeQuantity"]
    assert node["createdBy"] == EMAIL
    assert node["id"].startswith("adj_")
    assert len(node["createdAt"]) == len("2026-03-12T14:00:00.000Z")
    return Entry(
        node["sku"]["sku"],
        node["warehouse"]["id"],
        node["sequence"],
        node["beforeQuantity"],
        node["afterQuantity"],
        node["reason"],
        node["note"],
        datetime.fromisoformat(node["createdAt"]),
    )
