"""Stock histories by hour and day, compared with a replay of the ledger."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from app.domain.instants import format_instant
from app.domain.periods import MAX_PERIODS
from app.files.seeding import LoadedCount, LoadedLevel
from tests.graphql.answers import Json, details_of, refused
from tests.service import EMAIL, Service, counted, new_tenant, sku, warehouse

ARGUMENTS: Final = (
    "from: $from, to: $to, interval: $interval, warehouseId: $warehouse, timeZone: $zone"
)
PERIOD: Final = "start opening increase decrease closing"
VARIABLES: Final = (
    "$from: DateOrDateTime!, $to: DateOrDateTime!, $interval: StockInterval!, $warehouse: ID, "
    '$zone: TimeZone! = "UTC"'
)
HISTORIES: Final = (
    f"query ({VARIABLES}) {{ skus {{ nodes {{ sku stockHistory({ARGUMENTS}) {{ {PERIOD} }} }} }} }}"
)
SPANS: Final = {"HOUR": timedelta(hours=1), "DAY": timedelta(days=1)}
START: Final = datetime(2026, 3, 10, 22, 59, 59, 998_000, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
MINUTE: Final = timedelta(minutes=1)
CODES: Final = ("A", "B", "C/d", "Never counted")


@dataclass(frozen=True)
class Change:
    """A change of one stock level."""

    sku: str
    warehouse_id: str
    at: datetime
    delta: int


@dataclass(frozen=True)
class Ledger:
    """The recorded changes of some warehouses."""

    warehouse_ids: Sequence[str]
    changes: Sequence[Change]

    def replayed(
        self, code: str, warehouse: str | None, start: datetime, end: datetime, span: timedelta
    ) -> Iterator[Json]:
        """Yield each period, computed from the changes in it and before it."""
        changes = [
            each
            for each in self.changes
            if each.sku == code and warehouse in (None, each.warehouse_id)
        ]
        while start < end:
            before = sum(it.delta for it in changes if it.at < start)
            within = [it.delta for it in changes if start <= it.at < start + span]
            yield {
                "start": format_instant(start),
                "opening": before,
                "increase": sum(delta for delta in within if delta > 0),
                "decrease": sum(-delta for delta in within if delta < 0),
                "closing": before + sum(within),
            }
            start += span


async def recorded(service: Service, seed: int) -> Ledger:
    """Record changes of several levels, many in one millisecond or at the edge of a period."""
    dice = random.Random(seed)
    warehouses = [warehouse(f"W{number}") for number in range(3)]
    keys = [(code, each.id) for code in CODES[:-1] for each in warehouses[: dice.choice((2, 3))]]
    histories: dict[tuple[str, str], list[LoadedCount]] = {key: [] for key in keys}
    now: Counter[tuple[str, str]] = Counter()
    changes = []
    clock = START
    for _ in range(60):
        clock += MILLISECOND * dice.choice((0, 0, 1, 2, 1_234_567, 3_600_000, 86_400_000))
        key, quantity = dice.choice(keys), dice.choice((0, 3, 7, 10**12))
        histories[key].append(
            LoadedCount(quantity=quantity, reason="cycle_count", created_by=EMAIL, created_at=clock)
        )
        changes.append(Change(*key, clock, quantity - now[key]))
        now[key] = quantity
    skus = [
        sku(
            code,
            *(
                LoadedLevel(warehouse_id=id_, history=history)
                for (name, id_), history in histories.items()
                if name == code
            ),
        )
        for code in CODES
    ]
    await service.load(warehouses, skus)
    return Ledger([each.id for each in warehouses], changes)


async def histories_of(service: Service, **variables: object) -> dict[str, list[Json]]:
    data = await service.data(HISTORIES, {"warehouse": None, **variables})
    return {node["sku"]: node["stockHistory"] for node in data["skus"]["nodes"]}


@pytest.mark.parametrize("interval", SPANS)
@pytest.mark.parametrize("seed", range(4))
async def test_stock_history_matches_a_replay_of_the_ledger(
    service: Service, seed: int, interval: str
) -> None:
    ledger = await recorded(service, seed)
    dice = random.Random(seed)
    span = SPANS[interval]
    for each in (None, None, *ledger.warehouse_ids):
        # Before, within and after the recorded changes, also at the start of a period.
        start = START.replace(minute=0, second=0, microsecond=0)
        start += dice.choice((-1, 0, 1, 5)) * timedelta(hours=13)
        if interval == "DAY":
            start = start.replace(hour=0)
        length = span * dice.choice((1, 24, 200))
        into, short = (dice.choice((0, 1, 1_800_000)) * MILLISECOND for _ in range(2))
        result = await histories_of(
            service,
            **{"from": format_instant(start + into), "to": format_instant(start + length - short)},
            interval=interval,
            warehouse=each,
        )
        expected = {
            code: list(ledger.replayed(code, each, start, start + length, span)) for code in CODES
        }
        assert result == {code: expected[code] for code in sorted(CODES)}


async def test_stock_history_starts_at_zero_and_ends_at_the_current_stock(service: Service) -> None:
    ledger = await recorded(service, 9)
    year = {"from": "2026-01-01", "to": "2026-12-31", "interval": "DAY"}
    result = await histories_of(service, **year)
    present = await service.data("{ skus { nodes { sku totalOnHand } } }")

    assert len(ledger.changes) == 60
    for node in present["skus"]["nodes"]:
        days = result[node["sku"]]
        assert len(days) == 365
        assert (days[0]["opening"], days[-1]["closing"]) == (0, node["totalOnHand"])
        assert [day["opening"] for day in days[1:]] == [day["closing"] for day in days[:-1]]


@pytest.mark.parametrize(
    ("first", "last", "interval", "starts"),
    [
        ("2026-03-10", "2026-03-10", "DAY", ["2026-03-10T00", "2026-03-10T00"]),
        ("2026-03-10", "2026-03-12", "DAY", ["2026-03-10T00", "2026-03-12T00"]),
        ("2026-03-10", "2026-03-10", "HOUR", ["2026-03-10T00", "2026-03-10T23"]),
        ("2026-03-10T12:00:00Z", "2026-03-10T12:00:00.001Z", "HOUR", ["2026-03-10T12"] * 2),
        ("2026-03-10T12:59:59.999Z", "2026-03-10T13:00:00Z", "HOUR", ["2026-03-10T12"] * 2),
        ("2026-03-10T12:30:00Z", "2026-03-10T12:30:00Z", "HOUR", ["2026-03-10T12"] * 2),
        ("2026-03-10T12:30:00Z", "2026-03-11T00:00:00Z", "DAY", ["2026-03-10T00"] * 2),
        ("2026-03-10T00:30:00+01:00", "2026-03-10", "DAY", ["2026-03-09T00", "2026-03-10T00"]),
        ("2024-02-28", "2024-03-01", "DAY", ["2024-02-28T00", "2024-03-01T00"]),
        ("0001-01-01", "0001-01-01", "HOUR", ["0001-01-01T00", "0001-01-01T23"]),
        ("9999-12-31", "9999-12-31", "HOUR", ["9999-12-31T00", "9999-12-31T23"]),
        ("9999-12-01", "9999-12-31", "DAY", ["9999-12-01T00", "9999-12-31T00"]),
        ("2026-03-01", "2027-04-04", "DAY", ["2026-03-01T00", "2027-04-04T00"]),
    ],
)
async def test_stock_history_has_whole_periods(
    service: Service, first: str, last: str, interval: str, starts: list[str]
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=[]))])

    result = await histories_of(service, **{"from": first, "to": last}, interval=interval)

    times = [datetime.fromisoformat(period["start"]) for period in result["A"]]
    assert [result["A"][end]["start"] for end in (0, -1)] == [f"{it}:00:00.000Z" for it in starts]
    assert {later - time for time, later in pairwise(times)} <= {SPANS[interval]}


@pytest.mark.parametrize(
    ("first", "last", "interval", "problem"),
    [
        ("2026-03-10", "2026-03-09", "DAY", "must be later than from"),
        ("2026-03-10T12:00:00Z", "2026-03-10T12:00:00Z", "HOUR", "must be later than from"),
        ("2026-03-10T12:40:00Z", "2026-03-10T12:20:00Z", "HOUR", "must be later than from"),
        (
            "2026-03-01",
            "2027-04-05",
            "DAY",
            f"must be at most {MAX_PERIODS} days after from, and is 401; ask for a shorter time",
        ),
        (
            "0001-01-01",
            "9999-12-31",
            "HOUR",
            f"must be at most {MAX_PERIODS} hours after from, and is 87649416; "
            "ask for a shorter time, or for days",
        ),
    ],
)
async def test_empty_or_too_long_stock_history_is_rejected(
    service: Service, first: str, last: str, interval: str, problem: str
) -> None:
    await service.load([warehouse()], [sku("A")])
    variables = {"from": first, "to": last, "interval": interval}

    assert await refused(service, HISTORIES, variables) == (422, "VALIDATION_ERROR")
    answer = await service.graphql(HISTORIES, variables)
    assert details_of(answer) == [{"field": "to", "message": problem}]


@pytest.mark.parametrize(
    "wrong",
    [{"from": "yesterday"}, {"to": None}, {"interval": "WEEK"}, {"interval": None}, {"from": 5}],
)
async def test_invalid_time_or_interval_is_rejected(
    service: Service, wrong: dict[str, object]
) -> None:
    await service.load([warehouse()], [sku("A")])
    good = {"from": "2026-03-10", "to": "2026-03-12", "interval": "DAY"}

    assert await refused(service, HISTORIES, {**good, **wrong}) == (422, "VALIDATION_ERROR")


async def test_stock_history_is_the_same_in_a_list_of_one_warehouse(service: Service) -> None:
    warehouses = [warehouse("Main"), warehouse("Other")]
    levels = [
        LoadedLevel(warehouse_id=each.id, history=[counted(number, "2026-03-10T12:00:00Z")])
        for number, each in enumerate(warehouses, start=1)
    ]
    await service.load(warehouses, [sku("A", *levels), sku("B", levels[0])])
    day = 'from: "2026-03-10", to: "2026-03-10", interval: DAY'
    query = (
        "query ($one: ID!, $two: ID!) { all: skus { nodes { ...Then } } "
        "narrowed: skus(filter: {warehouseId: $two}) { nodes { ...Then } } } "
        f"fragment Then on Sku {{ sku seen: stockHistory({day}) {{ closing }} "
        f"one: stockHistory({day}, warehouseId: $one) {{ closing }} "
        f"two: stockHistory({day}, warehouseId: $two) {{ closing }} }}"
    )

    data = await service.data(query, {"one": warehouses[0].id, "two": warehouses[1].id})

    def closings(nodes: list[Any]) -> dict[str, list[int]]:
        names = ("seen", "one", "two")
        return {node["sku"]: [node[name][0]["closing"] for name in names] for node in nodes}

    assert closings(data["all"]["nodes"]) == {"A": [3, 1, 2], "B": [1, 1, 0]}
    assert closings(data["narrowed"]["nodes"]) == {"A": [3, 1, 2]}


async def test_stock_history_excludes_another_tenant(service: Service) -> None:
    ledger = await recorded(service, 3)
    other = replace(service, tenant_id=await new_tenant(service.database))
    theirs = warehouse("Theirs")
    await other.load(
        [theirs], [sku("A", LoadedLevel(warehouse_id=theirs.id, history=[counted(5)]))]
    )
    days = {"from": "2026-03-10", "to": "2026-03-20", "interval": "DAY"}

    result = await histories_of(other, **days)

    assert {(day["increase"], day["decrease"], day["closing"]) for day in result["A"]} == {
        (0, 0, 5)
    }
    variables = {**days, "warehouse": ledger.warehouse_ids[0]}
    assert await refused(other, HISTORIES, variables) == (404, "WAREHOUSE_NOT_FOUND")


async def counted_at(service: Service, instants: Sequence[datetime]) -> str:
    """Add a unit of a new SKU at each instant."""
    main = warehouse()
    history = [
        LoadedCount(quantity=number, reason="cycle_count", created_by=EMAIL, created_at=instant)
        for number, instant in enumerate(instants, 1)
    ]
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=history))])
    return main.id


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Europe/Berlin", date(2026, 3, 27)),
        ("Europe/Berlin", date(2026, 10, 23)),
        ("America/New_York", date(2026, 3, 6)),
        ("Asia/Kolkata", date(2026, 3, 6)),
        # The clocks change by half an hour, or at midnight, or by a whole day.
        ("Australia/Lord_Howe", date(2026, 4, 3)),
        ("Asia/Beirut", date(2026, 3, 27)),
        ("America/Havana", date(2026, 10, 30)),
        ("Pacific/Apia", date(2011, 12, 28)),
    ],
)
async def test_days_of_a_time_zone_have_the_changes_of_their_local_date(
    service: Service, name: str, first: date
) -> None:
    zone = ZoneInfo(name)
    start = datetime.combine(first, time(), zone).astimezone(UTC)
    instants = [start + 30 * number * MINUTE - MILLISECOND for number in range(1, 48 * 4)]
    await counted_at(service, instants)
    dates = Counter(instant.astimezone(zone).date() for instant in instants)
    last = max(dates)

    result = await histories_of(
        service,
        **{"from": first.isoformat(), "to": last.isoformat()},
        interval="DAY",
        zone=name,
    )
    starts = [datetime.fromisoformat(day["start"]) for day in result["A"]]
    assert [at.astimezone(zone).date() for at in starts] == sorted(dates)
    assert [day["increase"] for day in result["A"]] == [dates[day] for day in sorted(dates)]
    # The first instant of each day: a millisecond earlier is another date.
    assert all(
        (at - MILLISECOND).astimezone(zone).date() < at.astimezone(zone).date() for at in starts
    )


@pytest.mark.parametrize("name", ["Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu"])
async def test_hours_of_a_time_zone_begin_with_a_full_hour_of_its_clocks(
    service: Service, name: str
) -> None:
    start = datetime(2026, 3, 28, 22, tzinfo=UTC)
    instants = [start + 7 * number * MINUTE for number in range(1, 200)]
    await counted_at(service, instants)

    result = await histories_of(
        service,
        **{"from": format_instant(start + MINUTE), "to": format_instant(instants[-1])},
        interval="HOUR",
        zone=name,
    )
    starts = [datetime.fromisoformat(hour["start"]) for hour in result["A"]]
    assert {at.astimezone(ZoneInfo(name)).minute for at in starts} == {0}
    assert {later - at for at, later in pairwise(starts)} == {SPANS["HOUR"]}
    assert [hour["increase"] for hour in result["A"]] == [
        sum(at <= instant < at + SPANS["HOUR"] for instant in instants) for at in starts
    ]


async def test_dates_of_filters_are_of_the_given_time_zone(service: Service) -> None:
    midnight = datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    # The day has 23 hours.
    end = midnight + 23 * 60 * MINUTE
    instants = [midnight - MILLISECOND, midnight, end - MILLISECOND]
    await counted_at(service, [*instants, end])
    query = (
        'query ($zone: TimeZone) { sku(sku: "A") { adjustments(filter: {startDate: '
        '"2026-03-29", endDate: "2026-03-29", timeZone: $zone}) { nodes { createdAt } } '
        'stockAsOf(at: "2026-03-29", timeZone: "Europe/Berlin") { totalOnHand } } }'
    )
    data = await service.data(query, {"zone": "Europe/Berlin"})
    times = [node["createdAt"] for node in data["sku"]["adjustments"]["nodes"]]
    assert times == [format_instant(instants[2]), format_instant(instants[1])]
    assert data["sku"]["stockAsOf"] == {"totalOnHand": 3}

    path = "/api/inventory/A/adjustments?start_date=2026-03-29&end_date=2026-03-29"
    for zone, expected in (("Europe/Berlin", instants[1:3]), ("UTC", [instants[2], end])):
        response = await service.rest("GET", f"{path}&time_zone={zone}")
        times = [entry["created_at"] for entry in response.json()["data"]]
        assert times == [format_instant(each) for each in reversed(expected)]


@pytest.mark.parametrize(
    "zone", ["", "localtime", "Berlin", "europe/berlin", "../UTC", "America", "\0", "UTC+1"]
)
async def test_an_unknown_time_zone_is_refused(service: Service, zone: str) -> None:
    await service.load([warehouse()], [sku("A")])
    good = {"from": "2026-03-10", "to": "2026-03-12", "interval": "DAY"}

    assert await refused(service, HISTORIES, {**good, "zone": zone}) == (422, "VALIDATION_ERROR")
    path = "/api/inventory/A/adjustments"
    response = await service.client.get(
        path,
        params={"time_zone": zone},
        headers={"Authorization": f"Bearer {service.token('read')}"},
    )
    assert response.status_code == 422


async def test_the_ends_of_the_calendar_are_days_of_every_time_zone(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=[]))])
    for zone in ("America/New_York", "Pacific/Auckland"):
        for day in ("0001-01-01", "9999-12-31"):
            for interval in SPANS:
                result = await histories_of(
                    service, **{"from": day, "to": day}, interval=interval, zone=zone
                )
                assert result["A"], (zone, day, interval)
