"""Migrations create exactly the schema of the models, on both engines."""

import re
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.migration import alembic_config, drop_all, migrate, require_current, revisions
from app.database.schema import METADATA
from app.errors import Unavailable
from app.settings import Settings
from tests.engines import transact, writer_of
from tests.processes import run
from tests.service import running

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
        "SELECT proname, pg_get_functiondef(oid), proacl::text FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace",
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


# SQLAlchemy cannot read the expressions of SQLite's indexes; `catalogue` compares their SQL.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based")
async def test_migrations_and_models_make_the_same_schema(empty_database_url: str) -> None:
    database = Database(Settings(database_url=empty_database_url))
    await migrate(database)
    async with writer_of(database).connect() as connection:
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


NEWER: Final = (
    "The database is at revision 9999, of a newer version of this service than the installed "
    f"one, which supports revisions up to {revisions()[-1]}. Install the newer version."
)
EARLIER: Final = (
    "The database is at revision 0013, of a development state before 0.1.0, which cannot be "
    "upgraded. Export its data with the version that created it, and import the files into an "
    "empty database."
)


@pytest.mark.parametrize(("revision", "refusal"), [("9999", NEWER), ("0013", EARLIER)])
async def test_database_of_another_version_is_refused_with_its_revision(
    empty_database_url: str, revision: str, refusal: str
) -> None:
    async with running(empty_database_url) as (app, client):
        await migrate(app.state.database)

        async def work(connection: AsyncConnection) -> None:
            values = f"version_num = '{revision}', compatible_since = '{revision}'"
            await connection.execute(text(f"UPDATE alembic_version SET {values}"))

        await transact(app.state.database, work)
        answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["error"]["message"]) == (503, refusal)
    for words in (["serve"], ["migrate"], ["verify"], ["tenant", "create", "acme"]):
        done = run(*words, database_url=empty_database_url)
        assert (done.returncode, done.stderr) == (1, f"inventory: {refusal}\n")
