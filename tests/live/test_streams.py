"""Streams have every change that matches, once, in order, and none of another tenant."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from prometheus_client import REGISTRY

from app.database.tables import api_token
from app.domain.caller import Scope
from app.domain.changes import ChangeBody, ChangeRecord, ChangeState, ChangeType
from app.domain.filters import ChangeFilter
from app.errors import Unavailable
from app.graphql import subscriptions
from app.graphql.schema.budget import Budget
from app.live import followers, streams
from app.reads import changes as feed_reads
from app.reads.changes import FeedPage
from app.writes.tenant_deletion import delete_tenant
from app.writes.tenants import create_token
from tests.clocks import set_clock
from tests.engines import writer_of
from tests.graphql.recorder import recorded
from tests.ledger.feed import read_changes
from tests.live.serving import ALL, MAIN, OTHER, LiveService, serving
from tests.service import EMAIL

STOCK: Final = (
    "subscription ($skus: [String!], $ids: [ID!]) { stockChanged(skus: $skus, warehouseIds: $ids) "
    "{ position code warehouseId reason before { onHand } after { onHand available } } }"
)
STATUS: Final = (
    'subscription { statusChanged(skus: ["B"]) '
    "{ position code before { status } after { status } } }"
)
RESERVATION: Final = (
    "subscription ($ids: [ID!]) { reservationChanged(ids: $ids) { position type reservationId } }"
)
RESERVE: Final = (
    "mutation ($input: ReserveStockInput!) { reserveStock(input: $input) { reservation { id } } }"
)
EVERYTHING: Final = ChangeFilter()
RELEASE: Final = (
    "mutation ($id: ID!) { releaseReservation(input: {id: $id}) { reservation { id } } }"
)


async def test_a_subscription_has_the_selected_values_of_matching_changes(
    live: LiveService,
) -> None:
    async with live.opened(STOCK, {"skus": ["A"], "ids": [OTHER.id]}) as reader:
        await live.count("B", 1, warehouse_id=OTHER.id)
        await live.count("A", 2)
        await live.count("A", 3, warehouse_id=OTHER.id)
        [change] = await reader.changes(1)
    assert change.pop("position") > 1
    assert change == {
        "code": "A",
        "warehouseId": OTHER.id,
        "reason": "cycle_count",
        "before": {"onHand": 5},
        "after": {"onHand": 3, "available": 3},
    }


async def test_a_bound_token_follows_its_own_warehouses_alone(live: LiveService) -> None:
    bound = await create_token(
        live.database,
        live.tenant_id,
        name="3PL",
        email=EMAIL,
        scopes=[Scope.READ],
        warehouse_ids=[OTHER.id],
    )
    async with (
        live.opened(token=bound.token) as by_rest,
        live.opened(STOCK, token=bound.token) as by_graphql,
    ):
        await live.count("A", 1)
        await live.count("A", 0, warehouse_id=OTHER.id)
        await live.count("B", 4)
        await live.count("B", 2, warehouse_id=OTHER.id)
        changes = [*await by_rest.changes(2), *await by_graphql.changes(2)]

    assert [it.get("warehouse_id") or it["warehouseId"] for it in changes] == [OTHER.id] * 4


async def test_statuses_and_reservations_have_subscriptions(live: LiveService) -> None:
    line = {"sku": "A", "warehouseId": MAIN.id, "quantity": 1}
    ids = []
    for _ in "ab":
        data = await live.data(RESERVE, {"input": {"lines": [line]}})
        ids.append(data["reserveStock"]["reservation"]["id"])
    async with (
        live.opened(STATUS) as statuses,
        live.opened(RESERVATION, {"ids": ids[1:]}) as reservations,
        live.opened(types="reservation_released") as by_rest,
    ):
        for place in (MAIN, OTHER):
            await live.count("A", 1, warehouse_id=place.id)
            await live.count("B", 0, warehouse_id=place.id)
        for id_ in ids:
            await live.data(RELEASE, {"id": id_})
        [status] = await statuses.changes(1)
        [reservation] = await reservations.changes(1)
        both = await by_rest.changes(2)
    assert (status["code"], status["after"]) == ("B", {"status": "OUT_OF_STOCK"})
    assert (reservation["type"], reservation["reservationId"]) == ("RESERVATION_RELEASED", ids[1])
    assert [change["reservation_id"] for change in both] == ids


async def test_the_stream_of_rest_is_the_feed(live: LiveService) -> None:
    await live.count("A", 1)
    start = (await read_changes(live, 0))["meta"]["newest_position"]
    async with live.opened() as reader:
        first = await anext(reader)
        assert (first.name, first.id, first.data) == (None, str(start), None)
        for quantity in range(5):
            await live.count("A", 20 + quantity)
        followed = await reader.changes(5)
    assert followed == (await read_changes(live, start))["data"]


@pytest.mark.parametrize("query", [None, ALL])
async def test_resumed_streams_miss_nothing_while_writers_write(
    live: LiveService, query: str | None
) -> None:
    async def write(code: str, warehouse_id: str) -> None:
        for quantity in range(15):
            await live.count(code, 100 + quantity, warehouse_id=warehouse_id)

    places = [(code, place.id) for code in "AB" for place in (MAIN, OTHER)]
    writers = [asyncio.create_task(write(*place)) for place in places]
    positions: list[int] = [0]
    while len(positions) < 61:
        async with live.opened(query, headers={"Last-Event-ID": str(positions[-1])}) as reader:
            for _ in range(min(7, 61 - len(positions))):
                positions += [change["position"] for change in await reader.changes(1)]
    await asyncio.gather(*writers)
    assert positions == [*range(61)]


async def test_older_changes_are_read_in_pages_before_the_newest(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FEED_PAGE", 3)
    monkeypatch.setattr(feed_reads, "MOST_EXAMINED", 3)
    for quantity in range(8):
        await live.count("A", quantity)
    newest = (await read_changes(live, 0, limit=1))["meta"]["newest_position"]
    async with live.opened(ALL, {"after": 1}) as old, live.opened(ALL) as new:
        await live.count("A", 50)
        expected = [*range(2, newest + 2)]
        assert [each["position"] for each in await old.changes(len(expected))] == expected
        assert [each["position"] for each in await new.changes(1)] == expected[-1:]


async def test_another_tenant_sees_nothing(live: LiveService) -> None:
    other = await live.neighbour()
    async with live.opened() as own, other.opened() as foreign:
        for quantity in range(3):
            await live.count("A", 100 + quantity)
            await other.count("A", 200 + quantity)
        own_changes, foreign_changes = await own.changes(3), await foreign.changes(3)
    assert [each["after"]["on_hand"] for each in own_changes] == [100, 101, 102]
    assert [each["after"]["on_hand"] for each in foreign_changes] == [200, 201, 202]
    foreign_warehouse = await other.rest(
        "GET", "/api/inventory/changes?warehouse_id=wh_x", headers={"Accept": "text/event-stream"}
    )
    assert foreign_warehouse.status_code == 404


async def test_one_statement_per_interval_serves_all_streams_of_a_tenant(
    database_url: str,
) -> None:
    async with serving(database_url, stream_interval_seconds=5) as live:
        with recorded() as recorder:
            opened = [live.opened(query) for query in (ALL, None) * 5]
            for each in opened:
                await each.__aenter__()
            await live.until_open(10)
            # The first stream begins the follower, which then waits.
            while sum("deleted_until" in each for each in recorder.statements) < 1:
                await asyncio.sleep(0.01)
        reads = [each for each in recorder.statements if "changes_deleted_until" in each]
        for each in opened:
            await each.__aexit__(None, None, None)
        await live.until_open(0)
    assert len(reads) == 2


async def test_streams_of_one_document_share_their_renderings(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = 0

    def budget_of_a_rendering(limit: int) -> Budget:
        nonlocal rendered
        rendered += 1
        return Budget(limit)

    conditional = "subscription ($with: Boolean!) { changes { position code @include(if: $with) } }"
    async with (
        live.opened(ALL) as one,
        live.opened(ALL, {"after": 0}) as two,
        live.opened(conditional, {"with": True}) as with_code,
        live.opened(conditional, {"with": False}) as without_code,
    ):
        monkeypatch.setattr(subscriptions, "Budget", budget_of_a_rendering)
        await live.count("A", 1)
        [first], [second] = await one.changes(1), await two.changes(1)
        assert first == second
        assert "code" in (await with_code.changes(1))[0]
        assert "code" not in (await without_code.changes(1))[0]
    assert rendered == 3


def test_a_change_keeps_few_and_small_renderings() -> None:
    body = ChangeBody(after=ChangeState(title="A"))
    record = ChangeRecord(1, ChangeType.SKU_CHANGED, datetime.now(UTC), "A", None, body)
    change = followers.LiveChange(record)
    change.keep("large", b"x" * (followers.MAX_RENDERING_BYTES + 1))
    assert change.rendered == {}
    for number in range(100):
        change.keep(number, b"x" * followers.MAX_RENDERING_BYTES)
    assert len(change.rendered) == followers.MAX_RENDERINGS


async def test_streams_survive_an_outage_of_the_database(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "READ_AGAIN_SECONDS", 0.01)
    outages = 3
    list_changes = feed_reads.list_changes

    async def failing(*arguments: object, **options: object) -> FeedPage:
        nonlocal outages
        outages -= 1
        if outages >= 0:
            raise Unavailable("The database is unreachable.")
        return await list_changes(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(streams, "list_changes", failing)
    async with live.opened(ALL) as reader:
        await live.count("A", 1)
        assert len(await reader.changes(1)) == 1
    assert outages < 0


async def test_a_client_that_reads_too_slowly_is_cut_off_alone(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "MAX_QUEUED", 3)
    principal = await live.streams.authenticator.identify(f"Bearer {live.token('read')}")
    slow = await live.streams.open(principal, f"Bearer {live.token('read')}", EVERYTHING, None)
    async with live.opened(ALL) as reader:
        for quantity in range(6):
            await live.count("A", quantity)
            assert len(await reader.changes(1)) == 1
    chunks = streams.event_chunks(
        slow, render=lambda _: b"change", heartbeat=lambda _: b":", end=lambda it: it.code.encode()
    )
    assert [each async for each in chunks] == [b":", b"STREAM_TOO_SLOW"]
    slow.close()
    await live.until_open(0)


async def test_a_revoked_token_ends_its_streams(database_url: str) -> None:
    async with (
        serving(database_url, stream_heartbeat_seconds=0.05) as live,
        live.opened(ALL) as one,
        live.opened() as two,
        live.opened(token="write") as kept,
    ):
        # The first line, and a heartbeat.
        await one.comment()
        await one.comment()
        revocation = (
            api_token.update()
            .where(api_token.c.tenant_id == live.tenant_id, api_token.c.name == "READ")
            .values(revoked_at=api_token.c.created_at)
        )
        async with writer_of(live.database).begin() as connection:
            await connection.execute(revocation)
        assert await one.error() == "UNAUTHENTICATED"
        while (event := await anext(two)).name is None:
            assert event.data is None
        assert event.json["error"]["code"] == "UNAUTHENTICATED"
        await live.count("A", 1)
        assert len(await kept.changes(1)) == 1


async def test_the_shutdown_of_the_server_ends_its_streams(live: LiveService) -> None:
    async with live.opened(ALL) as one, live.opened() as two:
        await anext(two)
        live.server.should_exit = True
        assert [await one.error(), await two.error()] == ["UNAVAILABLE"] * 2


async def test_the_deletion_of_a_tenant_ends_its_streams(live: LiveService) -> None:
    other = await live.neighbour()
    async with live.opened(ALL) as deleted, other.opened(ALL) as kept:
        await delete_tenant(live.database, live.tenant_id, progress=print)
        assert await deleted.error() == "UNAUTHENTICATED"
        await other.count("A", 1)
        assert len(await kept.changes(1)) == 1


async def test_metrics_have_the_age_of_changes_that_streams_get(live: LiveService) -> None:
    def observed(suffix: str) -> float:
        return REGISTRY.get_sample_value(f"inventory_stream_delay_seconds_{suffix}") or 0

    count, total = observed("count"), observed("sum")
    async with live.opened(ALL) as stream:
        await set_clock(live.database, datetime.now(UTC) - timedelta(minutes=1))
        try:
            await live.count("A", 1)
            await stream.changes(1)
        finally:
            await set_clock(live.database, None)
    assert observed("count") > count
    assert observed("sum") - total >= 59
