"""A deleted tenant leaves nothing, harms nobody else, and can be deleted after any interruption."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.database.engine import Database
from app.database.schema import METADATA
from app.errors import InventoryError, NotFound
from app.files.tenant_files import TenantRefused
from app.ledger.verification import verify_tenant
from app.maintenance import end_due_reservations, roll_up_ledgers
from app.settings import Settings
from app.writes import tenant_deletion
from app.writes.tenant_deletion import delete_tenant
from app.writes.tenants import create_tenant
from tests.engines import writer_of
from tests.files.moves import exported_to, imported_from, used
from tests.graphql.test_access_matrix import CODE, WAREHOUSE
from tests.ledger.dying import Clock
from tests.service import Service, level, new_tenant, running, sku, warehouse


@pytest.fixture
def small_steps() -> Iterator[None]:
    """Delete three rows per step and table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenant_deletion, "DELETED_ROWS", 3)
        tenant_deletion._delete_some.cache_clear()
        yield
    tenant_deletion._delete_some.cache_clear()


def quietly(_rows: int) -> None:
    """Report no progress."""


async def rows_of_tenant(database: Database, tenant_id: str) -> int:
    """Count the rows of a tenant in all tables."""
    async with writer_of(database).connect() as connection:
        counts = [
            await connection.scalar(
                select(func.count()).select_from(table).where(table.c.tenant_id == tenant_id)
            )
            for table in METADATA.tables.values()
        ]
    return sum(count or 0 for count in counts)


async def other_tenant(service: Service) -> Service:
    """Give the database a second tenant with stock."""
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    main = warehouse()
    await other.load([main], [sku("A", level(main, 5, reserved=1))])
    return other


@pytest.mark.usefixtures("small_steps")
async def test_a_deleted_tenant_leaves_no_row_and_no_other_tenant_changes(
    service: Service,
) -> None:
    other = await other_tenant(service)
    before = await verify_tenant(service.database, other.tenant_id)
    await used(service)
    total = await rows_of_tenant(service.database, service.tenant_id)
    steps: list[int] = []

    assert await delete_tenant(service.database, service.tenant_id, progress=steps.append) == total

    assert len(steps) > 10
    assert await rows_of_tenant(service.database, service.tenant_id) == 0
    assert (await service.rest("GET", "/api/inventory")).status_code == 401
    assert await verify_tenant(service.database, other.tenant_id) == before
    with pytest.raises(NotFound):
        await delete_tenant(service.database, service.tenant_id, progress=quietly)
    await create_tenant(service.database, service.tenant_id, name="again")


def die_deleting(moment: int, database_url: str, tenant_id: str) -> None:
    """Delete a tenant by small steps in a process that kills itself at a moment."""
    tenant_deletion.DELETED_ROWS = 6  # type: ignore[misc]

    async def delete_until_killed() -> None:
        database = Database(Settings(database_url=database_url))
        with Clock(moment).watching():
            await delete_tenant(database, tenant_id, progress=quietly)
        await database.dispose()

    asyncio.run(delete_until_killed())


def killed(moment: int, url: str, tenant_id: str) -> bool:
    """Delete a tenant in a process that kills itself at a moment, unless it ends before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ledger.test_tenant_deletion"])
    process = context.Process(target=die_deleting, args=(moment, url, tenant_id), daemon=True)
    process.start()
    process.join()
    assert process.exitcode in (-9, 0)
    return process.exitcode == -9


async def test_a_killed_deletion_is_continued(service: Service) -> None:
    other = await other_tenant(service)
    await used(service)
    url = service.database.url.render_as_string(hide_password=False)
    moment, remaining = 0, await rows_of_tenant(service.database, service.tenant_id)
    while await asyncio.to_thread(killed, moment, url, service.tenant_id):
        left = await rows_of_tenant(service.database, service.tenant_id)
        assert 0 < left <= remaining
        # The first commit, after which the tenant is not served, is the fifth or sixth moment.
        if left < remaining:
            assert (await service.rest("GET", "/api/inventory")).status_code == 401
        remaining = left
        moment += 13

    assert moment > 20
    assert await rows_of_tenant(service.database, service.tenant_id) == 0
    await verify_tenant(service.database, other.tenant_id)


class Interrupted(Exception):
    """The operator stopped the command."""


async def begin_to_delete(service: Service) -> None:
    """Delete a tenant, and stop after the first step."""

    def stop(_rows: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        await delete_tenant(service.database, service.tenant_id, progress=stop)


@pytest.mark.usefixtures("small_steps")
async def test_a_tenant_under_deletion_is_served_by_nothing(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = await other_tenant(service)
    await used(service)
    exported = await exported_to(service, tmp_path_factory.mktemp("export") / "all")
    await begin_to_delete(service)

    left = await rows_of_tenant(service.database, service.tenant_id)
    assert left > 0
    for job in (roll_up_ledgers, end_due_reservations):
        await job(service.database)
    with pytest.raises(TenantRefused, match="The deletion of the tenant"):
        await imported_from(exported, service.database)
    with pytest.raises(InventoryError, match="is taken"):
        await create_tenant(service.database, service.tenant_id, name="again")
    assert await rows_of_tenant(service.database, service.tenant_id) == left
    await delete_tenant(service.database, service.tenant_id, progress=quietly)
    assert await imported_from(exported, service.database)
    await verify_tenant(service.database, other.tenant_id)


@pytest.mark.usefixtures("small_steps")
async def test_only_adjustments_of_a_tenant_under_deletion_can_be_deleted(
    service: Service,
) -> None:
    other = await other_tenant(service)
    await used(service)
    await begin_to_delete(service)
    tenant_ids = {"deleted": service.tenant_id, "other": other.tenant_id}
    refused = {
        "DELETE FROM adjustment WHERE tenant_id IN (:other, :deleted)": tenant_ids,
        "UPDATE adjustment SET note = 'x' WHERE tenant_id = :deleted": tenant_ids,
    }
    if service.database.dialect == "postgresql":
        refused["TRUNCATE adjustment"] = {}
    for statement, values in refused.items():
        async with writer_of(service.database).connect() as connection:
            with pytest.raises(DBAPIError, match="append-only"):
                await connection.execute(text(statement), values)


@pytest.mark.usefixtures("small_steps")
async def test_writers_with_a_cached_token_are_refused_and_leave_nothing(
    database_url: str,
) -> None:
    async with running(database_url, token_cache_seconds=30) as (app, client):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await used(service)
        body = {"warehouse_id": WAREHOUSE, "quantity": 1, "reason": "cycle_count"}
        # Now the token is in the cache.
        first = await service.rest("PUT", f"/api/inventory/{CODE}", json=body)
        assert first.status_code == 200
        statuses: list[int] = []
        is_deleted = asyncio.Event()

        async def write() -> None:
            while not statuses or not is_deleted.is_set():
                response = await service.rest("PUT", f"/api/inventory/{CODE}", json=body)
                statuses.append(response.status_code)

        async def delete() -> None:
            await delete_tenant(service.database, service.tenant_id, progress=quietly)
            is_deleted.set()

        await asyncio.gather(delete(), *(write() for _ in range(3)))
        late: Any = await service.rest("PUT", f"/api/inventory/{CODE}", json=body)
        dry: Any = await service.rest("PUT", f"/api/inventory/{CODE}?dry_run=true", json=body)

        assert set(statuses) <= {200, 401}
        assert (late.status_code, dry.status_code) == (401, 401)
        assert await rows_of_tenant(service.database, service.tenant_id) == 0
