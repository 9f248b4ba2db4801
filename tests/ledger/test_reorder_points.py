"""Reorder points: the sellable quantity of a stock level from which its status is low."""

from typing import Any, Final

import pytest

from app.domain.quantities import MAX_QUANTITY, Figures, Status
from app.domain.validation import MAX_BULK_UPDATES
from app.files.columns import FileKind
from tests.files.importing import imported
from tests.ledger.feed import assert_followed, follower_of, read_changes
from tests.ledger.writes import ADJUST, REORDER, SAFETY, UPDATE_WAREHOUSE, assert_proven
from tests.service import Service, level, new_tenant, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
READ: Final = """
{
  sku(sku: "A") { version reorderPoint status stock { reorderPoint status warehouse { id } } }
  low: skus(filter: {status: LOW}) { totalCount nodes { sku } }
}
"""


@pytest.fixture
async def shop(service: Service) -> Service:
    """Service whose SKU A has 10 in each of two warehouses."""
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10), level(OTHER, 10)), sku("B")])
    return service


def point(quantity: int | None, warehouse_id: str = MAIN.id, code: str = "A") -> dict[str, object]:
    return {"sku": code, "warehouseId": warehouse_id, "reorderPoint": quantity}


async def reorder(service: Service, *levels: dict[str, object], **more: object) -> dict[str, Any]:
    """Set reorder points, and return the payload."""
    content = {"input": {"levels": [*levels], **more}}
    result: dict[str, Any] = (await service.data(REORDER, content, token="admin"))[
        "setReorderPoints"
    ]
    return result


async def read(service: Service) -> tuple[object, ...]:
    """Return the reorder point and the status of SKU A and its levels, and whether it is low."""
    data = await service.data(READ)
    record = data["sku"]
    levels = {each["warehouse"]["id"]: each for each in record["stock"]}
    shown = [(levels[it.id]["reorderPoint"], levels[it.id]["status"]) for it in (MAIN, OTHER)]
    assert [each["sku"] for each in data["low"]["nodes"]] == ["A"] * data["low"]["totalCount"]
    return record["reorderPoint"], record["status"], *shown, data["low"]["totalCount"]


@pytest.mark.parametrize(
    ("on_hand", "safety_stock", "reorder_point", "status"),
    [
        (20, 10, None, Status.LOW),
        (20, 10, 19, Status.NORMAL),
        (20, 10, 20, Status.LOW),
        (21, 10, 20, Status.NORMAL),
        (50, 10, 50, Status.LOW),
        # Severe states come first, whatever the reorder point is.
        (10, 10, 50, Status.CRITICAL),
        (11, 10, 5, Status.NORMAL),
        (11, 10, 0, Status.NORMAL),
        (0, 0, 0, Status.OUT_OF_STOCK),
        (0, 0, 50, Status.OUT_OF_STOCK),
        (1, 0, 0, Status.NORMAL),
    ],
)
def test_the_reorder_point_decides_what_is_low(
    on_hand: int, safety_stock: int, reorder_point: int | None, status: Status
) -> None:
    assert Figures(on_hand + 3, 3, safety_stock, reorder_point).status is status


async def test_reorder_points_of_levels_for_sale_are_summed(shop: Service) -> None:
    assert await read(shop) == (None, "NORMAL", (None, "NORMAL"), (None, "NORMAL"), 0)
    payload = await reorder(shop, point(12))
    assert payload["skus"] == [{"sku": "A", "version": 4, "reorderPoint": 12, "status": "NORMAL"}]
    assert [each["reorderPoint"] for each in payload["stockLevels"]] == [12]
    assert await read(shop) == (12, "NORMAL", (12, "LOW"), (None, "NORMAL"), 0)
    await reorder(shop, point(8, OTHER.id))
    assert await read(shop) == (20, "LOW", (12, "LOW"), (8, "NORMAL"), 1)
    content = {"input": {"id": MAIN.id, "isSellable": False}}
    await shop.data(UPDATE_WAREHOUSE, content, token="admin")
    assert await read(shop) == (8, "NORMAL", (12, "OUT_OF_STOCK"), (8, "NORMAL"), 0)
    # An omitted one is null.
    await reorder(shop, {"sku": "A", "warehouseId": OTHER.id})
    assert await read(shop) == (None, "NORMAL", (12, "OUT_OF_STOCK"), (None, "NORMAL"), 0)
    await assert_proven(shop)


async def test_a_warehouse_that_sells_again_may_make_a_sku_low(shop: Service) -> None:
    # The level has no stock, so only the reorder point of the SKU depends on its warehouse.
    empty = {"sku": "A", "warehouseId": OTHER.id, "reason": "loss", "delta": -10}
    await shop.data(ADJUST, {"input": empty})
    await reorder(shop, point(15, OTHER.id))
    for is_sellable, expected in ((False, (None, "NORMAL")), (True, (15, "LOW"))):
        follower = await follower_of(shop)
        content = {"input": {"id": OTHER.id, "isSellable": is_sellable}}
        await shop.data(UPDATE_WAREHOUSE, content, token="admin")
        assert (await read(shop))[:2] == expected
        changes = (await read_changes(shop, follower.position))["data"]
        assert [each["type"] for each in changes] == ["warehouse_changed", "status_changed"]
        await assert_followed(shop, follower)
        await assert_proven(shop)


async def test_a_reorder_point_that_is_crossed_is_in_the_feed(shop: Service) -> None:
    await reorder(shop, point(8))
    follower = await follower_of(shop)
    sale = {"sku": "A", "warehouseId": MAIN.id, "reason": "sale"}
    await shop.data(ADJUST, {"input": {**sale, "delta": -2}})
    [change] = (await read_changes(shop, follower.position))["data"]
    assert (change["type"], change["sku"], change["warehouse_id"]) == (
        "stock_changed",
        "A",
        MAIN.id,
    )
    states = [(it["reorder_point"], it["status"]) for it in (change["before"], change["after"])]
    assert states == [(8, "normal"), (8, "low")]
    await assert_followed(shop, follower)
    # The status of the SKU is a change of its own.
    await reorder(shop, point(90))
    changes = (await read_changes(shop, follower.position))["data"]
    assert [each["type"] for each in changes] == ["stock_changed", "status_changed"]
    assert changes[1]["after"] == {"status": "low"}
    await assert_followed(shop, follower)


async def test_rest_has_the_key_only_if_it_is_set(shop: Service) -> None:
    async def bodies() -> list[dict[str, Any]]:
        query = {"warehouse_id": MAIN.id}
        one = (await shop.rest("GET", "/api/inventory/A")).json()["data"]
        listed = (await shop.rest("GET", "/api/inventory")).json()["data"][0]
        narrowed = (await shop.rest("GET", "/api/inventory", params=query)).json()["data"][0]
        return [one, listed, narrowed]

    keys = [list(body) for body in await bodies()]
    assert all("reorder_point" not in each for each in keys)
    await reorder(shop, point(0), point(30, OTHER.id))
    assert [body["reorder_point"] for body in await bodies()] == [30, 30, 0]
    assert [body["status"] for body in await bodies()] == ["low", "low", "normal"]
    await reorder(shop, point(None), point(None, OTHER.id))
    assert [list(body) for body in await bodies()] == keys


async def test_reorder_points_are_set_at_all_levels_or_none(shop: Service) -> None:
    twin = Service(shop.app, shop.client, shop.database, await new_tenant(shop.database))
    theirs = warehouse("Theirs")
    await twin.load([theirs], [sku("T", level(theirs, 1))])
    before = await read(shop)
    for levels, code in (
        ([point(1), point(1, code="NOPE")], "INVENTORY_NOT_FOUND"),
        ([point(1), point(1, code="T")], "INVENTORY_NOT_FOUND"),
        ([point(1), point(1, theirs.id)], "WAREHOUSE_NOT_FOUND"),
        ([point(1), point(2)], "VALIDATION_ERROR"),
        ([point(-1)], "VALIDATION_ERROR"),
        ([point(MAX_QUANTITY + 1)], "VALIDATION_ERROR"),
        ([], "VALIDATION_ERROR"),
        ([point(1)] * (MAX_BULK_UPDATES + 1), "VALIDATION_ERROR"),
    ):
        content = {"input": {"levels": levels}}
        answer = await shop.graphql(REORDER, content, token="admin")
        assert answer["errors"][0]["extensions"]["code"] == code
    answer = await shop.graphql(REORDER, {"input": {"levels": [point(1)]}}, token="write")
    assert answer["errors"][0]["extensions"]["code"] == "INSUFFICIENT_SCOPE"
    assert await read(shop) == before
    await assert_proven(twin)


async def test_the_largest_reorder_points_can_be_summed(shop: Service) -> None:
    await reorder(shop, point(MAX_QUANTITY), point(MAX_QUANTITY, OTHER.id))
    assert (await read(shop))[:2] == (2 * MAX_QUANTITY, "LOW")
    await assert_proven(shop)


async def test_a_dry_run_a_replay_and_an_equal_value_write_nothing(shop: Service) -> None:
    await reorder(shop, point(3), dryRun=True)
    assert (await read(shop))[0] is None
    first = await reorder(shop, point(3), idempotencyKey="key")
    again = await reorder(shop, point(3), idempotencyKey="key")
    assert again == {**first, "replayed": True}
    assert (await reorder(shop, point(3)))["skus"] == first["skus"]
    # A level without a count is created, as by its safety stock.
    made = await reorder(shop, point(4, code="B"))
    assert made["skus"] == [{"sku": "B", "version": 2, "reorderPoint": 4, "status": "OUT_OF_STOCK"}]
    await assert_proven(shop)


async def test_both_settings_of_a_level_are_independent(shop: Service) -> None:
    await reorder(shop, point(12))
    safe = {"sku": "A", "warehouseId": MAIN.id, "safetyStock": 2}
    await shop.data(SAFETY, {"input": {"levels": [safe]}}, token="admin")
    assert (await read(shop))[2] == (12, "LOW")
    content = f"sku,warehouse_id,safety_stock,reorder_point\nA,{MAIN.id},,9\nA,{OTHER.id},4,\n"
    tally = await imported(shop.database, shop.tenant_id, content, FileKind.LEVELS)
    assert tally.updated == 2
    data = await shop.data('{ sku(sku: "A") { stock { safetyStock reorderPoint } } }')
    settings = [tuple(each.values()) for each in data["sku"]["stock"]]
    assert sorted(settings, key=str) == [(2, 9), (4, None)]
    # A file of an older version does not have the column.
    old = f"sku,warehouse_id,safety_stock\nA,{MAIN.id},2\n"
    assert (await imported(shop.database, shop.tenant_id, old, FileKind.LEVELS)).unchanged == 1
    await assert_proven(shop)
