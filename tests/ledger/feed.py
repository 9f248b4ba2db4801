"""A follower of the feed, which builds the state of a tenant from its changes alone."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.service import Service

Json = dict[str, Any]
# The values of a stock level before its first change, if it is new.
NO_STOCK: Final[Json] = {}
STATE: Final = """
query ($skus: String, $reservations: String) {
  skus(first: 200, after: $skus, filter: {archived: null}) {
    pageInfo { hasNextPage endCursor }
    nodes {
      sku title isArchived status
      stock {
        onHand reserved safetyStock reorderPoint available status version warehouse { id }
      }
    }
  }
  warehouses { id name type address marketplace isActive isSellable }
  reservations(first: 100, after: $reservations) {
    pageInfo { hasNextPage endCursor }
    nodes { id status expiresAt version }
  }
  changes(first: 1) { newestPosition }
}
"""
GRAPHQL_NAMES: Final = {
    "onHand": "on_hand",
    "safetyStock": "safety_stock",
    "reorderPoint": "reorder_point",
    "isArchived": "is_archived",
    "isActive": "is_active",
    "isSellable": "is_sellable",
    "expiresAt": "expires_at",
}
WAREHOUSE_TYPES: Final = {"OWN": "own", "THIRD_PARTY": "3PL", "FBA": "FBA", "FBS": "FBS"}


class FeedBroken(Exception):
    """A change is missing, doubled, out of order, or does not fit the ones before it."""


class Unanswered(Exception):
    """The service could not answer a request."""


@dataclass
class FeedState:
    """The objects of a tenant by id, and their values with the names of REST."""

    levels: dict[tuple[str, str], Json] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    skus: dict[str, Json] = field(default_factory=dict)
    warehouses: dict[str, Json] = field(default_factory=dict)
    reservations: dict[str, Json] = field(default_factory=dict)


@dataclass
class Follower:
    """Applies changes in their order; each must begin where the one before it ended."""

    state: FeedState = field(default_factory=FeedState)
    position: int = 0
    # The ids of the adjustments of the changes, in order.
    adjustments: list[str] = field(default_factory=list)

    def apply(self, change: Json) -> None:
        """Apply a change as REST renders it.

        Raises:
            FeedBroken: the change does not follow the last one.

        """
        if change["position"] != self.position + 1:
            message = f"{change['position']} follows {self.position}"
            raise FeedBroken(message)
        self.position = change["position"]
        kind, _, what = change["type"].partition("_")
        before, after = change.get("before"), change["after"]
        objects: dict[Any, Any]
        key: Any
        if change["type"] == "stock_changed":
            objects, key = self.state.levels, (change["sku"], change["warehouse_id"])
        elif change["type"] == "status_changed":
            objects, key = self.state.statuses, change["sku"]
            before, after = before and before["status"], after["status"]
        elif kind == "sku":
            objects, key = self.state.skus, change["sku"]
            # The version also counts changes of the stock of the SKU.
            before, after = ({**it, "version": 0} if it else None for it in (before, after))
        elif kind == "warehouse":
            objects, key = self.state.warehouses, change["warehouse_id"]
        else:
            objects, key = self.state.reservations, change["reservation_id"]
        known = objects.get(key)
        if known != before or before == after:
            message = f"{change} follows {known}"
            raise FeedBroken(message)
        if (what in ("created", "opened")) is not (before is None) and kind != "stock":
            message = f"{change} has another type"
            raise FeedBroken(message)
        objects[key] = after
        if change["type"] == "sku_created":
            self.state.statuses[key] = "out_of_stock"
        if "adjustment_id" in change:
            self.adjustments.append(change["adjustment_id"])

    async def follow(self, read: Callable[[int], Awaitable[Json]]) -> None:
        """Read pages of the feed after the last position until the newest one."""
        while True:
            page = await read(self.position)
            for change in page["data"]:
                self.apply(change)
            if page["meta"]["read_to"] != self.position:
                message = f"the page was read to {page['meta']}, and ends at {self.position}"
                raise FeedBroken(message)
            if self.position == page["meta"]["newest_position"]:
                return


async def follower_of(service: Service) -> Follower:
    """Return a follower that has read the lists, and follows from their position."""
    state, position = await listed(service)
    return Follower(state, position)


async def listed(service: Service) -> tuple[FeedState, int]:
    """Read the state of a tenant from its lists, and the position of the feed.

    The lists are read again if the tenant has changed between two of their pages.
    """
    while True:
        state, positions = await _pages(service)
        if len(set(positions)) == 1:
            return state, positions[0]


async def _pages(service: Service) -> tuple[FeedState, list[int]]:
    """Read all pages of the lists, and the position of the feed with each."""
    state, positions = FeedState(), list[int]()
    cursors: dict[str, str | None] = {"skus": None, "reservations": None}
    has_next = True
    while has_next:
        data = await service.data(STATE, cursors)
        _add_lists(state, data)
        positions.append(data["changes"]["newestPosition"])
        pages = {name: data[name]["pageInfo"] for name in cursors}
        cursors = {name: page["endCursor"] or cursors[name] for name, page in pages.items()}
        has_next = any(page["hasNextPage"] for page in pages.values())
    return state, positions


def _add_lists(state: FeedState, data: Json) -> None:
    for record in data["skus"]["nodes"]:
        code = record["sku"]
        state.skus[code] = {
            "title": record["title"],
            "is_archived": record["isArchived"],
            "version": 0,
        }
        state.statuses[code] = record["status"].lower()
        for level in record["stock"]:
            warehouse_id = level.pop("warehouse")["id"]
            values = {**level, "status": level["status"].lower()}
            state.levels[code, warehouse_id] = _rest_values(values)
    for record in data["warehouses"]:
        values = {**record, "type": WAREHOUSE_TYPES[record["type"]]}
        id_ = values.pop("id")
        state.warehouses[id_] = _rest_values(values)
    for record in data["reservations"]["nodes"]:
        values = {**record, "reservation_status": record["status"].lower()}
        del values["status"]
        id_ = values.pop("id")
        state.reservations[id_] = _rest_values(values)


def _rest_values(values: Mapping[str, Any]) -> Json:
    return {
        GRAPHQL_NAMES.get(name, name): value for name, value in values.items() if value is not None
    }


async def read_changes(service: Service, after: int, **query: object) -> Json:
    """Read a page of the feed by REST.

    Raises:
        Unanswered: the service could not answer.

    """
    parameters: Any = {"after": after, "limit": 1000, **query}
    response = await service.rest("GET", "/api/inventory/changes", params=parameters, token="read")
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Unanswered
    assert response.status_code == 200, response.text
    body: Json = response.json()
    return body


async def assert_followed(service: Service, follower: Follower) -> None:
    """Follow to the newest change, and compare the state of the follower with the lists."""
    state, position = await listed(service)
    await follower.follow(lambda after: read_changes(service, after))
    while follower.position != position:
        # A reservation has expired.
        state, position = await listed(service)
        await follower.follow(lambda after: read_changes(service, after))
    for name, objects in vars(state).items():
        followed = vars(follower.state)[name]
        assert followed == objects, f"{name}: {followed} is not {objects}"
