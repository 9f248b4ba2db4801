"""Streams of availability have an event only when what a frontend may see has changed."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import pytest
from sqlalchemy import update

from app.database.tables import sku as sku_table
from app.domain.availability import AvailabilityRecord
from app.errors import Unavailable
from app.live import availability, streams
from app.reads.availability import get_availabilities
from tests.engines import writer_of
from tests.graphql.recorder import recorded
from tests.live.serving import MAIN, EventReader, LiveService, serving

SHOP: Final = "availability"
STREAM: Final = (
    "subscription ($skus: [String!]!) { availabilityChanged(skus: $skus) "
    "{ sku availability { title status isInStock available isLimited } } }"
)
AB: Final = {"skus": ["B", "A"]}
ARCHIVE: Final = 'mutation { archiveSku(input: {sku: "A"}) { sku { sku } } }'
RESTORE: Final = 'mutation { restoreSku(input: {sku: "A"}) { sku { sku } } }'
RENAME: Final = 'mutation { updateSku(input: {sku: "A", title: "Lamp"}) { sku { sku } } }'
RENAME_WAREHOUSE: Final = (
    'mutation ($id: ID!) { updateWarehouse(input: {id: $id, name: "X"}) { warehouse { id } } }'
)


async def events(reader: EventReader, number: int) -> list[tuple[str, Any]]:
    """Read events, and return the code and the availability of each; none may have an id."""
    found = []
    for _ in range(number):
        event = await anext(reader)
        assert (event.name, event.id) == ("next", None), event
        change = event.json["data"]["availabilityChanged"]
        found.append((change["sku"], change["availability"]))
    return found


async def available(reader: EventReader) -> tuple[str, int | None]:
    """Read one event, and return the code and the available quantity."""
    [(code, shown)] = await events(reader, 1)
    return code, shown and shown["available"]


async def test_a_stream_begins_with_the_present_and_hides_changes_above_the_limit(
    live: LiveService,
) -> None:
    skus = ["B", "none", "A", "B"]
    # A position would tell how many changes there are, also by a refusal.
    headers = {"Last-Event-ID": "999999999"}
    async with live.opened(STREAM, {"skus": skus}, token=SHOP, headers=headers) as reader:
        shown = {
            "title": "Thing",
            "status": "NORMAL",
            "isInStock": True,
            "available": 10,
            "isLimited": True,
        }
        assert await events(reader, 3) == [("B", shown), ("none", None), ("A", shown)]
        for quantity in (500, 400, 5):
            await live.count("A", quantity)
            await live.count("B", quantity)
        await live.count("A", 2)
        # The hidden changes have left no line, not even a heartbeat.
        assert await reader.next_line() == "event: next"
        event = await anext(reader)
        assert event.json["data"]["availabilityChanged"]["availability"]["available"] == 7
        await live.count("A", 2)
        await live.count("A", 1)
        assert await available(reader) == ("A", 6)


async def test_a_stream_shows_other_titles_and_archived_skus(live: LiveService) -> None:
    async with live.opened(STREAM, {"skus": ["A"]}, token="read") as reader:
        [(_, before)] = await events(reader, 1)
        await live.data(RENAME, token="admin")
        assert await events(reader, 1) == [("A", {**before, "title": "Lamp"})]
        await live.data(ARCHIVE, token="admin")
        assert await events(reader, 1) == [("A", None)]
        await live.data(RESTORE, token="admin")
        assert await events(reader, 1) == [("A", {**before, "title": "Lamp"})]


async def test_the_change_of_a_warehouse_reads_all_skus_of_a_stream(live: LiveService) -> None:
    async with live.opened(STREAM, AB, token=SHOP) as reader:
        await events(reader, 2)
        of_tenant = sku_table.c.tenant_id == live.tenant_id
        async with writer_of(live.database).begin() as connection:
            await connection.execute(update(sku_table).where(of_tenant).values(available=3))
        await live.data(RENAME_WAREHOUSE, {"id": MAIN.id}, token="admin")
        assert [await available(reader), await available(reader)] == [("B", 3), ("A", 3)]


async def test_another_tenant_causes_no_event(live: LiveService) -> None:
    other = await live.neighbour()
    async with live.opened(STREAM, {"skus": ["A"]}, token=SHOP) as reader:
        await events(reader, 1)
        await other.count("A", 0)
        await live.count("A", 1)
        assert await available(reader) == ("A", 6)


async def test_heartbeats_come_although_hidden_changes_do(database_url: str) -> None:
    async with (
        serving(database_url, stream_heartbeat_seconds=0.2) as live,
        live.opened(STREAM, {"skus": ["A"]}, token=SHOP) as reader,
    ):
        await events(reader, 1)

        async def write() -> None:
            for quantity in range(1_000, 2_000):
                await live.count("A", quantity)

        writer = asyncio.create_task(write())
        await reader.comment()
        await reader.comment()
        writer.cancel()


async def test_streams_of_a_tenant_share_their_reads(live: LiveService) -> None:
    opened = [live.opened(STREAM, AB, token=SHOP) for _ in range(12)]
    readers = [await each.__aenter__() for each in opened]
    for reader in readers:
        await events(reader, 2)
    with recorded() as recorder:
        await live.count("A", 0)
        found = [await available(reader) for reader in readers]
    for each in opened:
        await each.__aexit__(None, None, None)
    await live.until_open(0)
    assert found == [("A", 5)] * 12
    assert 1 <= sum("availability_limit" in each for each in recorder.statements) <= 3


async def test_a_stream_survives_an_outage_of_the_database(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "READ_AGAIN_SECONDS", 0.01)
    outages = 3

    async def failing(*arguments: Any, **options: Any) -> Mapping[str, AvailabilityRecord]:
        nonlocal outages
        outages -= 1
        if outages >= 0:
            message = "The database is unreachable."
            raise Unavailable(message)
        return await get_availabilities(*arguments, **options)

    monkeypatch.setattr(streams, "get_availabilities", failing)
    async with live.opened(STREAM, {"skus": ["A"]}, token=SHOP) as reader:
        assert await available(reader) == ("A", 10)
    assert outages < 0


@pytest.mark.parametrize(
    ("query", "skus", "code"),
    [
        (STREAM, [], "VALIDATION_ERROR"),
        (STREAM, ["x"] * 201, "VALIDATION_ERROR"),
        ("subscription { stockChanged { position } }", [], "INSUFFICIENT_SCOPE"),
        ("subscription { changes { position } }", [], "INSUFFICIENT_SCOPE"),
    ],
)
async def test_other_streams_and_wrong_codes_are_refused(
    live: LiveService, query: str, skus: list[str], code: str
) -> None:
    async with live.opened(query, {"skus": skus}, token=SHOP) as reader:
        assert await reader.error() == code
    await live.until_open(0)
