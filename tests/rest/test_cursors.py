"""Cursors: complete lists in pages, and rejection of every foreign cursor."""

from collections.abc import Mapping
from typing import Final

import pytest

from app.demo import FBA_EU, WAREHOUSE_A, WAREHOUSES, demo_skus
from app.files.seeding import LoadedLevel
from tests.rest import model
from tests.rest.answers import answered, refusal, walk
from tests.service import Service, counted, level, new_tenant, sku, warehouse

PATH: Final = "/api/inventory"
HISTORY: Final = f"{PATH}/A/adjustments"
READER: Final = "demo-read"
INVALID: Final = (422, "INVALID_CURSOR")


@pytest.mark.parametrize("limit", [31, 199, 200])
async def test_pages_return_each_sku_of_the_demo_once_in_order(demo: Service, limit: int) -> None:
    expected = model.records(demo_skus(), WAREHOUSES)
    result, totals = await walk(demo, PATH, limit=limit, token=READER)

    assert result == expected
    assert len({record["sku"] for record in result}) == 1248
    assert totals == [1248] * -(-1248 // limit)


@pytest.mark.parametrize(
    "filters",
    [
        *({"status": status} for status in ("normal", "low", "critical", "out_of_stock")),
        *({"warehouse_id": each} for each in (WAREHOUSE_A, FBA_EU)),
        {"status": "low", "warehouse_id": FBA_EU},
        {"status": "critical", "warehouse_id": FBA_EU},
        {"status": "normal", "warehouse_id": WAREHOUSE_A},
        {"status": "out_of_stock", "warehouse_id": WAREHOUSE_A},
        {"sku": "SKU-1000"},
        {"sku": "SKU-001", "warehouse_id": FBA_EU},
    ],
    ids=lambda filters: "-".join(filters.values()),
)
async def test_filtered_pages_of_the_demo_match_the_model(
    demo: Service, filters: Mapping[str, str]
) -> None:
    expected = model.records(demo_skus(), WAREHOUSES, **filters)
    assert expected

    for limit in (60, 200):
        result, totals = await walk(demo, PATH, limit=limit, token=READER, **filters)
        assert result == expected
        assert set(totals) == {len(expected)}


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 10])
async def test_the_last_page_has_no_next_cursor(service: Service, count: int) -> None:
    await service.load([], [sku(f"S{number:02}") for number in range(count)])

    result, totals = await walk(service, PATH, limit=5)
    assert [record["sku"] for record in result] == [f"S{number:02}" for number in range(count)]
    assert totals == [count] * max(1, -(-count // 5))


async def test_cursor_is_valid_with_any_limit(service: Service) -> None:
    await service.load([], [sku(f"S{number}") for number in range(9)])

    cursor = await next_cursor(service, PATH, limit="2")
    body = answered(await service.rest("GET", PATH, params={"cursor": cursor}))
    assert [record["sku"] for record in body["data"]] == [f"S{number}" for number in range(2, 9)]
    assert body["meta"] == {"total": 9, "limit": 50, "nextCursor": None}
    again = await service.rest("GET", PATH, params={"cursor": cursor, "limit": "3"})
    assert [record["sku"] for record in answered(again)["data"]] == ["S2", "S3", "S4"]


async def test_cursor_is_valid_after_its_sku_leaves_the_filter(service: Service) -> None:
    main = warehouse()
    skus = [sku(f"S{number}", level(main, 50, safety_stock=10)) for number in range(4)]
    await service.load([main], skus)

    cursor = await next_cursor(service, PATH, limit="2", status="normal")
    for code in ("S0", "S1"):
        body = {"warehouse_id": main.id, "quantity": 0, "reason": "loss"}
        answered(await service.rest("PUT", f"{PATH}/{code}", json=body))
    page = await service.rest("GET", PATH, params={"cursor": cursor, "status": "normal"})
    assert [record["sku"] for record in answered(page)["data"]] == ["S2", "S3"]
    assert page.json()["meta"] == {"total": 2, "limit": 50, "nextCursor": None}


MADE_UP: Final = [
    "",
    "x",
    "cursor_",
    "cursor_abc123",
    "cursor_" + "A" * 16,
    "cursor_" + "A" * 10_000,
    "cursor_====",
    "cursor_ä",
    "cursor_\x00",
    "null",
    "0",
    "SKU-001",
    "cursor_W10",
]


async def test_forged_cursor_is_rejected(service: Service) -> None:
    await service.load([], [sku("A"), sku("B")])

    for path in (PATH, HISTORY):
        for cursor in MADE_UP:
            response = await service.rest("GET", path, params={"cursor": cursor})
            assert (cursor, refusal(response)) == (cursor, INVALID)


@pytest.mark.parametrize("path", [PATH, HISTORY])
async def test_a_cursor_that_was_tampered_with_is_refused(service: Service, path: str) -> None:
    await load_two_of_everything(service)
    cursor = await next_cursor(service, path, limit="1")

    changed = {
        f"{cursor[:position]}{'A' if letter != 'A' else 'B'}{cursor[position + 1 :]}"
        for position, letter in enumerate(cursor)
    }
    changed |= {cursor[:-1], cursor[1:], cursor.removeprefix("cursor_"), f"cursor_{cursor}"}
    changed |= {f"{cursor}{more}" for more in ("=", "==", "A", " ", "\n", "%")}
    changed |= {f" {cursor}", cursor.upper(), cursor + cursor}
    for other in sorted(changed - {cursor}):
        response = await service.rest("GET", path, params={"cursor": other})
        assert (other, refusal(response)) == (other, INVALID)


async def test_a_cursor_of_other_filters_is_refused(service: Service) -> None:
    warehouse = await load_two_of_everything(service)
    questions: list[tuple[str, dict[str, str]]] = [
        (PATH, {}),
        (PATH, {"status": "normal"}),
        (PATH, {"warehouse_id": warehouse}),
        (PATH, {"warehouse_id": warehouse, "status": "normal"}),
        (HISTORY, {}),
        (HISTORY, {"reason": "cycle_count"}),
        (HISTORY, {"warehouse_id": warehouse}),
        (HISTORY, {"start_date": "2026-01-01"}),
        (HISTORY, {"end_date": "2026-12-31"}),
        (f"{PATH}/B/adjustments", {}),
        (f"{PATH}/B/adjustments", {"warehouse_id": warehouse}),
    ]
    for made_by in questions:
        cursor = await next_cursor(service, made_by[0], limit="1", **made_by[1])
        for path, filters in questions:
            response = await service.rest("GET", path, params={**filters, "cursor": cursor})
            if (path, filters) == made_by:
                assert len(answered(response)["data"]) == 1
            else:
                assert (made_by, path, filters, refusal(response)) == (
                    made_by,
                    path,
                    filters,
                    INVALID,
                )


@pytest.mark.parametrize("path", [PATH, HISTORY])
async def test_a_cursor_of_another_tenant_is_refused(service: Service, path: str) -> None:
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    await load_two_of_everything(service)
    await load_two_of_everything(other)

    cursor = await next_cursor(service, path, limit="1")
    assert refusal(await other.rest("GET", path, params={"cursor": cursor})) == INVALID
    answered(await service.rest("GET", path, params={"cursor": cursor}))


async def test_a_cursor_is_the_same_for_every_token_of_a_tenant(service: Service) -> None:
    await load_two_of_everything(service)

    cursor = await next_cursor(service, PATH, limit="1")
    for scope in ("read", "write", "admin"):
        response = await service.rest("GET", PATH, token=scope, params={"cursor": cursor})
        assert [record["sku"] for record in answered(response)["data"]] == ["B"]


async def load_two_of_everything(service: Service) -> str:
    """Load two SKUs with two entries each, which match every filter of the tests."""
    main = warehouse()
    history = [
        counted(5, "2026-03-01T00:00:00Z", reason="cycle_count"),
        counted(6, "2026-03-02T00:00:00Z", reason="cycle_count"),
    ]
    stock = LoadedLevel(warehouse_id=main.id, history=history)
    await service.load([main], [sku("A", stock), sku("B", stock)])
    return main.id


async def next_cursor(service: Service, path: str, **parameters: str) -> str:
    body = answered(await service.rest("GET", path, params=parameters))
    cursor: str = body["meta"]["nextCursor"]
    assert cursor.startswith("cursor_")
    return cursor
