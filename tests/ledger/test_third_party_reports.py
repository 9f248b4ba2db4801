"""A third party's late report never overwrites later news of a stock level."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from app.domain.instants import format_instant
from app.domain.warehouses import WarehouseType
from app.files import imports
from app.files.columns import FileKind
from app.files.import_runs import ImportTally
from app.ledger.repair import repair_tenant
from tests.effort import EFFORT
from tests.files.importing import silent, staged, warehouse_names
from tests.ledger.behind import change_behind_its_back
from tests.ledger.reservations import COMMIT, line, reserve
from tests.ledger.test_sync import refused, report, statuses, sync
from tests.ledger.writes import ADJUST, SET, TRANSFER, assert_proven
from tests.service import Service, sku, warehouse

MAIN: Final = warehouse()
PARTNER: Final = warehouse("Partner", WarehouseType.THIRD_PARTY)
# The cases of the table in docs/late-news.md: the news of a level (what it is, and the hour of its
# occurrence) in the order of their arrival, and the quantity at the end.
CASES: Final[dict[str, tuple[list[tuple[str, int, int]], int]]] = {
    "a report after an older report": ([("report", 9, 10), ("report", 10, 12)], 12),
    "a late report after a newer report": ([("report", 10, 12), ("report", 9, 10)], 12),
    "a corrected report of the same time": ([("report", 10, 12), ("report", 10, 11)], 11),
    "a late report after a newer count": ([("set", 10, 12), ("report", 9, 10)], 12),
    "a late report after a newer change": ([("adjust", 10, 5), ("report", 9, 10)], 5),
    "a report after an older count": ([("set", 9, 12), ("report", 10, 10)], 10),
    "a report after a late change that it contains": (
        [("report", 9, 10), ("adjust", 8, 2), ("report", 10, 11)],
        11,
    ),
    "a report of the time of a change": ([("adjust", 9, 5), ("report", 9, 7)], 7),
    "a late change after a report": ([("report", 10, 12), ("adjust", 9, -2)], 10),
}


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service with two SKUs without stock, and a warehouse of a third party."""
    await service.load([MAIN, PARTNER], [sku("A"), sku("B")])
    return service


def at(hour: int) -> str:
    return f"2026-03-12T{hour:02}:00:00.000Z"


async def carry_out(
    service: Service, kind: str, time: str | None, quantity: int, code: str = "A"
) -> str | None:
    """Carry out one piece of news; the status of a report."""
    if kind == "report":
        assert time is not None
        [status] = statuses(await sync(service, report(time, PARTNER.id, **{code: quantity})))
        return status
    change = {"quantity": quantity} if kind == "set" else {"delta": quantity}
    place = {"sku": code, "warehouseId": PARTNER.id, "reason": "correction"}
    content = {**place, **change, "occurredAt": time}
    await service.data(SET if kind == "set" else ADJUST, {"input": content})
    return None


async def on_hand(service: Service, code: str = "A") -> int:
    query = "query ($sku: String!) { sku(sku: $sku) { totalOnHand } }"
    number: int = (await service.data(query, {"sku": code}))["sku"]["totalOnHand"]
    return number


@pytest.mark.parametrize("name", CASES)
async def test_cases_of_the_documentation(stocked: Service, name: str) -> None:
    news, expected = CASES[name]
    for kind, hour, quantity in news:
        await carry_out(stocked, kind, at(hour), quantity)

    assert await on_hand(stocked) == expected
    await assert_proven(stocked)


@pytest.mark.parametrize("seed", range(3 * EFFORT))
async def test_late_reports_match_the_model(stocked: Service, seed: int) -> None:
    draw = random.Random(seed)
    quantity, latest, last_report = 0, "", ""
    for _ in range(30):
        kind = draw.choice(["report", "report", "report", "set", "adjust"])
        time = draw.choice([*map(at, range(6, 18))])
        number = draw.randint(0, 5)
        status = await carry_out(stocked, kind, time, number)
        if kind == "adjust":
            quantity += number
        elif kind == "set" or time >= max(latest, last_report):
            expected = "UPDATED" if quantity != number else "UNCHANGED"
            assert status in (None, expected)
            quantity = number
        else:
            assert status == "IGNORED"
            continue
        if kind == "report":
            last_report = time
        if status != "UNCHANGED":
            latest = max(latest, time)
        assert await on_hand(stocked) == quantity
    await assert_proven(stocked)


async def test_a_change_without_a_time_occurred_when_it_was_written(stocked: Service) -> None:
    hour = timedelta(hours=1)
    await carry_out(stocked, "set", None, 7)
    before, after = (datetime.now(UTC) - hour, datetime.now(UTC) + timedelta(minutes=1))

    assert await carry_out(stocked, "report", format_instant(before), 3) == "IGNORED"
    assert await carry_out(stocked, "report", format_instant(after), 3) == "UPDATED"
    assert await on_hand(stocked) == 3


async def test_the_entry_of_a_report_occurred_at_its_time(stocked: Service) -> None:
    await carry_out(stocked, "report", at(9), 5)
    data = await stocked.data(
        '{ adjustments { nodes { reason occurredAt } } sku(sku: "A") { stock { syncedAt } } '
        "changes { nodes { occurredAt } } }"
    )

    entry = {"reason": "stock_report", "occurredAt": at(9)}
    assert data["adjustments"]["nodes"] == [entry]
    assert data["sku"]["stock"] == [{"syncedAt": at(9)}]
    assert data["changes"]["nodes"][0] == {"occurredAt": at(9)}


async def test_a_report_keeps_transfers_and_commits_after_it(stocked: Service) -> None:
    for code in "AB":
        await carry_out(stocked, "set", at(8), 10, code)
    held = (await reserve(stocked, line("B", 4, PARTNER.id)))["id"]
    await stocked.data(COMMIT, {"input": {"id": held}})
    ends = {"fromWarehouseId": PARTNER.id, "toWarehouseId": MAIN.id}
    lines = [{"sku": "A", "quantity": 3}]
    await stocked.data(TRANSFER, {"input": {**ends, "lines": lines, "occurredAt": at(10)}})
    content = report(at(9), PARTNER.id, A=10, B=10)

    assert statuses(await sync(stocked, content)) == ["IGNORED", "IGNORED"]
    assert statuses(await sync(stocked, report(at(11), PARTNER.id, A=6))) == ["UPDATED"]
    await assert_proven(stocked)


async def test_concurrent_late_reports_and_changes_lose_no_change(stocked: Service) -> None:
    """The result is that of an order in which reports do not undo later changes."""
    await carry_out(stocked, "set", at(8), 100)
    changes = [carry_out(stocked, "adjust", at(10), 1) for _ in range(6)]
    reports = [carry_out(stocked, "report", at(9), 100) for _ in range(6)]
    await asyncio.gather(*(each for pair in zip(reports, changes, strict=True) for each in pair))

    assert await on_hand(stocked) == 106
    await assert_proven(stocked)


async def test_a_report_before_1970_is_refused(stocked: Service) -> None:
    content = report("1969-12-31T23:59:59Z", PARTNER.id, A=1)
    assert await refused(stocked, content) == "VALIDATION_ERROR"
    assert await refused(stocked, {**content, "reportedAt": "2026-03-12"}) == "VALIDATION_ERROR"


async def test_a_file_of_reports_has_the_same_rule(stocked: Service) -> None:
    await carry_out(stocked, "set", at(10), 7)
    content = f"sku,warehouse_id,quantity\nA,{PARTNER.id},3\nB,{PARTNER.id},4\n"

    assert await import_report(stocked, content, at(9)) == ImportTally(superseded=1, created=1)
    assert await import_report(stocked, content, at(11)) == ImportTally(updated=1, unchanged=1)
    assert await on_hand(stocked) == 3
    await assert_proven(stocked)


async def import_report(service: Service, content: str, time: str) -> ImportTally:
    """Import a file of reports of a time."""
    names = await warehouse_names(service.database, service.tenant_id)
    staging = staged(content, FileKind.REPORTS, names=names)
    run = imports.run_of(staging, service.tenant_id, name="", created_by="importer")
    run = replace(run, reported_at=datetime.fromisoformat(time))
    await imports.validate(service.database, staging, run, silent)
    result = await imports.write(service.database, staging, run, silent)
    staging.close()
    return result.tally


async def test_a_file_has_reports_of_a_fraction_of_a_millisecond(stocked: Service) -> None:
    content = f"sku,warehouse_id,quantity\nA,{PARTNER.id},3\n"
    await import_report(stocked, content, "2026-03-12T09:00:00.123999+00:00")
    await assert_proven(stocked)


async def test_a_wrong_time_of_the_last_occurrence_is_repaired(stocked: Service) -> None:
    await carry_out(stocked, "set", at(10), 7)
    await carry_out(stocked, "adjust", at(9), 1)
    tenant = f"tenant_id = '{stocked.tenant_id}'"
    await change_behind_its_back(
        stocked, f"UPDATE stock_level SET occurred_until = NULL WHERE {tenant}"
    )
    [message] = await repair_tenant(stocked.database, stocked.tenant_id)

    assert message.startswith("occurred_until of stock level (A, ")
    await assert_proven(stocked)
    assert await carry_out(stocked, "report", at(9), 3) == "IGNORED"
