"""PUT /api/inventory/{sku}: validation, written rows, and the order of the checks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final

import httpx
import pytest

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from tests.rest import model
from tests.rest.answers import Json, answered, ordered, refusal, refused_fields
from tests.service import EMAIL, Service, level, sku, warehouse

PATH: Final = "/api/inventory/A"
JSON: Final = {"Content-Type": "application/json"}
MAX: Final = 10**12


async def put(service: Service, warehouse: WarehouseRecord, quantity: int, **more: str) -> Any:
    body = {"warehouse_id": warehouse.id, "quantity": quantity, "reason": "cycle_count", **more}
    return await service.rest("PUT", PATH, json=body)


async def put_text(service: Service, fields: Mapping[str, str]) -> httpx.Response:
    """Send a PUT with a body whose values are JSON text."""
    text = ",".join(f"{json.dumps(name)}:{value}" for name, value in fields.items())
    return await service.rest("PUT", PATH, content=f"{{{text}}}", headers=JSON)


async def state(service: Service) -> tuple[Json, list[Json]]:
    record = answered(await service.rest("GET", PATH))["data"]
    return record, answered(await service.rest("GET", f"{PATH}/adjustments"))["data"]


async def test_put_returns_the_record_and_writes_one_adjustment(service: Service) -> None:
    warehouses = model.warehouses()
    main, fba = warehouses[0], next(each for each in warehouses if each.type == "FBA")
    stock = [level(main, 30, reserved=4, safety_stock=10), level(fba, 7, reserved=1)]
    await service.load(warehouses, [sku("A", *stock)])

    response = await put(service, main, 12, note="Aisle 4, größer 📦")

    after = sku("A", level(main, 12, reserved=4, safety_stock=10), stock[1])
    expected = {"data": model.record(after, warehouses)}
    assert answered(response) == expected
    assert ordered(response.text) == ordered(json.dumps(expected))
    record, [newest, *older] = await state(service)
    assert record == expected["data"]
    assert len(older) == 2
    id_, created_at = newest["id"], newest["created_at"]
    assert newest == {
        "id": id_,
        "sku": "A",
        "warehouse_id": main.id,
        "before_quantity": 30,
        "after_quantity": 12,
        "delta": -18,
        "reason": "cycle_count",
        "note": "Aisle 4, größer 📦",
        "created_by": EMAIL,
        "created_at": created_at,
    }
    assert id_.startswith("adj_")
    assert len(id_) == 30


@pytest.mark.parametrize(
    ("before", "quantity"), [(0, 0), (5, 5), (5, 0), (0, 5), (0, MAX), (MAX, MAX - 1), (9, 1)]
)
async def test_put_with_an_unchanged_quantity_writes_an_adjustment(
    service: Service, before: int, quantity: int
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, before, reserved=7))])

    record = answered(await put(service, main, quantity))["data"]
    assert record["total_on_hand"] == quantity
    assert record["total_available"] == quantity - 7
    _, [newest, *older] = await state(service)
    assert len(older) == 1
    assert (newest["before_quantity"], newest["after_quantity"], newest["delta"]) == (
        before,
        quantity,
        quantity - before,
    )
    assert "note" not in newest


@pytest.mark.parametrize("quantity", [0, 9])
async def test_put_creates_a_missing_stock_level(service: Service, quantity: int) -> None:
    first, second = sorted([warehouse("One"), warehouse("Two")], key=lambda each: each.id)
    await service.load([first, second], [sku("A", level(second, 5)), sku("B", level(second, 5))])

    expected = model.record(sku("A", level(first, quantity), level(second, 5)), [first, second])
    assert answered(await put(service, first, quantity)) == {"data": expected}
    record, [newest, _] = await state(service)
    assert record == expected
    assert (newest["before_quantity"], newest["delta"]) == (0, quantity)
    listed = await service.rest("GET", "/api/inventory", params={"warehouse_id": first.id})
    assert answered(listed) == {
        "data": [model.record(sku("A", level(first, quantity)), [first])],
        "meta": {"total": 1, "limit": 50, "nextCursor": None},
    }


@pytest.mark.parametrize(
    ("type_", "is_active", "on_hand", "quantity", "expected"),
    [
        (WarehouseType.OWN, True, 5, 9, 200),
        (WarehouseType.THIRD_PARTY, True, 5, 9, 200),
        (WarehouseType.OWN, True, 5, -1, (422, "NEGATIVE_QUANTITY")),
        (WarehouseType.OWN, True, 5, -(10**6), (422, "NEGATIVE_QUANTITY")),
        (WarehouseType.OWN, True, 5, -MAX - 1, (422, "NEGATIVE_QUANTITY")),
        (WarehouseType.OWN, True, 5, -(2**63), (422, "NEGATIVE_QUANTITY")),
        (WarehouseType.OWN, True, 5, -(2**63) - 1, (422, "NEGATIVE_QUANTITY")),
        (WarehouseType.OWN, True, 5, -(10**4000), (422, "NEGATIVE_QUANTITY")),
        (WarehouseType.OWN, True, 5, MAX, 200),
        (WarehouseType.OWN, True, 5, MAX + 1, (422, "VALIDATION_ERROR")),
        (WarehouseType.OWN, True, 5, 2**63, (422, "VALIDATION_ERROR")),
        (WarehouseType.OWN, True, 5, 2**64, (422, "VALIDATION_ERROR")),
        (WarehouseType.OWN, True, 5, 10**4000, (422, "VALIDATION_ERROR")),
        (WarehouseType.FBA, True, 5, 4, (403, "READONLY_WAREHOUSE")),
        (WarehouseType.FBA, True, 5, 5, (403, "READONLY_WAREHOUSE")),
        (WarehouseType.FBS, True, 5, 6, (403, "READONLY_WAREHOUSE")),
        (WarehouseType.FBS, False, 5, 0, (403, "READONLY_WAREHOUSE")),
        (WarehouseType.FBA, True, 5, -1, (403, "READONLY_WAREHOUSE")),
        (WarehouseType.OWN, False, 5, 6, (422, "WAREHOUSE_INACTIVE")),
        (WarehouseType.THIRD_PARTY, False, 5, MAX, (422, "WAREHOUSE_INACTIVE")),
        (WarehouseType.OWN, False, 5, 5, 200),
        (WarehouseType.OWN, False, 5, 4, 200),
        (WarehouseType.THIRD_PARTY, False, 5, 1, 200),
        (WarehouseType.OWN, False, 5, 0, 200),
        (WarehouseType.OWN, False, 5, -1, (422, "NEGATIVE_QUANTITY")),
        (WarehouseType.OWN, False, None, 1, (422, "WAREHOUSE_INACTIVE")),
        (WarehouseType.OWN, False, None, 0, 200),
        (WarehouseType.FBA, True, None, 1, (403, "READONLY_WAREHOUSE")),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_writes_that_each_type_of_warehouse_accepts(
    service: Service,
    type_: WarehouseType,
    *,
    is_active: bool,
    on_hand: int | None,
    quantity: int,
    expected: object,
) -> None:
    main = warehouse("Place", type_, is_active=is_active)
    levels = [] if on_hand is None else [level(main, on_hand)]
    await service.load([main], [sku("A", *levels)])
    before = await state(service)

    response = await put(service, main, quantity)
    if expected == 200:
        after = model.record(sku("A", level(main, quantity)), [main])
        assert answered(response) == {"data": after}
        assert (await state(service))[0] == after
    else:
        assert refusal(response) == expected
        assert await state(service) == before


WRONG: Final = {
    "quantity": [
        *("5.0", "5.5", "0.0", "-0.0", "-1.5", "1e3", "1E3", "1e-1", "1.0e12"),
        *("true", "false", "null", "[]", "[5]", "{}"),
        *('"5"', '""', '{"value":5}', "1000000000001"),
    ],
    "warehouse_id": ["1", "1.5", "true", "null", "[]", '["wh"]', "{}"],
    "reason": [
        *("1", "true", "null", "[]", "{}", '["loss"]', '""', '" "', '" loss"'),
        *('"Loss"', '"9a"', '"_a"', '"a-b"', '"a b"', '"ä"', '"aä"', '"٣"', '"a٣"'),
        *(r'"loss\n"', r'"loss\u0000"', json.dumps("a" * 65)),
    ],
    "note": [
        *("1", "1.5", "true", "false", "[]", '["x"]', "{}", r'"a\u0000b"'),
        *(json.dumps("x" * 1001), json.dumps("📦" * 1001)),
    ],
    **{name: ["1"] for name in ("Quantity", "", "on_hand", "warehouseId", "sku", "version", "é")},
}


@pytest.mark.parametrize("name", WRONG)
async def test_invalid_field_is_reported_and_nothing_is_written(
    service: Service, name: str
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    before = await state(service)

    for text in WRONG[name]:
        fields = {"warehouse_id": json.dumps(main.id), "quantity": "7", "reason": '"loss"'}
        response = await put_text(service, {**fields, name: text})
        assert (text, refused_fields(response)) == (text, [name])
    assert await state(service) == before


@pytest.mark.parametrize("missing", ["warehouse_id", "quantity", "reason"])
async def test_missing_field_is_reported(service: Service, missing: str) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])

    fields = {"warehouse_id": json.dumps(main.id), "quantity": "7", "reason": '"loss"'}
    del fields[missing]
    assert refused_fields(await put_text(service, fields)) == [missing]


async def test_all_missing_fields_are_reported(service: Service) -> None:
    await service.load([], [sku("A")])

    response = await service.rest("PUT", PATH, json={})
    assert refused_fields(response) == ["warehouse_id", "quantity", "reason"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("quantity", "0"),
        ("quantity", "-0"),
        ("quantity", "1000000000000"),
        ("reason", '"a"'),
        ("reason", '"a_9_"'),
        ("reason", '"never_heard_of"'),
        ("reason", json.dumps("a" * 64)),
        ("note", "null"),
        ("note", json.dumps("x" * 1000)),
        ("note", json.dumps("📦" * 1000)),
        ("note", json.dumps("\u2028 \t\n\x7f\x01 \\ \" ' <b>&amp;")),
        ("note", r'"\ud83d\udce6"'),
    ],
    ids=lambda value: value[:24],
)
async def test_boundary_values_are_stored_unchanged(service: Service, name: str, text: str) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])

    fields = {"warehouse_id": json.dumps(main.id), "quantity": "7", "reason": '"loss"', name: text}
    answered(await put_text(service, fields))
    _, [newest, _] = await state(service)
    kept = "after_quantity" if name == "quantity" else name
    assert newest.get(kept) == json.loads(text)


@pytest.mark.parametrize("body", ["null", "1", '"x"', "[]", "true", "1.5", '[{"quantity":1}]'])
async def test_body_that_is_not_an_object_is_rejected(service: Service, body: str) -> None:
    for method, path in (("PUT", PATH), ("POST", "/api/inventory/bulk")):
        response = await service.rest(method, path, content=body, headers=JSON)
        assert refused_fields(response) == ["body"]


async def test_totals_are_exact_beyond_doubles(service: Service) -> None:
    warehouses = [warehouse(str(number)) for number in range(3)]
    stock = [level(each, MAX - number) for number, each in enumerate(warehouses)]
    await service.load(warehouses, [sku("A", *stock)])

    record = answered(await put(service, warehouses[2], MAX - 9))["data"]
    assert record["total_on_hand"] == 3 * MAX - 10
    assert record["total_available"] == 3 * MAX - 10


@dataclass
class Attempt:
    """A valid request into which a test puts faults."""

    body: dict[str, Any]
    scope: str | None = "write"
    path: str = PATH
    warehouses: dict[str, WarehouseRecord] = field(default_factory=dict)


def without_credential(attempt: Attempt) -> None:
    attempt.scope = None


def without_scope(attempt: Attempt) -> None:
    attempt.scope = "read" if attempt.scope else None


def misshapen(attempt: Attempt) -> None:
    attempt.body["reason"] = "No Reason"


def of_unknown_sku(attempt: Attempt) -> None:
    attempt.path = "/api/inventory/unknown"


def in_unknown_warehouse(attempt: Attempt) -> None:
    attempt.body["warehouse_id"] = "wh_unknown"


def in_readonly_warehouse(attempt: Attempt) -> None:
    if attempt.body["warehouse_id"] != "wh_unknown":
        attempt.body["warehouse_id"] = attempt.warehouses["FBA"].id


def negative(attempt: Attempt) -> None:
    attempt.body["quantity"] = -1


FAULTS: Final[list[tuple[Callable[[Attempt], None], tuple[int, str]]]] = [
    (without_credential, (401, "UNAUTHENTICATED")),
    (without_scope, (403, "INSUFFICIENT_SCOPE")),
    (misshapen, (422, "VALIDATION_ERROR")),
    (of_unknown_sku, (404, "INVENTORY_NOT_FOUND")),
    (in_unknown_warehouse, (404, "WAREHOUSE_NOT_FOUND")),
    (in_readonly_warehouse, (403, "READONLY_WAREHOUSE")),
    (negative, (422, "NEGATIVE_QUANTITY")),
]


async def test_first_checked_error_is_returned(service: Service) -> None:
    warehouses = {"own": warehouse(), "FBA": warehouse("FBA", WarehouseType.FBA)}
    await service.load(
        [*warehouses.values()], [sku("A", *(level(it, 5) for it in warehouses.values()))]
    )
    before = await state(service)

    for (first, expected), (second, _) in combinations(FAULTS, 2):
        attempt = Attempt(
            {"warehouse_id": warehouses["own"].id, "quantity": 6, "reason": "loss"},
            warehouses=warehouses,
        )
        first(attempt)
        second(attempt)
        alone = await service.rest("PUT", attempt.path, token=attempt.scope, json=attempt.body)
        assert (first, second, refusal(alone)) == (first, second, expected)
        if attempt.path == PATH:
            bulk = {"updates": [{"sku": "A", **attempt.body}]}
        else:
            bulk = {"updates": [{"sku": "unknown", **attempt.body}]}
        many = await service.rest("POST", "/api/inventory/bulk", token=attempt.scope, json=bulk)
        assert (first, second, refusal(many)) == (first, second, expected)
    assert await state(service) == before


@pytest.mark.parametrize("content", ["{", "", "\xff"])
async def test_credential_and_scope_are_checked_before_the_body_is_read(
    service: Service, content: str
) -> None:
    raw = content.encode("latin-1")
    for path, method in ((PATH, "PUT"), ("/api/inventory/bulk", "POST")):
        result = [
            refusal(await service.rest(method, path, token=token, content=raw))
            for token in (None, "read")
        ]
        assert result == [(401, "UNAUTHENTICATED"), (403, "INSUFFICIENT_SCOPE")]
