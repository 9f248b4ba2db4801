"""`reserved` is the sum of open reservations. Each ends once, and none exceeds the stock."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app import maintenance as upkeep
from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.filters import ReservationFilter
from app.domain.records import ReservationStatus
from app.domain.reservations import MAX_HOLD
from app.domain.stock import StockUpdate
from app.domain.warehouses import WarehouseType
from app.errors import InventoryError
from app.files.seeding import load_skus, load_warehouses
from app.ledger.repair import repair_tenant
from app.ledger.verification import LedgerBroken, verify_tenant
from app.reads.reservations import count_holds_of, count_reservations, get_reservations
from app.reads.skus import get_skus
from app.settings import Settings
from app.writes import reservations
from app.writes.pipeline import Writing
from app.writes.reservations import (
    Committing,
    Line,
    Reserving,
    commit_reservation,
    expire_reservations,
    extend_reservation,
    release_reservation,
    reserve_stock,
)
from app.writes.stock import change_stock
from app.writes.tenants import permit_oversell
from tests.clocks import clocks_at, set_clock
from tests.ledger.writes import assert_proven, ledger
from tests.service import EMAIL, Service, level, new_tenant, now, sku, warehouse

Result = TypeVar("Result")
MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
MARKET: Final = warehouse("Market", WarehouseType.FBA)
CLOSED: Final = warehouse("Closed", is_active=False)
ROUNDS: Final = 20
RESERVERS: Final = 64

RESERVE: Final = """
mutation ($input: ReserveStockInput!) {
  reserveStock(input: $input) {
    reservation {
      id status reference note createdBy expiresAt endedAt version
      lines { sku { sku } warehouse { id } quantity held committed }
    }
    skus { sku totalOnHand totalReserved totalAvailable }
    replayed
  }
}
"""
COMMIT: Final = """
mutation ($input: CommitReservationInput!) {
  commitReservation(input: $input) {
    reservation { id status endedAt lines { quantity held committed } }
    adjustments { delta reason note reference reservationId }
    skus { sku totalOnHand totalReserved }
    replayed
  }
}
"""
RELEASE: Final = """
mutation ($input: ReleaseReservationInput!) {
  releaseReservation(input: $input) {
    reservation { status lines { held committed } } skus { totalReserved } replayed
  }
}
"""
EXTEND: Final = """
mutation ($input: ExtendReservationInput!) {
  extendReservation(input: $input) { reservation { expiresAt status version } replayed }
}
"""


def line(code: str, quantity: int, warehouse_id: str = MAIN.id) -> dict[str, object]:
    return {"sku": code, "warehouseId": warehouse_id, "quantity": quantity}


async def reserve(service: Service, *lines: dict[str, object], **more: object) -> dict[str, Any]:
    """Reserve stock. Returns the reservation."""
    data = await service.data(RESERVE, {"input": {"lines": [*lines], **more}})
    result: dict[str, Any] = data["reserveStock"]["reservation"]
    return result


async def refusal(service: Service, query: str, **content: object) -> dict[str, Any]:
    """Error extensions of a refused write."""
    answer = await service.graphql(query, {"input": content})
    assert answer.get("data") is None, answer
    [error] = answer["errors"]
    result: dict[str, Any] = error["extensions"]
    return result


async def stocked(service: Service) -> None:
    await service.load(
        [MAIN, OTHER, MARKET, CLOSED],
        [
            sku("A", level(MAIN, 10, safety_stock=2), level(OTHER, 5), level(MARKET, 7)),
            sku("B", level(MAIN, 3), level(CLOSED, 4)),
        ],
    )


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
        {"sku": "B", "totalOnHand": 7, "totalReserved": 3, "totalAvailable": 4},
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
    await permit_oversell(service.database, service.tenant_id, permitted=True)
    assert (await refusal(service, RESERVE, lines=[line("A", 9)]))["code"] == "INSUFFICIENT_STOCK"
    held = await reserve(service, line("A", 20), line("B", 1, OTHER.id), allowOversell=True)
    data = await service.data('{ sku(sku: "A") { totalAvailable } }')
    assert data == {"sku": {"totalAvailable": 0}}
    await assert_proven(service)
    assert (await refusal(service, COMMIT, id=held["id"]))["code"] == "NEGATIVE_QUANTITY"
    await permit_oversell(service.database, service.tenant_id, permitted=False)
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


async def test_the_running_service_ends_expired_reservations(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stocked(service)
    held = await reserve(service, line("A", 1), expiresIn=1)
    monkeypatch.setattr(upkeep, "PAUSE_SECONDS", 0)
    async with clocks_at(service.database, now() + timedelta(seconds=2)):
        await upkeep.expire(service.database)
    data = await service.data("{ reservations { nodes { id status } } }")
    assert data["reservations"]["nodes"] == [{"id": held["id"], "status": "EXPIRED"}]
    await assert_proven(service)


async def test_more_expired_reservations_than_a_batch_are_ended(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 500))])
    monkeypatch.setattr(reservations, "EXPIRED_AT_ONCE", 7)
    await asyncio.gather(*(reserve(service, line("A", 1), expiresIn=1) for _ in range(20)))
    async with clocks_at(service.database, now() + timedelta(seconds=2)):
        ended = await asyncio.gather(
            *(expire_reservations(service.database, service.tenant_id) for _ in range(3))
        )
    assert sum(ended) == 20
    await assert_proven(service)


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
        # An empty reference matches no reservation.
        ({"reference": ""}, []),
        ({"reference": "", "status": "OPEN"}, []),
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
        wanted = Reserving(lines=(Line(code, MAIN.id, 2),), seconds=600)
        try:
            await reserve_stock(Writing(database=service.database, caller=caller), wanted)
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE stock_level SET reserved = reserved + 1 WHERE reserved > 0", "reserved of stock"),
        ("UPDATE reservation_line SET held = 0", "reserved of stock"),
        (
            "UPDATE reservation SET status = 'released', ended_at = created_at",
            "is released and holds",
        ),
        ("UPDATE stock_level SET holds = holds + 1 WHERE sku = 'B'", "holds of stock level .B"),
        ("UPDATE reservation_count SET reservations = 0 WHERE true", "count of open reservations"),
        ("UPDATE reservation_count SET status = 'expired'", "count of expired reservations"),
        ("DELETE FROM reservation_count", "count of open reservations"),
        (
            "UPDATE reservation_count SET reservations = 2 WHERE reference <> ''",
            "count of open reservations of order-1 is 2, and should be 1",
        ),
        (
            "DELETE FROM reservation_count WHERE reference <> ''",
            "count of open reservations of order-1 is 0, and should be 1",
        ),
    ],
)
async def test_verify_finds_wrong_reservation_figures(
    service: Service, change: str, message: str
) -> None:
    await stocked(service)
    await reserve(service, line("A", 2), reference="order-1")
    statement = (
        f"{change}{' AND' if 'WHERE' in change else ' WHERE'} tenant_id = '{service.tenant_id}'"
    )

    async with service.database.writer.connect() as connection:
        await connection.exec_driver_sql(statement)
        await connection.commit()
    with pytest.raises(LedgerBroken, match=message):
        await verify_tenant(service.database, service.tenant_id)


async def test_a_repair_recounts_reservations(service: Service) -> None:
    await stocked(service)
    for number in range(3):
        held = await reserve(service, line("A", 1), line("B", 1), reference="order-1")
        if number:
            await service.data(RELEASE, {"input": {"id": held["id"]}})
    async with service.database.writer.connect() as connection:
        for change in ("reservation_count SET status = 'expired'", "stock_level SET holds = 7"):
            statement = f"UPDATE {change} WHERE tenant_id = '{service.tenant_id}'"
            open_ = " AND status = 'open'" if "expired" in change else ""
            await connection.exec_driver_sql(statement + open_)
        await connection.commit()
    repaired = await repair_tenant(service.database, service.tenant_id)
    assert {it for it in repaired if "count" in it} == {
        "count of expired reservations was 1, and is 0",
        "count of open reservations was 0, and is 1",
        "count of expired reservations of order-1 was 1, and is 0",
        "count of open reservations of order-1 was 0, and is 1",
    }
    assert f"holds of stock level (A, {MAIN.id}) was 7, and is 1" in repaired
    await assert_proven(service)


async def test_a_repair_during_reservations_leaves_correct_counts(service: Service) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 500))])
    held = [await reserve(service, line("A", 1)) for _ in range(20)]
    async with service.database.writer.connect() as connection:
        change = "UPDATE reservation_count SET reservations = 100 WHERE tenant_id = "
        await connection.exec_driver_sql(f"{change}'{service.tenant_id}'")
        await connection.commit()
    writes: list[Coroutine[Any, Any, Any]] = [
        *(reserve(service, line("A", 1)) for _ in range(20)),
        *(service.data(RELEASE, {"input": {"id": it["id"]}}) for it in held),
    ]
    await asyncio.gather(
        *writes[::2], repair_tenant(service.database, service.tenant_id), *writes[1::2]
    )
    data = await service.data(
        "{ reservations { totalCount } open: reservations(filter: {status: OPEN}) { totalCount } }"
    )
    assert data == {"reservations": {"totalCount": 40}, "open": {"totalCount": 20}}
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


CODES: Final = ("A", "B")
WAREHOUSES: Final = (MAIN, OTHER)
LEVELS: Final = [(code, record.id) for code in CODES for record in WAREHOUSES]


@dataclass
class Held:
    """A reservation in the model."""

    lines: dict[tuple[str, str], int]
    expires_after: int
    status: ReservationStatus = ReservationStatus.OPEN


class Machine(RuleBasedStateMachine):
    """Writes in any order, compared with a model that stores only its inputs."""

    database: Database
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.tenant_id = self.run(new_tenant(self.database))
        self.writing = Writing(
            database=self.database, caller=Caller(self.tenant_id, "machine", EMAIL)
        )
        self.start = now()
        self.second = 0
        self.on_hand = dict.fromkeys(LEVELS, 6)
        self.held: dict[str, Held] = {}
        self.tick(0)

        async def load(connection: Any) -> None:
            await load_warehouses(connection, self.tenant_id, WAREHOUSES)
            skus = [sku(code, *(level(record, 6) for record in WAREHOUSES)) for code in CODES]
            await load_skus(connection, self.tenant_id, skus)

        self.run(self.database.transaction(load))

    def tick(self, seconds: int) -> None:
        self.second += seconds
        self.run(set_clock(self.database, self.start + timedelta(seconds=self.second)))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def refused(self, work: Coroutine[Any, Any, Any]) -> str | None:
        try:
            self.run(work)
        except InventoryError as error:
            return error.code
        return None

    def reserved(self, key: tuple[str, str]) -> int:
        return sum(held.lines[key] for held in self.holding(key))

    def holding(self, key: tuple[str, str]) -> list[Held]:
        return [
            held
            for held in self.held.values()
            if held.status is ReservationStatus.OPEN and key in held.lines
        ]

    def expire_in_model(self) -> int:
        due = [
            held
            for held in self.held.values()
            if held.status is ReservationStatus.OPEN and held.expires_after <= self.second
        ]
        for held in due:
            held.status = ReservationStatus.EXPIRED
        return len(due)

    def chosen(self, number: int) -> tuple[str, Held] | None:
        """Reservation number `number` with its id; None if none exists."""
        if not self.held:
            return None
        id_ = [*self.held][number % len(self.held)]
        return id_, self.held[id_]

    def is_open(self, held: Held) -> bool:
        return held.status is ReservationStatus.OPEN and held.expires_after > self.second

    @rule(
        lines=st.dictionaries(st.sampled_from(LEVELS), st.integers(1, 5), min_size=1),
        seconds=st.integers(1, 20),
    )
    def reserve(self, lines: dict[tuple[str, str], int], seconds: int) -> None:
        self.expire_in_model()
        fits = all(
            quantity <= self.on_hand[key] - self.reserved(key) for key, quantity in lines.items()
        )
        wanted = Reserving(
            lines=tuple(Line(*key, quantity) for key, quantity in lines.items()), seconds=seconds
        )
        if not fits:
            assert self.refused(reserve_stock(self.writing, wanted)) == "INSUFFICIENT_STOCK"
            return
        done = self.run(reserve_stock(self.writing, wanted))
        self.held[done.result.reservation.id] = Held(lines, self.second + seconds)

    @rule(number=st.integers(0, 99), share=st.sampled_from([None, 1, 2]))
    def commit(self, number: int, share: int | None) -> None:
        if not (chosen := self.chosen(number)):
            return
        id_, held = chosen
        taken = {key: max(1, q // share) if share else q for key, q in held.lines.items()}
        lines = None if share is None else tuple(Line(*key, q) for key, q in taken.items())
        wanted = Committing(id=id_, lines=lines, reason="sale")
        refused = self.refused(commit_reservation(self.writing, wanted))
        if not self.is_open(held):
            assert refused == "RESERVATION_ENDED"
        elif any(q > self.on_hand[key] for key, q in taken.items()):
            assert refused == "NEGATIVE_QUANTITY"
        else:
            assert refused is None
            held.status = ReservationStatus.COMMITTED
            for key, quantity in taken.items():
                self.on_hand[key] -= quantity

    @rule(number=st.integers(0, 99))
    def release(self, number: int) -> None:
        if not (chosen := self.chosen(number)):
            return
        id_, held = chosen
        refused = self.refused(release_reservation(self.writing, id_))
        if self.is_open(held):
            assert refused is None
            held.status = ReservationStatus.RELEASED
        else:
            assert refused == "RESERVATION_ENDED"

    @rule(number=st.integers(0, 99), seconds=st.integers(1, 20))
    def extend(self, number: int, seconds: int) -> None:
        if not (chosen := self.chosen(number)):
            return
        id_, held = chosen
        refused = self.refused(extend_reservation(self.writing, id_, seconds))
        if self.is_open(held):
            assert refused is None
            held.expires_after = max(held.expires_after, self.second + seconds)
        else:
            assert refused == "RESERVATION_ENDED"

    @rule(key=st.sampled_from(LEVELS), quantity=st.integers(0, 12))
    def count(self, key: tuple[str, str], quantity: int) -> None:
        """Count a level; the quantity may be less than the reserved quantity."""
        update = StockUpdate(
            sku=key[0], warehouse_id=key[1], quantity=quantity, reason="cycle_count"
        )
        self.run(change_stock(self.database, self.writing.caller, update))
        self.on_hand[key] = quantity

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.tick(seconds)

    @rule()
    def expire(self) -> None:
        assert (
            self.run(expire_reservations(self.database, self.tenant_id)) == self.expire_in_model()
        )

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self.run(self._compare())

    async def _compare(self) -> None:
        await verify_tenant(self.database, self.tenant_id)
        async with self.database.snapshot() as snapshot:
            skus = await get_skus(snapshot, self.tenant_id, codes=CODES)
            kept = await get_reservations(snapshot, self.tenant_id, ids=[*self.held])
            holds = await count_holds_of(snapshot, self.tenant_id, levels=LEVELS)
            numbers = {
                status: await count_reservations(
                    snapshot, self.tenant_id, where=ReservationFilter(status=status)
                )
                for status in (None, *ReservationStatus)
            }
        levels = [it for record in skus.values() for it in record.levels]
        assert {(it.sku, it.warehouse.id): (it.on_hand, it.reserved) for it in levels} == {
            key: (self.on_hand[key], self.reserved(key)) for key in LEVELS
        }
        statuses = Counter(it.status for it in self.held.values())
        assert numbers.pop(None) == statuses.total()
        assert numbers == {it: statuses[it] for it in ReservationStatus}
        assert holds == {key: len(self.holding(key)) for key in LEVELS}
        assert {id_: it.status for id_, it in kept.items()} == {
            id_: it.status for id_, it in self.held.items()
        }


def test_reserved_equals_the_sum_of_open_reservations_after_any_writes(
    database_url: str,
) -> None:
    database = Database(Settings(database_url=database_url))
    with asyncio.Runner() as runner:
        Machine.database, Machine.runner = database, runner
        run_state_machine_as_test(
            Machine,
            settings=settings(
                derandomize=True,
                deadline=None,
                max_examples=20,
                stateful_step_count=30,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(set_clock(database, None))
        runner.run(database.dispose())
