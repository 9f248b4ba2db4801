"""The number of SQL statements depends on the document, never on the number of rows."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from app.database.engine import Database
from app.settings import Settings
from tests.graphql.recorder import QueryRecorder, recorded
from tests.service import Service, counted, level, new_tenant, sku, warehouse

SIZES: Final = (1, 50, 200)
# Every request reads its token.
CREDENTIAL: Final = 1

DOCUMENTS: Final = {
    "nothing": ("{ __typename }", 0),
    "skus": ("{ skus(first: 200) { nodes { sku totalOnHand } } }", 1),
    "skus and stock": ("{ skus(first: 200) { nodes { sku stock { onHand } } } }", 1),
    "skus, stock and warehouses": (
        "{ skus(first: 200) { nodes { stock { onHand warehouse { name } } } } }",
        1,
    ),
    "the same through edges": (
        "{ skus(first: 200) { edges { cursor node { stock { warehouse { name } } } } } }",
        1,
    ),
    "and counted": (
        "{ skus(first: 200) { totalCount nodes { stock { warehouse { name } } } } }",
        1,
    ),
    "availabilities": ("{ availabilities(first: 200) { nodes { sku available } } }", 1),
    "availabilities of words": (
        '{ availabilities(filter: {text: "thing"}) { nodes { available } } }',
        2,
    ),
    "several availabilities": (
        '{ a: availability(sku: "A") { sku } b: availability(sku: "B") { sku } }',
        1,
    ),
    "only counted": ("{ skus(first: 1) { totalCount } }", 1),
    "skus there and back": (
        "{ skus(first: 200) { nodes { stock { sku { stock { sku { sku } } } } } } }",
        2,
    ),
    "warehouses, levels, skus, stock": (
        "{ warehouses { stock(first: 200) { nodes { sku { stock { onHand } } } } } }",
        3,
    ),
    "and each counted": (
        "{ warehouses { stock(first: 200) { totalCount nodes { sku { stock { onHand } } } } } }",
        4,
    ),
    "levels of two statuses": (
        "{ warehouses { a: stock(filter: {status: NORMAL}) { totalCount } "
        "b: stock(filter: {status: LOW}) { totalCount } c: stock { totalCount } } }",
        7,
    ),
    "warehouses there and back": (
        "{ warehouses { stock(first: 50) { nodes { sku { stock { warehouse { "
        "stock(first: 50) { nodes { onHand } } } } } } } } }",
        3,
    ),
    "skus and their ledgers": (
        "{ skus(first: 200) { nodes { adjustments(first: 3) { nodes { delta } } } } }",
        2,
    ),
    "ledgers with warehouses and skus": (
        "{ skus(first: 200) { nodes { adjustments(first: 3) { nodes { "
        "warehouse { name } sku { title } } } } } }",
        4,
    ),
    "skus as they were": (
        '{ skus(first: 200) { nodes { stockAsOf(at: "2030-01-01") { totalOnHand levels { '
        "onHand warehouse { name } adjustment { sku { title } } } } } } }",
        4,
    ),
    "skus through time": (
        "{ skus(first: 200) { nodes { "
        'stockHistory(from: "2026-01-01", to: "2026-01-09", interval: DAY) { closing } } } }',
        3,
    ),
    "ledgers summed up": (
        "{ skus(first: 200) { nodes { adjustments(first: 3) { totals { netChange } "
        "nodes { id } } } } }",
        3,
    ),
    "ledgers of warehouses": (
        "{ warehouses { adjustments(first: 3) { totalCount totals { entries } nodes { id } } } }",
        4,
    ),
    "the ledger summed up": ("{ adjustments(first: 200) { totals { increase decrease } } }", 2),
    "ledgers counted": (
        "{ skus(first: 200) { nodes { adjustments(first: 3) { totalCount } } } }",
        3,
    ),
    "ledgers counted by reason": (
        '{ skus(first: 200) { nodes { adjustments(filter: {reason: "loss"}) { totalCount } } } }',
        3,
    ),
    "levels and their ledgers": (
        "{ skus(first: 200) { nodes { stock { adjustments(first: 2) { nodes { id } } } } } }",
        2,
    ),
    "levels and their ledgers counted": (
        "{ skus(first: 200) { nodes { stock { adjustments(first: 2) { totalCount "
        "nodes { sku { sku } warehouse { id } } } } } } }",
        5,
    ),
    "the same arguments twice": (
        "{ skus(first: 200) { nodes { a: adjustments(first: 2) { nodes { id } } "
        "b: adjustments(first: 2) { nodes { id } } } } }",
        2,
    ),
    "other arguments": (
        "{ skus(first: 200) { nodes { a: adjustments(first: 1) { nodes { id } } "
        'b: adjustments(first: 2) { nodes { id } } c: adjustments(filter: {reason: "loss"}) '
        "{ nodes { id } } } } }",
        4,
    ),
    "the ledger": (
        "{ adjustments(first: 200) { nodes { sku { sku } warehouse { name } } } }",
        3,
    ),
    "the ledger counted": ("{ adjustments(first: 200) { totalCount nodes { delta } } }", 2),
    "roots together": (
        "{ skus(first: 200) { nodes { sku } } warehouses { name } adjustments { nodes { id } } }",
        3,
    ),
    "a SKU, there and back": (
        '{ sku(sku: "SKU-0") { stock { warehouse { name } sku { sku stock { sku { id } } } } } }',
        1,
    ),
    "SKUs by code": (
        '{ skusByCode(codes: ["SKU-0", "NOPE", "SKU-0"]) { stock { warehouse { name } } } }',
        1,
    ),
    "nodes of two kinds": (
        '{ nodes(ids: ["sku_SKU-0", "sku_NOPE", "adj_1", "adj_2", "wh_1", "wh_2", "x"]) { id } }',
        3,
    ),
    "one by one": (
        '{ a: sku(sku: "SKU-0") { sku } b: node(id: "sku_NOPE") { id } '
        'c: sku(sku: "SKU-0") { id } }',
        1,
    ),
}


@pytest.fixture(scope="session")
def tenants(database_url: str) -> Mapping[int, str]:
    """Tenants by number of SKUs; tests must not write to them."""

    async def create() -> dict[int, str]:
        database = Database(Settings(database_url=database_url))
        created = {size: await new_tenant(database) for size in SIZES}
        for size, tenant in created.items():
            await load(database, tenant, size)
        await database.dispose()
        return created

    return asyncio.run(create())


async def load(database: Database, tenant: str, size: int) -> list[str]:
    warehouses = [warehouse(f"W{number}") for number in range(3)]
    tenant_service = Service(app=None, client=None, database=database, tenant_id=tenant)  # type: ignore[arg-type]
    skus = []
    for number in range(size):
        levels = [
            replace(
                level(each, 10 + number),
                history=[counted(4), counted(20), counted(10 + number, reason="loss")],
            )
            for each in warehouses
        ]
        skus.append(sku(f"SKU-{number}", *levels))
    await tenant_service.load(warehouses, skus)
    return [each.id for each in warehouses]


async def statements(service: Service, document: str, **variables: object) -> QueryRecorder:
    with recorded() as recorder:
        await service.data(document, variables)
    return recorder


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_statements_of_a_query_do_not_depend_on_the_number_of_rows(
    service: Service, tenants: Mapping[int, str], name: str
) -> None:
    document, expected = DOCUMENTS[name]

    taken = {
        size: len(await statements(replace(service, tenant_id=tenant), document))
        for size, tenant in tenants.items()
    }
    assert taken == dict.fromkeys(SIZES, CREDENTIAL + expected)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            "query ($id: ID!) { skus(first: 200, filter: {warehouseId: $id}) { nodes { stock { "
            "warehouse { name } sku { stock { sku { totalOnHand } } } "
            "adjustments(first: 1) { nodes { id } } } } } }",
            4,
        ),
        (
            "query ($id: ID!) { warehouse(id: $id) { stock(first: 200) { totalCount nodes { "
            "warehouse { name } sku { adjustments(first: 1) { totalCount nodes { id } } } } } } }",
            6,
        ),
        (
            "query ($id: ID!) { skus(first: 200) { nodes { adjustments(first: 5, "
            "filter: {warehouseId: $id}) { totalCount nodes { id } } } } }",
            4,
        ),
    ],
)
async def test_statements_of_a_warehouse_query_do_not_depend_on_the_number_of_rows(
    service: Service, tenants: Mapping[int, str], document: str, expected: int
) -> None:
    taken = {}
    for size, tenant in tenants.items():
        own = replace(service, tenant_id=tenant)
        id_ = (await own.data("{ warehouses { id } }"))["warehouses"][0]["id"]
        taken[size] = len(await statements(own, document, id=id_))

    assert taken == dict.fromkeys(SIZES, CREDENTIAL + expected)


async def test_sku_total_needs_no_statement_and_ledger_total_needs_one(
    service: Service, tenants: Mapping[int, str]
) -> None:
    own = replace(service, tenant_id=tenants[50])
    document = (
        "query ($total: Boolean!) { skus(first: 5) { totalCount @include(if: $total) nodes { "
        "adjustments(first: 1) { totalCount @include(if: $total) nodes { id } } } } }"
    )

    counted_ = await statements(own, document, total=True)
    uncounted = await statements(own, document, total=False)
    assert len(counted_) - len(uncounted) == 1
    assert "sum(stock_level.version)" in counted_.statements[-1]


async def test_statements_of_a_bulk_do_not_depend_on_the_number_of_updates(
    service: Service,
) -> None:
    document = (
        "mutation ($input: BulkSetStockInput!) { bulkSetStock(input: $input) { succeeded "
        "results { adjustment { sku { title } warehouse { name } } } "
        "skus { stock { warehouse { name } } } } }"
    )

    taken = {}
    for size in SIZES:
        tenant = await new_tenant(service.database)
        [main, *_] = await load(service.database, tenant, size)
        update = {"warehouseId": main, "change": {"quantity": 0}, "reason": "loss"}
        updates = [{**update, "sku": f"SKU-{number}"} for number in range(size)]
        own = replace(service, tenant_id=tenant)
        taken[size] = len(await statements(own, document, input={"updates": updates}))
    # A bulk reads, and writes SKUs, levels, adjustments, counts and changes. The response
    # needs SKUs and warehouses.
    assert taken == dict.fromkeys(SIZES, CREDENTIAL + 1 + 5 + 2)


async def test_recorder_counts_every_statement(service: Service) -> None:
    async with service.database.snapshot() as snapshot:
        from app.reads.warehouses import list_warehouses  # noqa: PLC0415

        with recorded() as recorder:
            await list_warehouses(snapshot, service.tenant_id)
            await list_warehouses(snapshot, service.tenant_id)
        await list_warehouses(snapshot, service.tenant_id)
    assert len(recorder) == 2
    assert all("FROM warehouse" in text for text in recorder.statements)
