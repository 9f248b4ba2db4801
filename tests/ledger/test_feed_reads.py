"""Pages of the feed: their bounds, their filters, and the positions that lists give."""

from pathlib import Path
from typing import Any, Final

import pytest

from app.database.engine import Database
from app.database.migration import migrate
from app.reads import changes as feed_reads
from app.settings import Settings
from tests.files.moves import add_tokens, exported_to, imported_from
from tests.graphql.operations import bulk_item
from tests.graphql.recorder import recorded
from tests.ledger.feed import assert_followed, follower_of, read_changes
from tests.ledger.writes import ADJUST, BULK, SET, SKU, UPDATE_WAREHOUSE
from tests.service import Service, level, new_tenant, running, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
POSITIONS: Final = """
query {
  skus { feedPosition nodes { adjustments { feedPosition } } }
  adjustments { feedPosition }
  reservations { feedPosition }
  warehouse(id: "%s") { stock { feedPosition } }
  changes(first: 1) { newestPosition }
}
"""
UPDATED: Final = (
    "{ skus(orderBy: UPDATED_DESC) { nodes { sku updatedAt } } sku(sku: %s) { updatedAt } }"
)


@pytest.fixture
async def shop(service: Service) -> Service:
    """Service whose tenant has the changes of ten writes, two of them in OTHER."""
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10), level(OTHER, 5))])
    for number in range(10):
        place = OTHER if number in (3, 8) else MAIN
        content = {"sku": "A", "warehouseId": place.id, "reason": "cycle_count", "delta": 1}
        await service.data(ADJUST, {"input": content})
    return service


def positions_of(page: Any) -> list[int]:
    return [it["position"] for it in page["data"]]


async def test_a_page_ends_at_its_limit(shop: Service) -> None:
    page = await read_changes(shop, 2, limit=3)
    assert positions_of(page) == [3, 4, 5]
    assert page["meta"] == {"limit": 3, "read_to": 5, "newest_position": 10}
    whole = await shop.rest("GET", "/api/inventory/changes")
    assert positions_of(whole.json()) == [*range(1, 11)]


async def test_filters_find_changes_of_a_type_or_a_warehouse(shop: Service) -> None:
    page = await read_changes(shop, 0, warehouse_id=OTHER.id)
    assert (positions_of(page), page["meta"]["read_to"]) == ([4, 9], 10)
    await shop.data(UPDATE_WAREHOUSE, {"input": {"id": OTHER.id, "name": "B"}}, token="admin")
    assert positions_of(await read_changes(shop, 0, types="warehouse_changed")) == [11]
    both = await read_changes(shop, 0, types="warehouse_changed,sku_created", warehouse_id=MAIN.id)
    assert (positions_of(both), both["meta"]["read_to"]) == ([], 11)


async def test_all_warehouses_of_a_filter_are_looked_up_by_one_statement(shop: Service) -> None:
    query = "query ($ids: [ID!]) { changes(warehouseIds: $ids) { readTo } }"
    numbers = []
    for ids in ([MAIN.id], [MAIN.id, OTHER.id]):
        with recorded() as recorder:
            await shop.data(query, {"ids": ids})
        numbers.append(len(recorder))
    assert numbers[0] == numbers[1]


async def test_a_filter_examines_a_bounded_number_of_positions(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_reads, "MOST_EXAMINED", 4)
    position, found, pages = 0, [], 0
    while position < 10:
        page = await read_changes(shop, position, warehouse_id=OTHER.id, limit=1)
        assert position < page["meta"]["read_to"] <= position + 4
        position = page["meta"]["read_to"]
        found += positions_of(page)
        pages += 1
    assert (found, pages) == ([4, 9], 4)


async def test_malformed_parameters_are_refused(shop: Service) -> None:
    for query in (
        *("limit=0", "limit=1001", "limit=x", "after=-1", "after=x", "after=1.0"),
        *("types=", "types=stolen", "types=stock_changed,", "types=STOCK_CHANGED", "warehouse_id="),
        *(f"types={','.join(['stock_changed'] * 300)}", f"after={'9' * 19}", "cursor=x", "first=1"),
    ):
        response = await shop.rest("GET", f"/api/inventory/changes?{query}")
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (422, "VALIDATION_ERROR"), query
        fields = {each["field"].partition(".")[0] for each in error["details"]}
        assert fields == {query.partition("=")[0]}


async def test_a_position_beyond_the_newest_is_gone(shop: Service) -> None:
    for position in (11, 10**17, 10**18 - 1):
        response = await shop.rest("GET", f"/api/inventory/changes?after={position}")
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (410, "CHANGES_GONE")
        assert error["details"] == [{"oldest": 1, "newest": 10}]
    query = "query ($after: Quantity) { changes(after: $after) { readTo } }"
    answer = await shop.graphql(query, {"after": 10**40})
    assert answer["errors"][0]["extensions"]["code"] == "CHANGES_GONE"


async def test_a_graphql_page_has_at_most_200_changes(shop: Service) -> None:
    answer = await shop.graphql("{ changes(first: 201) { readTo } }")
    assert answer["errors"][0]["extensions"]["details"][0]["field"] == "first"
    empty = "{ changes(types: [], warehouseIds: []) { readTo } }"
    details = (await shop.graphql(empty))["errors"][0]["extensions"]["details"]
    assert [each["field"] for each in details] == ["types", "warehouseIds"]


async def test_another_tenant_does_not_move_a_position(shop: Service) -> None:
    other = Service(shop.app, shop.client, shop.database, await new_tenant(shop.database))
    page = await read_changes(other, 0)
    assert page == {"data": [], "meta": {"limit": 1000, "read_to": 0, "newest_position": 0}}
    await other.data(SKU, {"input": {"sku": "A", "title": "A"}}, token="admin")
    assert positions_of(await read_changes(other, 0)) == [1]
    assert (await read_changes(shop, 10))["meta"]["newest_position"] == 10


async def test_every_list_gives_the_position_of_the_feed(shop: Service) -> None:
    data = await shop.data(POSITIONS % MAIN.id)
    assert data == {
        "skus": {"feedPosition": 10, "nodes": [{"adjustments": {"feedPosition": 10}}]},
        "adjustments": {"feedPosition": 10},
        "reservations": {"feedPosition": 10},
        "warehouse": {"stock": {"feedPosition": 10}},
        "changes": {"newestPosition": 10},
    }
    follower = await follower_of(shop)
    updates = [
        bulk_item({"sku": "A", "warehouseId": it.id, "reason": "cycle_count", "quantity": 0})
        for it in (MAIN, OTHER)
    ]
    await shop.data(BULK, {"input": {"updates": updates}})
    await assert_followed(shop, follower)
    assert follower.position == 13


async def test_a_sku_has_the_time_of_its_last_change(shop: Service) -> None:
    await shop.data(SKU, {"input": {"sku": "B", "title": "B"}}, token="admin")
    content = {"sku": "A", "warehouseId": MAIN.id, "reason": "cycle_count", "quantity": 7}
    write = SET.replace("sku { sku", "sku { updatedAt sku")
    written = (await shop.data(write, {"input": content}))["setStock"]["sku"]["updatedAt"]
    data = await shop.data(UPDATED % '"A"')
    times = {it["sku"]: it["updatedAt"] for it in data["skus"]["nodes"]}
    assert times["A"] == data["sku"]["updatedAt"] == written >= times["B"]
    assert (await read_changes(shop, 11))["data"][-1]["created_at"] <= written


async def test_the_feed_of_a_moved_tenant_goes_on_from_its_last_position(
    shop: Service, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    directory = await exported_to(shop, tmp_path / "export")
    target = tmp_path_factory.mktemp("target") / "inventory.db"
    url = f"sqlite+aiosqlite:///{target}"
    database = Database(Settings(database_url=url))
    await migrate(database)
    proof = await imported_from(directory, database)
    assert (proof.changes, proof.adjustments) == (0, 12)
    await add_tokens(database, shop.tenant_id)
    await database.dispose()
    async with running(url) as (app, client):
        moved = Service(app, client, app.state.database, shop.tenant_id)
        assert positions_of(await read_changes(moved, 10)) == []
        gone = await moved.rest("GET", "/api/inventory/changes?after=9")
        assert gone.json()["error"]["details"] == [{"oldest": 11, "newest": 10}]
        content = {"sku": "A", "warehouseId": MAIN.id, "reason": "cycle_count", "delta": 1}
        await moved.data(ADJUST, {"input": content})
        assert positions_of(await read_changes(moved, 10)) == [11]
