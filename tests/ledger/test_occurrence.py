"""Late news: when a change occurred, beside the time of its ledger entry."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from app.domain.instants import format_instant
from app.files.columns import FileKind
from tests.effort import EFFORT
from tests.files.importing import imported, staged
from tests.ledger.writes import ADJUST, BULK, SET, TRANSFER, Json, assert_proven
from tests.rest.answers import answered, refused_fields, walk
from tests.service import Service, level, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
PATH: Final = "/api/inventory/A"
AT: Final = "2026-03-12T14:00:00.250Z"
READ: Final = """
query ($filter: LedgerFilterInput) {
  adjustments(first: 200, filter: $filter) {
    nodes { id occurredAt createdAt position }
    totalCount
    totals { entries increase decrease }
  }
}
"""
NESTED: Final = """
query ($filter: AdjustmentFilterInput, $of_warehouse: WarehouseAdjustmentFilterInput, $id: ID!) {
  sku(sku: "A") { adjustments(first: 200, filter: $filter) { nodes { id } totalCount } }
  warehouse(id: $id) {
    adjustments(first: 200, filter: $of_warehouse) { nodes { id } totals { entries } }
    stock { nodes { adjustments(first: 200, filter: $filter) { nodes { id } totalCount } } }
  }
}
"""


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service with the SKUs A and B in two warehouses."""
    await service.load(
        [MAIN, OTHER],
        [sku("A", level(MAIN, 10), level(OTHER, 5)), sku("B", level(MAIN, 3))],
    )
    return service


def item(**more: object) -> Json:
    """Build the fields of REST that every change of A in the main warehouse has."""
    return {"warehouse_id": MAIN.id, "reason": "loss", "occurred_at": AT, **more}


def graphql_item(**more: object) -> Json:
    return {"sku": "A", "warehouseId": MAIN.id, "reason": "loss", "occurredAt": AT, **more}


async def newest(service: Service, number: int) -> list[Json]:
    body = answered(await service.rest("GET", f"{PATH}/adjustments?limit={number}"))
    entries: list[Json] = body["data"]
    return entries


async def test_every_stock_write_stores_when_the_change_occurred(stocked: Service) -> None:
    lines = [{"sku": "A", "quantity": 1}]
    update = {"sku": "A", **item(quantity=8)}
    rest = [
        ("PUT", PATH, item(quantity=9), 1),
        ("POST", f"{PATH}/adjustments", item(delta=-1), 1),
        ("POST", "/api/inventory/bulk", {"updates": [update]}, 1),
        (
            "POST",
            "/api/inventory/transfers",
            {
                "from_warehouse_id": MAIN.id,
                "to_warehouse_id": OTHER.id,
                "lines": lines,
                "occurred_at": "2026-03-12T15:00:00.25+01:00",
            },
            2,
        ),
    ]
    for method, path, body, number in rest:
        assert (await stocked.rest(method, path, json=body)).is_success
        assert [it["occurred_at"] for it in await newest(stocked, number)] == [AT] * number
    ends = {"fromWarehouseId": MAIN.id, "toWarehouseId": OTHER.id, "lines": lines}
    change = {"change": {"delta": 2}}
    for mutation, content, number in (
        (SET, graphql_item(quantity=4), 1),
        (ADJUST, graphql_item(delta=3), 1),
        (BULK, {"updates": [graphql_item(**change)]}, 1),
        (TRANSFER, {**ends, "occurredAt": AT}, 2),
    ):
        await stocked.data(mutation, {"input": content})
        assert [it["occurred_at"] for it in await newest(stocked, number)] == [AT] * number

    await stocked.data(SET, {"input": graphql_item(quantity=4, occurredAt=None)})
    [entry] = await newest(stocked, 1)
    assert "occurred_at" not in entry
    await assert_proven(stocked)


async def test_the_feed_says_when_a_change_occurred(stocked: Service) -> None:
    await stocked.rest("PUT", PATH, json=item(quantity=9))
    await stocked.rest("PUT", PATH, json=item(quantity=8, occurred_at=None))

    feed = answered(await stocked.rest("GET", "/api/inventory/changes"))["data"]
    data = await stocked.data("{ changes { nodes { occurredAt } } }")

    assert [it.get("occurred_at") for it in feed] == [AT, None]
    assert [it["occurredAt"] for it in data["changes"]["nodes"]] == [AT, None]


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-12",
        "2026-13-12T14:00:00Z",
        "2026-03-12T14:00:00",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:59:59+01:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-03-12T14:00:00Z\n",
        "٢٠٢٦-03-12T14:00:00Z",
        "",
        "9" * 10_000,
        0,
        1773324000,
        True,
        [],
        {},
    ],
)
async def test_a_time_that_cannot_be_is_refused(stocked: Service, value: object) -> None:
    before = await newest(stocked, 200)

    for path, body in (
        (PATH, item(quantity=9, occurred_at=value)),
        (f"{PATH}/adjustments", item(delta=1, occurred_at=value)),
    ):
        method = "PUT" if path == PATH else "POST"
        assert refused_fields(await stocked.rest(method, path, json=body)) == ["occurred_at"]
    rows = [
        {"sku": "A", **item(quantity=9, occurred_at=value)},
        {"sku": "B", **item(quantity=3, occurred_at=None)},
    ]
    bulk = {"updates": rows, "on_error": "continue"}
    response = await stocked.rest("POST", "/api/inventory/bulk?dry_run=true", json=bulk)
    bad, good = answered(response)["data"]

    assert good["status"] == "updated"
    assert bad["error"]["code"] == "VALIDATION_ERROR"
    assert [it["field"] for it in bad["error"]["details"]] == ["occurred_at"]
    assert await newest(stocked, 200) == before


async def test_only_a_minute_of_the_future_is_accepted(stocked: Service) -> None:
    now = datetime.now(UTC)
    for seconds, status in ((-1, 200), (30, 200), (90, 422), (86_400, 422)):
        at = format_instant(now + timedelta(seconds=seconds))
        response = await stocked.rest("PUT", PATH, json=item(quantity=9, occurred_at=at))
        assert response.status_code == status, response.text
    transfer = {
        "from_warehouse_id": MAIN.id,
        "to_warehouse_id": OTHER.id,
        "lines": [{"sku": "A", "quantity": 1}],
        "occurred_at": format_instant(now + timedelta(days=1)),
    }
    response = await stocked.rest("POST", "/api/inventory/transfers", json=transfer)
    details = response.json()["error"]["details"]
    assert {it["error"]["details"][0]["field"] for it in details} == {"occurred_at"}
    await assert_proven(stocked)


async def test_the_time_is_part_of_a_request_with_a_key(stocked: Service) -> None:
    body, key = item(quantity=9), {"Idempotency-Key": "k"}
    first = await stocked.rest("PUT", PATH, json=body, headers=key)
    again = await stocked.rest("PUT", PATH, json=body, headers=key)
    other = {**body, "occurred_at": "2026-03-12T14:00:00Z"}
    reused = await stocked.rest("PUT", PATH, json=other, headers=key)
    dry = await stocked.rest("PUT", f"{PATH}?dry_run=true", json=other)

    assert (first.status_code, again.json()) == (200, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert reused.json()["error"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert dry.status_code == 200
    assert len(await newest(stocked, 200)) == 3


async def test_a_reversal_of_a_late_entry_occurs_now(stocked: Service) -> None:
    await stocked.rest("PUT", PATH, json=item(quantity=9))
    [late] = await newest(stocked, 1)
    reverse = "mutation ($id: ID!) { reverseAdjustments(input: {target: {adjustmentId: $id}}) "
    await stocked.data(reverse + "{ replayed } }", {"id": late["id"]})

    [entry] = await newest(stocked, 1)
    assert (entry["delta"], entry.get("occurred_at")) == (1, None)


async def test_a_file_of_counts_says_when_they_were_taken(stocked: Service) -> None:
    header = "sku,warehouse_id,quantity,Occurred at\n"
    content = f"{header}A,{MAIN.id},4,2026-03-12T15:00:00.25+01:00\nB,{MAIN.id},4,\n"
    await imported(stocked.database, stocked.tenant_id, content, FileKind.COUNTS)
    await assert_proven(stocked)
    [entry] = await newest(stocked, 1)
    data = await stocked.data(READ, {"filter": {"sku": "B"}})
    bad = staged(f"{header}A,{MAIN.id},4,12.03.2026\n", FileKind.COUNTS)

    assert entry["occurred_at"] == AT
    assert data["adjustments"]["nodes"][0]["occurredAt"] is None
    assert bad.number_of_bad_rows == 1
    bad.close()


@pytest.mark.parametrize("seed", range(EFFORT))
async def test_filters_by_occurrence_match_the_model(stocked: Service, seed: int) -> None:
    draw = random.Random(seed)
    days = [f"2026-03-{day:02}" for day in range(1, 12)]
    for _ in range(8):
        updates = [
            {
                "sku": code,
                "warehouse_id": place.id,
                "delta": draw.randint(0, 3),
                "reason": draw.choice(["loss", "cycle_count"]),
                "occurred_at": draw.choice([None, f"{draw.choice(days)}T12:00:00.000Z"]),
            }
            for code, place in (("A", MAIN), ("A", OTHER), ("B", MAIN))
        ]
        body = {"updates": updates}
        answered(await stocked.rest("POST", "/api/inventory/bulk", json=body))
    data = await stocked.data(
        "{ adjustments(first: 200) { nodes { id delta reason occurredAt createdAt "
        "sku { sku } warehouse { id } } } }"
    )
    nodes = data["adjustments"]["nodes"]
    for _ in range(12):
        first, last = sorted(draw.choices([*days, "2026-12-01", "2999-01-01"], k=2))
        period = {"occurredFrom": first, "occurredTo": last}
        if draw.random() < 0.3:
            del period[draw.choice([*period])]
        more: dict[str, str] = {}
        if draw.random() < 0.4:
            more["reason"] = "loss"
        found = [it for it in nodes if is_within(it, period) and matches(it, more)]
        await assert_lists(stocked, found, {**period, **more})


def matches(node: Json, more: dict[str, str]) -> bool:
    return all(bool(node[name] == value) for name, value in more.items())


def is_within(node: Json, period: dict[str, str]) -> bool:
    """Compare the day of an adjustment with the days of a filter."""
    day: str = (node["occurredAt"] or node["createdAt"])[:10]
    return period.get("occurredFrom", day) <= day <= period.get("occurredTo", day)


async def assert_lists(service: Service, found: list[Json], where: Json) -> None:
    """Assert that all lists have the adjustments that a filter finds."""

    def ids(nodes: list[Json], **conditions: Any) -> list[str]:
        return [
            it["id"]
            for it in nodes
            if it["sku"]["sku"] == conditions.get("sku", it["sku"]["sku"])
            and it["warehouse"]["id"] == conditions.get("place", it["warehouse"]["id"])
        ]

    whole = (await service.data(READ, {"filter": where}))["adjustments"]
    assert [it["id"] for it in whole["nodes"]] == ids(found)
    deltas = [it["delta"] for it in found]
    assert whole["totalCount"] == whole["totals"]["entries"] == len(found)
    assert whole["totals"]["increase"] == sum(it for it in deltas if it > 0)
    variables = {"filter": where, "of_warehouse": where, "id": MAIN.id}
    nested = await service.data(NESTED, variables)
    of_sku, place = nested["sku"]["adjustments"], nested["warehouse"]
    assert [it["id"] for it in of_sku["nodes"]] == ids(found, sku="A")
    assert of_sku["totalCount"] == len(of_sku["nodes"])
    of_place = place["adjustments"]
    assert [it["id"] for it in of_place["nodes"]] == ids(found, place=MAIN.id)
    assert of_place["totals"]["entries"] == len(of_place["nodes"])
    of_level = place["stock"]["nodes"][0]["adjustments"]
    assert [it["id"] for it in of_level["nodes"]] == ids(found, sku="A", place=MAIN.id)
    assert of_level["totalCount"] == len(of_level["nodes"])
    names = {"occurredFrom": "occurred_from", "occurredTo": "occurred_to", "reason": "reason"}
    query = {names[name]: value for name, value in where.items()}
    listed, totals = await walk(service, f"{PATH}/adjustments", limit=3, **query)
    assert [it["id"] for it in listed] == ids(found, sku="A")
    assert set(totals) == {len(listed)}
    streamed = answered(await service.rest("GET", f"{PATH}/adjustments", params=query))["data"]
    assert [it["id"] for it in streamed] == ids(found, sku="A")


async def test_a_period_that_ends_before_it_starts_is_refused(stocked: Service) -> None:
    query = {"occurred_from": "2026-03-02", "occurred_to": "2026-03-01"}
    response = await stocked.rest("GET", f"{PATH}/adjustments", params=query)
    assert refused_fields(response) == ["occurred_from"]
