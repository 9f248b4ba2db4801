"""GET /api/inventory and GET /api/inventory/warehouses: filters, limits, order, totals."""

import json
from itertools import product
from typing import Final

import pytest

from app.domain.warehouses import WarehouseType
from tests.rest import model
from tests.rest.answers import answered, ordered, refusal, refused_fields, walk
from tests.service import Service, level, new_tenant, sku, warehouse

PATH: Final = "/api/inventory"
STATUSES: Final = ["normal", "low", "critical", "out_of_stock"]


@pytest.mark.parametrize("status", [None, *STATUSES])
async def test_combined_filters_match_the_model(service: Service, status: str | None) -> None:
    warehouses = model.warehouses()
    items = model.catalogue(warehouses)
    await service.load(warehouses, items)

    for each, code in product(
        [None, *(each.id for each in warehouses)], [None, "Z-0", "a-1", "Z-12", "z-7", "unknown"]
    ):
        filters = {
            name: value
            for name, value in (("status", status), ("warehouse_id", each), ("sku", code))
            if value is not None
        }
        expected = model.records(items, warehouses, **filters)
        result, totals = await walk(service, PATH, limit=9, **filters)
        assert (filters, result) == (filters, expected)
        assert set(totals) == {len(expected)}


def test_the_model_has_every_status_in_every_view() -> None:
    warehouses = model.warehouses()
    items = model.catalogue(warehouses)

    for each in (None, *(each.id for each in warehouses[:3])):
        result = {
            record["status"] for record in model.records(items, warehouses, warehouse_id=each)
        }
        assert result == set(STATUSES)


async def test_record_without_stock_levels_is_out_of_stock(service: Service) -> None:
    await service.load([], [sku("bare", title="Bare")])

    bare = {
        "sku": "bare",
        "title": "Bare",
        "total_on_hand": 0,
        "total_reserved": 0,
        "total_available": 0,
        "safety_stock": 0,
        "status": "out_of_stock",
        "warehouses": [],
    }
    assert answered(await service.rest("GET", f"{PATH}/bare")) == {"data": bare}
    assert answered(await service.rest("GET", PATH)) == {
        "data": [bare],
        "meta": {"total": 1, "limit": 50, "nextCursor": None},
    }


async def test_available_may_be_negative(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("oversold", level(main, 5, reserved=9, safety_stock=3))])

    record = answered(await service.rest("GET", f"{PATH}/oversold"))["data"]
    assert record["total_available"] == -7
    assert record["warehouses"][0]["available"] == -7
    assert record["status"] == "out_of_stock"


@pytest.mark.parametrize(
    ("on_hand", "reserved", "safety_stock", "status"),
    [
        (0, 0, 0, "out_of_stock"),
        (1, 0, 0, "normal"),
        (5, 5, 0, "out_of_stock"),
        (4, 5, 9, "out_of_stock"),
        (6, 5, 1, "critical"),
        (7, 5, 1, "low"),
        (8, 5, 1, "normal"),
        (10, 0, 10, "critical"),
        (11, 0, 10, "low"),
        (20, 0, 10, "low"),
        (21, 0, 10, "normal"),
    ],
)
async def test_status_follows_from_the_figures(
    service: Service, on_hand: int, reserved: int, safety_stock: int, status: str
) -> None:
    main = warehouse()
    stock = level(main, on_hand, reserved=reserved, safety_stock=safety_stock)
    await service.load([main], [sku("A", stock)])

    for other in STATUSES:
        body = answered(await service.rest("GET", PATH, params={"status": other}))
        expected = [("A", status)] if other == status else []
        assert [(record["sku"], record["status"]) for record in body["data"]] == expected
        assert body["meta"] == {"total": len(expected), "limit": 50, "nextCursor": None}


async def test_status_and_totals_follow_a_write_in_every_view(service: Service) -> None:
    main, north = warehouse(), warehouse("North", WarehouseType.THIRD_PARTY)
    stock = [level(main, 100, safety_stock=10), level(north, 0, safety_stock=10)]
    await service.load([main, north], [sku("A", *stock)])

    async def views() -> list[tuple[str, int]]:
        result = []
        for each, status in product((None, main, north), STATUSES):
            query = {"status": status} | ({"warehouse_id": each.id} if each else {})
            body = answered(await service.rest("GET", PATH, params=query))
            assert body["meta"]["total"] == len(body["data"])
            result += [(record["status"], record["total_on_hand"]) for record in body["data"]]
        return result

    assert await views() == [("normal", 100), ("normal", 100), ("out_of_stock", 0)]
    body = {"warehouse_id": main.id, "quantity": 15, "reason": "cycle_count"}
    answered(await service.rest("PUT", f"{PATH}/A", json=body))
    assert await views() == [("critical", 15), ("low", 15), ("out_of_stock", 0)]


async def test_codes_sort_by_code_point(service: Service) -> None:
    codes = ["a", "B", "A", "Ä", "Z", "1", "10", "2", "A B", "A-B", "A/B", "A_B", "é", "日本"]
    codes += ["𠀀", "ꀀ", "A.B", "A+B", "A:B", "AB", "ab"]
    await service.load([], [sku(code) for code in codes])

    result, _ = await walk(service, PATH, limit=4)
    assert [record["sku"] for record in result] == sorted(codes)


@pytest.mark.parametrize("limit", ["1", "2", "199", "200"])
async def test_limit_from_1_to_200_is_accepted(service: Service, limit: str) -> None:
    await service.load([], [sku(f"S{number:03}") for number in range(203)])

    body = answered(await service.rest("GET", PATH, params={"limit": limit}))
    assert [record["sku"] for record in body["data"]] == [f"S{n:03}" for n in range(int(limit))]
    assert body["meta"]["total"] == 203
    assert body["meta"]["limit"] == int(limit)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=-0",
        "limit=abc",
        "limit=1.0",
        "limit=1e1",
        "limit=",
        "limit",
        "limit=%2B5",
        "limit=+5",
        "limit=%205",
        "limit=5%20",
        "limit=5%0A",
        "limit=0x5",
        "limit=1_0",
        "limit=%D9%A3",
        "limit=true",
        "limit=null",
        "limit=2147483648",
        "limit=99999999999999999999999999",
        "limit=5&limit=6",
        "limit=5&limit=5",
    ],
)
async def test_limit_outside_1_to_200_is_rejected(service: Service, query: str) -> None:
    await service.load([], [sku("A")])

    for path in (PATH, f"{PATH}/A/adjustments"):
        assert refused_fields(await service.rest("GET", f"{path}?{query}")) == ["limit"]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("status=", ["status"]),
        ("status=Normal", ["status"]),
        ("status=NORMAL", ["status"]),
        ("status=OUT_OF_STOCK", ["status"]),
        ("status=out-of-stock", ["status"]),
        ("status=normal,low", ["status"]),
        ("status=normal&status=low", ["status"]),
        ("status=normal%00", ["status"]),
        ("sku=A&sku=A", ["sku"]),
        ("Limit=5", ["Limit"]),
        ("offset=5", ["offset"]),
        ("next_cursor=x", ["next_cursor"]),
        ("nextCursor=x", ["nextCursor"]),
        ("=5", [""]),
        ("status=x&limit=y", ["limit", "status"]),
        ("e=1&d=1&c=1&b=1&a=1&f=1&h=1&g=1", ["e", "d", "c", "b", "a", "f", "h", "g"]),
    ],
)
async def test_a_bad_filter_or_an_unknown_parameter_is_refused(
    service: Service, query: str, fields: list[str]
) -> None:
    assert refused_fields(await service.rest("GET", f"{PATH}?{query}")) == fields


@pytest.mark.parametrize("query", ["sku=%FF", "%FF=1", "cursor=%C3%28", "status=%ED%A0%80"])
async def test_a_query_that_is_not_utf8_is_malformed(service: Service, query: str) -> None:
    response = await service.rest("GET", f"{PATH}?{query}")
    assert refusal(response) == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    "code", ["unknown", "a", "A ", "A\x00", "\x00", "x" * 5000, "💩", "A%", "A,A"]
)
async def test_an_unknown_sku_gives_an_empty_list(service: Service, code: str) -> None:
    await service.load([], [sku("A")])

    assert answered(await service.rest("GET", PATH, params={"sku": code})) == {
        "data": [],
        "meta": {"total": 0, "limit": 50, "nextCursor": None},
    }


@pytest.mark.parametrize("id_", ["wh_unknown", "\x00", "wh_\x00", "x" * 5000, "Ä", "null"])
async def test_an_unknown_warehouse_is_not_found(service: Service, id_: str) -> None:
    await service.load([], [sku("A")])

    for path in (PATH, f"{PATH}/A/adjustments"):
        response = await service.rest("GET", path, params={"warehouse_id": id_})
        assert refusal(response) == (404, "WAREHOUSE_NOT_FOUND")
        assert response.json()["error"]["details"] == [{"warehouse_id": id_}]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (PATH, ["sku", "warehouse_id", "status", "limit", "cursor"]),
        (
            f"{PATH}/A/adjustments",
            ["start_date", "end_date", "warehouse_id", "reason", "limit", "cursor"],
        ),
        (f"{PATH}/reservations", ["status", "reference", "limit", "cursor"]),
    ],
)
async def test_an_empty_parameter_is_refused_and_a_parameter_has_one_value(
    service: Service, path: str, names: list[str]
) -> None:
    await service.load([], [sku("A")])

    for name in names:
        response = await service.rest("GET", f"{path}?{name}=")
        code = "INVALID_CURSOR" if name == "cursor" else "VALIDATION_ERROR"
        assert refusal(response) == (422, code)
        assert [each["field"] for each in response.json()["error"]["details"]] == [name]
        response = await service.rest("GET", f"{path}?{name}=1&{name}=1")
        assert set(refused_fields(response)) == {name}


async def test_data_of_another_tenant_is_indistinguishable_from_missing_data(
    service: Service,
) -> None:
    own = warehouse()
    await service.load([own], [sku("A", level(own, 5))])
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    empty = {"data": [], "meta": {"total": 0, "limit": 50, "nextCursor": None}}

    assert answered(await other.rest("GET", PATH)) == empty
    assert answered(await other.rest("GET", PATH, params={"sku": "A"})) == empty
    assert answered(await other.rest("GET", f"{PATH}/warehouses")) == {"data": []}
    there = await other.rest("GET", PATH, params={"warehouse_id": own.id})
    nowhere = await other.rest("GET", PATH, params={"warehouse_id": "wh_nowhere"})
    assert refusal(there) == refusal(nowhere) == (404, "WAREHOUSE_NOT_FOUND")
    for path in (f"{PATH}/A", f"{PATH}/A/adjustments"):
        assert refusal(await other.rest("GET", path)) == (404, "INVENTORY_NOT_FOUND")
    body = {"warehouse_id": own.id, "quantity": 1, "reason": "cycle_count"}
    assert refusal(await other.rest("PUT", f"{PATH}/A", json=body)) == (404, "INVENTORY_NOT_FOUND")
    await other.load([], [sku("A")])
    assert refusal(await other.rest("PUT", f"{PATH}/A", json=body)) == (404, "WAREHOUSE_NOT_FOUND")
    assert answered(await service.rest("GET", f"{PATH}/A"))["data"]["total_on_hand"] == 5


async def test_all_warehouses_are_listed_by_id_with_the_keys_that_are_set(service: Service) -> None:
    warehouses = [
        warehouse("Main", address="Here 1"),
        warehouse("Bare"),
        warehouse("FBA", WarehouseType.FBA, marketplace="amazon_eu"),
        warehouse("FBS", WarehouseType.FBS, address="There 2", marketplace="ebay"),
        warehouse("Third", WarehouseType.THIRD_PARTY),
        warehouse("Closed", is_active=False),
    ]
    await service.load(warehouses)

    expected = [
        {
            "id": warehouses[0].id,
            "name": "Main",
            "address": "Here 1",
            "type": "own",
            "is_active": True,
        },
        {"id": warehouses[1].id, "name": "Bare", "type": "own", "is_active": True},
        {
            "id": warehouses[2].id,
            "name": "FBA",
            "type": "FBA",
            "marketplace": "amazon_eu",
            "is_active": True,
            "is_readonly": True,
        },
        {
            "id": warehouses[3].id,
            "name": "FBS",
            "address": "There 2",
            "type": "FBS",
            "marketplace": "ebay",
            "is_active": True,
            "is_readonly": True,
        },
        {"id": warehouses[4].id, "name": "Third", "type": "3PL", "is_active": True},
        {"id": warehouses[5].id, "name": "Closed", "type": "own", "is_active": False},
    ]
    expected.sort(key=lambda each: str(each["id"]))
    response = await service.rest("GET", f"{PATH}/warehouses")
    assert response.status_code == 200
    assert ordered(response.text) == ordered(json.dumps({"data": expected}))


@pytest.mark.parametrize("path", [f"{PATH}/warehouses", f"{PATH}/A"])
@pytest.mark.parametrize("query", ["limit=5", "x=", "cursor=cursor_abc"])
async def test_a_route_without_parameters_refuses_any(
    service: Service, path: str, query: str
) -> None:
    await service.load([], [sku("A")])

    field = query.partition("=")[0]
    assert refused_fields(await service.rest("GET", f"{path}?{query}")) == [field]


SORTS: Final = ["sku", "-sku", "available", "-available", "updated", "-updated"]


@pytest.mark.parametrize("sort", SORTS)
async def test_records_are_sorted_and_paged(service: Service, sort: str) -> None:
    main, other = warehouse(), warehouse("Other")
    stock = {"C": (5, 9), "A": (5, 1), "B": (7, 0), "D": (0, 0)}
    items = [
        sku(code, level(main, on_hand), level(other, more))
        for code, (on_hand, more) in stock.items()
    ]
    await service.load([main, other], items)
    for code in "BA":
        body = {"warehouse_id": main.id, "quantity": stock[code][0], "reason": "cycle_count"}
        answered(await service.rest("PUT", f"{PATH}/{code}", json=body))
    keys = {
        "sku": ["A", "B", "C", "D"],
        "available": ["D", "A", "B", "C"],
        "updated": ["C", "D", "B", "A"],
    }

    expected = keys[sort.removeprefix("-")]
    for limit in (1, 3, 200):
        records, totals = await walk(service, PATH, limit=limit, sort=sort)
        found = [record["sku"] for record in records]
        assert found == (expected[::-1] if sort.startswith("-") else expected)
        assert set(totals) == {4}


async def test_changed_records_are_found_by_the_time_of_their_change(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku(code, level(main, 5)) for code in "ABC"])
    body = {"warehouse_id": main.id, "delta": 1, "reason": "loss"}
    made = answered(await service.rest("POST", f"{PATH}/B/adjustments", json=body))
    since = made["data"]["created_at"]

    for narrowed in ({}, {"warehouse_id": main.id}):
        records, totals = await walk(service, PATH, limit=1, updated_since=since, **narrowed)
        assert [record["sku"] for record in records] == ["B"]
        assert totals == [1]
        records, _ = await walk(service, PATH, limit=9, updated_since="2099-01-01", **narrowed)
        assert records == []
    in_order, _ = await walk(service, PATH, limit=2, warehouse_id=main.id, sort="-sku")
    assert [record["sku"] for record in in_order] == ["C", "B", "A"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"sort": ""}, "sort"),
        ({"sort": "title"}, "sort"),
        ({"sort": "SKU_ASC"}, "sort"),
        ({"sort": "--sku"}, "sort"),
        ({"sort": "available", "warehouse_id": "wh_1"}, "sort"),
        ({"updated_since": "yesterday"}, "updated_since"),
        ({"updated_since": ""}, "updated_since"),
    ],
)
async def test_invalid_orders_and_times_are_refused(
    service: Service, query: dict[str, str], field: str
) -> None:
    response = await service.rest("GET", PATH, params=query)

    assert refused_fields(response) == [field]
    for word in ("SkuOrder", "enum", "SKU_ASC,"):
        assert word not in response.json()["error"]["message"]


async def test_an_invalid_order_of_one_warehouse_names_its_orders(service: Service) -> None:
    query = {"sort": "title", "warehouse_id": "wh_1"}
    response = await service.rest("GET", PATH, params=query)

    assert response.json()["error"]["message"] == "sort must be one of sku, -sku."


async def test_a_cursor_is_bound_to_the_order(service: Service) -> None:
    await service.load([], [sku(code) for code in "ABC"])
    first = answered(await service.rest("GET", PATH, params={"limit": 1, "sort": "available"}))
    cursor = first["meta"]["nextCursor"]

    for sort in (None, "-available", "updated", "sku"):
        query = {"limit": 1, "cursor": cursor, **({"sort": sort} if sort else {})}
        response = await service.rest("GET", PATH, params=query)
        assert refusal(response) == (422, "INVALID_CURSOR")
