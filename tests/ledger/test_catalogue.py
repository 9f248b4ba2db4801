"""Catalogue writes of administrators: SKUs, warehouses and safety stock."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import pytest

from app.domain.caller import Caller
from app.domain.quantities import MAX_QUANTITY
from app.domain.stock import StockUpdate
from app.domain.warehouses import WarehouseType
from app.errors import InventoryError
from app.writes.stock import change_stock
from tests.ledger.writes import (
    ARCHIVE,
    CREATE_WAREHOUSE,
    RESTORE,
    SAFETY,
    SET,
    SKU,
    TITLE,
    TRANSFER,
    UPDATE_WAREHOUSE,
    assert_proven,
)
from tests.service import Service, level, new_tenant, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
FBA: Final = warehouse("FBA", WarehouseType.FBA, marketplace="amazon_eu")
LISTS: Final = """
{
  listed: skus { totalCount nodes { sku } }
  normal: skus(filter: {status: NORMAL}) { totalCount nodes { sku } }
  archived: skus(filter: {archived: true}) { totalCount nodes { sku } }
  archived_normal: skus(filter: {archived: true, status: NORMAL}) { totalCount nodes { sku } }
  all: skus(filter: {archived: null}) { totalCount nodes { sku } }
  one: skus(filter: {sku: "A"}) { totalCount nodes { sku } }
  warehouses {
    listed: stock { totalCount nodes { sku { sku } } }
    archived: stock(filter: {archived: true}) { totalCount nodes { sku { sku } } }
    all: stock(filter: {archived: null, status: NORMAL}) { totalCount nodes { sku { sku } } }
  }
}
"""


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service whose SKU A has 5 in the main warehouse, and B no stock."""
    await service.load([MAIN, OTHER, FBA], [sku("A", level(MAIN, 5)), sku("B")])
    return service


async def done(service: Service, query: str, **content: object) -> dict[str, Any]:
    """Payload of a successful write by an administrator."""
    [payload] = (await service.data(query, {"input": content}, token="admin")).values()
    result: dict[str, Any] = payload
    return result


async def refused(service: Service, query: str, **content: object) -> str:
    """Error code of a refused write by an administrator."""
    answer = await service.graphql(query, {"input": content}, token="admin")
    code: str = answer["errors"][0]["extensions"]["code"]
    return code


def codes_of(lists: Mapping[str, Any]) -> dict[str, list[str]]:
    """SKU codes of each list; asserts that `totalCount` matches."""
    codes = {}
    for name, connection in lists.items():
        nodes = [node["sku"] for node in connection["nodes"]]
        codes[name] = [code if isinstance(code, str) else code["sku"] for code in nodes]
        assert connection["totalCount"] == len(nodes)
    return codes


async def test_a_sku_is_created_once_and_takes_stock(stocked: Service) -> None:
    made = await done(stocked, SKU, sku="C/1", title="New", idempotencyKey="k")
    again = await done(stocked, SKU, sku="C/1", title="New", idempotencyKey="k")

    assert made["sku"] == {"sku": "C/1", "title": "New", "version": 1, "isArchived": False}
    assert again == {**made, "replayed": True}
    assert await refused(stocked, SKU, sku="C/1", title="New") == "SKU_EXISTS"
    body = {"warehouse_id": MAIN.id, "quantity": 3, "reason": "initial_stock"}
    assert (await stocked.rest("PUT", "/api/inventory/C%2F1", json=body)).status_code == 200
    await assert_proven(stocked)


@pytest.mark.parametrize(
    "code", ["", " A", "é" * 256, "A\x00", ".", "..", "bulk", "warehouses", "transfers"]
)
async def test_a_code_that_no_route_could_serve_is_refused(stocked: Service, code: str) -> None:
    assert await refused(stocked, SKU, sku=code, title="New") == "VALIDATION_ERROR"


@pytest.mark.parametrize("title", ["", " ", "x" * 501, "\x00"])
async def test_a_blank_or_overlong_title_is_refused(stocked: Service, title: str) -> None:
    assert await refused(stocked, SKU, sku="C", title=title) == "VALIDATION_ERROR"
    assert await refused(stocked, TITLE, sku="A", title=title) == "VALIDATION_ERROR"


async def test_concurrent_creations_of_a_sku_succeed_once(stocked: Service) -> None:
    content = {"input": {"sku": "C", "title": "New"}}
    answers = await asyncio.gather(
        *(stocked.graphql(SKU, content, token="admin") for _ in range(8))
    )

    codes = [it["errors"][0]["extensions"]["code"] for it in answers if "errors" in it]
    assert codes == ["SKU_EXISTS"] * 7
    assert (await stocked.data("{ skus { totalCount } }"))["skus"]["totalCount"] == 3
    await assert_proven(stocked)


async def test_a_title_change_checks_the_expected_version(stocked: Service) -> None:
    changed = await done(stocked, TITLE, sku="A", title="Better", expectedVersion=2)

    assert (changed["sku"]["title"], changed["sku"]["version"]) == ("Better", 3)
    assert await refused(stocked, TITLE, sku="A", title="Worse", expectedVersion=2) == (
        "STALE_VERSION"
    )
    assert (await done(stocked, TITLE, sku="A", title="Better"))["sku"]["version"] == 3
    assert await refused(stocked, TITLE, sku="NOPE", title="x") == "INVENTORY_NOT_FOUND"


async def test_an_archived_sku_is_left_out_of_lists_and_their_totals(stocked: Service) -> None:
    await done(stocked, ARCHIVE, sku="A")
    data = await stocked.data(LISTS)
    main = data.pop("warehouses")[0]

    assert codes_of(data) == {
        "listed": ["B"],
        "normal": [],
        "archived": ["A"],
        "archived_normal": ["A"],
        "all": ["A", "B"],
        "one": [],
    }
    assert codes_of(main) == {"listed": [], "archived": ["A"], "all": ["A"]}
    listing = (await stocked.rest("GET", "/api/inventory")).json()
    assert ([it["sku"] for it in listing["data"]], listing["meta"]["total"]) == (["B"], 1)
    listing = (await stocked.rest("GET", f"/api/inventory?warehouse_id={MAIN.id}")).json()
    assert (listing["data"], listing["meta"]["total"]) == ([], 0)
    await assert_proven(stocked)


async def test_an_archived_sku_is_readable_with_its_history(stocked: Service) -> None:
    before = (await stocked.rest("GET", "/api/inventory/A")).json()["data"]
    await done(stocked, ARCHIVE, sku="A")
    data = await stocked.data(
        '{ sku(sku: "A") { isArchived archivedAt adjustments { totalCount } } }'
    )

    after = (await stocked.rest("GET", "/api/inventory/A")).json()["data"]
    assert after == {**before, "is_archived": True}
    assert data["sku"]["isArchived"]
    assert data["sku"]["archivedAt"]
    assert data["sku"]["adjustments"] == {"totalCount": 1}


async def test_an_archived_sku_takes_only_decreases_until_restored(
    stocked: Service,
) -> None:
    await done(stocked, ARCHIVE, sku="A")
    line = {"sku": "A", "warehouseId": MAIN.id, "reason": "loss"}
    move = {"fromWarehouseId": MAIN.id, "toWarehouseId": OTHER.id}

    assert await refused(stocked, SET, **line, quantity=6) == "SKU_ARCHIVED"
    assert await refused(stocked, TRANSFER, **move, lines=[{"sku": "A", "quantity": 1}]) == (
        "SKU_ARCHIVED"
    )
    for quantity in (5, 4):
        assert (await done(stocked, SET, **line, quantity=quantity))["sku"]
    body = {"warehouse_id": MAIN.id, "quantity": 6, "reason": "loss"}
    response = await stocked.rest("PUT", "/api/inventory/A", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "SKU_ARCHIVED")
    await assert_proven(stocked)

    restored = await done(stocked, RESTORE, sku="A")
    assert not restored["sku"]["isArchived"]
    assert (await done(stocked, SET, **line, quantity=6))["sku"]["totalOnHand"] == 6
    assert codes_of({"skus": (await stocked.data(LISTS))["normal"]}) == {"skus": ["A"]}
    await assert_proven(stocked)


async def test_archiving_twice_changes_the_version_once(stocked: Service) -> None:
    versions = [(await done(stocked, ARCHIVE, sku="A"))["sku"]["version"] for _ in range(2)]

    assert versions == [3, 3]
    assert await refused(stocked, ARCHIVE, sku="A", expectedVersion=2) == "STALE_VERSION"


async def test_no_increase_is_versioned_after_a_concurrent_archiving(stocked: Service) -> None:
    """No increase has a version after the archiving."""
    caller = Caller(stocked.tenant_id, "c", "a@b.example")

    async def add(number: int) -> int:
        update = StockUpdate(sku="A", warehouse_id=MAIN.id, quantity=10 + number, reason="loss")
        try:
            return (await change_stock(stocked.database, caller, update)).result.sku.version
        except InventoryError as refusal:
            assert refusal.code == "SKU_ARCHIVED"  # noqa: PT017 - success is valid, too
            return 0

    async def archive() -> int:
        await asyncio.sleep(0)
        version: int = (await done(stocked, ARCHIVE, sku="A"))["sku"]["version"]
        return version

    archived, *added = await asyncio.gather(archive(), *(add(number) for number in range(8)))
    data = await stocked.data('{ sku(sku: "A") { version totalOnHand } }')
    # After the archiving, only decreases and unchanged quantities are accepted.
    later = [10 + number for number, version in enumerate(added) if version > archived]
    assert later == sorted(later, reverse=True)
    assert data["sku"]["version"] == 2 + 1 + sum(1 for version in added if version)
    await assert_proven(stocked)


async def test_a_warehouse_is_created_and_updated(stocked: Service) -> None:
    content = {"name": "North", "type": "FBS", "marketplace": "amazon_de", "idempotencyKey": "k"}
    made = await done(stocked, CREATE_WAREHOUSE, **content)
    again = await done(stocked, CREATE_WAREHOUSE, **content)
    id_ = made["warehouse"]["id"]
    changed = await done(
        stocked, UPDATE_WAREHOUSE, id=id_, name="South", address="Road 1", isActive=False
    )
    cleared = await done(stocked, UPDATE_WAREHOUSE, id=id_, address=None, marketplace=None)

    assert id_.startswith("wh_")
    assert again == {**made, "replayed": True}
    assert made["warehouse"]["isReadonly"]
    assert changed["warehouse"] == {
        **made["warehouse"],
        "name": "South",
        "address": "Road 1",
        "isActive": False,
    }
    assert cleared["warehouse"] == {
        **changed["warehouse"],
        "address": None,
        "marketplace": None,
    }
    listed = (await stocked.rest("GET", "/api/inventory/warehouses")).json()["data"]
    assert [it["name"] for it in listed if it["id"] == id_] == ["South"]
    assert len(listed) == 4


async def test_a_malformed_warehouse_is_refused(stocked: Service) -> None:
    for content in (
        {"name": ""},
        {"name": "x" * 201},
        {"name": "x", "address": "\x00"},
        {"name": "x", "marketplace": "amazon_eu"},
    ):
        assert await refused(stocked, CREATE_WAREHOUSE, type="OWN", **content) == "VALIDATION_ERROR"
    assert (
        await refused(stocked, UPDATE_WAREHOUSE, id=MAIN.id, marketplace="a") == "VALIDATION_ERROR"
    )
    assert await refused(stocked, UPDATE_WAREHOUSE, id="wh_NOPE", name="x") == "WAREHOUSE_NOT_FOUND"


async def test_an_inactive_warehouse_shows_its_stock_and_takes_only_decreases(
    stocked: Service,
) -> None:
    await done(stocked, UPDATE_WAREHOUSE, id=MAIN.id, isActive=False)
    line = {"sku": "A", "warehouseId": MAIN.id, "reason": "loss"}

    record = (await stocked.rest("GET", "/api/inventory/A")).json()["data"]
    assert record["total_on_hand"] == 5
    assert await refused(stocked, SET, **line, quantity=6) == "WAREHOUSE_INACTIVE"
    assert (await done(stocked, SET, **line, quantity=0))["sku"]["totalOnHand"] == 0
    await done(stocked, UPDATE_WAREHOUSE, id=MAIN.id, isActive=True)
    assert (await done(stocked, SET, **line, quantity=6))["sku"]["totalOnHand"] == 6


async def test_safety_stock_decides_the_status_and_its_counts(stocked: Service) -> None:
    levels = [
        {"sku": "A", "warehouseId": MAIN.id, "safetyStock": 5},
        {"sku": "B", "warehouseId": FBA.id, "safetyStock": 1},
    ]
    payload = await done(stocked, SAFETY, levels=levels)

    assert [it["safetyStock"] for it in payload["stockLevels"]] == [5, 1]
    assert payload["skus"] == [{"sku": "A", "version": 3}, {"sku": "B", "version": 2}]
    data = await stocked.data("{ skus(filter: {status: CRITICAL}) { totalCount nodes { sku } } }")
    assert data["skus"] == {"totalCount": 1, "nodes": [{"sku": "A"}]}
    again = await done(stocked, SAFETY, levels=levels)
    assert again["skus"] == payload["skus"]
    await assert_proven(stocked)


async def test_safety_stock_is_set_at_all_levels_or_none(stocked: Service) -> None:
    good = {"sku": "A", "warehouseId": MAIN.id, "safetyStock": 5}
    codes = [
        await refused(stocked, SAFETY, levels=levels)
        for levels in (
            [good, {**good, "sku": "NOPE"}],
            [good, {**good, "warehouseId": "wh_NOPE"}],
            [good, good],
            [{**good, "safetyStock": -1}],
            [{**good, "safetyStock": MAX_QUANTITY + 1}],
            [],
            [{**good, "sku": f"S{number}"} for number in range(501)],
        )
    ]

    assert codes == ["INVENTORY_NOT_FOUND", "WAREHOUSE_NOT_FOUND", *["VALIDATION_ERROR"] * 5]
    data = await stocked.data('{ sku(sku: "A") { version safetyStock } }')
    assert data["sku"] == {"version": 2, "safetyStock": 0}


async def test_a_dry_run_returns_a_payload_and_writes_nothing(stocked: Service) -> None:
    everything = (
        "{ skus(filter: {archived: null}) { totalCount nodes { sku title version isArchived "
        "safetyStock } } warehouses { id name isActive } }"
    )
    before = await stocked.data(everything)
    writes: list[tuple[str, dict[str, object]]] = [
        (SKU, {"sku": "C", "title": "x"}),
        (TITLE, {"sku": "A", "title": "x"}),
        (ARCHIVE, {"sku": "A"}),
        (CREATE_WAREHOUSE, {"name": "x", "type": "OWN"}),
        (UPDATE_WAREHOUSE, {"id": MAIN.id, "name": "x"}),
        (SAFETY, {"levels": [{"sku": "A", "warehouseId": MAIN.id, "safetyStock": 5}]}),
    ]
    for query, content in writes:
        assert not (await done(stocked, query, **content, dryRun=True))["replayed"]

    assert await refused(stocked, SKU, sku="A", title="x", dryRun=True) == "SKU_EXISTS"
    assert await stocked.data(everything) == before


async def test_a_sku_code_is_unique_per_tenant(stocked: Service) -> None:
    other = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    made = await done(other, SKU, sku="A", title="Theirs")
    await done(other, ARCHIVE, sku="A")

    assert made["sku"]["version"] == 1
    assert await refused(other, UPDATE_WAREHOUSE, id=MAIN.id, name="x") == "WAREHOUSE_NOT_FOUND"
    data = await stocked.data('{ sku(sku: "A") { title isArchived } }')
    assert data["sku"] == {"title": "Thing", "isArchived": False}
