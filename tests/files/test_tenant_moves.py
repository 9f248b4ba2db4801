"""A tenant moves to another database with its history, ids and answers, or not at all."""

import asyncio
import multiprocessing
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import URL, Table, func, select, text
from ulid import ULID

from app.database.engine import Database
from app.database.schema import METADATA
from app.database.session import DriverSession
from app.database.tables import sku_word
from app.domain.hash_chain import parse_head
from app.files import tenant_files
from app.files.tenant_exports import export_tenant
from app.files.tenant_files import (
    DERIVED_TABLES,
    MOVED_TABLES,
    UNMOVED_TABLES,
    TenantRefused,
    moved_columns,
)
from app.files.tenant_imports import import_tenant
from app.ledger import rollup as summing
from app.ledger.replay import LedgerBroken
from app.ledger.verification import Proof, verify_tenant
from app.settings import Settings
from app.writes.tenants import insert_tenant
from tests.conftest import ENGINES
from tests.databases import create_database, migrated
from tests.engines import transact
from tests.files.damage import BAD_ROWS, DAMAGED_FILES
from tests.files.importing import silent
from tests.files.moves import (
    add_tokens,
    change_rows,
    content_of,
    die_moving,
    exported_to,
    give_to,
    imported_from,
    manifest_of,
    rows_of,
    used,
    walked,
)
from tests.graphql.test_access_matrix import CODE, WAREHOUSE
from tests.ledger.reservations import line, reserve
from tests.ledger.writes import SET
from tests.service import Service, level, new_tenant, running, sku, warehouse

MAIN: Final = warehouse()


@pytest.fixture(scope="session")
def target_urls(postgresql: URL, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return a migrated database of each engine; tests import tenants of different ids."""
    file = tmp_path_factory.mktemp("target") / "inventory.db"
    urls = f"sqlite+aiosqlite:///{file}", create_database(postgresql, f"test_{ULID()}".lower())
    return dict(zip(ENGINES, map(migrated, urls), strict=True))


@pytest.fixture(params=ENGINES)
async def target(
    request: pytest.FixtureRequest, target_urls: dict[str, str]
) -> AsyncIterator[Database]:
    """Connect to the database of one engine to which tenants move."""
    database = Database(Settings(database_url=target_urls[request.param]))
    yield database
    await database.dispose()


def assert_full(directory: Path) -> None:
    """Check that an export has rows of every kind, and a value in every column."""
    for table in MOVED_TABLES:
        rows = rows_of(directory, table.name)
        for column in moved_columns(table):
            values = {row[column.name] for row in rows}
            assert values - {None}, column
            assert not column.nullable or None in values or table.name == "tenant", column
    assert {table.name for table in MOVED_TABLES} | {"manifest"} == {
        path.name.partition(".")[0] for path in directory.iterdir()
    }


@pytest.fixture
async def other_target(engine: str, target_urls: dict[str, str]) -> AsyncIterator[Database]:
    """Connect to the database to which tenants move, of another engine than the source."""
    [other] = {*ENGINES} - {engine}
    database = Database(Settings(database_url=target_urls[other]))
    yield database
    await database.dispose()


async def test_a_moved_tenant_has_the_same_answers_history_and_files(
    service: Service, other_target: Database, tmp_path: Path
) -> None:
    target = other_target
    await used(service)
    before = await walked(service)
    head = (await verify_tenant(service.database, service.tenant_id)).head

    directory = await exported_to(service, tmp_path / "first")
    proof = await imported_from(directory, target)

    assert proof.head == head
    assert_full(directory)
    url = target.url.render_as_string(hide_password=False)
    async with running(url) as (app, client):
        moved = Service(app, client, app.state.database, service.tenant_id)
        await add_tokens(moved.database, moved.tenant_id)
        assert await walked(moved) == before
        again = await exported_to(moved, tmp_path / "second")
        assert content_of(again) == content_of(directory)
        await verify_tenant(moved.database, moved.tenant_id, head=parse_head(head))
        assert "is not empty: it has rows in the table" in await refusal_of(directory, target)


@pytest.fixture(scope="module")
def kept_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the export of a used tenant; tests copy it."""
    directory = tmp_path_factory.mktemp("kept")
    url = migrated(f"sqlite+aiosqlite:///{directory}/inventory.db")

    async def make() -> None:
        async with running(url) as (app, client):
            database = app.state.database
            service = Service(app, client, database, await new_tenant(database))
            await used(service)
            await exported_to(service, directory / "export")

    asyncio.run(make())
    return directory / "export"


@pytest.fixture
def export(kept_export: Path, tmp_path: Path) -> Path:
    """Return a copy of an export, with a tenant of its own."""
    directory = Path(shutil.copytree(kept_export, tmp_path / "export"))
    give_to(f"t{ULID()}".lower(), directory)
    return directory


async def rows_in(database: Database) -> dict[str, int]:
    """Count the rows of each table of a database."""
    counts = {}
    async with database.snapshot() as snapshot:
        for table in METADATA.sorted_tables:
            [[number]] = await snapshot.rows(select(func.count()).select_from(table), {})
            counts[table.name] = number
    return counts


async def refusal_of(directory: Path, target: Database) -> str:
    """Return the message that refuses an export; nothing of it is left in the database."""
    before = await rows_in(target)
    with pytest.raises(TenantRefused) as refused:
        await imported_from(directory, target)
    assert await rows_in(target) == before
    assert str(refused.value).endswith(". Nothing was imported.")
    return str(refused.value)


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
@pytest.mark.parametrize("case", DAMAGED_FILES)
async def test_a_damaged_export_is_refused(case: str, export: Path, target: Database) -> None:
    damage, reason = DAMAGED_FILES[case]
    damage(export)

    assert reason in await refusal_of(export, target)


@pytest.mark.parametrize("case", BAD_ROWS)
async def test_rows_that_break_a_rule_are_refused_although_the_manifest_fits(
    case: str, export: Path, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the import stores rollups of the bad rows, too.
    monkeypatch.setattr(summing, "MIN_ENTRIES", 3)
    damage, reason = BAD_ROWS[case]
    damage(export)

    assert reason in await refusal_of(export, target)


async def test_other_files_in_the_directory_are_ignored(export: Path, target: Database) -> None:
    (export / "\x1b[2J\n.jsonl").write_text("{}")
    (export / "sku.jsonl.gz").symlink_to("/dev/zero")
    (export / "folder").mkdir()

    await imported_from(export, target)


async def test_an_empty_tenant_with_tokens_takes_the_properties_of_the_moved_one(
    export: Path, target: Database, tmp_path: Path
) -> None:
    tenant_id = manifest_of(export)["tenant"]
    await target.transaction(lambda session: insert_tenant(session, tenant_id, name="Other"))
    await add_tokens(target, tenant_id)

    await imported_from(export, target)

    await export_tenant(target, tenant_id, tmp_path / "again", silent)
    assert content_of(tmp_path / "again") == content_of(export)


async def test_a_moved_tenant_takes_writes_that_continue_its_history(
    export: Path, target: Database, tmp_path: Path
) -> None:
    head = parse_head((await imported_from(export, target)).head)
    await add_tokens(target, head.tenant_id)
    persons = rows_of(export, "person")

    url = target.url.render_as_string(hide_password=False)
    async with running(url) as (app, client):
        moved = Service(app, client, app.state.database, head.tenant_id)
        count = {"sku": CODE, "warehouseId": WAREHOUSE, "quantity": 5, "reason": "cycle_count"}
        await moved.data(SET, {"input": count})
        proof = await verify_tenant(moved.database, moved.tenant_id, head=head)
        again = await exported_to(moved, tmp_path / "again")
    assert proof.adjustments == head.position + 1
    # The author has the id that the ledger knows, because the address is the same.
    assert rows_of(again, "person") == persons


def test_every_table_is_moved_derived_or_left_behind() -> None:
    moved = {
        *("adjustment", "person", "reservation", "reservation_line", "sku", "stock_level"),
        *("external_id", "tenant", "warehouse"),
    }
    derived = {"ledger_sum", "reservation_count", "sku_count", "sku_word"}
    left_behind = {"api_token", "change", "idempotency_key", "webhook", "webhook_attempt"}

    # Decide where a new table belongs. The default moves its rows as they are.
    assert {table.name for table in MOVED_TABLES} == moved
    assert {table.name for table in DERIVED_TABLES} == derived
    assert {table.name for table in UNMOVED_TABLES} == left_behind
    assert METADATA.tables.keys() == moved | derived | left_behind


async def test_the_import_derives_the_words_of_skus(
    service: Service, other_target: Database, tmp_path: Path
) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 1), title="Blue tee")])
    # As if another version of Python had stored them.
    other = text(f"UPDATE sku_word SET word = 'x' WHERE tenant_id = '{service.tenant_id}'")
    only_one = text(
        f"DELETE FROM sku_word WHERE tenant_id = '{service.tenant_id}' AND word <> 'tee'"
    )
    await transact(service.database, lambda connection: connection.execute(only_one))
    await transact(service.database, lambda connection: connection.execute(other))

    await imported_from(await exported_to(service, tmp_path / "export"), other_target)

    of_tenant = sku_word.c.tenant_id == service.tenant_id
    async with other_target.snapshot() as snapshot:
        words = await snapshot.rows(select(sku_word.c.word).where(of_tenant), {})
    assert sorted(word for (word,) in words) == ["a", "blue", "tee"]


async def test_totals_of_a_moved_tenant_have_rollups(
    export: Path, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "MIN_ENTRIES", 3)
    before = await rows_in(target)

    await imported_from(export, target)

    assert (await rows_in(target))["ledger_sum"] > before["ledger_sum"]


async def test_an_export_shows_one_instant_although_others_write(
    service: Service, other_target: Database, tmp_path: Path
) -> None:
    codes = [f"S{number}" for number in range(5)]
    await service.load([MAIN], [sku(code, level(MAIN, 1)) for code in codes])
    before = await exported_to(service, tmp_path / "before")
    url = service.database.url.render_as_string(hide_password=False)
    units: list[str] = []

    async def write() -> None:
        async with running(url) as (app, client):
            other = Service(app, client, app.state.database, service.tenant_id)
            for code in codes:
                count = {"sku": code, "warehouseId": MAIN.id, "quantity": 9, "reason": "loss"}
                await other.data(SET, {"input": count})
            await reserve(other, line("S0", 2, MAIN.id))

    def write_in_a_thread(unit: str, _number: int) -> None:
        units.append(unit)
        if len(units) == 1:
            thread = threading.Thread(target=asyncio.run, args=[write()])
            thread.start()
            thread.join()

    during = tmp_path / "during"
    await export_tenant(service.database, service.tenant_id, during, write_in_a_thread)

    assert content_of(during) == content_of(before)
    assert units == units_of(before)
    assert content_of(await exported_to(service, tmp_path / "after")) != content_of(before)
    await imported_from(during, other_target)


def units_of(directory: Path) -> list[str]:
    """List the units of the progress of an export."""
    names = [table.name for table in MOVED_TABLES if rows_of(directory, table.name)]
    return [f"rows of {name} written" for name in names]


async def test_an_import_reports_its_progress_and_holds_few_rows(
    export: Path, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_files, "BATCH_BYTES", 1_000)
    inserted: list[int] = []
    insert = DriverSession.insert

    async def insert_and_count(session: DriverSession, table: Table, rows: Any) -> None:
        inserted.append(len(rows))
        await insert(session, table, rows)

    monkeypatch.setattr(DriverSession, "insert", insert_and_count)
    progress: list[tuple[str, int]] = []
    await import_tenant(target, export, lambda *what: progress.append(what))

    assert max(inserted) <= 10
    shown = [number for unit, number in progress if unit == "rows of adjustment imported"]
    assert len(shown) > 3
    assert shown == sorted(shown)
    assert shown[-1] == len(rows_of(export, "adjustment"))


async def test_a_cancelled_import_leaves_nothing(export: Path, target: Database) -> None:
    before = await rows_in(target)

    def cancel(unit: str, _number: int) -> None:
        if unit == "rows of adjustment imported":
            importing.cancel()

    importing = asyncio.create_task(import_tenant(target, export, cancel))
    with pytest.raises(asyncio.CancelledError):
        await importing
    assert await rows_in(target) == before
    await imported_from(export, target)


async def test_of_two_imports_at_once_one_is_refused(export: Path, target: Database) -> None:
    other = Database(target.settings)

    results = await asyncio.gather(
        *(imported_from(export, database) for database in (target, other)),
        return_exceptions=True,
    )
    await other.dispose()

    assert {type(result) for result in results} == {Proof, TenantRefused}
    await verify_tenant(target, manifest_of(export)["tenant"])


def names_in(directory: Path) -> list[str]:
    """List the names in a directory."""
    return sorted(path.name for path in directory.iterdir())


def killed(moment: int, url: str, directory: Path, tenant_id: str | None) -> bool:
    """Move a tenant in a process that kills itself at a moment, unless it ends before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.files.moves"])
    arguments = (moment, url, str(directory), tenant_id)
    process = context.Process(target=die_moving, args=arguments, daemon=True)
    process.start()
    process.join()
    assert process.exitcode in (-9, 0)
    return process.exitcode == -9


async def test_a_killed_export_is_not_taken_for_a_whole_one(
    service: Service, tmp_path: Path
) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 1))])
    url = service.database.url.render_as_string(hide_password=False)
    whole = content_of(await exported_to(service, tmp_path / "whole"))
    directory, moment = tmp_path / "export", 0
    while killed(moment, url, directory, service.tenant_id):
        assert "export" not in names_in(tmp_path)
        moment += 1

    assert moment > 1
    assert content_of(directory) == whole
    # Each has a temporary name of its own.
    assert len([name for name in names_in(tmp_path) if name.startswith(".export.")]) == moment


async def test_a_killed_import_leaves_nothing_and_can_be_started_again(
    export: Path, target: Database
) -> None:
    url = target.url.render_as_string(hide_password=False)
    before, moment = await rows_in(target), 3
    while killed(moment, url, export, None):
        if (await rows_in(target)) != before:
            # The process was killed after the commit.
            break
        moment += 12

    assert moment > 20
    head = manifest_of(export)["head"]
    assert (await verify_tenant(target, parse_head(head).tenant_id)).head == head
    assert "is not empty" in await refusal_of(export, target)


async def test_a_rewritten_history_is_detected_by_a_head_that_was_kept(
    export: Path, target: Database
) -> None:
    kept = parse_head(manifest_of(export)["head"])
    change_rows(export, "adjustment", lambda rows: rows[0].update(note="Rewritten"))
    give_to(kept.tenant_id, export)
    await imported_from(export, target)

    with pytest.raises(LedgerBroken, match="has been changed since its head was taken"):
        await verify_tenant(target, kept.tenant_id, head=kept)


async def test_an_export_to_an_existing_name_is_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    for name in ("link", "file", "folder"):
        with pytest.raises(FileExistsError):
            await exported_to(service, tmp_path / name)
    assert names_in(tmp_path) == ["file", "folder", "link"]
    directory = await exported_to(service, tmp_path / "new")
    assert directory.stat().st_mode & 0o777 == 0o700
