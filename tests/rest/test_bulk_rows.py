"""A bulk with `on_error: continue`: a row at fault fails alone, with all its faults."""

from typing import Any, Final

import pytest

from app.domain.records import WarehouseRecord
from tests.rest.answers import Json, answered, refusal, refused_fields
from tests.service import Service, level, sku, warehouse

PATH: Final = "/api/inventory/bulk"
TOO_MUCH: Final = 10**12 + 1


@pytest.fixture
async def main(service: Service) -> WarehouseRecord:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5)), sku("B", level(main, 5)), sku("C")])
    return main


def row(main: WarehouseRecord, code: object = "A", **more: object) -> Json:
    whole = {"sku": code, "warehouse_id": main.id, "quantity": 7, "reason": "cycle_count", **more}
    return {name: value for name, value in whole.items() if value is not ...}


async def send(service: Service, updates: list[Any], **more: object) -> Any:
    body = {"updates": updates, "on_error": "continue", **more}
    return answered(await service.rest("POST", PATH, json=body))


async def on_hand(service: Service, code: str) -> int:
    answer = answered(await service.rest("GET", f"/api/inventory/{code}"))
    return int(answer["data"]["total_on_hand"])


# Changes of a row, and the fields at fault.
FAULTS: Final[list[tuple[dict[str, Any], list[str]]]] = [
    ({"quantity": "7"}, ["quantity"]),
    ({"quantity": 2.5}, ["quantity"]),
    ({"quantity": True}, ["quantity"]),
    ({"quantity": []}, ["quantity"]),
    ({"quantity": TOO_MUCH}, ["quantity"]),
    ({"quantity": None}, ["quantity"]),
    ({"quantity": ...}, ["quantity"]),
    ({"delta": 1}, ["quantity"]),
    ({"quantity": ..., "delta": "1"}, ["delta"]),
    ({"quantity": ..., "delta": TOO_MUCH}, ["delta"]),
    ({"reason": "CYCLE_COUNT"}, ["reason"]),
    ({"reason": ""}, ["reason"]),
    ({"reason": None}, ["reason"]),
    ({"reason": 5}, ["reason"]),
    ({"note": "x" * 1_001}, ["note"]),
    ({"note": {"text": "x"}}, ["note"]),
    ({"reference": " "}, ["reference"]),
    ({"expected_quantity": -1}, ["expected_quantity"]),
    ({"expected_quantity": "5"}, ["expected_quantity"]),
    ({"sku": 7001}, ["sku"]),
    ({"sku": None}, ["sku"]),
    ({"warehouse_id": 5}, ["warehouse_id"]),
    ({"warehouse_id": ...}, ["warehouse_id"]),
    ({"price": 5}, ["price"]),
    ({"warehouseId": "wh"}, ["warehouseId"]),
    (
        {"sku": 1, "quantity": "x", "reason": "No", "note": "x" * 1_001, "price": 1},
        ["sku", "quantity", "price", "reason", "note"],
    ),
    (
        {"reason": None, "expected_quantity": -1, "quantity": TOO_MUCH, "reference": ""},
        ["reason", "quantity", "reference", "expected_quantity"],
    ),
]


async def test_a_malformed_row_fails_alone_with_all_its_faults(service: Service) -> None:
    main = warehouse()
    codes = [f"S{number}" for number in range(len(FAULTS) + 1)]
    await service.load([main], [sku(code, level(main, 5)) for code in codes])
    bad = [row(main, code, **changes) for code, (changes, _) in zip(codes, FAULTS, strict=False)]
    updates = [*bad, row(main, codes[-1])]

    answer = await send(service, updates)

    assert answer["meta"] == {"total": len(updates), "succeeded": 1, "failed": len(bad)}
    for update, (_, fields), result in zip(bad, FAULTS, answer["data"], strict=False):
        error = result["error"]
        assert [result["status"], error["code"]] == ["failed", "VALIDATION_ERROR"]
        assert [detail["field"] for detail in error["details"]] == fields
        assert all(field in error["message"] for field in fields)
        for name in ("sku", "warehouse_id"):
            sent = update.get(name)
            assert result[name] == (sent if isinstance(sent, str) else "")
    assert answer["data"][-1]["status"] == "updated"
    listed = answered(await service.rest("GET", "/api/inventory"))["data"]
    assert {it["sku"]: it["total_on_hand"] for it in listed} == {
        **dict.fromkeys(codes, 5),
        codes[-1]: 7,
    }
    # The same rows refuse a bulk that is all or nothing, with the same fields.
    assert refused_fields(await service.rest("POST", PATH, json={"updates": updates})) == [
        f"updates.{index}.{field}" for index, (_, fields) in enumerate(FAULTS) for field in fields
    ]


async def test_every_row_of_a_repeated_level_fails(service: Service, main: WarehouseRecord) -> None:
    updates = [row(main), row(main, "B"), row(main, quantity="9"), row(main, quantity=8)]
    answer = await send(service, updates)

    assert [result["status"] for result in answer["data"]] == [
        *("failed", "updated", "failed", "failed")
    ]
    messages = [answer["data"][index]["error"]["message"] for index in (0, 2, 3)]
    assert messages[0] == "update is for the same level as updates.2."
    assert messages[2] == "update is for the same level as updates.0."
    assert "quantity must be a whole number" in messages[1]
    assert "update is for the same level as updates.0" in messages[1]
    assert await on_hand(service, "A") == 5


async def test_rows_without_a_level_are_not_repetitions(
    service: Service, main: WarehouseRecord
) -> None:
    answer = await send(service, [row(main, None), row(main, None), row(main, "A")])

    assert [result["status"] for result in answer["data"]] == ["failed", "failed", "updated"]
    for result in answer["data"][:2]:
        assert [detail["field"] for detail in result["error"]["details"]] == ["sku"]


async def test_a_bulk_of_malformed_rows_alone_is_answered(
    service: Service, main: WarehouseRecord
) -> None:
    answer = await send(service, [row(main, quantity="7"), {}])

    assert answer["meta"] == {"total": 2, "succeeded": 0, "failed": 2}
    names = [detail["field"] for detail in answer["data"][1]["error"]["details"]]
    assert names == ["sku", "warehouse_id", "reason", "quantity"]


@pytest.mark.parametrize(
    ("updates", "fields"),
    [
        ([], ["updates"]),
        ({}, ["updates"]),
        ("rows", ["updates"]),
        ([{}] * 501, ["updates"]),
        ([{}] * 1_001, ["updates"]),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_request_without_a_list_of_objects_is_refused_whole(
    service: Service, updates: object, fields: list[str]
) -> None:
    body = {"updates": updates, "on_error": "continue"}
    assert refused_fields(await service.rest("POST", PATH, json=body)) == fields


async def test_a_row_that_is_not_an_object_fails_alone(
    service: Service, main: WarehouseRecord
) -> None:
    bad: list[Any] = [5, None, [], "row", True]
    answer = await send(service, [*bad, row(main)])

    assert [result["status"] for result in answer["data"]] == [*["failed"] * len(bad), "updated"]
    for result in answer["data"][: len(bad)]:
        assert (result["sku"], result["warehouse_id"]) == ("", "")
        assert result["error"]["message"] == "update must be an object."
        assert result["error"]["details"] == [{"field": "update", "message": "must be an object"}]
    assert await on_hand(service, "A") == 7

    for body in ({"updates": [row(main), 5]}, {"updates": [row(main), 5], "unknown": 1}):
        assert "updates.1" in refused_fields(await service.rest("POST", PATH, json=body))


async def test_an_answer_to_invented_fields_is_bounded(
    service: Service, main: WarehouseRecord
) -> None:
    invented = row(main, **{f"{'x' * 30}{number}": 1 for number in range(1_000)})
    body = {"updates": [invented], "on_error": "continue"}
    response = await service.rest("POST", PATH, json=body)

    [result] = answered(response)["data"]
    assert len(result["error"]["details"]) == 20
    assert len(response.content) < 8_000


async def test_a_malformed_row_belongs_to_the_request_of_its_key(
    service: Service, main: WarehouseRecord
) -> None:
    async def post(quantity: object, price: str) -> Any:
        updates = [row(main, quantity=quantity, **{price: 1}), row(main, "B")]
        headers = {"Idempotency-Key": "k-1"}
        body = {"updates": updates, "on_error": "continue"}
        return await service.rest("POST", PATH, json=body, headers=headers)

    first = await post("7", "warehouseId")
    again = await post("7", "warehouseId")
    assert answered(again) == answered(first)
    assert again.headers["Idempotent-Replayed"] == "true"
    fields = [detail["field"] for detail in answered(again)["data"][0]["error"]["details"]]
    assert fields == ["quantity", "warehouseId"]
    assert refusal(await post(7, "warehouseId")) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert await on_hand(service, "B") == 7


async def test_null_is_as_if_left_out(service: Service, main: WarehouseRecord) -> None:
    nulls = dict.fromkeys(("delta", "note", "reference", "expected_quantity"))
    body = {"updates": [row(main, **nulls)], "on_error": None, "skip_unchanged": None}
    answered(await service.rest("POST", PATH, json=body))
    assert await on_hand(service, "A") == 7


async def test_graphql_fails_rows_with_faulty_values_alone(
    service: Service, main: WarehouseRecord
) -> None:
    updates = [
        {"sku": "A", "warehouseId": main.id, "change": {"quantity": TOO_MUCH}, "reason": "No"},
        {"sku": "B", "warehouseId": main.id, "change": {"quantity": 9}, "reason": "cycle_count"},
        {"sku": "C", "warehouseId": "wh_x", "change": {"delta": 9}, "reason": "cycle_count"},
    ]
    data = await service.data(
        "mutation ($updates: [StockUpdateInput!]!) { bulkSetStock(input: {updates: $updates, "
        "onError: CONTINUE}) { failed results { error { code fields { field message } } } } }",
        {"updates": updates},
    )

    bulk = data["bulkSetStock"]
    assert bulk["failed"] == 2
    error, none, missing = (result["error"] for result in bulk["results"])
    assert error["code"] == "VALIDATION_ERROR"
    assert [each["field"] for each in error["fields"]] == ["quantity", "reason"]
    assert none is None
    assert missing == {"code": "WAREHOUSE_NOT_FOUND", "fields": []}
