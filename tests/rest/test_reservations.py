"""Reservations through REST, which extend the published routes."""

from datetime import timedelta
from typing import Any, Final

import pytest

from tests.clocks import clocks_at
from tests.ledger.writes import assert_proven
from tests.rest.answers import answered, refusal
from tests.service import EMAIL, Service, level, now, sku, warehouse

MAIN: Final = warehouse()
PATH: Final = "/api/inventory/reservations"


@pytest.fixture
async def stocked(service: Service) -> Service:
    await service.load([MAIN], [sku("A/1", level(MAIN, 10)), sku("B", level(MAIN, 5))])
    return service


def body(quantity: Any = 4, **more: Any) -> dict[str, Any]:
    lines = [{"sku": "A/1", "warehouse_id": MAIN.id, "quantity": quantity}]
    return {"lines": lines, **more}


async def reserved(service: Service, **more: Any) -> dict[str, Any]:
    response = await service.rest("POST", PATH, json=body(**more))
    assert response.status_code == 201, response.text
    result: dict[str, Any] = response.json()["data"]
    assert response.headers["Location"] == f"{PATH}/{result['id']}"
    return result


async def test_a_repeated_creation_has_the_same_location_and_a_dry_run_has_none(
    stocked: Service,
) -> None:
    key = {"Idempotency-Key": "once"}
    first, again = [await stocked.rest("POST", PATH, json=body(), headers=key) for _ in "12"]
    preview = await stocked.rest("POST", f"{PATH}?dry_run=true", json=body())

    assert (first.status_code, again.status_code, preview.status_code) == (201, 201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["Location"] == again.headers["Location"]
    assert (await stocked.rest("GET", first.headers["Location"])).json() == first.json()
    assert "Location" not in preview.headers


async def test_committed_reservation_is_readable_and_in_the_ledger(
    stocked: Service,
) -> None:
    made = await reserved(stocked, reference="order-1", note="Box")
    assert list(made) == [
        *("id", "status", "reference", "note", "created_by", "created_at", "expires_at", "lines"),
    ]
    assert (made["status"], made["created_by"]) == ("open", EMAIL)
    assert made["lines"] == [
        {"sku": "A/1", "warehouse_id": MAIN.id, "quantity": 4, "held": 4, "committed": 0}
    ]
    path = f"{PATH}/{made['id']}"
    assert (await stocked.rest("GET", path)).json() == {"data": made}
    record = (await stocked.rest("GET", "/api/inventory/A%2F1")).json()["data"]
    assert record["warehouses"][0]["reserved"] == 4

    lines = body(quantity=3)["lines"]
    done = await stocked.rest("POST", f"{path}/commit", json={"lines": lines, "reason": "shipped"})
    data = done.json()["data"]
    [entry] = data["adjustments"]
    assert (data["status"], data["lines"][0]["committed"]) == ("committed", 3)
    assert (entry["delta"], entry["reason"], entry["reference"]) == (-3, "shipped", "order-1")
    history = (await stocked.rest("GET", "/api/inventory/A%2F1/adjustments")).json()["data"]
    assert history[0] == entry
    again = await stocked.rest("POST", f"{path}/commit", json={})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "RESERVATION_ENDED")
    await assert_proven(stocked)


async def test_reservations_are_listed_by_stock_with_what_they_hold(stocked: Service) -> None:
    first, second = [await reserved(stocked, quantity=each, reference="order-1") for each in (1, 2)]
    await stocked.rest("POST", f"{PATH}/{first['id']}/release")
    for query in ("sku=A/1", f"warehouse_id={MAIN.id}", f"sku=A/1&warehouse_id={MAIN.id}"):
        found = (await stocked.rest("GET", f"{PATH}?{query}")).json()
        assert [each["id"] for each in found["data"]] == [second["id"], first["id"]]
        assert found["meta"] == {"total": 2, "limit": 50, "nextCursor": None, "held": 2}
        found = (await stocked.rest("GET", f"{PATH}?{query}&status=open")).json()
        assert [each["id"] for each in found["data"]] == [second["id"]]
    by_reference = (await stocked.rest("GET", f"{PATH}?reference=order-1")).json()
    assert by_reference["meta"] == {"total": 2, "limit": 50, "nextCursor": None}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("sku=", 422, "VALIDATION_ERROR"),
        ("warehouse_id=", 422, "VALIDATION_ERROR"),
        ("sku=A/1&status=released", 422, "VALIDATION_ERROR"),
        ("sku=A/1&reference=order-1", 422, "VALIDATION_ERROR"),
        ("sku=C", 404, "INVENTORY_NOT_FOUND"),
        ("warehouse_id=wh_1", 404, "WAREHOUSE_NOT_FOUND"),
    ],
)
async def test_a_list_by_stock_that_is_not_valid_is_refused(
    stocked: Service, query: str, status: int, code: str
) -> None:
    assert refusal(await stocked.rest("GET", f"{PATH}?{query}")) == (status, code)


async def test_released_stock_is_available_again(stocked: Service) -> None:
    made = await reserved(stocked, quantity=10)
    refused = await stocked.rest("POST", PATH, json=body())
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "INSUFFICIENT_STOCK")
    path = f"{PATH}/{made['id']}/release"
    preview = await stocked.rest("POST", f"{path}?dry_run=true", json={})
    assert preview.json()["data"]["status"] == "released"
    headers = {"Idempotency-Key": "release-1"}
    answers = [await stocked.rest("POST", path, json={}, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    await reserved(stocked, quantity=10)
    await assert_proven(stocked)


async def test_reservations_are_listed_page_by_page(stocked: Service) -> None:
    made = [await reserved(stocked, quantity=1, reference=f"order-{n % 2}") for n in range(3)]
    await stocked.rest("POST", f"{PATH}/{made[0]['id']}/release", json={})
    first = (await stocked.rest("GET", f"{PATH}?limit=2")).json()
    assert first["meta"]["total"] == 3
    cursor = first["meta"]["nextCursor"]
    second = (await stocked.rest("GET", f"{PATH}?limit=2&cursor={cursor}")).json()
    assert second["meta"]["nextCursor"] is None
    result = [it["id"] for it in first["data"] + second["data"]]
    assert result == [it["id"] for it in reversed(made)]
    for query, expected in (
        ("status=open", [2, 1]),
        ("status=released", [0]),
        ("reference=order-0", [2, 0]),
        ("status=open&reference=order-0", [2]),
        ("status=expired", []),
    ):
        listed = (await stocked.rest("GET", f"{PATH}?{query}")).json()
        assert [it["id"] for it in listed["data"]] == [made[n]["id"] for n in expected]
        assert listed["meta"]["total"] == len(expected)


@pytest.mark.parametrize(
    ("content", "status", "code", "field"),
    [
        (body(quantity="4"), 422, "VALIDATION_ERROR", "lines.0.quantity"),
        (body(quantity=4.0), 422, "VALIDATION_ERROR", "lines.0.quantity"),
        (body(quantity=0), 422, "VALIDATION_ERROR", "lines.0.quantity"),
        (body(expires_in="60"), 422, "VALIDATION_ERROR", "expires_in"),
        (body(expires_in=0), 422, "VALIDATION_ERROR", "expires_in"),
        (body(allow_oversell="yes"), 422, "VALIDATION_ERROR", "allow_oversell"),
        (body(unknown=1), 422, "VALIDATION_ERROR", "unknown"),
        (body(reference=1), 422, "VALIDATION_ERROR", "reference"),
        ({}, 422, "VALIDATION_ERROR", "lines"),
        ([], 422, "VALIDATION_ERROR", "body"),
        (body(allow_oversell=True), 403, "OVERSELL_NOT_PERMITTED", None),
    ],
)
async def test_invalid_reservation_is_rejected(
    stocked: Service, content: Any, status: int, code: str, field: str | None
) -> None:
    response = await stocked.rest("POST", PATH, json=content)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    if field is not None:
        assert [it["field"] for it in error["details"]] == [field]


@pytest.mark.parametrize("action", ["commit", "release"])
async def test_reads_show_what_a_refusal_says_of_an_expired_reservation(
    service: Service, action: str
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    path = "/api/inventory/reservations"
    line = {"sku": "A", "warehouse_id": main.id, "quantity": 5}
    body = {"lines": [line], "expires_in": 1, "reference": "cart"}
    at = now().replace(microsecond=0)
    async with clocks_at(service.database, at):
        held = answered(await service.rest("POST", path, json=body), 201)["data"]
    async with clocks_at(service.database, at + timedelta(seconds=2)):
        one = f"{path}/{held['id']}"
        dry = await service.rest("POST", f"{one}/{action}?dry_run=true", json={})
        assert refusal(dry) == (409, "RESERVATION_ENDED")
        assert answered(await service.rest("GET", one))["data"]["status"] == "open"

        refused = await service.rest("POST", f"{one}/{action}", json={})
        assert refusal(refused) == (409, "RESERVATION_ENDED")
        [said] = refused.json()["error"]["details"]
        shown = answered(await service.rest("GET", one))["data"]
        assert {name: shown[name] for name in said} == said
        assert shown["lines"][0]["held"] == 0
        listed = await service.rest("GET", f"{path}?status=open&reference=cart")
        assert answered(listed)["meta"]["total"] == 0
        record = answered(await service.rest("GET", "/api/inventory/A"))["data"]
        assert (record["total_reserved"], record["total_available"]) == (0, 5)
        again = await service.rest("POST", f"{one}/{action}", json={})
        assert again.json()["error"]["details"] == [said]
    await assert_proven(service)


@pytest.mark.parametrize("action", ["", "/commit", "/release"])
async def test_unknown_reservation_is_404(stocked: Service, action: str) -> None:
    content: dict[str, object] | None = {} if action else None
    method = "POST" if action else "GET"
    response = await stocked.rest(method, f"{PATH}/rsv_NOPE{action}", json=content)
    assert (response.status_code, response.json()["error"]["code"]) == (
        *(404, "RESERVATION_NOT_FOUND"),
    )


async def test_writes_carry_a_reference_into_the_ledger(stocked: Service) -> None:
    common = {"warehouse_id": MAIN.id, "reason": "cycle_count", "reference": "count-7"}
    await stocked.rest("PUT", "/api/inventory/B", json={"quantity": 6, **common})
    await stocked.rest("POST", "/api/inventory/B/adjustments", json={"delta": 1, **common})
    updates = [{"sku": "B", "quantity": 8, **common}]
    await stocked.rest("POST", "/api/inventory/bulk", json={"updates": updates})
    history = (await stocked.rest("GET", "/api/inventory/B/adjustments")).json()["data"]
    assert [it.get("reference") for it in history] == ["count-7"] * 3 + [None]
    data = await stocked.data(
        '{ adjustments(filter: {reference: "count-7"}) { totalCount nodes { delta } } }'
    )
    assert data["adjustments"]["totalCount"] == 3
    bad = await stocked.rest(
        "PUT", "/api/inventory/B", json={"quantity": 6, **common, "reference": ""}
    )
    assert bad.json()["error"]["details"][0]["field"] == "reference"
