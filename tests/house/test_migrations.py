"""Migrations create exactly the schema of the models, on both engines."""

import re
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.migration import alembic_config, drop_all, migrate, require_current, revisions
from app.database.schema import METADATA
from app.domain.caller import Caller
from app.errors import Unavailable
from app.ledger.verification import verify_tenant
from app.settings import Settings
from app.writes.pipeline import WriteContext
from app.writes.reservations import (
    CommitRequest,
    RequestedLine,
    ReserveRequest,
    commit_reservation,
    release_reservation,
    reserve_stock,
)
from benchmarks.data import TENANT, Size, fill
from tests.processes import run
from tests.service import EMAIL, Service, level, new_tenant, running, sku, warehouse

# Queries of the schema as each engine stores it.
CATALOGUE = {
    "sqlite": [
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> 'alembic_version'"
    ],
    "postgresql": [
        "SELECT table_name, column_name, data_type, collation_name, is_nullable, datetime_precision"
        " FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name <> 'alembic_version'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace"
        " AND conrelid <> coalesce(to_regclass('alembic_version'), 0)",
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " AND tablename <> 'alembic_version'",
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    ],
}


def clauses(definition: str) -> list[str]:
    """Sorted clauses of a definition, without spaces, brackets and quotes."""
    return sorted(re.sub(r'[\s()"]', "", definition).split(","))


def catalogue(connection: Connection) -> list[tuple[Any, ...]]:
    """All definitions of the engine, independent of spacing and order of clauses."""
    rows = [
        tuple(clauses(cell) if isinstance(cell, str) else cell for cell in row)
        for query in CATALOGUE[connection.dialect.name]
        for row in connection.execute(text(query))
    ]
    return sorted(rows, key=repr)


async def test_migrations_and_models_make_the_same_schema(empty_database_url: str) -> None:
    database = Database(Settings(database_url=empty_database_url))
    await migrate(database)
    async with database.writer.connect() as connection:
        migrated = await connection.run_sync(catalogue)
        difference = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), METADATA)
        )
        await connection.run_sync(drop_all)
        await connection.run_sync(METADATA.create_all)
        created = await connection.run_sync(catalogue)
    await database.dispose()

    assert difference == []
    assert migrated == created
    assert len(created) > 20


async def test_migrating_twice_changes_nothing(empty_database_url: str) -> None:
    database = Database(Settings(database_url=empty_database_url))
    await migrate(database)
    await migrate(database)
    await require_current(database)
    await database.dispose()


async def test_migration_computes_the_same_hashes_as_writes(
    empty_database_url: str,
) -> None:
    database = Database(Settings(database_url=empty_database_url))
    await migrate(database)
    # More than a page, and the page ends within the history of a level.
    async for _ in fill(database, Size(301, adjustments_per_level=3, spread=True, busy=1_500)):
        pass
    hashes = await hashes_of(database)
    async with database.writer.connect() as connection:
        await connection.run_sync(
            lambda sync: command.downgrade(alembic_config(sync), "0008"),
        )
        await connection.commit()

    await migrate(database)

    assert await hashes_of(database) == hashes
    await verify_tenant(database, TENANT)
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.writer.connect() as connection:
            await connection.execute(text("UPDATE adjustment SET hash = ''"))
    await database.dispose()


async def test_migration_computes_the_same_reservation_counts_as_writes(
    empty_database_url: str,
) -> None:
    async with running(empty_database_url) as (app, client):
        database = app.state.database
        await migrate(database)
        main = warehouse()
        for number in range(2):
            shop = Service(app, client, database, await new_tenant(database))
            await shop.load([main], [sku("A", level(main, 50)), sku("B", level(main, 50))])
            writing = WriteContext(
                database=database, caller=Caller(shop.tenant_id, "client", EMAIL)
            )
            held = [
                await reserve_stock(
                    writing,
                    ReserveRequest(
                        lines=(RequestedLine(code, main.id, 1),),
                        seconds=600,
                        reference={"A": "order"}.get(code),
                    ),
                )
                for code in "AAAABB"[number:]
            ]
            first, second, *_ = (it.result.reservation.id for it in held)
            await release_reservation(writing, first)
            taken = CommitRequest(id=second, lines=None, reason="sale")
            await commit_reservation(writing, taken)
        counted = await counts_of(database)
        async with database.writer.connect() as connection:
            await connection.run_sync(
                lambda sync: command.downgrade(alembic_config(sync), "0011"),
            )
            await connection.commit()

        await migrate(database)

        assert await counts_of(database) == counted
        assert len(counted) == 2 * (2 + 3 + 3)


async def counts_of(database: Database) -> list[tuple[Any, ...]]:
    """Return the counts of reservations by level and by status."""
    async with database.snapshot() as snapshot:
        statements = [
            "SELECT tenant_id, sku, warehouse_id, holds FROM stock_level ORDER BY 1, 2, 3",
            "SELECT tenant_id, reference, status, SUM(reservations) FROM reservation_count"
            " GROUP BY tenant_id, reference, status HAVING SUM(reservations) <> 0 ORDER BY 1, 2, 3",
        ]
        return [tuple(row) for each in statements for row in await snapshot.rows(text(each), {})]


async def hashes_of(database: Database) -> list[tuple[Any, ...]]:
    """All stored hashes."""
    async with database.snapshot() as snapshot:
        statements = [
            "SELECT id, hash FROM adjustment ORDER BY id",
            "SELECT sku, warehouse_id, last_hash FROM stock_level ORDER BY sku, warehouse_id",
        ]
        return [tuple(row) for each in statements for row in await snapshot.rows(text(each), {})]


async def test_outdated_database_is_refused_with_the_migrate_command(
    empty_database_url: str,
) -> None:
    database = Database(Settings(database_url=empty_database_url))
    with pytest.raises(Unavailable, match="Run: inventory migrate"):
        await require_current(database)
    await database.dispose()


def test_revisions_match_alembic() -> None:
    steps = ScriptDirectory.from_config(alembic_config()).walk_revisions()

    assert [step.revision for step in steps] == revisions()[::-1]


async def test_newer_database_is_refused_with_its_revision(
    empty_database_url: str,
) -> None:
    async with running(empty_database_url) as (app, client):
        await migrate(app.state.database)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

        await app.state.database.transaction(work)
        answer = await client.get("/readyz")

    refusal = (
        "The database is at revision 9999, of a newer version of this service than the installed "
        f"one, which supports revisions up to {revisions()[-1]}. Install the newer version."
    )
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, refusal)
    for words in (["serve"], ["migrate"], ["verify"], ["tenant", "create", "acme"]):
        done = run(*words, database_url=empty_database_url)
        assert (done.returncode, done.stderr) == (1, f"inventory: {refusal}\n")
