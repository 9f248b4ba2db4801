"""Stock in a warehouse that is not sellable or inactive: on hand, and not for sale."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.files.columns import FileKind
from app.ledger.repair import repair_tenant
from app.runtime.batches import MAX_BATCH_SIZE, Batches
from app.runtime.deadlines import NO_DEADLINE, Limit, current_limit
from app.writes import stock_for_sale
from app.writes.catalogue import update_warehouse
from app.writes.stock import change_stock
from app.writes.tenants import update_permissions
from tests.engines import transact
from tests.files.importing import imported
from tests.ledger.feed import assert_followed, follower_of, read_changes
from tests.ledger.lane import adding, caller, codes_of, context, together
from tests.ledger.reservations import (
    COMMIT,
    MAIN,
    MARKET,
    OTHER,
    RELEASE,
    RESERVE,
    line,
    refusal,
    reserve,
)
from tests.ledger.test_order_reservations import AMEND
from tests.ledger.writes import (
    ADJUST,
    CREATE_WAREHOUSE,
    SET,
    SYNC,
    TRANSFER,
    UPDATE_WAREHOUSE,
    assert_proven,
)
from tests.service import Service, level, new_tenant, sku

TURNS: Final = ("isSellable", "isActive")
FIGURES: Final = """
{
  skus(orderBy: AVAILABLE_ASC) {
    totalCount
    nodes {
      sku totalOnHand totalReserved totalAvailable safetyStock status
      stock { onHand reserved safetyStock available status warehouse { name } }
    }
  }
  normal: skus(filter: {status: NORMAL}) { totalCount nodes { sku } }
  out: skus(filter: {status: OUT_OF_STOCK}) { totalCount nodes { sku } }
  warehouses { name normal: stock(filter: {status: NORMAL}) { totalCount nodes { sku { sku } } } }
}
"""


@pytest.fixture
async def shop(service: Service) -> Service:
    """Service whose SKU A has 10 and 50 in two warehouses, and SKU B 20 in the first."""
    a = sku("A", level(MAIN, 10, reserved=1, safety_stock=2), level(OTHER, 50))
    await service.load([MAIN, OTHER, MARKET], [a, sku("B", level(MAIN, 20)), sku("C")])
    return service


async def turn(
    service: Service, changes: Mapping[str, object], warehouse_id: str = MAIN.id
) -> dict[str, Any]:
    """Change a warehouse, and return the payload."""
    content = {"input": {"id": warehouse_id, **changes}}
    [payload] = (await service.data(UPDATE_WAREHOUSE, content, token="admin")).values()
    result: dict[str, Any] = payload
    return result


@pytest.mark.parametrize("name", TURNS)
async def test_stock_that_is_not_for_sale_is_on_hand_alone(shop: Service, name: str) -> None:
    before = await shop.data(FIGURES)
    await turn(shop, {name: False})

    data = await shop.data(FIGURES)
    b, _, a = data["skus"]["nodes"]
    totals = ("totalOnHand", "totalReserved", "totalAvailable", "safetyStock", "status")
    assert [a[each] for each in totals] == [60, 1, 50, 2, "NORMAL"]
    assert [b[each] for each in totals] == [20, 0, 0, 0, "OUT_OF_STOCK"]
    [closed] = (each for each in a["stock"] if each["warehouse"]["name"] == MAIN.name)
    kept = {"onHand": 10, "reserved": 1, "safetyStock": 2}
    shown = {"available": 0, "status": "OUT_OF_STOCK", "warehouse": {"name": MAIN.name}}
    assert closed == {**kept, **shown}
    assert data["normal"] == {"totalCount": 1, "nodes": [{"sku": "A"}]}
    assert data["out"] == {"totalCount": 2, "nodes": [{"sku": "B"}, {"sku": "C"}]}
    counts = {each["name"]: each["normal"]["totalCount"] for each in data["warehouses"]}
    assert counts == {MAIN.name: 0, OTHER.name: 1, MARKET.name: 0}
    await assert_proven(shop)

    await turn(shop, {name: True})
    assert await shop.data(FIGURES) == before
    await assert_proven(shop)


@pytest.mark.parametrize("name", TURNS)
async def test_rest_shows_the_same_as_graphql(shop: Service, name: str) -> None:
    tag = (await shop.rest("GET", "/api/inventory/B")).headers["etag"]
    await turn(shop, {name: False})

    response = await shop.rest("GET", "/api/inventory/B", headers={"If-None-Match": tag})
    record = response.json()["data"]
    quantities = {"on_hand": 20, "reserved": 0, "available": 0}
    assert record["warehouses"] == [{"warehouse_id": MAIN.id, "name": MAIN.name, **quantities}]
    assert (record["total_on_hand"], record["total_available"]) == (20, 0)
    assert record["status"] == "out_of_stock"
    query = {"warehouse_id": MAIN.id, "status": "out_of_stock"}
    narrowed = (await shop.rest("GET", "/api/inventory", params=query)).json()
    assert [(each["sku"], each["total_available"]) for each in narrowed["data"]] == [
        ("A", 0),
        ("B", 0),
    ]
    assert narrowed["meta"]["total"] == 2
    warehouses = (await shop.rest("GET", "/api/inventory/warehouses")).json()["data"]
    expected = {"isSellable": [True, False], "isActive": [False, None]}[name]
    [main] = (each for each in warehouses if each["id"] == MAIN.id)
    assert [main["is_active"], main.get("is_sellable")] == expected
    assert all("is_sellable" not in each for each in warehouses if each["id"] != MAIN.id)


async def test_both_conditions_must_hold(shop: Service) -> None:
    steps: Sequence[tuple[dict[str, object], int]] = [
        ({"isSellable": False}, 0),
        ({"isActive": False}, 0),
        ({"isSellable": True}, 0),
        ({"isActive": True, "isSellable": False}, 0),
        ({"isSellable": True}, 20),
        ({"isActive": False, "isSellable": True}, 0),
    ]
    for changes, available in steps:
        await turn(shop, changes)
        data = await shop.data('{ sku(sku: "B") { totalAvailable } }')
        assert data["sku"]["totalAvailable"] == available
        await assert_proven(shop)


async def test_a_new_warehouse_can_be_for_goods_that_are_not_for_sale(shop: Service) -> None:
    content = {"name": "Returns", "type": "OWN", "isSellable": False}
    data = await shop.data(CREATE_WAREHOUSE, {"input": content}, token="admin")
    made = data["createWarehouse"]["warehouse"]
    assert (made["isActive"], made["isSellable"]) == (True, False)

    entry = {"sku": "C", "warehouseId": made["id"], "reason": "customer_return"}
    await shop.data(ADJUST, {"input": {**entry, "delta": 3}})
    await shop.data(SET, {"input": {**entry, "quantity": 4}})
    moved = {"fromWarehouseId": OTHER.id, "toWarehouseId": made["id"]}
    await shop.data(TRANSFER, {"input": {**moved, "lines": [{"sku": "A", "quantity": 5}]}})
    await turn(shop, {"isSellable": False}, MARKET.id)
    report = {"warehouseId": MARKET.id, "reportedAt": "2026-01-01T00:00:00Z"}
    levels = [{"sku": "C", "onHand": 8}]
    await shop.data(SYNC, {"input": {**report, "levels": levels}}, token="admin")

    data = await shop.data("{ skus { nodes { totalOnHand totalAvailable status } } }")
    figures = [tuple(each.values()) for each in data["skus"]["nodes"]]
    assert figures == [(60, 52, "NORMAL"), (20, 20, "NORMAL"), (12, 0, "OUT_OF_STOCK")]
    await assert_proven(shop)


async def test_nothing_is_reserved_of_stock_that_is_not_for_sale(shop: Service) -> None:
    await update_permissions(shop.database, shop.tenant_id, oversell=True)
    await turn(shop, {"isSellable": False})
    for more in ({}, {"allowOversell": True}):
        error = await refusal(shop, RESERVE, lines=[line("B", 1)], **more)
        assert (error["code"], error["status"]) == ("WAREHOUSE_NOT_SELLABLE", 422)
    several = {"sku": "A", "warehouseIds": [MAIN.id, OTHER.id]}
    error = await refusal(shop, RESERVE, lines=[{**several, "quantity": 51}])
    assert error["code"] == "INSUFFICIENT_STOCK"
    held = await reserve(shop, {**several, "quantity": 12, "split": True})
    assert [each["warehouse"]["id"] for each in held["lines"]] == [OTHER.id]
    oversold = await reserve(shop, {**several, "quantity": 99}, allowOversell=True)
    assert [each["warehouse"]["id"] for each in oversold["lines"]] == [OTHER.id]
    response = await shop.rest(
        "POST",
        "/api/inventory/reservations",
        json={"lines": [{"sku": "B", "warehouse_id": MAIN.id, "quantity": 1}]},
    )
    assert response.json()["error"]["code"] == "WAREHOUSE_NOT_SELLABLE"
    await turn(shop, {"isActive": False})
    assert (await refusal(shop, RESERVE, lines=[line("B", 1)]))["code"] == "WAREHOUSE_INACTIVE"
    await assert_proven(shop)


async def test_reservations_that_are_open_stay_and_can_end(shop: Service) -> None:
    one, two = [await reserve(shop, line("B", 5)) for _ in "ab"]
    await turn(shop, {"isSellable": False})
    data = await shop.data('{ sku(sku: "B") { totalReserved totalAvailable } }')
    assert data["sku"] == {"totalReserved": 10, "totalAvailable": 0}

    error = await refusal(shop, AMEND, id=one["id"], lines=[line("B", 6)])
    assert error["code"] == "WAREHOUSE_NOT_SELLABLE"
    await shop.data(AMEND, {"input": {"id": one["id"], "lines": [line("B", 4)]}})
    commit = {"id": one["id"], "lines": [line("B", 1)], "keepRest": True}
    await shop.data(COMMIT, {"input": commit})
    await shop.data(RELEASE, {"input": {"id": two["id"]}})
    data = await shop.data('{ sku(sku: "B") { totalOnHand totalReserved totalAvailable } }')
    assert data["sku"] == {"totalOnHand": 19, "totalReserved": 3, "totalAvailable": 0}
    await turn(shop, {"isSellable": True})
    data = await shop.data('{ sku(sku: "B") { totalAvailable } }')
    assert data["sku"]["totalAvailable"] == 16
    await assert_proven(shop)


async def test_the_feed_has_what_clients_now_read(shop: Service) -> None:
    follower = await follower_of(shop)
    await turn(shop, {"isSellable": False})
    changes = (await read_changes(shop, follower.position))["data"]
    assert [(each["type"], each.get("sku")) for each in changes] == [
        ("warehouse_changed", None),
        ("stock_changed", "A"),
        ("stock_changed", "B"),
        ("status_changed", "B"),
    ]
    stock = changes[2]
    figures = {"on_hand": 20, "reserved": 0, "safety_stock": 0, "version": 1}
    assert stock["before"] == {**figures, "available": 20, "status": "normal"}
    assert stock["after"] == {**figures, "available": 0, "status": "out_of_stock"}
    assert "adjustment_id" not in stock
    await assert_followed(shop, follower)
    await turn(shop, {"name": "New name"})
    await turn(shop, {"isSellable": False})
    names = (await read_changes(shop, follower.position))["data"]
    assert [each["type"] for each in names] == ["warehouse_changed"]


async def test_a_warehouse_is_larger_than_a_chunk(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock_for_sale, "CHUNK_SKUS", 3)
    stock_for_sale._next_codes.cache_clear()
    codes = [f"S{number}" for number in range(11)]
    skus = [sku(code, level(MAIN, 5), level(OTHER, 1)) for code in codes]
    twin = replace(service, tenant_id=await new_tenant(service.database))
    for each in (service, twin):
        await each.load([MAIN, OTHER], skus)
    versions = "{ skus { nodes { sku version totalAvailable } } }"
    others = await twin.data(versions)
    follower = await follower_of(service)
    try:
        await turn(service, {"isSellable": False})
    finally:
        monkeypatch.undo()
        stock_for_sale._next_codes.cache_clear()

    data = await service.data(versions)
    expected = [{"sku": code, "version": 4, "totalAvailable": 1} for code in sorted(codes)]
    assert data["skus"]["nodes"] == expected
    await assert_followed(service, follower)
    await assert_proven(service)
    assert await twin.data(versions) == others
    await assert_proven(twin)


async def test_a_turn_that_fails_in_the_middle_changes_nothing(shop: Service) -> None:
    before = await shop.data(FIGURES)
    follower = await follower_of(shop)

    async def fail(*_: object) -> None:
        raise RuntimeError

    with patch.object(stock_for_sale, "post", fail):
        answer = await shop.graphql(
            UPDATE_WAREHOUSE, {"input": {"id": MAIN.id, "isSellable": False}}, token="admin"
        )
    assert answer["errors"][0]["extensions"]["code"] == "INTERNAL"
    assert await shop.data(FIGURES) == before
    await assert_followed(shop, follower)
    await assert_proven(shop)


async def test_a_dry_run_and_a_replay_turn_nothing(shop: Service) -> None:
    versions = "{ skus { nodes { version } } feedPosition: changes(first: 1) { newestPosition } }"
    before = await shop.data(versions)
    assert not (await turn(shop, {"isSellable": False, "dryRun": True}))["warehouse"]["isSellable"]
    assert await shop.data(versions) == before

    keyed = {"isSellable": False, "idempotencyKey": "key"}
    assert not (await turn(shop, keyed))["replayed"]
    after = await shop.data(versions)
    assert after != before
    assert (await turn(shop, keyed))["replayed"]
    assert await shop.data(versions) == after


async def test_writes_beside_a_turn_leave_right_figures(shop: Service) -> None:
    follower = await follower_of(shop)

    def write(delta: int, code: str, warehouse_id: str = MAIN.id) -> Any:
        return change_stock(shop.database, caller(shop), adding(delta, code, warehouse_id))

    outcomes = await together(
        shop,
        write(1, "A"),
        update_warehouse(context(shop), MAIN.id, {"is_sellable": False}),
        write(1, "B"),
        write(1, "C"),
        update_warehouse(context(shop), MAIN.id, {"is_sellable": True}),
        update_warehouse(context(shop), MAIN.id, {"is_active": False}),
        write(1, "B"),
        update_warehouse(context(shop), OTHER.id, {"is_sellable": False}),
        write(-1, "A", OTHER.id),
    )
    closed = "WAREHOUSE_INACTIVE"
    assert codes_of(outcomes) == [None, None, None, None, None, None, closed, None, None]
    await assert_followed(shop, follower)
    await assert_proven(shop)


async def test_a_turn_is_a_batch_of_its_own_without_a_time_limit(shop: Service) -> None:
    seen: list[tuple[bool, bool, int]] = []
    submit = Batches.submit

    async def noted(self: Batches, key: Any, item: Any, run: Any, *, size: int = 1) -> Any:
        limit = current_limit.get()
        is_timed = isinstance(limit, Limit) and limit.ends_at < float("inf")
        seen.append((item.deadline == NO_DEADLINE, is_timed, size))
        return await submit(self, key, item, run, size=size)

    with patch.object(Batches, "submit", noted):
        await turn(shop, {"name": "New name"})
        await turn(shop, {"isSellable": False})
        await turn(shop, {"isActive": False})
    assert [each[:2] for each in seen] == [(False, True), (True, False), (True, False)]
    assert seen[0][2] < seen[1][2] == seen[2][2] == MAX_BATCH_SIZE


async def test_an_import_of_warehouses_turns_them(shop: Service) -> None:
    follower = await follower_of(shop)

    async def change(content: str) -> Any:
        return await imported(shop.database, shop.tenant_id, content, FileKind.WAREHOUSES)

    head = "id,name,type,is_active"
    rows = [f"{each.id},{each.name},own,true" for each in (MAIN, OTHER)]
    await change(f"{head},is_sellable\n{rows[0]},false\n{rows[1]},no\n")
    data = await shop.data("{ skus { nodes { totalAvailable } } }")
    assert [each["totalAvailable"] for each in data["skus"]["nodes"]] == [0, 0, 0]
    # A file without the column leaves it as it is.
    assert (await change(f"{head}\n{rows[0]}\n{rows[1]}\n")).unchanged == 2
    await change(f"{head},is_sellable\n{rows[0]},true\n{rows[1]},\n")
    data = await shop.data("{ skus { nodes { totalAvailable } } }")
    assert [each["totalAvailable"] for each in data["skus"]["nodes"]] == [7, 20, 0]
    await assert_followed(shop, follower)
    await assert_proven(shop)


async def test_figures_that_ignore_the_warehouse_are_found_and_repaired(shop: Service) -> None:
    await turn(shop, {"isSellable": False})
    for change in ("stock_level SET status = 'normal'", "sku SET available = 20"):
        statement = text(f"UPDATE {change} WHERE tenant_id = :tenant AND sku = 'B'")
        changed = statement.bindparams(tenant=shop.tenant_id)
        await transact(shop.database, partial(AsyncConnection.execute, statement=changed))

    messages = await repair_tenant(shop.database, shop.tenant_id)
    assert messages == [
        f"status of stock level (B, {MAIN.id}) was normal, and is out_of_stock",
        "available of SKU B was 20, and is 0",
    ]
    await assert_proven(shop)
