"""Filters of the ledger by author, bulk, transfer, reservation and reference."""

import random
from dataclasses import replace
from itertools import chain, combinations
from typing import Any, Final

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.tables import adjustment, person, stock_level
from app.graphql.schema.filters import EMPTY_TEXT
from tests.engines import transact
from tests.graphql.answers import Json, errors_of, page_of, walk
from tests.service import Service, counted, level, new_tenant, now, sku, warehouse

NAMES: Final = {
    "createdBy": "created_by",
    "bulkId": "bulk_id",
    "transferId": "transfer_id",
    "reservationId": "reservation_id",
    "reference": "reference",
}
FIELDS: Final = f"id reversalOf {' '.join(NAMES)}"
LEDGER: Final = (
    "query ($first: Int!, $after: String, $filter: LedgerFilterInput) { "
    f"adjustments(first: $first, after: $after, filter: $filter) {{ {page_of(FIELDS)} }} }}"
)
SKU_LEDGER: Final = (
    'query ($first: Int!, $after: String, $filter: AdjustmentFilterInput) { sku(sku: "A") { '
    f"adjustments(first: $first, after: $after, filter: $filter) {{ {page_of(FIELDS)} }} }} }}"
)


async def linked(service: Service) -> list[dict[str, Any]]:
    """Write entries with links of all kinds; the rows, newest first."""
    main = warehouse()
    await service.load([main], [sku("A", replace(level(main, 5), history=[counted(5)]))])
    dice = random.Random(1)
    rows: list[dict[str, Any]] = [
        {
            "tenant_id": service.tenant_id,
            "id": f"adj_{sequence:03}",
            "sku": "A",
            "warehouse_id": main.id,
            "position": sequence,
            "sequence": sequence,
            "before_quantity": 5,
            "after_quantity": 5,
            "delta": 0,
            "reason": "cycle_count",
            "created_at": now(),
            **{name: dice.choice((None, "one", "two")) for name in NAMES.values()},
            "created_by": dice.choice(("one", "two")),
            "hash": "",
        }
        for sequence in range(2, 42)
    ]

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(
            person.insert(),
            [
                {"tenant_id": service.tenant_id, "id": f"per_{email}", "email": email}
                for email in ("one", "two")
            ],
        )
        by_id = [{**row, "created_by": f"per_{row['created_by']}"} for row in rows]
        await connection.execute(adjustment.insert(), by_id)
        is_own = stock_level.c.tenant_id == service.tenant_id
        await connection.execute(update(stock_level).where(is_own).values(version=41))

    await transact(service.database, work)
    return sorted(rows, key=lambda row: row["position"], reverse=True)


@pytest.mark.parametrize(("query", "path"), [(LEDGER, []), (SKU_LEDGER, ["sku"])])
async def test_link_filters_combine(service: Service, query: str, path: list[str]) -> None:
    rows = await linked(service)

    for names in chain(combinations(NAMES, 1), combinations(NAMES, 2)):
        expected = [row for row in rows if all(row[NAMES[name]] == "one" for name in names)]
        filter_ = dict.fromkeys(names, "one")
        nodes = await walk(service, query, [*path, "adjustments"], {"filter": filter_}, first=3)
        assert nodes == [shown(row) for row in expected], names


def shown(row: dict[str, Any]) -> Json:
    return {
        "id": row["id"],
        "reversalOf": None,
        **{name: row[column] for name, column in NAMES.items()},
    }


@pytest.mark.parametrize("name", NAMES)
async def test_link_filter_matches_only_exact_values_of_its_tenant(
    service: Service, name: str
) -> None:
    await linked(service)
    other = replace(service, tenant_id=await new_tenant(service.database))

    for who, value in ((other, "one"), (service, "ONE"), (service, "o\x00ne")):
        filter_ = {name: value}
        assert await walk(who, LEDGER, ["adjustments"], {"filter": filter_}, first=5) == []
    [error] = errors_of(await service.graphql(LEDGER, {"first": 5, "filter": {name: ""}}))
    [detail] = error["extensions"]["details"]
    assert detail == {"field": name, "message": EMPTY_TEXT}


@pytest.mark.parametrize("name", NAMES)
async def test_cursor_is_rejected_with_another_link_filter(service: Service, name: str) -> None:
    await linked(service)
    page = await service.data(LEDGER, {"first": 1, "filter": {name: "one"}})
    cursor = page["adjustments"]["pageInfo"]["endCursor"]

    for other in ({}, {name: "two"}, *({each: "one"} for each in NAMES if each != name)):
        variables = {"first": 1, "after": cursor, "filter": other}
        [error] = errors_of(await service.graphql(LEDGER, variables))
        assert error["extensions"]["code"] == "INVALID_CURSOR"
