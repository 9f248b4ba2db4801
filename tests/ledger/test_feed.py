"""Every change of a tenant is in its feed exactly once, in the order of commit."""

from collections.abc import Iterable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from sqlalchemy import func, select

from app.database.tables import change, tenant
from app.files.columns import FileKind
from app.files.sources import FileFormat
from app.ledger.replay import LedgerBroken
from app.ledger.verification import verify_tenant
from app.settings import Settings
from app.writes import changes as deletion
from app.writes.changes import delete_old_changes
from app.writes.expiry import expire_reservations
from tests.clocks import clocks_at, set_clock
from tests.engines import transact
from tests.files.importing import imported
from tests.graphql.operations import bulk_item
from tests.ledger.behind import change_behind_its_back
from tests.ledger.feed import FeedBroken, Follower, assert_followed, follower_of, read_changes
from tests.ledger.reservations import COMMIT, EXTEND, RELEASE, line, reserve
from tests.ledger.test_reversals import REVERSE
from tests.ledger.writes import (
    ADJUST,
    ARCHIVE,
    BULK,
    CREATE_WAREHOUSE,
    RESTORE,
    SAFETY,
    SET,
    SKU,
    SYNC,
    TITLE,
    TRANSFER,
    UPDATE_WAREHOUSE,
    assert_proven,
)
from tests.service import Service, level, running, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")


class Writer:
    """Writes of one tenant by GraphQL, and the changes that follow from each."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.follower = Follower()

    async def done(self, query: str, **content: object) -> Any:
        """Run a mutation, and return its payload."""
        data = await self.service.data(query, {"input": content}, token="admin")
        [payload] = data.values()
        return payload

    async def changes(self) -> list[str]:
        """Follow the feed, compare the state with the lists, and return the new types."""
        page = await read_changes(self.service, self.follower.position)
        await assert_followed(self.service, self.follower)
        return [it["type"] for it in page["data"]]

    async def types(self, query: str, **content: object) -> list[str]:
        """Run a mutation, and return the types of its changes."""
        await self.done(query, **content)
        return await self.changes()


async def test_each_kind_of_write_has_its_changes(service: Service) -> None:
    writer = Writer(service)
    types, done = writer.types, writer.done
    own = {"type": "OWN"}
    assert await types(CREATE_WAREHOUSE, name="Main", **own) == ["warehouse_created"]
    assert await types(CREATE_WAREHOUSE, name="Other", **own) == ["warehouse_created"]
    main, other = writer.follower.state.warehouses
    assert await types(SKU, sku="A", title="Old") == ["sku_created"]
    assert await types(TITLE, sku="A", title="New") == ["sku_changed"]
    assert await types(TITLE, sku="A", title="New") == []
    stock, status = "stock_changed", "status_changed"
    a = {"sku": "A", "warehouseId": main, "reason": "cycle_count"}
    assert await types(SET, **a, quantity=10) == [stock, status]
    assert await types(SET, **a, quantity=10) == [stock]
    assert await types(SET, **a, quantity=10, skipUnchanged=True) == []
    assert await types(ADJUST, **a, delta=-1) == [stock]
    safe = {"sku": "A", "warehouseId": main, "safetyStock": 9}
    assert await types(SAFETY, levels=[safe]) == [stock, status]
    moved = {"fromWarehouseId": main, "toWarehouseId": other}
    lines = [{"sku": "A", "quantity": 2}]
    payload = await done(TRANSFER, **moved, lines=lines)
    assert await writer.changes() == [stock, stock]
    assert await types(REVERSE, target={"transferId": payload["transferId"]}) == [stock, stock]
    bulk = [bulk_item({**a, "quantity": 50}), bulk_item({**a, "warehouseId": other, "delta": 4})]
    assert await types(BULK, updates=bulk) == [stock, stock, status]
    assert await types(UPDATE_WAREHOUSE, id=other, isActive=False) == ["warehouse_changed", stock]
    assert await types(ARCHIVE, sku="A") == ["sku_archived"]
    assert await types(RESTORE, sku="A") == ["sku_restored"]


async def test_changes_have_the_order_of_the_ledger(service: Service) -> None:
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10)), sku("B")])
    follower = await follower_of(service)
    levels = [("B", OTHER.id), ("A", MAIN.id), ("B", MAIN.id), ("A", OTHER.id)]
    updates = [
        bulk_item({"sku": code, "warehouseId": id_, "reason": "cycle_count", "quantity": 3})
        for code, id_ in levels
    ]
    data = await service.data(BULK, {"input": {"updates": updates}})
    await assert_followed(service, follower)
    results = data["bulkSetStock"]["results"]
    assert follower.adjustments == [it["adjustment"]["id"] for it in results]
    assert (await verify_tenant(service.database, service.tenant_id)).changes == 5


async def test_reservations_have_their_changes(service: Service) -> None:
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10)), sku("B")])
    writer = Writer(service)
    writer.follower = await follower_of(service)
    start = datetime(2026, 5, 1, tzinfo=UTC)
    await set_clock(service.database, start)
    stock = "stock_changed"
    held = [(await reserve(service, line("A", 2, MAIN.id), expiresIn=60))["id"] for _ in "abc"]
    assert await writer.changes() == 3 * [stock, "reservation_opened"]
    assert await writer.types(EXTEND, id=held[0], expiresIn=600) == ["reservation_extended"]
    assert await writer.types(EXTEND, id=held[0], expiresIn=60) == []
    one = [line("A", 1, MAIN.id)]
    assert await writer.types(COMMIT, id=held[0], lines=one) == [stock, "reservation_committed"]
    assert await writer.types(RELEASE, id=held[1]) == [stock, "reservation_released"]
    await set_clock(service.database, start + timedelta(seconds=61))
    assert await expire_reservations(service.database, service.tenant_id) == 1
    assert await writer.changes() == [stock, "reservation_expired"]
    await set_clock(service.database, None)
    [commit] = [it for it in (await read_changes(service, 0))["data"] if it.get("reason") == "sale"]
    assert commit["reservation_id"] == held[0]


async def test_a_report_has_changes_only_for_levels_that_differ(service: Service) -> None:
    writer = Writer(service)
    market = await writer.done(CREATE_WAREHOUSE, name="FBA", type="FBA", marketplace="amazon_eu")
    for code in ("A", "B"):
        await writer.done(SKU, sku=code, title=code)
    await writer.changes()
    at = "2026-01-01T12:00:00.000Z"
    report = {"warehouseId": market["warehouse"]["id"], "reportedAt": at}
    levels = [{"sku": "A", "onHand": 3}, {"sku": "B", "onHand": 0}]
    new = ["stock_changed", "stock_changed", "status_changed"]
    assert await writer.types(SYNC, **report, levels=levels) == new
    report["reportedAt"] = at.replace("12", "13")
    assert await writer.types(SYNC, **report, levels=levels) == []


async def test_refused_writes_and_dry_runs_have_no_changes(service: Service) -> None:
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10))])
    writer = Writer(service)
    writer.follower = await follower_of(service)
    content = {"sku": "A", "warehouseId": MAIN.id, "reason": "cycle_count"}
    await writer.done(SET, **content, quantity=3, dryRun=True)
    updates = [
        bulk_item({**content, "quantity": 1}),
        bulk_item({**content, "sku": "X", "delta": 1}),
    ]
    assert "errors" in await service.graphql(BULK, {"input": {"updates": updates}})
    assert await writer.changes() == []


async def test_an_import_has_a_change_for_each_entry_of_a_level(service: Service) -> None:
    writer = Writer(service)
    await writer.done(CREATE_WAREHOUSE, name="Main", type="OWN")
    await writer.changes()
    [main] = writer.follower.state.warehouses
    database, tenant_id = service.database, service.tenant_id
    skus = "sku,title\nA,Lamp\nB,Bottle\n"
    await imported(database, tenant_id, skus, FileKind.SKUS, FileFormat.CSV)
    assert await writer.changes() == ["sku_created", "sku_created"]
    counts = f"sku,warehouse_id,quantity\nA,{main},7\nB,{main},0\n"
    await imported(database, tenant_id, counts, FileKind.COUNTS, FileFormat.CSV, name="May")
    expected = ["stock_changed", "stock_changed", "status_changed"]
    assert await writer.changes() == expected
    await imported(database, tenant_id, counts, FileKind.COUNTS, FileFormat.CSV, name="May")
    assert await writer.changes() == []


async def test_no_change_has_an_e_mail_address(service: Service) -> None:
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10))])
    content = {"sku": "A", "warehouseId": MAIN.id, "reason": "cycle_count", "quantity": 1}
    await service.data(SET, {"input": content})
    await reserve(service, line("A", 1, MAIN.id))

    async def bodies(connection: Any) -> list[str]:
        of_tenant = change.c.tenant_id == service.tenant_id
        return list(await connection.scalars(select(change.c.body).where(of_tenant)))

    stored = await transact(service.database, bodies)
    assert len(stored) == 4
    assert "@" not in "".join(stored)


async def adjusted(service: Service, *deltas: int) -> None:
    """Change the stock of A once for each delta."""
    for delta in deltas:
        content = {"sku": "A", "warehouseId": MAIN.id, "reason": "cycle_count", "delta": delta}
        await service.data(ADJUST, {"input": content})


async def test_the_follower_of_these_tests_notices_a_fault(service: Service) -> None:
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10))])
    state = (await follower_of(service)).state
    await adjusted(service, 1, 2, 3, 4)
    changes = (await read_changes(service, 0))["data"]

    def follow(followed: Iterable[dict[str, Any]]) -> None:
        follower = Follower(deepcopy(state))
        for each in followed:
            follower.apply(each)

    follow(changes)
    for order in ((1, 2, 3), (0, 2, 3), (0, 0, 1, 2, 3), (0, 1, 2, 2, 3), (0, 2, 1, 3)):
        wrong = [changes[index] for index in order]
        with pytest.raises(FeedBroken):
            follow(wrong)
        with pytest.raises(FeedBroken):
            follow({**it, "position": number} for number, it in enumerate(wrong, start=1))


async def position_of(service: Service) -> tuple[int, int, int]:
    """Return the last position, the last deleted one, and the number of stored changes."""
    of_tenant = change.c.tenant_id == service.tenant_id
    statement = select(
        select(func.max(change.c.position)).where(of_tenant).scalar_subquery(),
        tenant.c.changes_deleted_until,
        select(func.count()).where(of_tenant).scalar_subquery(),
    ).where(tenant.c.tenant_id == service.tenant_id)

    async def read(connection: Any) -> tuple[int, int, int]:
        [row] = await connection.execute(statement)
        return tuple(row)

    return await transact(service.database, read)


async def test_old_changes_are_deleted_in_ranges_and_are_gone_for_readers(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "DELETED_POSITIONS", 2)
    deletion._next_range.cache_clear()
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10))])
    database, tenant_id = service.database, service.tenant_id
    start = datetime(2026, 5, 1, tzinfo=UTC)
    async with clocks_at(database, start):
        await adjusted(service, *range(1, 6))
    async with clocks_at(database, start + timedelta(days=1)):
        await adjusted(service, 7)
    async with clocks_at(database, start + timedelta(days=30)):
        assert await delete_old_changes(database, tenant_id) == 0
    async with clocks_at(database, start + timedelta(days=30, seconds=1)):
        assert await delete_old_changes(database, tenant_id) == 5
    assert await position_of(service) == (6, 5, 1)
    assert [it["position"] for it in (await read_changes(service, 5))["data"]] == [6]
    gone = await service.rest("GET", "/api/inventory/changes?after=4")
    assert gone.status_code == 410
    error = gone.json()["error"]
    assert (error["code"], error["details"]) == ("CHANGES_GONE", [{"oldest": 6, "newest": 6}])
    assert "Read the lists again" in error["message"]
    async with clocks_at(database, start + timedelta(days=99)):
        assert await delete_old_changes(database, tenant_id) == 1
    # Without a stored change, the next position still follows the last one.
    await adjusted(service, 8)
    assert await position_of(service) == (7, 6, 1)
    await assert_proven(service)
    deletion._next_range.cache_clear()


async def test_a_feed_without_changes_has_nothing_to_delete(service: Service) -> None:
    assert await delete_old_changes(service.database, service.tenant_id) == 0
    page = await read_changes(service, 0)
    assert page == {"data": [], "meta": {"limit": 1000, "read_to": 0, "newest_position": 0}}


async def test_the_setting_decides_how_long_changes_are_kept(own_database_url: str) -> None:
    async with running(own_database_url, changes_kept_days=1) as (app, _):
        assert app.state.database.settings.changes_kept_days == 1
    assert Settings().changes_kept_days == 30


# Changes of the database, and a part of the message of the verification.
FEED_BREAKS: Final = {
    "a change is gone": ("DELETE FROM change WHERE position = 3", "the change after 2 is 4"),
    "the last change is gone": ("DELETE FROM change WHERE position = 4", "the last adjustment"),
    "the first change is gone": (
        "DELETE FROM change WHERE position = 1",
        "the change after 0 is 2",
    ),
    "a deleted change is there": (
        "UPDATE tenant SET changes_deleted_until = 2",
        "the change after 2 is 1",
    ),
    "another quantity": (
        "UPDATE change SET body = replace(body, '13,', '14,') WHERE position = 2",
        "the stock level of change 2",
    ),
    "another reason": (
        "UPDATE change SET body = replace(body, 'cycle_count', 'loss') WHERE position = 2",
        "the reason and the reference of change 2",
    ),
    "another SKU": ("UPDATE change SET sku = 'B' WHERE position = 2", "level of change 2"),
    "an unknown adjustment": (
        "UPDATE change SET body = replace(body, 'adj_', 'adj_x') WHERE position = 2",
        "which does not exist",
    ),
    "no adjustment": (
        "UPDATE change SET body = replace(body, 'adjustment_id', 'unknown') WHERE position = 2",
        "the position of the adjustment of change 3",
    ),
    "no adjustment at the end": (
        "UPDATE change SET body = replace(body, 'adjustment_id', 'unknown') WHERE position = 4",
        "the last adjustment of the feed",
    ),
    "not JSON": ("UPDATE change SET body = '{' WHERE position = 2", "no valid body"),
}


@pytest.mark.parametrize("what", FEED_BREAKS)
async def test_verify_finds_a_wrong_feed(service: Service, what: str) -> None:
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 10)), sku("B")])
    await adjusted(service, 1, 2, 3, 4)
    proof = await verify_tenant(service.database, service.tenant_id)
    assert proof.changes == 4
    statement, named = FEED_BREAKS[what]
    start, where, condition = statement.partition(" WHERE ")
    of_tenant = f"{start} WHERE tenant_id = '{service.tenant_id}'"
    wrong = f"{of_tenant} AND {condition}" if where else of_tenant
    await change_behind_its_back(service, wrong)

    with pytest.raises(LedgerBroken) as error:
        await verify_tenant(service.database, service.tenant_id)
    assert named in str(error.value)
