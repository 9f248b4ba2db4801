"""A tenant's reads are the same, byte for byte, whether another tenant is empty or full.

The reads are derived from the schema and the route table: every root field with each of its
arguments, and every route with each parameter. A new one fails until `VALUES` has a value for it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import httpx

from app.domain.caller import Scope
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.graphql.schema.scopes import SCOPES
from app.writes.tenants import create_token
from rest_shim.routes import ROUTES
from tests.graphql.stored_rows import EXTERNAL_ID
from tests.graphql.test_access_matrix import (
    CODE,
    HELD,
    HOOK,
    OTHER,
    WAREHOUSE,
    document,
    selection,
)
from tests.graphql.test_schema import OBJECTS
from tests.service import EMAIL, Service, level, new_tenant, running, sku

REQUEST_ID: Final = re.compile(r"req_[0-9A-Z]{26}")
# Value of each argument, filter field and parameter, for GraphQL and for a query string.
VALUES: Final[dict[str, Any]] = {
    "timeZone": "Europe/Berlin",
    "after": "cursor_AAAA",
    "archived": True,
    "bulkId": "blk_01HX0000000000000000000001",
    "codePrefix": CODE[:2],
    "codes": [CODE],
    "createdBy": EMAIL,
    "cursor": "cursor_AAAA",
    "external_id": f"erp:{EXTERNAL_ID}",
    "externalId": {"namespace": "erp", "value": EXTERNAL_ID},
    "end_date": "2026-01-01",
    "endDate": "2026-01-01",
    "first": 1,
    "id": WAREHOUSE,
    "ids": [f"sku_{CODE}", WAREHOUSE],
    "limit": "1",
    "occurred_from": "2026-01-01",
    "occurred_to": "2026-01-01",
    "occurredFrom": "2026-01-01",
    "occurredTo": "2026-01-01",
    "orderBy": "SKU_DESC",
    "reason": "initial_stock",
    "reference": "PO-1",
    "reservationId": "rsv_01HX0000000000000000000001",
    "sign": "INCREASE",
    "sku": CODE,
    "skus": [CODE],
    "sort": "-sku",
    "start_date": "2026-01-01",
    "startDate": "2026-01-01",
    "status": "NORMAL",
    "statusIn": ["NORMAL"],
    "q": CODE[:3],
    "text": CODE[:3],
    "types": ["STOCK_CHANGED"],
    "transferId": "trf_01HX0000000000000000000001",
    "updated_since": "2026-01-01",
    "updatedSince": "2026-01-01",
    "warehouse_id": WAREHOUSE,
    "warehouseId": WAREHOUSE,
    "warehouseIds": [WAREHOUSE],
    "webhookId": HOOK,
}
# Values of REST parameters that differ from those of GraphQL.
REST_VALUES: Final = {
    "status": "normal",
    "types": "stock_changed",
    "time_zone": "Europe/Berlin",
}


def graphql_reads() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every root query field, plain and with each of its arguments."""
    for name in SCOPES["Query"]:
        yield document("Query", name)
        if name.startswith("__"):
            continue
        field = OBJECTS["Query"].fields[name]
        base = document("Query", name)[1]
        for key, argument in field.args.items():
            inner = getattr(argument.type, "fields", None)
            values = [{it: VALUES[it]} for it in inner] if inner else [VALUES[key]]
            if (name, key) == ("changes", "after"):
                values = [1]
            for value in values:
                given = {**base, key: value}
                declared = ", ".join(f"${it}: {field.args[it].type}" for it in given)
                passed = ", ".join(f"{it}: ${it}" for it in given)
                query = f"query({declared}) {{ {name}({passed}) {selection(field.type)} }}"
                yield query, given


def rest_reads() -> Iterator[str]:
    """Yield every read path, plain and with each of its parameters."""
    for route in ROUTES:
        if route.method != "GET":
            continue
        for code in (CODE, "CODE-OF-X"):
            path = route.path.replace("{sku:segment}", code)
            path = path.replace("{reservation_id:segment}", HELD)
            path = path.replace("{warehouse_id:segment}", WAREHOUSE)
            yield path
            for name in route.query:
                value = REST_VALUES.get(name, VALUES.get(name))
                if name == "status" and "reservations" in path:
                    value = "open"
                assert value is not None, name
                yield f"{path}?{name}={value}"


async def everything_read(service: Service) -> list[tuple[str, str]]:
    """Execute every read. Returns pairs of request and response."""
    result: list[tuple[str, str]] = []
    for query, variables in graphql_reads():
        response = await service.rest(
            "POST", "/graphql", token="admin", json={"query": query, "variables": variables}
        )
        result.append((f"{query} {variables}", response.text))
    for path in rest_reads():
        response = await service.rest("GET", path)
        result.append((path, response.text + str(response.headers.get("etag"))))
    return [(question, REQUEST_ID.sub("req", answer)) for question, answer in result]


async def stock(service: Service, name: str, codes: Sequence[str], quantity: int) -> None:
    """Give a tenant two warehouses and some SKUs with known ids."""
    warehouses = [
        WarehouseRecord(id_, name, WarehouseType.OWN, None, None, is_active=True)
        for id_ in (WAREHOUSE, OTHER)
    ]
    levels = [level(record, quantity) for record in warehouses]
    await service.load(warehouses, [sku(code, *levels, title=name) for code in codes])


async def test_reads_do_not_depend_on_other_tenants(
    own_database_url: str,
) -> None:
    async with running(own_database_url) as (app, client):
        database = app.state.database
        service, other = [Service(app, client, database, await new_tenant(database)) for _ in "ab"]
        await stock(service, "Mine", [CODE, "B"], 500)
        for number in range(3):
            await write(service, number)
        empty = await everything_read(service)

        await stock(other, "Theirs", [CODE, "A", "B", "CODE-OF-X", "Z"], 7)
        for number in range(20):
            await write(other, number)
        await create_token(
            database, other.tenant_id, name="x", email=EMAIL, scopes=[Scope.ADMIN], expires_in=None
        )
        full = await everything_read(service)
        of_other = await everything_read(other)

        # The same key of two tenants is two keys: this tenant gets its own response again.
        again = await write(service, 0)

    assert full == empty
    assert again.headers["Idempotent-Replayed"] == "true"
    assert sum("Mine" in answer for _, answer in full) > 10
    assert not [question for question, answer in full if "Theirs" in answer]
    assert not [question for question, answer in of_other if "Mine" in answer]


async def write(service: Service, number: int) -> httpx.Response:
    """Set a level, under a key that every tenant uses."""
    body = {"warehouse_id": WAREHOUSE, "quantity": 500 + number, "reason": "cycle_count"}
    headers = {"Idempotency-Key": f"key-{number}"}
    return await service.rest("PUT", f"/api/inventory/{CODE}", json=body, headers=headers)
