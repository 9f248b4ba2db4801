"""Reservations that follow an order: no expiry, a rest that is kept, other lines, any warehouse."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any, Final

import pytest

from app.domain.reservations import MAX_LINE_WAREHOUSES
from app.domain.validation import MAX_BULK_UPDATES
from app.writes.expiry import expire_reservations
from app.writes.tenants import update_permissions
from tests.clocks import clocks_at
from tests.ledger.feed import read_changes
from tests.ledger.reservations import (
    CLOSED,
    COMMIT,
    EXTEND,
    MAIN,
    MARKET,
    OTHER,
    RELEASE,
    RESERVE,
    line,
    refusal,
    reserve,
    stocked,
)
from tests.ledger.writes import assert_proven
from tests.service import Service, level, now, sku, warehouse

AMEND: Final = RESERVE.replace("ReserveStockInput", "AmendReservationInput").replace(
    "reserveStock", "amendReservation"
)
SUCCESSOR: Final = "successor { id status reference note version lines { sku { sku } held } } "
KEEP_REST: Final = COMMIT.replace("    adjustments", f"    {SUCCESSOR} adjustments")
ANY: Final = (MAIN.id, OTHER.id)


def anywhere(code: str, quantity: int, *ids: str, split: bool = False) -> dict[str, object]:
    """Build a line that may come from any of some warehouses."""
    return {"sku": code, "quantity": quantity, "warehouseIds": [*(ids or ANY)], "split": split}


def held_of(reservation: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Return the held quantity by SKU code and warehouse id."""
    lines = reservation["lines"]
    return {(it["sku"]["sku"], it["warehouse"]["id"]): it["held"] for it in lines}


async def amended(service: Service, id_: str, *lines: dict[str, object]) -> dict[str, Any]:
    data = await service.data(AMEND, {"input": {"id": id_, "lines": [*lines]}})
    result: dict[str, Any] = data["amendReservation"]["reservation"]
    return result


async def reserved(service: Service, code: str) -> int:
    data = await service.data(
        "query ($sku: String!) { sku(sku: $sku) { totalReserved } }", {"sku": code}
    )
    total: int = data["sku"]["totalReserved"]
    return total


async def test_a_reservation_without_expiry_holds_until_it_is_ended(service: Service) -> None:
    await stocked(service)
    refused = await refusal(service, RESERVE, lines=[line("A", 1)], expiresIn=None)
    assert refused["code"] == "EXPIRY_REQUIRED"
    short = await reserve(service, line("A", 1))
    refused = await refusal(service, EXTEND, id=short["id"], expiresIn=None)
    assert refused["code"] == "EXPIRY_REQUIRED"

    await update_permissions(service.database, service.tenant_id, no_expiry=True)
    held = await reserve(service, line("A", 2), expiresIn=None)
    assert held["expiresAt"] is None
    data = await service.data(EXTEND, {"input": {"id": short["id"], "expiresIn": None}})
    assert data["extendReservation"]["reservation"]["expiresAt"] is None
    # A reservation that holds until it is ended does not get an expiry.
    data = await service.data(EXTEND, {"input": {"id": short["id"], "expiresIn": 60}})
    assert data["extendReservation"]["reservation"]["expiresAt"] is None
    async with clocks_at(service.database, now() + timedelta(days=400)):
        assert await expire_reservations(service.database, service.tenant_id) == 0
    assert await reserved(service, "A") == 3
    await assert_proven(service)
    # The permission concerns new reservations, and not those that exist.
    await update_permissions(service.database, service.tenant_id, no_expiry=False)
    await service.data(COMMIT, {"input": {"id": held["id"]}})
    await service.data(RELEASE, {"input": {"id": short["id"]}})
    await assert_proven(service)


async def test_an_extension_must_say_how_long(service: Service) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 1))
    refused = await refusal(service, EXTEND, id=held["id"])
    assert [it["field"] for it in refused["details"]] == ["expiresIn"]


async def test_a_commit_keeps_the_rest_in_a_new_reservation(service: Service) -> None:
    await stocked(service)
    first = await reserve(
        service, line("A", 5), line("B", 2), reference="order-1", note="Box", expiresIn=3600
    )
    part = [line("A", 2), line("B", 2)]
    content = {"id": first["id"], "lines": part, "keepRest": True}
    assert (await service.data(KEEP_REST, {"input": {**content, "dryRun": True}}))[
        "commitReservation"
    ]["successor"]["lines"] == [{"sku": {"sku": "A"}, "held": 3}]
    done = (await service.data(KEEP_REST, {"input": {**content, "idempotencyKey": "once"}}))[
        "commitReservation"
    ]
    assert done["reservation"]["status"] == "COMMITTED"
    rest = done["successor"]
    assert rest["id"] != first["id"]
    assert (rest["status"], rest["reference"], rest["note"], rest["version"]) == (
        *("OPEN", "order-1"),
        *("Box", 1),
    )
    assert rest["lines"] == [{"sku": {"sku": "A"}, "held": 3}]
    assert (await reserved(service, "A"), await reserved(service, "B")) == (3, 0)
    await assert_proven(service)
    again = await service.data(KEEP_REST, {"input": {**content, "idempotencyKey": "once"}})
    assert again["commitReservation"]["replayed"] is True
    assert again["commitReservation"]["successor"]["id"] == rest["id"]

    expiry = "query ($id: ID!) { reservation(id: $id) { expiresAt } }"
    times = [(await service.data(expiry, {"id": it["id"]}))["reservation"] for it in (first, rest)]
    assert times[0] == times[1]
    # Nothing is left to keep.
    content = {"id": rest["id"], "keepRest": True}
    done = (await service.data(KEEP_REST, {"input": content}))["commitReservation"]
    assert done["successor"] is None
    await assert_proven(service)


async def test_nobody_gets_the_rest_between_a_commit_and_its_successor(service: Service) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 40))])
    owned = [await reserve(service, line("A", 4)) for _ in range(10)]
    commits = [
        service.graphql(
            KEEP_REST,
            {"input": {"id": it["id"], "lines": [line("A", 1)], "keepRest": True}},
        )
        for it in owned
    ]
    thefts = [service.graphql(RESERVE, {"input": {"lines": [line("A", 1)]}}) for _ in range(20)]
    mixed = [work for pair in zip(commits, thefts[:10], strict=True) for work in pair]
    answers = await asyncio.gather(*mixed, *thefts[10:])
    codes = Counter(
        it["errors"][0]["extensions"]["code"] if "errors" in it else "done" for it in answers
    )
    assert codes == {"done": 10, "INSUFFICIENT_STOCK": 20}
    assert await reserved(service, "A") == 30
    await assert_proven(service)


async def test_an_amendment_replaces_the_lines(service: Service) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 4), line("B", 2), reference="order-1")
    changed = await amended(service, held["id"], line("A", 6), line("A", 2, OTHER.id))
    assert held_of(changed) == {("A", MAIN.id): 6, ("A", OTHER.id): 2}
    assert (changed["id"], changed["version"], changed["reference"]) == (held["id"], 2, "order-1")
    assert changed["expiresAt"] == held["expiresAt"]
    assert [it["quantity"] for it in changed["lines"]] == [it["held"] for it in changed["lines"]]
    assert (await reserved(service, "A"), await reserved(service, "B")) == (8, 0)
    await assert_proven(service)

    same = await amended(service, held["id"], line("A", 2, OTHER.id), line("A", 6))
    assert same["version"] == 2
    back = await amended(service, held["id"], line("B", 1))
    assert held_of(back) == {("B", MAIN.id): 1}
    types = [it["type"] for it in (await read_changes(service, 0))["data"]]
    assert types.count("reservation_amended") == 2
    await service.data(COMMIT, {"input": {"id": held["id"]}})
    await assert_proven(service)
    refused = await refusal(service, AMEND, id=held["id"], lines=[line("B", 1)])
    assert refused["code"] == "RESERVATION_ENDED"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([line("A", 9)], "INSUFFICIENT_STOCK"),
        ([line("A", 1), line("NOPE", 1)], "INVENTORY_NOT_FOUND"),
        ([line("B", 1, CLOSED.id)], "WAREHOUSE_INACTIVE"),
        ([line("A", 1, MARKET.id)], "READONLY_WAREHOUSE"),
        ([], "VALIDATION_ERROR"),
        ([line("A", 0)], "VALIDATION_ERROR"),
    ],
)
async def test_a_refused_amendment_changes_nothing(
    service: Service, lines: list[dict[str, object]], code: str
) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 5), line("B", 3))
    assert (await refusal(service, AMEND, id=held["id"], lines=lines))["code"] == code
    query = "query ($id: ID!) { reservation(id: $id) { version lines { held } } }"
    data = await service.data(query, {"id": held["id"]})
    assert data == {"reservation": {"version": 1, "lines": [{"held": 5}, {"held": 3}]}}
    await assert_proven(service)


async def test_an_amendment_never_lets_go_what_is_held(service: Service) -> None:
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 20), level(OTHER, 20))])
    owned = [await reserve(service, line("A", 2)) for _ in range(10)]
    amendments = [
        service.graphql(
            AMEND, {"input": {"id": it["id"], "lines": [line("A", 2), line("A", 1, OTHER.id)]}}
        )
        for it in owned
    ]
    thefts = [service.graphql(RESERVE, {"input": {"lines": [line("A", 1)]}}) for _ in range(10)]
    mixed = [work for pair in zip(amendments, thefts, strict=True) for work in pair]
    answers = await asyncio.gather(*mixed)
    assert ["errors" in it for it in answers] == [False, True] * 10
    assert await reserved(service, "A") == 30
    await assert_proven(service)


async def test_what_is_held_can_be_kept_although_the_stock_is_gone(service: Service) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 5))
    count = {"warehouse_id": MAIN.id, "quantity": 1, "reason": "cycle_count"}
    (await service.rest("PUT", "/api/inventory/A", json=count)).raise_for_status()
    # Five are held and one is there: three can be kept, and a sixth is refused.
    assert held_of(await amended(service, held["id"], line("A", 3))) == {("A", MAIN.id): 3}
    assert (await refusal(service, AMEND, id=held["id"], lines=[line("A", 4)]))["code"] == (
        "INSUFFICIENT_STOCK"
    )
    # From any warehouse, it stays where it is held.
    kept = await amended(service, held["id"], anywhere("A", 3, MAIN.id, OTHER.id))
    assert held_of(kept) == {("A", MAIN.id): 3}
    moved = await amended(service, held["id"], anywhere("A", 5, MAIN.id, OTHER.id, split=True))
    assert held_of(moved) == {("A", MAIN.id): 3, ("A", OTHER.id): 2}
    await assert_proven(service)


async def test_lines_appear_and_disappear_in_one_batch(service: Service) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 1), line("B", 1))
    wanted = [[line("A", 1)], [line("B", 2)], [line("A", 2), line("B", 1)], [line("A", 3)]]
    answers = await asyncio.gather(
        *(
            service.graphql(AMEND, {"input": {"id": held["id"], "lines": [*lines]}})
            for lines in wanted * 3
        )
    )
    assert not any("errors" in it for it in answers)
    await assert_proven(service)
    amended_ = [it["data"]["amendReservation"]["reservation"] for it in answers]
    final = max(amended_, key=lambda it: it["version"])
    query = "query ($id: ID!) { reservation(id: $id) { lines { held } } }"
    stored = (await service.data(query, {"id": held["id"]}))["reservation"]["lines"]
    assert [it["held"] for it in stored] == [it["held"] for it in final["lines"]]


async def test_the_first_warehouse_that_has_the_quantity_gives_it(service: Service) -> None:
    await stocked(service)
    # Eight are available in MAIN and five in OTHER.
    assert held_of(await reserve(service, anywhere("A", 5))) == {("A", MAIN.id): 5}
    assert held_of(await reserve(service, anywhere("A", 4))) == {("A", OTHER.id): 4}
    refused = await refusal(service, RESERVE, lines=[anywhere("A", 4)])
    assert refused["code"] == "INSUFFICIENT_STOCK"
    split = await reserve(service, anywhere("A", 4, OTHER.id, MAIN.id, split=True))
    assert held_of(split) == {("A", OTHER.id): 1, ("A", MAIN.id): 3}
    await assert_proven(service)


async def test_a_warehouse_that_can_give_nothing_is_passed_over(service: Service) -> None:
    await stocked(service)
    unsafe = [MARKET.id, CLOSED.id, OTHER.id, MAIN.id]
    assert held_of(await reserve(service, anywhere("B", 2, *unsafe))) == {("B", MAIN.id): 2}
    split = await reserve(service, anywhere("A", 6, *unsafe, split=True))
    assert held_of(split) == {("A", OTHER.id): 5, ("A", MAIN.id): 1}
    await assert_proven(service)


async def test_a_refusal_says_what_each_warehouse_has(service: Service) -> None:
    await stocked(service)
    for split, found in ((False, "at most 8 of SKU 'A' from one of them"), (True, "13 of SKU 'A'")):
        lines = [line("B", 1), anywhere("A", 14, MAIN.id, OTHER.id, CLOSED.id, split=split)]
        answer = await service.graphql(RESERVE, {"input": {"lines": lines}})
        assert found in answer["errors"][0]["message"]
        [detail] = answer["errors"][0]["extensions"]["details"]
        assert (detail["index"], detail["warehouse_id"]) == (1, MAIN.id)
        assert {it["warehouse_id"]: it["available"] for it in detail["error"]["details"]} == {
            MAIN.id: 8,
            OTHER.id: 5,
            CLOSED.id: 0,
        }
    assert await reserved(service, "B") == 0


async def test_lines_of_one_warehouse_come_before_lines_of_several(service: Service) -> None:
    await stocked(service)
    held = await reserve(service, anywhere("A", 5), line("A", 4), line("A", 4))
    assert held_of(held) == {("A", MAIN.id): 8, ("A", OTHER.id): 5}


async def test_oversold_quantity_is_held_in_the_first_warehouse(service: Service) -> None:
    await stocked(service)
    await update_permissions(service.database, service.tenant_id, oversell=True)
    lines = [anywhere("A", 20, CLOSED.id, OTHER.id, MAIN.id)]
    held = await reserve(service, *lines, allowOversell=True)
    assert held_of(held) == {("A", OTHER.id): 20}
    await service.data(RELEASE, {"input": {"id": held["id"]}})
    lines = [anywhere("A", 20, CLOSED.id, OTHER.id, MAIN.id, split=True)]
    held = await reserve(service, *lines, allowOversell=True)
    assert held_of(held) == {("A", OTHER.id): 12, ("A", MAIN.id): 8}
    await assert_proven(service)


@pytest.mark.parametrize(
    ("wrong", "field", "problem"),
    [
        ({"warehouseIds": []}, "warehouseId", "must be given"),
        ({}, "warehouseId", "must be given"),
        ({"warehouseId": MAIN.id, "warehouseIds": [MAIN.id]}, "warehouseId", "must be given"),
        ({"warehouseIds": [MAIN.id] * 2}, "warehouseIds", "twice"),
        (
            {"warehouseIds": [warehouse().id for _ in range(MAX_LINE_WAREHOUSES + 1)]},
            "warehouseIds",
            "must hold 1 to 20",
        ),
    ],
)
async def test_a_line_names_one_warehouse_or_several(
    service: Service, wrong: dict[str, object], field: str, problem: str
) -> None:
    await stocked(service)
    refused = await refusal(
        service, RESERVE, lines=[line("A", 1), {"sku": "A", "quantity": 1, **wrong}]
    )
    [detail] = refused["details"]
    assert detail["field"] == f"lines.1.{field}"
    assert problem in detail["message"]


async def test_an_unknown_warehouse_among_several_is_refused(service: Service) -> None:
    await stocked(service)
    refused = await refusal(service, RESERVE, lines=[anywhere("A", 1, MAIN.id, "wh_1")])
    assert refused["code"] == "WAREHOUSE_NOT_FOUND"


async def test_a_reservation_has_at_most_500_levels(service: Service) -> None:
    stores = [warehouse(f"Store {number}") for number in range(MAX_LINE_WAREHOUSES)]
    codes = [f"A{number}" for number in range(MAX_BULK_UPDATES // MAX_LINE_WAREHOUSES + 1)]
    await service.load(stores, [sku(code, *(level(each, 1) for each in stores)) for code in codes])
    ids = [each.id for each in stores]
    whole = [anywhere(code, MAX_LINE_WAREHOUSES, *ids, split=True) for code in codes]
    refused = await refusal(service, RESERVE, lines=whole)
    assert "520 levels" in refused["details"][0]["message"]
    held = await reserve(service, *whole[1:])
    assert len(held["lines"]) == MAX_BULK_UPDATES
    await assert_proven(service)


async def test_a_race_over_three_warehouses_grants_all_there_is_and_no_more(
    service: Service,
) -> None:
    stores = [warehouse(f"Store {number}") for number in range(3)]
    stock = dict(zip((each.id for each in stores), (20, 24, 14), strict=True))
    await service.load(stores, [sku("A", *(level(it, stock[it.id]) for it in stores))])

    async def buy(number: int) -> dict[str, Any]:
        ids = [each.id for each in stores[number % 3 :] + stores[: number % 3]]
        wanted = anywhere("A", 1, *ids)
        return await service.graphql(RESERVE, {"input": {"lines": [wanted]}})

    answers = await asyncio.gather(*(buy(number) for number in range(64)))
    assert sum("errors" in it for it in answers) == 64 - sum(stock.values())
    granted: Counter[str] = Counter()
    for it in answers:
        if "errors" not in it:
            granted.update(id_ for _, id_ in held_of(it["data"]["reserveStock"]["reservation"]))
    assert granted == stock
    await assert_proven(service)


async def test_rest_amends_extends_and_keeps_the_rest(service: Service) -> None:
    await stocked(service)
    await update_permissions(service.database, service.tenant_id, no_expiry=True)
    path = "/api/inventory/reservations"
    lines = [{"sku": "A", "quantity": 9, "warehouse_ids": [*ANY], "split": True}]
    created = await service.rest("POST", path, json={"lines": lines, "expires_in": "never"})
    assert created.status_code == 201
    held = created.json()["data"]
    assert "expires_at" not in held
    assert {it["warehouse_id"]: it["held"] for it in held["lines"]} == {MAIN.id: 8, OTHER.id: 1}

    own = f"{path}/{held['id']}"
    line_ = {"sku": "A", "warehouse_id": MAIN.id, "quantity": 6}
    amended_ = await service.rest("POST", f"{own}/amend", json={"lines": [line_]})
    assert [it["held"] for it in amended_.json()["data"]["lines"]] == [6]
    part = [{**line_, "quantity": 4}]
    answer = await service.rest("POST", f"{own}/commit", json={"lines": part, "keep_rest": True})
    rest = answer.json()["data"]["successor"]
    assert [it["held"] for it in rest["lines"]] == [2]

    other = await service.rest("POST", path, json={"lines": [{**line_, "quantity": 1}]})
    own = f"{path}/{other.json()['data']['id']}"
    longer = await service.rest("POST", f"{own}/extend", json={"expires_in": 3600})
    assert longer.json()["data"]["expires_at"] > other.json()["data"]["expires_at"]
    endless = await service.rest("POST", f"{own}/extend", json={"expires_in": "never"})
    assert "expires_at" not in endless.json()["data"]
    for wrong in ("soon", "60", True, 1.5):
        refused = await service.rest("POST", f"{own}/extend", json={"expires_in": wrong})
        assert refused.json()["error"]["details"][0]["field"] == "expires_in"
    missing = await service.rest("POST", f"{own}/extend", json={})
    assert missing.json()["error"]["details"][0]["field"] == "expires_in"
    await assert_proven(service)
