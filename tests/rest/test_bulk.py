"""POST /api/inventory/bulk: abort or continue on errors; results in request order."""

import json
from itertools import zip_longest
from typing import Any, Final

import pytest

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from tests.rest import model
from tests.rest.answers import Json, answered, ordered, refusal, refused_fields, walk
from tests.service import EMAIL, Service, level, new_tenant, sku, warehouse

PATH: Final = "/api/inventory/bulk"
JSON: Final = {"Content-Type": "application/json"}


def update(code: str, warehouse: WarehouseRecord | str, quantity: Any = 1, **more: Any) -> Json:
    id_ = warehouse if isinstance(warehouse, str) else warehouse.id
    fields = {"sku": code, "warehouse_id": id_, "quantity": quantity, "reason": "cycle_count"}
    return {**fields, **more}


async def everything(service: Service) -> list[Json]:
    """All records and their adjustments."""
    result, _ = await walk(service, "/api/inventory", limit=200)
    for record in result[:20]:
        path = f"/api/inventory/{record['sku']}/adjustments"
        record["adjustments"] = answered(await service.rest("GET", path))["data"]
    return result


def failure(index: int, item: Json, code: str, message: str) -> Json:
    return {
        "index": index,
        "sku": item["sku"],
        "warehouse_id": item["warehouse_id"],
        "status": "failed",
        "error": {"code": code, "message": message},
    }


async def test_levels_of_several_skus_are_set_at_once(service: Service) -> None:
    main, north = sorted([warehouse("One"), warehouse("Two")], key=lambda each: each.id)
    await service.load(
        [main, north], [sku("A", level(main, 5), level(north, 6)), sku("B", level(main, 7))]
    )
    updates = [
        update("B", north, 1, note="New here"),
        update("A", north, 16, reason="correction"),
        update("A", main, 5),
        update("B", main, 0),
    ]

    response = await service.rest("POST", PATH, json={"updates": updates})

    entries = {
        (entry["sku"], entry["warehouse_id"]): entry
        for code in "AB"
        for entry in reversed(
            answered(await service.rest("GET", f"/api/inventory/{code}/adjustments"))["data"]
        )
    }
    results = [
        {
            "index": index,
            "sku": item["sku"],
            "warehouse_id": item["warehouse_id"],
            "status": "updated",
            "before_quantity": before,
            "after_quantity": item["quantity"],
            "delta": item["quantity"] - before,
            "adjustment_id": entries[item["sku"], item["warehouse_id"]]["id"],
        }
        for index, (item, before) in enumerate(zip(updates, [0, 6, 5, 7], strict=True))
    ]
    expected = {"data": results, "meta": {"total": 4, "succeeded": 4, "failed": 0}}
    assert answered(response) == expected
    assert ordered(response.text) == ordered(json.dumps(expected))
    for item, result in zip(updates, results, strict=True):
        entry = entries[item["sku"], item["warehouse_id"]]
        assert entry == {
            "id": result["adjustment_id"],
            "sku": item["sku"],
            "warehouse_id": item["warehouse_id"],
            "before_quantity": result["before_quantity"],
            "after_quantity": item["quantity"],
            "delta": result["delta"],
            "reason": item["reason"],
            **({"note": item["note"]} if "note" in item else {}),
            "created_by": EMAIL,
            "created_at": entry["created_at"],
        }
    after = [
        sku("A", level(main, 5), level(north, 16)),
        sku("B", level(main, 0), level(north, 1)),
    ]
    for each in (None, main.id, north.id):
        filters = {"warehouse_id": each} if each else {}
        rows, totals = await walk(service, "/api/inventory", limit=50, **filters)
        assert rows == model.records(after, [main, north], **filters)
        assert totals == [2]


@pytest.mark.parametrize("on_error", [None, "abort", "continue"])
@pytest.mark.parametrize("count", [1, 500])
async def test_up_to_500_updates_are_accepted(
    service: Service, count: int, on_error: str | None
) -> None:
    main = warehouse()
    await service.load([main], [sku(f"S{n:03}", level(main, 3)) for n in range(count)])
    updates = [update(f"S{n:03}", main, n) for n in reversed(range(count))]

    body = {"updates": updates, **({"on_error": on_error} if on_error else {})}
    answer = answered(await service.rest("POST", PATH, json=body))

    assert answer["meta"] == {"total": count, "succeeded": count, "failed": 0}
    names = ("index", "sku", "before_quantity", "delta")
    assert [tuple(result[name] for name in names) for result in answer["data"]] == [
        (index, item["sku"], 3, item["quantity"] - 3) for index, item in enumerate(updates)
    ]
    assert len({result["adjustment_id"] for result in answer["data"]}) == count
    rows, totals = await walk(service, "/api/inventory", limit=200)
    assert [record["total_on_hand"] for record in rows] == list(range(count))
    assert set(totals) == {count}
    _, sellable = await walk(service, "/api/inventory", limit=200, status="normal")
    assert set(sellable) == {max(count - 1, 0)}


@pytest.mark.parametrize("count", [0, 501, 1000])
@pytest.mark.parametrize("on_error", ["abort", "continue"])
async def test_other_numbers_of_updates_are_rejected(
    service: Service, count: int, on_error: str
) -> None:
    main = warehouse()
    await service.load([main], [sku(f"S{n}") for n in range(count)])

    body = {"updates": [update(f"S{n}", main) for n in range(count)], "on_error": on_error}
    assert refused_fields(await service.rest("POST", PATH, json=body)) == ["updates"]
    result, _ = await walk(service, "/api/inventory", limit=200)
    assert {record["total_on_hand"] for record in result} <= {0}


async def refused_and_good(service: Service) -> tuple[list[Json], dict[str, Json]]:
    """Load data; updates with every error code and valid updates, in mixed order."""
    warehouses = {
        "own": warehouse(),
        "FBA": warehouse("FBA", WarehouseType.FBA),
        "FBS": warehouse("FBS", WarehouseType.FBS),
        "closed": warehouse("Closed", is_active=False),
    }
    await service.load(
        [*warehouses.values()],
        [sku(code, *(level(each, 5) for each in warehouses.values())) for code in "ABC"],
    )
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    theirs = warehouse("Theirs")
    await other.load([theirs], [sku("theirs", level(theirs, 5))])
    good = [
        update("A", warehouses["own"], 9),
        update("B", warehouses["closed"], 4),
        update("B", warehouses["own"], 5),
        update("C", warehouses["own"], 0),
    ]
    bad = {
        "INVENTORY_NOT_FOUND": update("theirs", warehouses["own"]),
        "WAREHOUSE_NOT_FOUND": update("A", theirs),
        "READONLY_WAREHOUSE": update("A", warehouses["FBA"], 5),
        "NEGATIVE_QUANTITY": update("C", warehouses["closed"], -1),
        "WAREHOUSE_INACTIVE": update("A", warehouses["closed"], 6),
    }
    return good, bad


STATUS: Final = {
    "INVENTORY_NOT_FOUND": 404,
    "WAREHOUSE_NOT_FOUND": 404,
    "READONLY_WAREHOUSE": 403,
    "NEGATIVE_QUANTITY": 422,
    "WAREHOUSE_INACTIVE": 422,
}


@pytest.mark.parametrize("on_error", [None, "abort"])
@pytest.mark.parametrize("first", STATUS)
async def test_rejected_bulk_has_the_first_error_and_details_of_every_error(
    service: Service, first: str, on_error: str | None
) -> None:
    good, bad = await refused_and_good(service)
    before = await everything(service)
    codes = [first, *(code for code in STATUS if code != first)]
    updates = [good[0], bad[codes[0]], good[1], bad[codes[1]], bad[codes[2]], good[2]]
    updates += [bad[codes[3]], bad[codes[4]], good[3]]

    body = {"updates": updates, **({"on_error": on_error} if on_error else {})}
    response = await service.rest("POST", PATH, json=body)

    assert refusal(response) == (STATUS[first], first)
    details = response.json()["error"]["details"]
    assert [detail["index"] for detail in details] == [1, 3, 4, 6, 7]
    for code, detail in zip(codes, details, strict=True):
        body = {**bad[code]}
        alone = await service.rest("PUT", f"/api/inventory/{body.pop('sku')}", json=body)
        error = alone.json()["error"]
        del error["request_id"]
        assert error["details"]
        assert detail == {
            **failure(detail["index"], bad[code], code, error["message"]),
            "error": error,
        }
    assert await everything(service) == before


async def test_a_rejected_bulk_has_the_current_values_of_a_stale_update(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    updates = [update("A", main, 6, expected_quantity=4)]

    response = await service.rest("POST", PATH, json={"updates": updates})

    assert refusal(response) == (409, "STALE_VERSION")
    [detail] = response.json()["error"]["details"]
    current = {"on_hand": 5, "version": 1, "sku_version": 2}
    assert detail["error"]["details"] == [
        {"field": "expected_quantity", "message": "differs from the current value", **current}
    ]


async def test_continue_applies_valid_updates_and_returns_results_in_order(
    service: Service,
) -> None:
    good, bad = await refused_and_good(service)
    updates: list[Json] = []
    codes: list[str | None] = []
    for (code, item), other in zip_longest(bad.items(), good):
        updates += [item] if other is None else [item, other]
        codes += [code] if other is None else [code, None]

    body = {"updates": updates, "on_error": "continue"}
    response = await service.rest("POST", PATH, json=body)

    answer = answered(response)
    assert answer["meta"] == {"total": 9, "succeeded": 4, "failed": 5}
    before = iter([5, 5, 5, 5])
    for index, (item, code, result) in enumerate(zip(updates, codes, answer["data"], strict=True)):
        if code is None:
            old = next(before)
            assert list(result.items()) == [
                ("index", index),
                ("sku", item["sku"]),
                ("warehouse_id", item["warehouse_id"]),
                ("status", "updated"),
                ("before_quantity", old),
                ("after_quantity", item["quantity"]),
                ("delta", item["quantity"] - old),
                ("adjustment_id", result["adjustment_id"]),
            ]
        else:
            expected = failure(index, item, code, result["error"]["message"])
            assert ordered(json.dumps(result)) == ordered(json.dumps(expected))
    written = {
        entry["id"]: (entry["sku"], entry["warehouse_id"], entry["after_quantity"])
        for record in await everything(service)
        for entry in record["adjustments"]
        if entry["reason"] == "cycle_count"
    }
    assert written == {
        result["adjustment_id"]: (item["sku"], item["warehouse_id"], item["quantity"])
        for item, result in zip(updates, answer["data"], strict=True)
        if result["status"] == "updated"
    }


async def test_continue_without_a_valid_update_changes_nothing(service: Service) -> None:
    _, bad = await refused_and_good(service)
    before = await everything(service)

    body = {"updates": [*bad.values()], "on_error": "continue"}
    answer = answered(await service.rest("POST", PATH, json=body))
    assert answer["meta"] == {"total": 5, "succeeded": 0, "failed": 5}
    assert [result["error"]["code"] for result in answer["data"]] == list(STATUS)
    assert await everything(service) == before


async def test_error_is_the_same_in_a_bulk_and_alone(service: Service) -> None:
    _, bad = await refused_and_good(service)

    body = {"updates": [*bad.values()], "on_error": "continue"}
    answer = answered(await service.rest("POST", PATH, json=body))
    for result, item in zip(answer["data"], bad.values(), strict=True):
        alone = dict(item)
        response = await service.rest("PUT", f"/api/inventory/{alone.pop('sku')}", json=alone)
        error = response.json()["error"]
        assert result["error"] == {"code": error["code"], "message": error["message"]}


@pytest.mark.parametrize("quantity", [-(2**63), -(2**63) - 1, -(10**4000)])
@pytest.mark.parametrize("on_error", ["abort", "continue"])
async def test_huge_negative_quantity_is_rejected_as_negative(
    service: Service, on_error: str, quantity: int
) -> None:
    main = warehouse()
    await service.load([main], [sku("A")])

    body = {"updates": [update("A", main, quantity)], "on_error": on_error}
    response = await service.rest("POST", PATH, json=body)
    if on_error == "abort":
        assert refusal(response) == (422, "NEGATIVE_QUANTITY")
    else:
        [result] = answered(response)["data"]
        assert result["error"]["code"] == "NEGATIVE_QUANTITY"


@pytest.mark.parametrize("on_error", [None, "abort"])
async def test_the_same_level_twice_is_refused(service: Service, on_error: str | None) -> None:
    main, north = warehouse(), warehouse("North")
    await service.load([main, north], [sku("A", level(main, 5)), sku("B")])
    before = await everything(service)

    updates = [
        update("A", main, 1),
        update("A", north, 1),
        update("B", main, 1),
        update("A", main, 2),
        update("A", main, 1),
        update("A", north, 1),
    ]
    body = {"updates": updates, **({"on_error": on_error} if on_error else {})}
    fields = ["updates.3", "updates.4", "updates.5"]
    assert refused_fields(await service.rest("POST", PATH, json=body)) == fields
    assert await everything(service) == before


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["updates"]),
        ({"updates": None}, ["updates"]),
        ({"updates": {}}, ["updates"]),
        ({"updates": "x"}, ["updates"]),
        ({"updates": [None]}, ["updates.0"]),
        ({"updates": ["x", 1, []]}, ["updates.0", "updates.1", "updates.2"]),
        ({"updates": [[]]}, ["updates.0"]),
        (
            {"updates": [{}]},
            [f"updates.0.{name}" for name in ("sku", "warehouse_id", "reason", "quantity")],
        ),
        ({"updates": [update("A", "wh"), update("B", "wh", extra=1)]}, ["updates.1.extra"]),
        ({"updates": [update("A", "wh", warehouseId="x")]}, ["updates.0.warehouseId"]),
        ({"updates": [update("A", "wh", sku=1)]}, ["updates.0.sku"]),
        ({"updates": [update("A", "wh", sku=None)]}, ["updates.0.sku"]),
        ({"updates": [update("A", "wh", warehouse_id=1)]}, ["updates.0.warehouse_id"]),
        ({"updates": [update("A", "wh", warehouse_id=None)]}, ["updates.0.warehouse_id"]),
        ({"updates": [update("A", "wh", quantity="5")]}, ["updates.0.quantity"]),
        ({"updates": [update("A", "wh", quantity=5.0)]}, ["updates.0.quantity"]),
        ({"updates": [update("A", "wh", quantity=True)]}, ["updates.0.quantity"]),
        ({"updates": [update("A", "wh", 10**12 + 1)]}, ["updates.0.quantity"]),
        ({"updates": [update("A", "wh", reason="No")]}, ["updates.0.reason"]),
        ({"updates": [update("A", "wh", note=5)]}, ["updates.0.note"]),
        ({"updates": [update("A", "wh", note="x" * 1001)]}, ["updates.0.note"]),
        (
            {"updates": [update("A", "wh", "5")], "on_error": "stop", "x": 1},
            ["on_error", "x", "updates.0.quantity"],
        ),
        ({"updates": [None, update("A", "wh", "5")]}, ["updates.0", "updates.1.quantity"]),
        ({"updates": [], "updates.0.sku": "A"}, ["updates.0.sku"]),
        ({"updates": [{**update("A", "wh"), "=x.y": 1}]}, ["updates.0.=x.y"]),
        ({"updates": [update("A", "wh")], "on_error": "Continue"}, ["on_error"]),
        ({"updates": [update("A", "wh")], "on_error": "CONTINUE"}, ["on_error"]),
        ({"updates": [update("A", "wh")], "on_error": "stop"}, ["on_error"]),
        ({"updates": [update("A", "wh")], "on_error": True}, ["on_error"]),
        ({"updates": [update("A", "wh")], "on_error": ["continue"]}, ["on_error"]),
        ({"updates": [update("A", "wh")], "onError": "continue"}, ["onError"]),
        (
            {"updates": [update("A", "wh")], "e": 1, "d": 1, "c": 1, "b": 1, "a": 1},
            ["e", "d", "c", "b", "a"],
        ),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_invalid_field_is_reported_with_its_path(
    service: Service, body: Json, fields: list[str]
) -> None:
    response = await service.rest("POST", PATH, json=body)
    assert refused_fields(response) == fields


async def test_errors_have_only_rest_names(service: Service) -> None:
    wrong = {"warehouse_id": "wh", "quantity": "5", "reason": [], "note": 1}
    requests: list[tuple[str, str, Json]] = [
        ("PUT", "/api/inventory/A", wrong),
        ("POST", PATH, {"updates": [{**wrong, "sku": 1}]}),
        ("POST", PATH, {"updates": [{}]}),
    ]
    for method, path, body in requests:
        response = await service.rest(method, path, json=body)
        assert refusal(response) == (422, "VALIDATION_ERROR")
        for word in ("SetStockInput", "warehouseId", "String cannot represent"):
            assert word not in response.text


@pytest.mark.parametrize("name", ["reason", "quantity", "note", "sku"])
async def test_every_malformed_update_is_reported(service: Service, name: str) -> None:
    wrong = {"reason": "No", "quantity": "5", "note": "x" * 1001, "sku": 5}[name]
    updates = [update(f"S{n}", "wh", **{name: wrong}) for n in range(500)]

    fields = [f"updates.{n}.{name}" for n in range(500)]
    assert refused_fields(await service.rest("POST", PATH, json={"updates": updates})) == fields


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (update("\x00", "wh"), "INVENTORY_NOT_FOUND"),
        (update("", "wh"), "INVENTORY_NOT_FOUND"),
        (update("A\x00", "wh"), "INVENTORY_NOT_FOUND"),
        (update("A%20", "wh"), "INVENTORY_NOT_FOUND"),
        (update("x" * 5000, "wh"), "INVENTORY_NOT_FOUND"),
        (update("A", "\x00"), "WAREHOUSE_NOT_FOUND"),
        (update("A", "wh_\x00"), "WAREHOUSE_NOT_FOUND"),
        (update("A", ""), "WAREHOUSE_NOT_FOUND"),
        (update("A", "x" * 5000), "WAREHOUSE_NOT_FOUND"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_impossible_codes_and_ids_are_not_found(
    service: Service, item: Json, code: str
) -> None:
    await service.load([], [sku("A")])

    response = await service.rest("POST", PATH, json={"updates": [item]})
    assert refusal(response) == (404, code)


@pytest.mark.parametrize("query", ["on_error=continue", "x=1"])
async def test_a_query_parameter_is_refused(service: Service, query: str) -> None:
    response = await service.rest("POST", f"{PATH}?{query}", json={"updates": []})
    assert refused_fields(response) == [query.partition("=")[0]]
