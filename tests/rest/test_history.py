"""GET /api/inventory/{sku}/adjustments: newest first, filtered, complete or in pages."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final

import pytest

from app.domain.records import WarehouseRecord
from app.files.seeding import LoadedLevel, LoadedSku
from tests.rest import model
from tests.rest.answers import Json, answered, refusal, refused_fields, walk
from tests.service import Service, counted, level, sku, warehouse

PATH: Final = "/api/inventory/A/adjustments"
REASONS: Final = ("cycle_count", "supplier_receipt", "loss")


def without_ids(entries: Iterable[Json]) -> list[Json]:
    return [{name: value for name, value in it.items() if name != "id"} for it in entries]


def busy_sku(warehouses: list[WarehouseRecord], *, code: str = "A") -> LoadedSku:
    """Return a SKU with 25 entries in each warehouse, interleaved over two weeks of March."""
    start = datetime(2026, 3, 5, tzinfo=UTC)
    levels = []
    for position, each in enumerate(warehouses):
        history = [
            counted(
                (number * 37 + position) % 50,
                (start + timedelta(hours=12 * number, milliseconds=position)).isoformat(),
                reason=REASONS[(number + position) % 3],
                note=f"Note {number}" if number % 4 == 0 else None,
            )
            for number in range(25)
        ]
        levels.append(LoadedLevel(warehouse_id=each.id, history=history))
    return sku(code, *levels)


async def test_combined_filters_match_the_model(service: Service) -> None:
    warehouses = [warehouse(str(number)) for number in range(3)]
    empty = warehouse("Empty")
    item = busy_sku(warehouses)
    await service.load([*warehouses, empty], [item, busy_sku(warehouses, code="B")])

    starts = {None: None, "2026-03-08": datetime(2026, 3, 8, tzinfo=UTC)}
    ends = {None: None, "2026-03-12": datetime(2026, 3, 12, 23, 59, 59, 999_999, UTC)}
    moment = "2026-03-10T12:00:00.001Z"
    starts[moment] = ends[moment] = datetime.fromisoformat(moment)
    choices = product(
        [None, *warehouses[:2], empty], [None, *REASONS[:2], "never"], starts, ends, [None, 7]
    )
    for each, reason, start, end, limit in choices:
        warehouse_id = None if each is None else each.id
        filters = {
            name: value
            for name, value in {
                "warehouse_id": warehouse_id,
                "reason": reason,
                "start_date": start,
                "end_date": end,
            }.items()
            if value is not None
        }
        expected = model.history(
            item,
            warehouse_id=warehouse_id,
            reason=reason,
            start=starts[start],
            end=ends[end],
        )
        if limit is None:
            body = answered(await service.rest("GET", PATH, params=filters))
            assert list(body) == ["data"]
            result = body["data"]
        else:
            result, totals = await walk(service, PATH, limit=limit, **filters)
            assert set(totals) == {len(expected)}
        assert (filters, without_ids(result)) == (filters, expected)


# Entries at 14:00:00.000 and 14:00:00.001 UTC of 2026-03-12 and on the neighbouring days.
ENTRIES: Final = {
    "a": "2026-03-11T23:59:59.999Z",
    "b": "2026-03-12T00:00:00.000Z",
    "c": "2026-03-12T14:00:00.000Z",
    "d": "2026-03-12T14:00:00.001Z",
    "e": "2026-03-12T23:59:59.999Z",
    "f": "2026-03-13T00:00:00.000Z",
}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "fedcba"),
        ("start_date=2026-03-12", "fedcb"),
        ("end_date=2026-03-12", "edcba"),
        ("start_date=2026-03-12&end_date=2026-03-12", "edcb"),
        ("start_date=2026-03-11&end_date=2026-03-11", "a"),
        ("start_date=2026-03-13", "f"),
        ("start_date=2026-03-14", ""),
        ("end_date=2026-03-10", ""),
        ("start_date=0001-01-01", "fedcba"),
        ("end_date=9999-12-31", "fedcba"),
        ("start_date=0001-01-01&end_date=9999-12-31", "fedcba"),
        ("start_date=9999-12-31", ""),
        ("end_date=0001-01-01", ""),
        ("end_date=9999-12-31T23:59:59.999Z", "fedcba"),
        ("start_date=9999-12-31T23:59:59.999999Z", ""),
        ("start_date=2024-02-29", "fedcba"),
        ("start_date=2026-03-12T18:00:00Z&end_date=2026-03-12", "e"),
        ("start_date=2026-03-12T14:00:00.0005Z&end_date=2026-03-12T14:00:00.0005Z", ""),
        ("start_date=2026-03-12T14:00:00Z", "fedc"),
        ("start_date=2026-03-12t14:00:00z", "fedc"),
        ("start_date=2026-03-12T14:00:00.000Z", "fedc"),
        ("start_date=2026-03-12T14:00:00.0Z", "fedc"),
        ("start_date=2026-03-12T14:00:00.0001Z", "fed"),
        ("start_date=2026-03-12T14:00:00.000001Z", "fed"),
        ("start_date=2026-03-12T14:00:00.0000001Z", "fed"),
        ("start_date=2026-03-12T14:00:00.000000001Z", "fed"),
        ("start_date=2026-03-12T14:00:00.000000000Z", "fedc"),
        ("start_date=2026-03-12T14:00:00.001Z", "fed"),
        ("start_date=2026-03-12T14:00:00.0010000001Z", "fe"),
        ("end_date=2026-03-12T14:00:00Z", "cba"),
        ("end_date=2026-03-12T14:00:00.0009Z", "cba"),
        ("end_date=2026-03-12T14:00:00.000999999Z", "cba"),
        ("end_date=2026-03-12T13:59:59.9999999Z", "ba"),
        ("end_date=2026-03-12T14:00:00.001Z", "dcba"),
        ("start_date=2026-03-12T15:00:00%2B01:00&end_date=2026-03-12T15:00:00%2B01:00", "c"),
        ("start_date=2026-03-12T09:30:00-04:30&end_date=2026-03-12T09:30:00-04:30", "c"),
        ("start_date=2026-03-12T23:59:00%2B23:59&end_date=2026-03-12T00:00:00Z", "b"),
        ("start_date=2026-03-12T14:00:00-00:00", "fedc"),
    ],
)
async def test_a_range_of_dates_is_whole_utc_days_and_of_timestamps_exact(
    service: Service, query: str, expected: str
) -> None:
    main = warehouse()
    history = [counted(1, at, note=name) for name, at in ENTRIES.items()]
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=history))])

    whole = answered(await service.rest("GET", f"{PATH}?{query}"))["data"]
    assert [entry["note"] for entry in whole] == [*expected]
    assert [entry["created_at"] for entry in whole] == [ENTRIES[name] for name in expected]
    page = answered(await service.rest("GET", f"{PATH}?{query}&limit=2"))
    assert page["data"] == whole[:2]
    assert page["meta"]["total"] == len(expected)
    assert (page["meta"]["nextCursor"] is None) == (len(expected) <= 2)


@pytest.mark.parametrize(
    "query",
    [
        "start_date=2026-03-13&end_date=2026-03-12",
        "start_date=2026-03-12T14:00:00.001Z&end_date=2026-03-12T14:00:00Z",
        "start_date=2026-03-13T00:00:00Z&end_date=2026-03-12",
        "start_date=2026-03-12&end_date=2026-03-11T23:59:59Z",
    ],
)
async def test_a_start_after_the_end_is_refused(service: Service, query: str) -> None:
    await service.load([], [sku("A")])
    for limit in ("", "&limit=2"):
        assert refused_fields(await service.rest("GET", f"{PATH}?{query}{limit}")) == ["start_date"]


NO_DATES: Final = {
    "days that there are not": "2026-02-30 2025-02-29 2026-13-01 2026-00-01 2026-01-00 0000-01-01",
    "other years": "10000-01-01 -2026-01-01 +2026-01-01 26-03-01 2026-03 2026 ٢٠٢٦-03-12",
    "other spellings": "20260312 2026-3-1 2026-W11-4 2026-071 12.03.2026 03/12/2026 1773324000",
    "words": "x today now null",
    "no offset": "2026-03-12T14:00:00 2026-03-12T14:00:00.000",
    "parts missing": "2026-03-12T14:00Z 2026-03-12T14Z 2026-03-12T 2026-03-12Z 14:00:00Z",
    "hours that there are not": "2026-03-12T24:00:00Z 2026-03-12T25:00:00Z 2026-03-12T-1:00:00Z",
    "minutes that there are not": "2026-03-12T14:60:00Z 2026-03-12T14:00:61Z",
    "odd fractions": "2026-03-12T14:00:00.Z 2026-03-12T14:00:00,5Z 2026-03-12T14:00:00.5.5Z",
    "offsets out of range": "2026-03-12T14:00:00+24:00 2026-03-12T14:00:00+25:00",
    "offset minutes out of range": "2026-03-12T14:00:00+01:60 2026-03-12T14:00:00-01:99",
    "odd offsets": "2026-03-12T14:00:00+0100 2026-03-12T14:00:00+01 2026-03-12T14:00:00Z+01:00",
    "beyond the calendar": "0001-01-01T00:00:00+01:00 9999-12-31T23:59:59-01:00",
    "no such day with a time": "2026-02-30T14:00:00Z 0000-01-01T00:00:00Z",
}
SPACED: Final = [
    *("", " ", "2026-03-12 ", " 2026-03-12", "2026-03-12\n", "2026-03-12\x00"),
    *("2026-03-12 14:00:00Z", "2026-03-12T14:00:00 01:00", "2026-03-12T14:00:00Z\n"),
]


@pytest.mark.parametrize(
    "values", [SPACED, *(text.split() for text in NO_DATES.values())], ids=["spaced", *NO_DATES]
)
async def test_invalid_date_is_reported_with_its_parameter(
    service: Service, values: list[str]
) -> None:
    await service.load([], [sku("A")])

    for value in values:
        for names in (["start_date"], ["end_date"], ["start_date", "end_date"]):
            parameters = dict.fromkeys(names, value)
            response = await service.rest("GET", PATH, params=parameters)
            assert (value, response.status_code) == (value, 422)
            assert refused_fields(response) == names


@pytest.mark.parametrize(
    "reason", ["", "Loss", "9a", "_a", "a-b", "a b", "ä", "loss\n", "loss\x00", "a" * 65]
)
async def test_a_malformed_reason_is_refused(service: Service, reason: str) -> None:
    await service.load([], [sku("A")])

    response = await service.rest("GET", PATH, params={"reason": reason})
    assert refused_fields(response) == ["reason"]


async def test_a_start_after_the_end_is_refused_by_the_names_of_rest(service: Service) -> None:
    await service.load([], [sku("A")])

    response = await service.rest("GET", f"{PATH}?start_date=2026-03-12&end_date=2026-03-10")
    error = response.json()["error"]
    assert error["message"] == "start_date must not be later than the end."


@pytest.mark.parametrize("query", ["status=normal", "sku=A", "startDate=2026-03-12", "from=x"])
async def test_an_unknown_parameter_is_refused(service: Service, query: str) -> None:
    await service.load([], [sku("A")])

    response = await service.rest("GET", f"{PATH}?{query}")
    assert refused_fields(response) == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "reason=No", "start_date=x", "start_date=x&limit=5", "nothing=1", "limit=201"],
)
@pytest.mark.parametrize("path", [PATH, "/api/inventory/unknown/adjustments"])
async def test_parameters_are_checked_before_sku_and_warehouse(
    service: Service, path: str, query: str
) -> None:
    await service.load([], [sku("A")])

    response = await service.rest("GET", f"{path}?{query}&warehouse_id=wh_unknown")
    assert refusal(response) == (422, "VALIDATION_ERROR")


async def test_the_sku_is_looked_up_before_the_warehouse(service: Service) -> None:
    for query in ("", "&limit=5"):
        response = await service.rest("GET", f"{PATH}?warehouse_id=wh_unknown{query}")
        assert refusal(response) == (404, "INVENTORY_NOT_FOUND")


async def test_a_sku_without_adjustments_has_an_empty_history(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id))])

    assert answered(await service.rest("GET", PATH)) == {"data": []}
    assert answered(await service.rest("GET", f"{PATH}?limit=5")) == {
        "data": [],
        "meta": {"total": 0, "limit": 5, "nextCursor": None},
    }


async def test_adjustments_of_one_millisecond_keep_their_order(
    service: Service,
) -> None:
    main, north = warehouse(), warehouse("North")
    at = "2026-03-12T14:00:00.000Z"
    one = LoadedLevel(warehouse_id=main.id, history=[counted(n, at) for n in range(1, 13)])
    two = LoadedLevel(warehouse_id=north.id, history=[counted(n, at) for n in range(1, 4)])
    await service.load([main, north], [sku("A", one, two)])

    whole = answered(await service.rest("GET", PATH))["data"]
    assert len(whole) == len({entry["id"] for entry in whole}) == 15
    quantities = [entry["after_quantity"] for entry in whole]
    assert quantities == [3, 2, 1, *range(12, 0, -1)]
    for limit in (1, 2, 4, 15):
        assert (await walk(service, PATH, limit=limit))[0] == whole
    of_main = answered(await service.rest("GET", PATH, params={"warehouse_id": main.id}))["data"]
    assert of_main == [entry for entry in whole if entry["warehouse_id"] == main.id]
    for limit in (1, 5):
        assert (await walk(service, PATH, limit=limit, warehouse_id=main.id))[0] == of_main


async def test_successive_writes_are_listed_newest_first(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 0))])
    for quantity in range(1, 13):
        body = {"warehouse_id": main.id, "quantity": quantity, "reason": "cycle_count"}
        answered(await service.rest("PUT", "/api/inventory/A", json=body))

    whole = answered(await service.rest("GET", PATH))["data"]
    assert [entry["after_quantity"] for entry in whole] == list(range(12, -1, -1))
    moments = [entry["created_at"] for entry in whole]
    assert moments == sorted(moments, reverse=True)


@pytest.mark.parametrize("count", [199, 200, 201, 400, 1_000])
async def test_a_history_without_limit_is_whole(service: Service, count: int) -> None:
    main, north = warehouse(), warehouse("North")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    levels = []
    for parity, each in enumerate((main, north)):
        history = [
            counted(number, (start + timedelta(seconds=number // 3)).isoformat())
            for number in range(parity, count, 2)
        ]
        levels.append(LoadedLevel(warehouse_id=each.id, history=history))
    await service.load([main, north], [sku("A", *levels)])

    response = await service.rest("GET", PATH)
    whole = answered(response)["data"]
    assert list(response.json()) == ["data"]
    assert len(whole) == len({entry["id"] for entry in whole}) == count
    assert sorted(entry["after_quantity"] for entry in whole) == list(range(count))
    result, totals = await walk(service, PATH, limit=150)
    assert result == whole
    assert set(totals) == {count}
    filtered = await service.rest("GET", PATH, params={"warehouse_id": main.id})
    assert answered(filtered)["data"] == [it for it in whole if it["warehouse_id"] == main.id]


async def test_a_cursor_alone_pages_with_the_default_limit(service: Service) -> None:
    main = warehouse()
    history = [counted(number) for number in range(60)]
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=history))])

    first = answered(await service.rest("GET", f"{PATH}?limit=5"))
    cursor = first["meta"]["nextCursor"]
    page = answered(await service.rest("GET", PATH, params={"cursor": cursor}))
    assert [entry["after_quantity"] for entry in page["data"]] == list(range(54, 4, -1))
    assert list(page["meta"].items())[:2] == [("total", 60), ("limit", 50)]
    assert page["meta"]["nextCursor"].startswith("cursor_")


async def test_writes_between_pages_do_not_change_the_pages(service: Service) -> None:
    main = warehouse()
    history = [counted(number) for number in range(9)]
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=history))])

    first = answered(await service.rest("GET", f"{PATH}?limit=4"))
    body = {"warehouse_id": main.id, "quantity": 99, "reason": "cycle_count"}
    answered(await service.rest("PUT", "/api/inventory/A", json=body))
    cursor = first["meta"]["nextCursor"]
    rest = answered(await service.rest("GET", PATH, params={"cursor": cursor}))
    seen = [entry["after_quantity"] for entry in first["data"] + rest["data"]]
    assert seen == list(range(8, -1, -1))
    assert rest["meta"] == {"total": 10, "limit": 50, "nextCursor": None}
