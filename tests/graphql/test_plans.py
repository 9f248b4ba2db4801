"""The cost of a read depends on its result, not on the amount of data.

The same reads run on a small and a large tenant, with the SQL of the service. The database counts
the cost: blocks on PostgreSQL, with the custom and the generic plan; instructions on SQLite.
"""

import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app import reads
from app.database.engine import Database
from app.database.external_id_table import external_id
from app.database.migration import migrate
from app.database.tables import idempotency_key
from app.database.tables import sku as sku_table
from app.database.tables import warehouse as warehouse_table
from app.files.seeding import LoadedCount, LoadedLevel, LoadedSku
from app.ledger.rollup import roll_up_ledger
from app.reads.due_work import list_due_tenants
from app.reads.replicas import choose_reader
from app.reads.skus import get_skus
from app.reads.tenants import list_tenant_rows, list_tenants, list_tenants_ahead, list_tokens
from app.writes.idempotency_keys import delete_expired_keys
from benchmarks.data import OPENING, WAREHOUSES, Size, code, fill
from tests.engines import transact
from tests.graphql.explain import Cost, Engine, explaining
from tests.graphql.maintenance_cases import read, rollup_reads, verification_read
from tests.graphql.read_cases import (
    MAIN,
    START,
    STEP,
    Data,
    ReadCase,
    availability_reads,
    grouped_ledger_reads,
    history_reads,
    ledger_reads,
    link_reads,
    occurrence_reads,
    past_reads,
    reservation_reads,
    sign_reads,
    sku_reads,
    warehouse_reads,
)
from tests.graphql.recorder import recorded
from tests.service import EMAIL, Service, new_tenant, running, sku

# Queries of operators, whose tables are small; the search, whose plans have a test of their own;
# the choice of a database, whose statement is one of the feed.
OPERATORS: Final = {
    choose_reader,
    list_due_tenants,
    list_tenant_rows,
    list_tenants,
    list_tenants_ahead,
    list_tokens,
}
# A B-tree is one block deeper, and a small table may be cheaper without an index.
TIMES: Final = 2
SLACK: Final = {"postgresql": 100, "sqlite": 1_000}
# More than any page costs. A scan of all tenants is expensive for the small tenant too.
MOST: Final = {"postgresql": 1_500, "sqlite": 30_000}
SIZES: Final = {"postgresql": (3_000, 30_000), "sqlite": (3_000, 30_000)}
HISTORIES: Final = {"SHORT": 300, "LONG": 6_000}


@pytest.fixture
async def shop(engine: str, empty_database_url: str) -> AsyncIterator[Service]:
    """Run the service on a small, a large and another tenant, and one with long histories."""
    async with running(empty_database_url) as (app, client):
        database = app.state.database
        await migrate(database)
        small, large = SIZES[engine]
        shop = Service(app, client, database, await new_tenant(database))
        await shop.load(WAREHOUSES, [history(name) for name in HISTORIES])
        await fill_all(database, "small", Size(small))
        await fill_all(database, "other", Size(large // 5, adjustments_per_level=2))
        await transact(database, keep_keys)
        await transact(database, partial(tell_changes, "small", small))
        await transact(database, partial(tell_changes, "other", large // 5))
        # The last fill runs ANALYZE on all data.
        await fill_all(database, "large", Size(large))
        await transact(database, partial(tell_changes, "large", large))
        await transact(database, keep_external_ids)
        for tenant in ("small", "other", "large", shop.tenant_id):
            while await roll_up_ledger(database, tenant):
                pass
        yield shop


def history(name: str) -> LoadedSku:
    """Build a SKU whose two levels have long histories."""
    entries = [
        LoadedCount(
            quantity=step % 7,
            reason="cycle_count" if step else "initial_stock",
            created_by=EMAIL,
            created_at=START + STEP * step,
            reference=OPENING,
        )
        for step in range(HISTORIES[name])
    ]
    levels = [
        LoadedLevel(warehouse_id=warehouse.id, history=entries) for warehouse in WAREHOUSES[:2]
    ]
    return sku(name, *levels)


async def fill_all(database: Database, tenant: str, size: Size) -> None:
    """Fill a tenant."""
    async for _ in fill(database, size, tenant_id=tenant):
        pass


async def keep_keys(connection: AsyncConnection) -> None:
    """Insert an idempotency key for every SKU."""
    columns = ["tenant_id", "subject", "key", "fingerprint", "outcome", "created_at"]
    kept = select(
        sku_table.c.tenant_id,
        literal("somebody"),
        sku_table.c.sku,
        literal(b""),
        literal(""),
        sku_table.c.created_at,
    )
    await connection.execute(idempotency_key.insert().from_select(columns, kept))


async def keep_external_ids(connection: AsyncConnection) -> None:
    """Insert an external id for every SKU and every warehouse."""
    for kind, key, owner in (
        ("sku", sku_table.c.sku, "sku"),
        ("warehouse", warehouse_table.c.id, "warehouse_id"),
    ):
        values = key.table.c.tenant_id, literal(kind), literal("erp"), key, key
        columns = ["tenant_id", "kind", "namespace", "value", owner]
        await connection.execute(external_id.insert().from_select(columns, select(*values)))
    await connection.execute(text("ANALYZE external_id"))


async def tell_changes(tenant: str, number: int, connection: AsyncConnection) -> None:
    """Insert changes of stock levels of one warehouse into the feed."""
    columns = ["tenant_id", "position", "type", "sku", "warehouse_id", "body", "created_at"]
    numbers = text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :number)"
        f" INSERT INTO change ({', '.join(columns)})"
        " SELECT :tenant, i, 'stock_changed', 'SKU-1', :warehouse, '{\"after\":{}}', created_at"
        " FROM n, tenant WHERE tenant_id = :tenant"
    )
    values = {"tenant": tenant, "number": number, "warehouse": MAIN}
    await connection.execute(numbers, values)


def numbered(tenant: str, skus: int) -> Data:
    """Return a tenant with 20 of its SKUs, evenly spaced."""
    return Data(tenant, [code(number) for number in range(0, skus, skus // 20)], skus, skus)


def position_of(step: int) -> int:
    """Return the first position of a step: the histories have two levels each."""
    return sum(2 * min(step, steps) for steps in HISTORIES.values())


async def costs(engine: Engine, database: Database, case: ReadCase) -> Sequence[Cost]:
    """Return the costs of the one statement of a case."""
    with recorded() as recorder:
        async with database.snapshot(single=True) as snapshot:
            await case.call(snapshot)
    [statement], [parameters] = recorder.statements, recorder.parameters
    return await engine.costs(statement, parameters)


@pytest.mark.long
async def test_cost_of_a_read_does_not_grow_with_the_data(shop: Service, engine: str) -> None:
    small, large = (numbered(*each) for each in zip(("small", "large"), SIZES[engine], strict=True))
    short, long = (
        Data(shop.tenant_id, [name], steps, position_of(steps // 2))
        for name, steps in HISTORIES.items()
    )
    pairs = [
        *zip(availability_reads(small), availability_reads(large), strict=True),
        *zip(sku_reads(small), sku_reads(large), strict=True),
        *zip(past_reads(small), past_reads(large), strict=True),
        *zip(link_reads(small), link_reads(large), strict=True),
        *zip(link_reads(short), link_reads(long), strict=True),
        *zip(reservation_reads(small), reservation_reads(large), strict=True),
        *zip(sign_reads(small), sign_reads(large), strict=True),
        *zip(sign_reads(short), sign_reads(long), strict=True),
        *zip(history_reads(small), history_reads(large), strict=True),
        *zip(history_reads(short), history_reads(long), strict=True),
        *zip(warehouse_reads(small), warehouse_reads(large), strict=True),
        *zip(past_reads(short), past_reads(long), strict=True),
        *zip(ledger_reads(small, of_sku=False), ledger_reads(large, of_sku=False), strict=True),
        *zip(ledger_reads(short, of_sku=True), ledger_reads(long, of_sku=True), strict=True),
        *zip(grouped_ledger_reads(small), grouped_ledger_reads(large), strict=True),
        *zip(grouped_ledger_reads(short), grouped_ledger_reads(long), strict=True),
        *zip(occurrence_reads(small), occurrence_reads(large), strict=True),
        *zip(rollup_reads(small), rollup_reads(large), strict=True),
        *zip(rollup_reads(short), rollup_reads(long), strict=True),
    ]
    grown = {}
    async with explaining(shop.database) as explain:
        for small_case, large_case in pairs:
            before = await costs(explain, shop.database, small_case)
            after = await costs(explain, shop.database, large_case)
            if not large_case.grows and any(
                more.scanned or more.read > min(TIMES * less.read + SLACK[engine], MOST[engine])
                for less, more in zip(before, after, strict=True)
            ):
                grown[f"{large_case.call.keywords.get('tenant')}: {large_case.name}"] = (
                    before,
                    after,
                )
        result = await scanned_by_requests(explain, shop)
        verified = [
            await costs(explain, shop.database, verification_read(each)) for each in (small, large)
        ]

    assert grown == {}
    assert result == {}
    # The verification reads all data, but only once.
    times = TIMES * SIZES[engine][1] // SIZES[engine][0]
    assert all(more.read <= times * less.read for less, more in zip(*verified, strict=True))
    assert {large_case.call.func for _, large_case in pairs} - {read} | OPERATORS == set(
        public_queries()
    )


async def test_postgresql_uses_generic_plans_for_reads(service: Service) -> None:
    if service.database.dialect == "sqlite":
        pytest.skip("SQLite has no generic plans.")
    kept = text("SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements")
    async with service.database.snapshot() as snapshot:
        for number in range(3):
            await get_skus(snapshot, service.tenant_id, codes=[code(number)])
        plans = {row[0]: tuple(row[1:]) for row in await snapshot.rows(kept, {})}

    [statement] = [words for words in plans if "FROM sku \nWHERE" in words and "LATERAL" in words]
    assert plans[statement] == (3, 0)


def public_queries() -> Iterator[object]:
    """Yield every public query of `app.reads`."""
    for module in pkgutil.iter_modules(reads.__path__, f"{reads.__name__}."):
        content = importlib.import_module(module.name)
        for name, function in inspect.getmembers(content, inspect.iscoroutinefunction):
            if function.__module__ == module.name and not name.startswith("_"):
                yield function


async def scanned_by_requests(explain: Engine, shop: Service) -> dict[str, object]:
    """Return statements of requests and maintenance that scan a big table completely."""
    updates = [
        {"sku": code(7 * number), "warehouse_id": MAIN, "quantity": 9, "reason": "cycle_count"}
        for number in range(500)
    ]
    [one, *_] = updates
    change = {name: value for name, value in one.items() if name != "sku"}
    key = {"Idempotency-Key": "once"}
    with recorded() as recorder:
        for method, path, body, headers in (
            ("GET", "/api/inventory?status=low", None, {}),
            ("GET", f"/api/inventory/{one['sku']}", None, {}),
            ("GET", "/api/inventory/warehouses", None, {}),
            ("GET", f"/api/inventory/{one['sku']}/adjustments", None, {}),
            ("PUT", f"/api/inventory/{one['sku']}", change, {}),
            ("PUT", f"/api/inventory/{one['sku']}", change, key),
            ("PUT", f"/api/inventory/{one['sku']}", change, key),
            ("POST", "/api/inventory/bulk", {"updates": updates}, {}),
        ):
            response = await shop.rest(
                method, path, json=body, headers=headers, token="large-write"
            )
            assert response.is_success, response.text
        assert await delete_expired_keys(shop.database, "small") > 0
    different = dict(zip(recorder.statements, recorder.parameters, strict=True))
    assert any("idempotency_key" in statement for statement in different)
    return {
        statement: tables
        for statement, parameters in different.items()
        if (tables := await explain.scanned(statement, one_of(parameters)))
    }


def one_of(parameters: Any) -> Any:
    """Return the parameters of a statement, or the first of several."""
    return parameters[0] if isinstance(parameters, list) else parameters
