"""The service works on tables that are partitioned by tenant, and each statement reads one part."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from asyncpg import PostgresError
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError
from ulid import ULID

from app.database.engine import Database
from app.database.migration import current_revision, grant, migrate
from app.database.placement import Placement
from app.database.schema import METADATA
from app.errors import ValidationFailed
from app.settings import Settings
from tests.checks.driver import check_database
from tests.databases import create_database, migrated
from tests.engines import reader_of, writer_of
from tests.graphql.explain import literal_of
from tests.graphql.recorder import recorded
from tests.graphql.test_access_matrix import CODE, WAREHOUSE, load_objects
from tests.processes import run
from tests.service import Service, new_tenant, running

PARTITIONS: Final = 4
PARTITION: Final = re.compile(r"_p(\d+)$")


@pytest.fixture
def empty_url(postgresql: URL) -> str:
    """Return an empty PostgreSQL database."""
    return create_database(postgresql, f"partitioned_{ULID()}".lower())


@pytest.fixture(scope="module")
def partitioned_url(postgresql: URL) -> str:
    """Return a database with partitioned tables that the tests of this module share."""
    url = create_database(postgresql, f"partitioned_{ULID()}".lower())
    return migrated(url, Placement(partitions=PARTITIONS))


@pytest.fixture
async def database(partitioned_url: str) -> AsyncIterator[Database]:
    """Connect to the database with partitioned tables."""
    database = Database(Settings(database_url=partitioned_url))
    yield database
    await database.dispose()


async def test_every_check_passes_on_partitions(partitioned_url: str) -> None:
    findings = await check_database(partitioned_url, reads=False, requests=40)

    assert findings.failed == {}
    assert findings.passed > 50


async def test_partitioned_tables_are_those_of_the_models(database: Database) -> None:
    parts = text("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'")
    async with reader_of(database).connect() as connection:
        partitions = set(await connection.scalars(parts))

        def is_whole(subject: Any, name: str | None, kind: str, *_: object) -> bool:
            # A foreign key has a copy for each partition that it refers to.
            if kind == "foreign_key_constraint":
                name = subject.elements[0].target_fullname.partition(".")[0]
            return name not in partitions

        def compare(sync: Connection) -> Sequence[object]:
            options = {"include_object": is_whole}
            context = MigrationContext.configure(sync, opts=options)
            found: Sequence[object] = compare_metadata(context, METADATA)
            return found

        difference = await connection.run_sync(compare)

    assert difference == []
    assert len(partitions) == PARTITIONS * len(METADATA.tables)


async def test_each_statement_reads_one_partition(database: Database, partitioned_url: str) -> None:
    async with running(partitioned_url) as (app, client):
        shop = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await load_objects(shop)
        with recorded() as recorder:
            await _use(shop)
        statements = dict(zip(recorder.statements, recorder.parameters, strict=True))

    read: dict[str, set[str]] = {}
    connection: Any
    async with reader_of(database).connect() as engine_connection:
        connection = (await engine_connection.get_raw_connection()).driver_connection
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for statement, parameters in statements.items():
            await connection.execute(f"PREPARE explained AS {statement}")
            values = f"({', '.join(map(literal_of, parameters))})" if parameters else ""
            # A repeated write would fail.
            options = "ANALYZE, TIMING OFF, " if statement.startswith("SELECT") else ""
            explain = f"EXPLAIN ({options}FORMAT JSON) EXECUTE explained{values}"
            [explained] = await connection.fetchval(explain)
            await connection.execute("DEALLOCATE explained")
            read[statement] = set(_partitions(explained["Plan"]))

    assert {statement: parts for statement, parts in read.items() if len(parts) > 1} == {}
    assert sum(len(parts) == 1 for parts in read.values()) > 15


async def _use(shop: Service) -> None:
    """Send the usual reads and writes."""
    path = f"/api/inventory/{CODE}"
    update = {"warehouse_id": WAREHOUSE, "quantity": 5, "reason": "cycle_count"}
    line = {"sku": CODE, "warehouse_id": WAREHOUSE, "quantity": 1}
    key = {"Idempotency-Key": "partitions"}
    answers = [
        await shop.rest("GET", "/api/inventory?status=normal"),
        await shop.rest("GET", "/api/inventory?q=title"),
        await shop.rest("PUT", path, json=update, headers=key),
        await shop.rest("GET", path),
        await shop.rest("POST", "/api/inventory/bulk", json={"updates": [{"sku": CODE, **update}]}),
        await shop.rest("POST", "/api/inventory/reservations", json={"lines": [line]}),
        await shop.rest("GET", f"{path}/adjustments?limit=2"),
        await shop.rest("GET", "/api/inventory/changes"),
        await shop.rest("GET", "/api/inventory/warehouses"),
    ]
    assert [answer.status_code for answer in answers if not answer.is_success] == []
    await shop.data(
        "{ skus { totalCount nodes { sku stock { available adjustments { totalCount } } } } "
        "adjustments { totals { entries } } reservations { totalCount } }"
    )


def _partitions(plan: Any) -> Iterator[str]:
    """Yield the numbers of the partitions that the nodes of a plan read."""
    found = PARTITION.search(plan.get("Relation Name", ""))
    if found and plan["Node Type"] != "ModifyTable" and plan.get("Actual Loops", 1):
        yield found[1]
    for each in plan.get("Plans", ()):
        yield from _partitions(each)


async def test_the_ledger_of_partitions_is_append_only(
    database: Database, partitioned_url: str
) -> None:
    async with running(partitioned_url) as (app, client):
        shop = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await load_objects(shop)
    changes = ["UPDATE {} SET note = 'x'", "DELETE FROM {}", "TRUNCATE {}"]
    holds_shop = text("SELECT tableoid::regclass::text FROM adjustment WHERE tenant_id = :tenant")
    async with reader_of(database).connect() as connection:
        partition = await connection.scalar(holds_shop, {"tenant": shop.tenant_id})
    others = [f"TRUNCATE {each}" for each in Placement(PARTITIONS).partitions_of("adjustment")]

    assert PARTITION.search(partition)
    for change in [
        *(each.format(name) for name in ("adjustment", partition) for each in changes),
        *others,
    ]:
        with pytest.raises(DBAPIError, match="adjustments are append-only"):
            await _execute(database, change)


async def _execute(database: Database, statement: str) -> None:
    async with writer_of(database).begin() as connection:
        await connection.execute(text(statement))


async def test_the_serving_role_reads_no_partition_itself(database: Database) -> None:
    role = f"serving_{ULID()}".lower()
    await _execute(database, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    await grant(database, role)
    await new_tenant(database)
    url = database.url.set(username=role, password="secret")
    serving = Database(Settings(database_url=url.render_as_string(hide_password=False)))
    async with serving.reading() as session:
        with pytest.raises(PostgresError, match="permission denied"):
            await session.execute(text("TABLE api_token_p0"))
    # Not even with a privilege that another setting of the server gave.
    await _execute(database, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    async with serving.reading() as session:
        for partition in Placement(PARTITIONS).partitions_of("api_token"):
            assert list(await session.execute(text(f"TABLE {partition}"))) == []
    await serving.dispose()


async def test_a_placement_is_kept(database: Database) -> None:
    await migrate(database)
    await migrate(database, Placement(partitions=PARTITIONS))
    for other in (Placement(), Placement(partitions=2), Placement(is_distributed=True)):
        with pytest.raises(ValidationFailed, match="are partitioned by tenant, 4 partitions each"):
            await migrate(database, other)


async def test_a_plain_database_does_not_get_partitions(empty_url: str) -> None:
    database = Database(Settings(database_url=empty_url))
    await migrate(database)
    with pytest.raises(ValidationFailed, match="not divided"):
        await migrate(database, Placement(partitions=2))
    await database.dispose()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Placement(partitions=65), "partitions must be at most 64"),
        (Placement(is_distributed=True), "needs the extension Citus"),
    ],
    ids=str,
)
async def test_an_impossible_placement_is_refused(
    empty_url: str, wanted: Placement, message: str
) -> None:
    database = Database(Settings(database_url=empty_url))
    with pytest.raises(ValidationFailed, match=message):
        await migrate(database, wanted)

    assert await current_revision(database) is None
    await database.dispose()


async def test_sqlite_is_not_partitioned(tmp_path: Path) -> None:
    database = Database(Settings(database_url=f"sqlite+aiosqlite:///{tmp_path}/inventory.db"))
    for wanted in (Placement(partitions=2), Placement(is_distributed=True)):
        with pytest.raises(ValidationFailed, match="is for PostgreSQL: SQLite has one file"):
            await migrate(database, wanted)
    await database.dispose()


def test_the_command_migrates_to_partitions(empty_url: str) -> None:
    done = run("migrate", "--partitions", "2", "--json", database_url=empty_url)
    refused = run("migrate", "--partitions", "2", "--distribute", database_url=empty_url)

    assert json.loads(done.stdout)["placement"] == "partitioned by tenant, 2 partitions each"
    assert "exclude each other" in " ".join(refused.stderr.split())
