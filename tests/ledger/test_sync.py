"""Marketplace reports become the stock of marketplace warehouses."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from sqlalchemy import select

from app.database.tables import sku as sku_table
from app.domain.warehouses import WarehouseType
from tests.ledger.writes import (
    ARCHIVE,
    BULK,
    SAFETY,
    SYNC,
    UPDATE_WAREHOUSE,
    assert_proven,
    entries,
    ledger,
)
from tests.service import Service, level, new_tenant, sku, warehouse

MAIN: Final = warehouse()
FBA: Final = warehouse("FBA", WarehouseType.FBA)
EARLY: Final = "2026-01-01T00:00:00.000Z"
NOON: Final = "2026-01-01T12:00:00.000Z"
LATE: Final = "2026-01-02T00:00:00.000Z"


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service whose SKU A has 5 in the marketplace warehouse, and B no stock."""
    await service.load([MAIN, FBA], [sku("A", level(FBA, 5)), sku("B")])
    return service


def report(at: str = NOON, warehouse_id: str = FBA.id, **levels: int) -> dict[str, object]:
    """Report of some SKUs."""
    return {
        "warehouseId": warehouse_id,
        "reportedAt": at,
        "levels": [{"sku": code, "onHand": number} for code, number in levels.items()],
    }


async def sync(service: Service, content: dict[str, object], **more: object) -> dict[str, Any]:
    """Payload of an accepted report."""
    variables = {"input": {**content, **more}}
    payload: dict[str, Any] = (await service.data(SYNC, variables, token="admin"))["syncStock"]
    return payload


async def refused(service: Service, content: dict[str, object]) -> str:
    """Error code of a refused report."""
    answer = await service.graphql(SYNC, {"input": content}, token="admin")
    code: str = answer["errors"][0]["extensions"]["code"]
    return code


def statuses(payload: dict[str, Any]) -> list[str]:
    return [it["status"] for it in payload["results"]]


async def test_a_report_is_applied_in_its_order(stocked: Service) -> None:
    payload = await sync(stocked, report(B=7, A=5), idempotencyKey="k")
    again = await sync(stocked, report(B=7, A=5), idempotencyKey="k")

    assert payload["results"] == [
        {
            "index": 0,
            "code": "B",
            "status": "UPDATED",
            "sku": {"sku": "B", "version": 2, "totalOnHand": 7},
            "stockLevel": {"onHand": 7, "version": 1, "syncedAt": NOON},
            "adjustment": {
                "sequence": 1,
                "beforeQuantity": 0,
                "afterQuantity": 7,
                "reason": "marketplace_sync",
            },
            "error": None,
        },
        {
            "index": 1,
            "code": "A",
            "status": "UNCHANGED",
            "sku": {"sku": "A", "version": 2, "totalOnHand": 5},
            "stockLevel": {"onHand": 5, "version": 1, "syncedAt": NOON},
            "adjustment": None,
            "error": None,
        },
    ]
    assert again == {**payload, "replayed": True}
    assert await ledger(stocked, "A") == entries(5)
    await assert_proven(stocked)


async def changes_of(shop: Service) -> list[datetime]:
    """Return the times of the last changes of the SKUs."""
    times = (
        select(sku_table.c.updated_at)
        .where(sku_table.c.tenant_id == shop.tenant_id)
        .order_by(sku_table.c.sku)
    )
    async with shop.database.snapshot() as snapshot:
        return [row.updated_at for row in await snapshot.rows(times, {})]


async def test_an_unchanged_report_moves_only_the_sync_time(stocked: Service) -> None:
    assert statuses(await sync(stocked, report(EARLY, A=5, B=0))) == ["UNCHANGED"] * 2
    before = await changes_of(stocked)
    for at in (NOON, LATE):
        assert statuses(await sync(stocked, report(at, A=5, B=0))) == ["UNCHANGED"] * 2
    assert await changes_of(stocked) == before
    data = await stocked.data(
        "{ adjustments { totalCount } skus { nodes { version stock { syncedAt version } } } }"
    )
    assert data["adjustments"]["totalCount"] == 1
    # B has a new level, which is a change of its record.
    assert data["skus"]["nodes"] == [
        {"version": 2, "stock": [{"syncedAt": LATE, "version": 1}]},
        {"version": 2, "stock": [{"syncedAt": LATE, "version": 0}]},
    ]
    await assert_proven(stocked)


# SQLite's write transactions exclude all other writers from the start.
@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
@pytest.mark.parametrize("codes", ["A", "AB"], ids=["a known level", "and a new one"])
async def test_a_concurrent_write_does_not_reset_the_sync_time(
    stocked: Service, codes: str
) -> None:
    await sync(stocked, report(EARLY, A=5))
    levels = [{"sku": code, "warehouseId": FBA.id, "safetyStock": 2} for code in codes]
    await asyncio.gather(
        stocked.data(SAFETY, {"input": {"levels": levels}}, token="admin"),
        sync(stocked, report(LATE, A=5)),
    )

    data = await stocked.data('{ sku(sku: "A") { stock { safetyStock syncedAt version } } }')
    assert data["sku"]["stock"] == [{"safetyStock": 2, "syncedAt": LATE, "version": 1}]
    await assert_proven(stocked)


async def test_a_report_older_than_the_last_is_ignored_level_by_level(stocked: Service) -> None:
    await sync(stocked, report(NOON, A=6))
    payload = await sync(stocked, report(EARLY, A=9, B=9))

    assert statuses(payload) == ["IGNORED", "UPDATED"]
    assert payload["results"][0]["stockLevel"] == {"onHand": 6, "version": 2, "syncedAt": NOON}
    assert await ledger(stocked, "A") == entries(5, 6)
    # A report of the same time corrects the level.
    assert statuses(await sync(stocked, report(NOON, A=8))) == ["UPDATED"]


async def test_only_an_admin_sends_the_reports_of_a_marketplace(stocked: Service) -> None:
    content = {"input": {**report(A=6), "idempotencyKey": "k"}}
    for token in ("write", "read"):
        answer = await stocked.graphql(SYNC, content, token=token)
        assert answer["errors"][0]["extensions"]["code"] == "INSUFFICIENT_SCOPE"
    assert await ledger(stocked, "A") == entries(5)


async def test_an_own_warehouse_accepts_no_reports(stocked: Service) -> None:
    content = report(warehouse_id=MAIN.id, A=1)
    assert await refused(stocked, content) == "WAREHOUSE_NOT_MARKETPLACE"


async def test_a_malformed_report_is_refused(stocked: Service) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    twice = {**report(), "levels": [{"sku": "A", "onHand": 1}] * 2}
    many = [{"sku": f"S{number}", "onHand": 1} for number in range(501)]
    too_many = {**report(), "levels": many}
    codes = [
        await refused(stocked, content)
        for content in (
            report(),
            twice,
            report(tomorrow, A=1),
            too_many,
            report(A=10**12 + 1),
            report(A=-1),
            report(warehouse_id="wh_NOPE", A=1),
            report(A=1, NOPE=1),
        )
    ]

    assert codes == [
        *["VALIDATION_ERROR"] * 5,
        "NEGATIVE_QUANTITY",
        "WAREHOUSE_NOT_FOUND",
        "INVENTORY_NOT_FOUND",
    ]
    assert await ledger(stocked, "A") == entries(5)


async def test_a_report_can_continue_after_a_refused_level(stocked: Service) -> None:
    payload = await sync(stocked, report(NOPE=1, A=6), onError="CONTINUE")

    assert statuses(payload) == ["FAILED", "UPDATED"]
    assert payload["results"][0]["error"] == {"code": "INVENTORY_NOT_FOUND"}
    assert await ledger(stocked, "A") == entries(5, 6)


async def test_archived_skus_and_inactive_warehouses_take_no_reported_increase(
    stocked: Service,
) -> None:
    content = {"input": {"sku": "A"}}
    await stocked.data(ARCHIVE, content, token="admin")
    assert await refused(stocked, report(A=6)) == "SKU_ARCHIVED"
    assert statuses(await sync(stocked, report(A=4))) == ["UPDATED"]
    await stocked.data(
        UPDATE_WAREHOUSE, {"input": {"id": FBA.id, "isActive": False}}, token="admin"
    )
    assert await refused(stocked, report(B=1)) == "WAREHOUSE_INACTIVE"
    await assert_proven(stocked)


async def test_a_dry_run_report_writes_nothing(stocked: Service) -> None:
    payload = await sync(stocked, report(A=6, B=0), dryRun=True)
    data = await stocked.data("{ skus { nodes { sku stock { onHand syncedAt } } } }")

    assert statuses(payload) == ["UPDATED", "UNCHANGED"]
    assert data["skus"]["nodes"] == [
        {"sku": "A", "stock": [{"onHand": 5, "syncedAt": None}]},
        {"sku": "B", "stock": []},
    ]


async def test_concurrent_reports_leave_the_latest(stocked: Service) -> None:
    instants = [f"2026-01-01T00:00:{second:02}.000Z" for second in (5, 1, 7, 3, 6, 2, 4, 0)]
    contents = [report(at, A=5 if int(at[17:19]) % 2 else 8, B=int(at[17:19])) for at in instants]
    others = [
        {"sku": code, "warehouseId": MAIN.id, "change": {"delta": 1}, "reason": "loss"}
        for code in "BA"
    ]
    levels = [{"sku": "A", "warehouseId": FBA.id, "safetyStock": number} for number in range(4)]
    await asyncio.gather(
        *(sync(stocked, content) for content in contents),
        *(stocked.data(BULK, {"input": {"updates": others}}) for _ in range(4)),
        *(stocked.data(SAFETY, {"input": {"levels": [it]}}, token="admin") for it in levels),
    )
    data = await stocked.data("{ skus { nodes { sku stock { onHand syncedAt } } } }")

    result = {it["sku"]: it["stock"] for it in data["skus"]["nodes"]}
    last = "2026-01-01T00:00:07.000Z"
    at_market = {"A": {"onHand": 5, "syncedAt": last}, "B": {"onHand": 7, "syncedAt": last}}
    for code, kept in at_market.items():
        assert kept in result[code]
        assert {"onHand": 4, "syncedAt": None} in result[code]
    await assert_proven(stocked)


async def test_another_tenants_warehouse_cannot_be_reported(stocked: Service) -> None:
    other = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    await other.load([], [sku("A")])

    assert await refused(other, report(A=1)) == "WAREHOUSE_NOT_FOUND"
    assert await ledger(stocked, "A") == entries(5)
