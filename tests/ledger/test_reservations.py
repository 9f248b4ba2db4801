"""Reservations hold stock, end once, and never exceed the stock."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Final

import pytest

from app import maintenance as upkeep
from app.database.due_work import TenantSearch
from app.database.engine import Database
from app.database.snapshot import Snapshot
from app.domain.caller import Caller
from app.domain.reservations import MAX_HOLD, RequestedLine
from app.domain.validation import MAX_BULK_UPDATES
from app.errors import InventoryError
from app.reads.reservations import MOST_LINES
from app.writes import expiry
from app.writes.expiry import expire_reservations
from app.writes.pipeline import WriteContext
from app.writes.reservations import (
    ReserveRequest,
    reserve_stock,
)
from app.writes.tenants import update_permissions
from tests.clocks import clocks_at, set_clock
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
from tests.ledger.writes import assert_proven, ledger
from tests.service import EMAIL, Service, level, new_tenant, now, sku, warehouse

ROUNDS: Final = 20
RESERVERS: Final = 64


async def test_reserving_holds_stock_and_committing_removes_it(service: Service) -> None:
    await stocked(service)
    data = await service.data(
        RESERVE,
        {
            "input": {
                "lines": [line("A", 2), line("B", 3), line("A", 1), line("A", 1, OTHER.id)],
                "reference": "order-1",
                "note": "Two boxes",
            }
        },
    )
    held = data["reserveStock"]["reservation"]
    assert [(it["sku"]["sku"], it["warehouse"]["id"], it["held"]) for it in held["lines"]] == [
        *sorted([("A", MAIN.id, 3), ("A", OTHER.id, 1)]),
        ("B", MAIN.id, 3),
    ]
    assert data["reserveStock"]["skus"] == [
        {"sku": "A", "totalOnHand": 22, "totalReserved": 4, "totalAvailable": 16},
        # The other 4 are in a closed warehouse.
        {"sku": "B", "totalOnHand": 7, "totalReserved": 3, "totalAvailable": 0},
    ]
    await assert_proven(service)

    part = [line("A", 2), line("B", 3)]
    data = await service.data(
        COMMIT, {"input": {"id": held["id"], "lines": part, "note": "Left", "reason": "shipped"}}
    )
    done = data["commitReservation"]
    assert done["reservation"]["status"] == "COMMITTED"
    assert done["reservation"]["endedAt"] is not None
    assert sorted(it["committed"] for it in done["reservation"]["lines"]) == [0, 2, 3]
    assert {it["held"] for it in done["reservation"]["lines"]} == {0}
    assert [it["delta"] for it in done["adjustments"]] == [-2, -3]
    for entry in done["adjustments"]:
        assert entry["reservationId"] == held["id"]
        assert (entry["reference"], entry["reason"]) == ("order-1", "shipped")
    assert done["skus"] == [
        {"sku": "A", "totalOnHand": 20, "totalReserved": 0},
        {"sku": "B", "totalOnHand": 4, "totalReserved": 0},
    ]
    await assert_proven(service)


async def test_lines_of_one_level_are_summed_before_the_check(service: Service) -> None:
    await stocked(service)
    refused = await refusal(service, RESERVE, lines=[line("A", 5), line("A", 4), line("B", 1)])
    assert refused["code"] == "INSUFFICIENT_STOCK"
    assert [(it["index"], it["sku"]) for it in refused["details"]] == [(0, "A")]
    await reserve(service, line("A", 5), line("A", 3))
    data = await service.data('{ sku(sku: "A") { totalReserved } reservations { totalCount } }')
    assert data == {"sku": {"totalReserved": 8}, "reservations": {"totalCount": 1}}
    await assert_proven(service)


@pytest.mark.parametrize(
    ("lines", "more", "code"),
    [
        ([line("NOPE", 1)], {}, "INVENTORY_NOT_FOUND"),
        ([line("A", 1, warehouse().id)], {}, "WAREHOUSE_NOT_FOUND"),
        ([line("A", 1, MARKET.id)], {}, "READONLY_WAREHOUSE"),
        ([line("B", 1, CLOSED.id)], {}, "WAREHOUSE_INACTIVE"),
        ([line("A", 9)], {}, "INSUFFICIENT_STOCK"),
        ([line("B", 1, OTHER.id)], {}, "INSUFFICIENT_STOCK"),
        ([line("A", 9)], {"allowOversell": True}, "OVERSELL_NOT_PERMITTED"),
        ([line("A", 0)], {}, "VALIDATION_ERROR"),
        ([line("A", -1)], {}, "VALIDATION_ERROR"),
        ([line("A", 10**12 + 1)], {}, "VALIDATION_ERROR"),
        ([], {}, "VALIDATION_ERROR"),
        ([line("A", 1)] * 501, {}, "VALIDATION_ERROR"),
        ([line("A", 1)], {"expiresIn": 0}, "VALIDATION_ERROR"),
        ([line("A", 1)], {"expiresIn": MAX_HOLD + 1}, "VALIDATION_ERROR"),
        ([line("A", 1)], {"reference": " "}, "VALIDATION_ERROR"),
        ([line("A", 1)], {"reference": "x" * 256}, "VALIDATION_ERROR"),
        ([line("A", 1)], {"note": "x" * 1001}, "VALIDATION_ERROR"),
    ],
)
async def test_an_invalid_reservation_is_refused_and_changes_nothing(
    service: Service, lines: list[dict[str, object]], more: dict[str, object], code: str
) -> None:
    await stocked(service)
    everything = "{ skus { nodes { version stock { reserved } } } reservations { totalCount } }"
    before = await service.data(everything)
    assert (await refusal(service, RESERVE, lines=lines, **more))["code"] == code
    assert await service.data(everything) == before


async def test_an_archived_sku_is_not_reserved(service: Service) -> None:
    await stocked(service)
    archive = 'mutation { archiveSku(input: {sku: "A"}) { replayed } }'
    await service.data(archive, token="admin")
    assert (await refusal(service, RESERVE, lines=[line("A", 1)]))["code"] == "SKU_ARCHIVED"


async def test_a_tenant_with_permission_may_oversell(service: Service) -> None:
    await stocked(service)
    await update_permissions(service.database, service.tenant_id, oversell=True)
    assert (await refusal(service, RESERVE, lines=[line("A", 9)]))["code"] == "INSUFFICIENT_STOCK"
    held = await reserve(service, line("A", 20), line("B", 1, OTHER.id), allowOversell=True)
    data = await service.data('{ sku(sku: "A") { totalAvailable } }')
    assert data == {"sku": {"totalAvailable": 0}}
    await assert_proven(service)
    assert (await refusal(service, COMMIT, id=held["id"]))["code"] == "NEGATIVE_QUANTITY"
    await update_permissions(service.database, service.tenant_id, oversell=False)
    refused = await refusal(service, RESERVE, lines=[line("A", 9)], allowOversell=True)
    assert refused["code"] == "OVERSELL_NOT_PERMITTED"
    await service.data(RELEASE, {"input": {"id": held["id"]}})
    await assert_proven(service)


async def test_a_reservation_ends_once(service: Service) -> None:
    await stocked(service)
    committed, released = await reserve(service, line("A", 1)), await reserve(service, line("A", 1))
    await service.data(COMMIT, {"input": {"id": committed["id"]}})
    await service.data(RELEASE, {"input": {"id": released["id"]}})
    for held, status in ((committed, "committed"), (released, "released")):
        for query, more in ((COMMIT, {}), (RELEASE, {}), (EXTEND, {"expiresIn": 60})):
            refused = await refusal(service, query, id=held["id"], **more)
            assert refused["code"] == "RESERVATION_ENDED"
            assert refused["details"][0]["status"] == status
    for query, more in ((COMMIT, {}), (RELEASE, {}), (EXTEND, {"expiresIn": 60})):
        refused = await refusal(service, query, id="rsv_NOPE", **more)
        assert refused["code"] == "RESERVATION_NOT_FOUND"
    assert len(await ledger(service, "A")) == 4
    await assert_proven(service)


@pytest.mark.parametrize(
    "lines",
    [[line("A", 3)], [line("A", 1), line("A", 2)], [line("B", 1)], [line("A", 1, OTHER.id)]],
)
async def test_committing_more_than_held_is_refused(
    service: Service, lines: list[dict[str, object]]
) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 2))
    refused = await refusal(service, COMMIT, id=held["id"], lines=lines)
    assert refused["code"] == "VALIDATION_ERROR"
    assert refused["details"][0]["field"] == "lines.0"
    await assert_proven(service)


async def test_an_expired_reservation_holds_nothing(service: Service) -> None:
    await stocked(service)
    start = now()
    await set_clock(service.database, start)
    first = await reserve(service, line("A", 8), expiresIn=60)
    second = await reserve(service, line("B", 3), expiresIn=60)
    await service.data(EXTEND, {"input": {"id": second["id"], "expiresIn": 120}})
    # An extension never shortens.
    shorter = await service.data(EXTEND, {"input": {"id": second["id"], "expiresIn": 1}})
    assert shorter["extendReservation"]["reservation"]["version"] == 2
    await set_clock(service.database, start + timedelta(seconds=60))
    for query in (COMMIT, RELEASE):
        refused = await refusal(service, query, id=first["id"])
        assert refused["details"][0]["status"] == "expired"
    # The background job has not run: a write that needs the stock ends it.
    third = await reserve(service, line("A", 8))
    data = await service.data("{ reservations { nodes { id status } } }")
    assert {it["id"]: it["status"] for it in data["reservations"]["nodes"]} == {
        first["id"]: "EXPIRED",
        second["id"]: "OPEN",
        third["id"]: "OPEN",
    }
    await set_clock(service.database, start + timedelta(seconds=120))
    assert await expire_reservations(service.database, service.tenant_id) == 1
    assert await expire_reservations(service.database, service.tenant_id) == 0
    await set_clock(service.database, None)
    await assert_proven(service)


async def test_the_running_service_ends_expired_reservations(service: Service) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 1), expiresIn=1)
    async with clocks_at(service.database, now() + timedelta(seconds=2)):
        await upkeep.end_due_reservations(service.database)
    data = await service.data("{ reservations { nodes { id status } } }")
    assert data["reservations"]["nodes"] == [{"id": held["id"], "status": "EXPIRED"}]
    await assert_proven(service)


async def test_more_expired_reservations_than_a_batch_are_ended(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 500))])
    monkeypatch.setattr(expiry, "EXPIRE_BATCH_ROWS", 7)
    await asyncio.gather(*(reserve(service, line("A", 1), expiresIn=1) for _ in range(20)))
    async with clocks_at(service.database, now() + timedelta(seconds=2)):
        ended = await asyncio.gather(
            *(expire_reservations(service.database, service.tenant_id) for _ in range(3))
        )
    assert sum(ended) == 20
    await assert_proven(service)


@pytest.mark.long
async def test_large_expired_reservations_free_all_their_lines(service: Service) -> None:
    codes = [f"SKU-{number:03}" for number in range(MAX_BULK_UPDATES)]
    number = MOST_LINES // MAX_BULK_UPDATES + 1
    await service.load([MAIN], [sku(code, level(MAIN, number)) for code in codes])
    lines = tuple(RequestedLine(code, (MAIN.id,), 1) for code in codes)
    caller = Caller(service.tenant_id, "tok_1", EMAIL)
    context = WriteContext(database=service.database, caller=caller)
    for _ in range(number):
        await reserve_stock(context, ReserveRequest(lines=lines, seconds=60))
    async with clocks_at(service.database, now() + timedelta(seconds=120)):
        assert await expire_reservations(service.database, service.tenant_id) == number
    await assert_proven(service)
    data = await service.data("{ skus(first: 200) { nodes { totalReserved } } }")
    assert {it["totalReserved"] for it in data["skus"]["nodes"]} == {0}


async def test_a_failure_of_one_tenant_keeps_no_job_from_the_others(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = [service.tenant_id, *[await new_tenant(service.database) for _ in "ab"]]
    served = []

    async def all_due(_snapshot: Snapshot, _search: TenantSearch, **_arguments: int) -> list[str]:
        return tenants

    async def failing(_database: Database, tenant_id: str, **_options: float) -> int:
        served.append(tenant_id)
        if tenant_id in tenants[:2]:
            raise ValueError
        return 0

    monkeypatch.setattr(upkeep, "list_due_tenants", all_due)
    for job, name in (
        (upkeep.end_due_reservations, "expire_reservations"),
        (upkeep.purge_idempotency_keys, "delete_expired_keys"),
        (upkeep.purge_changes, "delete_old_changes"),
        (upkeep.roll_up_ledgers, "roll_up_ledger"),
    ):
        served.clear()
        monkeypatch.setattr(upkeep, name, failing)
        await job(service.database)
        assert sorted(served) == sorted(tenants)


async def test_a_stock_level_lists_its_open_reservations(service: Service) -> None:
    await stocked(service)
    held = [await reserve(service, line("A", n), reference=f"order-{n}") for n in (1, 2, 3)]
    await service.data(RELEASE, {"input": {"id": held[1]["id"]}})
    query = """
    query ($after: String) { sku(sku: "A") { stock { onHand reserved available reservations(
      first: 1, after: $after
    ) { totalCount nodes { held reservation { id reference } sku { sku } warehouse { id } }
        pageInfo { hasNextPage endCursor } } } } }
    """
    [first] = [it for it in (await service.data(query))["sku"]["stock"] if it["reserved"]]
    page = first["reservations"]
    assert (first["reserved"], page["totalCount"]) == (4, 2)
    assert page["nodes"][0]["reservation"] == {"id": held[2]["id"], "reference": "order-3"}
    cursor = page["pageInfo"]["endCursor"]
    answer = await service.graphql(query, {"after": cursor})
    # The cursor belongs to the list of one level.
    assert answer["errors"][0]["extensions"]["code"] == "INVALID_CURSOR"


async def test_reservations_are_listed_by_status_and_reference(service: Service) -> None:
    await stocked(service)
    held = [await reserve(service, line("A", 1), reference=f"order-{n % 2}") for n in range(4)]
    await service.data(RELEASE, {"input": {"id": held[0]["id"]}})
    query = """
    query ($filter: ReservationFilterInput, $after: String) {
      reservations(first: 2, filter: $filter, after: $after) {
        totalCount nodes { id } pageInfo { hasNextPage endCursor }
      }
    }
    """
    for where, expected in (
        ({}, [3, 2, 1, 0]),
        ({"status": "OPEN"}, [3, 2, 1]),
        ({"reference": "order-0"}, [2, 0]),
        ({"status": "RELEASED", "reference": "order-0"}, [0]),
        ({"status": "RELEASED", "reference": "order-1"}, []),
        # Databases know no NUL. The counts of all reservations have an empty reference.
        ({"reference": "\x00"}, []),
    ):
        result, cursor = [], None
        while True:
            data = await service.data(query, {"filter": where, "after": cursor})
            result += [it["id"] for it in data["reservations"]["nodes"]]
            assert data["reservations"]["totalCount"] == len(expected)
            if not data["reservations"]["pageInfo"]["hasNextPage"]:
                break
            cursor = data["reservations"]["pageInfo"]["endCursor"]
        assert result == [held[number]["id"] for number in expected]
    answer = await service.graphql(query, {"filter": {"reference": "", "status": "OPEN"}})
    details = answer["errors"][0]["extensions"]["details"]
    assert [detail["field"] for detail in details] == ["reference"]


async def test_a_dry_run_reserves_nothing(service: Service) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 1))
    data = await service.data(RESERVE, {"input": {"lines": [line("A", 2)], "dryRun": True}})
    assert data["reserveStock"]["skus"][0]["totalReserved"] == 3
    data = await service.data(COMMIT, {"input": {"id": held["id"], "dryRun": True}})
    assert data["commitReservation"]["reservation"]["status"] == "COMMITTED"
    data = await service.data('{ sku(sku: "A") { totalReserved } reservations { totalCount } }')
    assert data == {"sku": {"totalReserved": 1}, "reservations": {"totalCount": 1}}
    await assert_proven(service)


async def test_a_repeated_reservation_request_reserves_once(service: Service) -> None:
    await stocked(service)
    content = {"lines": [line("A", 2)], "idempotencyKey": "order-1"}
    answers = await asyncio.gather(*(service.data(RESERVE, {"input": content}) for _ in range(8)))
    assert len({it["reserveStock"]["reservation"]["id"] for it in answers}) == 1
    assert sum(not it["reserveStock"]["replayed"] for it in answers) == 1
    content = {"id": answers[0]["reserveStock"]["reservation"]["id"], "idempotencyKey": "ship-1"}
    again = [await service.data(COMMIT, {"input": content}) for _ in range(2)]
    assert [it["commitReservation"].pop("replayed") for it in again] == [False, True]
    assert again[0] == again[1]
    await assert_proven(service)


async def test_concurrent_reservations_never_exceed_the_stock(service: Service) -> None:
    codes = [f"A{number}" for number in range(ROUNDS)]
    await service.load([MAIN], [sku(code, level(MAIN, 100)) for code in codes])
    caller = Caller(service.tenant_id, "client", EMAIL)

    async def attempt(code: str) -> str:
        wanted = ReserveRequest(lines=(RequestedLine(code, (MAIN.id,), 2),), seconds=600)
        try:
            await reserve_stock(WriteContext(database=service.database, caller=caller), wanted)
        except InventoryError as error:
            return error.code
        return "granted"

    for code in codes:
        outcomes = Counter(await asyncio.gather(*(attempt(code) for _ in range(RESERVERS))))
        assert outcomes == {"granted": 50, "INSUFFICIENT_STOCK": RESERVERS - 50}
    await assert_proven(service)


async def test_concurrent_endings_of_a_reservation_succeed_once(service: Service) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 2), line("B", 1))
    answers = await asyncio.gather(
        *(
            service.graphql(COMMIT if number % 2 else RELEASE, {"input": {"id": held["id"]}})
            for number in range(10)
        )
    )
    codes = Counter(
        it["errors"][0]["extensions"]["code"] if "errors" in it else "done" for it in answers
    )
    assert codes == {"done": 1, "RESERVATION_ENDED": 9}
    await assert_proven(service)


async def test_a_dry_run_level_has_no_reservations(service: Service) -> None:
    await service.load([MAIN], [sku("A")])
    query = """
    mutation ($input: SetStockInput!) {
      setStock(input: $input) { stockLevel { onHand reservations { totalCount nodes { held } } } }
    }
    """
    count = {"sku": "A", "warehouseId": MAIN.id, "quantity": 5, "reason": "count", "dryRun": True}
    data = await service.data(query, {"input": count})
    empty = {"totalCount": 0, "nodes": []}
    assert data["setStock"]["stockLevel"] == {"onHand": 5, "reservations": empty}
