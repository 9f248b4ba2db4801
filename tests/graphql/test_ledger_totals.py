"""Totals of adjustments, the filter by sign, and the ledger of a warehouse."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, Final

import orjson
import pytest
from sqlalchemy import BigInteger, func, literal, select, union_all

from app.domain.quantities import MAX_QUANTITY
from app.domain.records import LedgerTotals
from app.files.seeding import LoadedLevel
from app.http.json import JSONResponse
from app.reads.adjustment_figures import ledger_totals, sums_of
from tests.graphql.answers import Json, errors_of, page_of, refused, walk
from tests.graphql.model import CODES, REASONS, Catalogue, Entry, catalogue
from tests.service import Service, counted, new_tenant, sku, warehouse

TOTALS: Final = "totals { entries increase decrease netChange }"
FIELDS: Final = "sku { sku } warehouse { id } sequence delta"
ARGUMENTS: Final = "first: $first, after: $after, filter: $filter"
DECLARED: Final = "$first: Int!, $after: String"
PAGE: Final = f"{page_of(FIELDS)} {TOTALS}"
LEDGER: Final = (
    f"query ({DECLARED}, $filter: LedgerFilterInput) {{ adjustments({ARGUMENTS}) {{ {PAGE} }} }}"
)
OF_WAREHOUSE: Final = (
    f"query ({DECLARED}, $id: ID!, $filter: WarehouseAdjustmentFilterInput) {{ "
    f"warehouse(id: $id) {{ adjustments({ARGUMENTS}) {{ {PAGE} }} }} }}"
)
SIGNS: Final[dict[str, Callable[[int], bool]]] = {
    "INCREASE": lambda delta: delta > 0,
    "DECREASE": lambda delta: delta < 0,
    "UNCHANGED": lambda delta: delta == 0,
}
DAY: Final = {"startDate": "2026-03-11", "endDate": "2026-03-12"}


def totals_of(deltas: list[int]) -> Json:
    return {
        "entries": len(deltas),
        "increase": sum(it for it in deltas if it > 0),
        "decrease": sum(-it for it in deltas if it < 0),
        "netChange": sum(deltas),
    }


def any_sign(_delta: int) -> bool:
    return True


def delta_of(entry: Entry) -> int:
    return entry.after - entry.before


def matching(
    model: Catalogue, filter_: dict[str, str], warehouse: str | None = None
) -> list[Entry]:
    """Entries that match a filter, newest first."""
    entries = model.list_entries(
        code=filter_.get("sku"),
        warehouse_id=warehouse or filter_.get("warehouseId"),
        reason=filter_.get("reason"),
    )
    is_of_sign = SIGNS.get(filter_.get("sign", ""), any_sign)
    days = {"2026-03-11", "2026-03-12"} if "startDate" in filter_ else None
    return [
        entry
        for entry in entries
        if is_of_sign(delta_of(entry)) and (days is None or str(entry.created_at.date()) in days)
    ]


def filters(*others: dict[str, str]) -> list[dict[str, str]]:
    """Return the filters by sign, alone and combined with others."""
    signs = [{}, *({"sign": name} for name in SIGNS)]
    return [{**sign, **other} for sign, other in product(signs, ({}, *others))]


async def stocked(service: Service) -> Catalogue:
    """Load the catalogue, and a SKU whose counts changed nothing."""
    model = catalogue()
    [main, *_] = model.warehouses
    histories = [counted(5, f"2026-03-1{day}T08:00:00Z", reason=REASONS[0]) for day in (1, 1, 2, 3)]
    same = sku("Same", LoadedLevel(warehouse_id=main.id, history=histories))
    model = Catalogue(model.warehouses, [*model.skus, same])
    await service.load(model.warehouses, model.skus)
    return model


def ids_of(entries: list[Entry]) -> list[tuple[str, str, int]]:
    return sorted((it.sku, it.warehouse_id, it.sequence) for it in entries)


async def test_sign_filter_combines_with_others_and_totals_cover_all_matches(
    service: Service,
) -> None:
    model = await stocked(service)
    main = model.warehouses[0].id
    others = ({"reason": REASONS[0]}, {"warehouseId": main}, {"sku": "Same"}, DAY)
    for filter_ in filters(*others, {"reason": REASONS[1], "warehouseId": main}, {"sku": CODES[7]}):
        expected = matching(model, filter_)
        nodes = await walk(service, LEDGER, ["adjustments"], {"filter": filter_}, first=4)
        result = sorted((it["sku"]["sku"], it["warehouse"]["id"], it["sequence"]) for it in nodes)
        assert result == ids_of(expected), filter_
        page = await service.data(LEDGER, {"first": 1, "filter": filter_})
        assert page["adjustments"]["totals"] == totals_of([*map(delta_of, expected)]), filter_


async def test_ledger_of_a_warehouse_has_only_its_entries(service: Service) -> None:
    model = await stocked(service)
    others = ({"reason": REASONS[0]}, {"sku": "Same"}, DAY, {"sku": CODES[7], "reason": REASONS[1]})
    for each, filter_ in product(model.warehouses, filters(*others)):
        expected = matching(model, filter_, each.id)
        variables = {"id": each.id, "filter": filter_}
        path = ["warehouse", "adjustments"]
        nodes = await walk(service, OF_WAREHOUSE, path, variables, first=5)
        result = sorted((it["sku"]["sku"], it["warehouse"]["id"], it["sequence"]) for it in nodes)
        assert result == ids_of(expected), filter_
        page = await service.data(OF_WAREHOUSE, {"first": 1, **variables})
        totals = page["warehouse"]["adjustments"]["totals"]
        assert totals == totals_of([*map(delta_of, expected)]), filter_


async def test_totals_are_computed_per_sku_level_and_warehouse(
    service: Service,
) -> None:
    model = await stocked(service)
    data = await service.data(
        f"{{ skus {{ nodes {{ sku adjustments(first: 1) {{ {TOTALS} }} "
        f"up: adjustments(filter: {{sign: INCREASE}}) {{ {TOTALS} }} "
        f"stock {{ warehouse {{ id }} adjustments(first: 1) {{ {TOTALS} }} }} }} }} "
        f"warehouses {{ id adjustments(first: 1) {{ {TOTALS} }} }} }}"
    )

    def expected(**filters: Any) -> Json:
        return totals_of([delta_of(it) for it in model.list_entries(**filters)])

    for node in data["skus"]["nodes"]:
        whole = node["adjustments"]["totals"]
        assert whole == expected(code=node["sku"])
        assert node["up"]["totals"]["netChange"] == whole["increase"]
        for level in node["stock"]:
            each = level["warehouse"]["id"]
            assert level["adjustments"]["totals"] == expected(code=node["sku"], warehouse_id=each)
    for each in data["warehouses"]:
        assert each["adjustments"]["totals"] == expected(warehouse_id=each["id"])


async def test_totals_of_an_empty_ledger_are_zero(service: Service) -> None:
    nothing = totals_of([])
    for filter_ in ({}, {"reason": "loss"}, {"sign": "INCREASE"}):
        page = await service.data(LEDGER, {"first": 1, "filter": filter_})
        assert page["adjustments"]["totals"] == nothing
    main = warehouse()
    await service.load([main], [sku("A")])
    page = await service.data(OF_WAREHOUSE, {"first": 1, "id": main.id})
    assert page["warehouse"]["adjustments"]["totals"] == nothing


async def test_cursor_is_rejected_with_another_sign(service: Service) -> None:
    model = await stocked(service)
    warehouse = model.warehouses[0].id
    for query, more in ((LEDGER, {}), (OF_WAREHOUSE, {"id": warehouse})):
        variables = {"first": 1, **more, "filter": {"sign": "INCREASE"}}
        data: Any = await service.data(query, variables)
        page = data.get("adjustments") or data["warehouse"]["adjustments"]
        after = page["pageInfo"]["endCursor"]
        assert "errors" not in await service.graphql(query, {**variables, "after": after})
        for other in ({}, {"sign": "DECREASE"}, {"sign": "INCREASE", "sku": "Same"}):
            answer = await service.graphql(query, {**variables, "after": after, "filter": other})
            [error] = errors_of(answer)
            assert error["extensions"]["code"] == "INVALID_CURSOR"


async def test_cursor_is_rejected_for_another_warehouse(service: Service) -> None:
    model = await stocked(service)
    one, two, *_ = (each.id for each in model.warehouses)
    page: Any = await service.data(OF_WAREHOUSE, {"first": 1, "id": one})
    after = page["warehouse"]["adjustments"]["pageInfo"]["endCursor"]

    for query, variables in (
        (OF_WAREHOUSE, {"id": two}),
        (LEDGER, {"filter": {"warehouseId": one}}),
    ):
        paged = {"first": 1, "after": after, **variables}
        assert await refused(service, query, paged) == (422, "INVALID_CURSOR")


@pytest.mark.parametrize(
    ("filter_", "refusal"),
    [
        ({"sku": "NOPE"}, (404, "INVENTORY_NOT_FOUND")),
        ({"reason": "No Reason"}, (422, "VALIDATION_ERROR")),
        ({"sign": "UP"}, (422, "VALIDATION_ERROR")),
        ({"warehouseId": "wh_1"}, (422, "VALIDATION_ERROR")),
    ],
)
async def test_invalid_filter_of_a_warehouse_ledger_is_rejected(
    service: Service, filter_: Json, refusal: tuple[int, str]
) -> None:
    main = warehouse()
    await service.load([main], [sku("A")])
    variables = {"first": 1, "id": main.id, "filter": filter_}

    assert await refused(service, OF_WAREHOUSE, variables) == refusal


async def test_totals_exclude_the_ledger_of_another_tenant(service: Service) -> None:
    model = await stocked(service)
    other = replace(service, tenant_id=await new_tenant(service.database))

    page = await other.data(LEDGER, {"first": 1})
    assert page["adjustments"]["totals"] == totals_of([])
    variables = {"first": 1, "id": model.warehouses[0].id}
    assert await refused(other, OF_WAREHOUSE, variables) == (404, "WAREHOUSE_NOT_FOUND")


async def test_sums_beyond_64_bits_are_exact(service: Service) -> None:
    numbers = [2**63 - 1, 2**63 - 1, 2**62 + 1, MAX_QUANTITY, 0, -1, -(2**63) + 1, -(2**63) + 1]
    rows = [select(literal(it, BigInteger).label("delta")) for it in numbers]
    ledger = union_all(*rows).subquery()
    sums = sums_of(ledger.c.delta)
    make = func.json_array if service.database.dialect == "sqlite" else func.json_build_array
    async with service.database.snapshot() as snapshot:
        [row] = await snapshot.rows(select(make(*sums)).select_from(ledger), {})

    increase = 2 * (2**63 - 1) + 2**62 + 1 + MAX_QUANTITY
    decrease = 2 * (2**63 - 1) + 1
    assert ledger_totals([orjson.loads(row[0])]) == LedgerTotals(8, increase, decrease)


def test_response_can_contain_integers_beyond_64_bits() -> None:
    assert JSONResponse({"é": [2**70, 1]}).body == f'{{"é":[{2**70},1]}}'.encode()
